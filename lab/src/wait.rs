//! Waiting for something to become true.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Error, Result};

/// Repeats `attempt` until it gives something. What it says otherwise (`Err(text)`) is in the error when time is up.
pub async fn until<T, F>(what: &str, patience: Duration, mut attempt: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let end = Instant::now() + patience;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(last) if Instant::now() >= end => {
                return Err(Error::Late { what: what.to_owned(), seconds: patience.as_secs(), last });
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
