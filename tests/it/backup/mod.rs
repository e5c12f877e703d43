//! Backups of every source, by real tools where they can be had.

mod crash;
mod exec;
mod files;
mod kubernetes;
mod night;
pub mod pbm;
mod push;
mod repositories;
mod s3;

use std::time::Duration;

use crate::support::request;

/// Tells something over HTTP as curl does with `--retry`: again until it is taken.
pub async fn tell(address: &str, path: &str) {
    for _ in 0..1200 {
        match request(address, "POST", path).await {
            Some((200, _)) => return,
            // Down, starting, full, or told too often.
            None | Some((429 | 503, _)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Some((status, text)) => panic!("{path} was answered {status}: {text}"),
        }
    }
    panic!("{path} was never taken");
}
