//! When the lab is killed, so is everything that it started.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[tokio::test]
async fn no_server_and_no_data_outlive_a_killed_lab() {
    nothing_outlives("mongodb", 3, 1).await;
}

#[tokio::test]
async fn no_server_and_no_namespace_outlive_a_killed_lab() {
    if lab::vpn::available().unwrap() {
        nothing_outlives("vpn", 1, 2).await;
    }
}

/// Kills a lab that holds so many processes, the last of them frozen, and so many folders (or what else has a path).
async fn nothing_outlives(what: &str, processes: usize, folders: usize) {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab")).args(["hold", what]).stdout(Stdio::piped()).spawn().unwrap();
    let lines: Vec<String> = BufReader::new(lab.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| line != "ready")
        .collect();
    let of =
        |kind: &str| lines.iter().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect::<Vec<_>>();
    let servers: Vec<String> = of("pid ").iter().map(|pid| format!("/proc/{pid}")).collect();
    let folder = of("folder ");
    assert_eq!((servers.len(), folder.len()), (processes, folders), "{lines:?}");
    assert!(servers.iter().chain(&folder).all(|path| is_there(path)));
    let frozen = std::fs::read_to_string(format!("{}/status", servers[processes - 1])).unwrap();
    assert!(frozen.contains("State:\tT"), "{frozen}");

    lab.kill().unwrap();
    lab.wait().unwrap();

    lab::until("servers and data to be gone", Duration::from_secs(20), async || {
        let left: Vec<&String> = servers.iter().chain(&folder).filter(|path| is_there(path)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await
    .unwrap();
}

/// Whether a process, or a folder, is there. A dead process that nobody reaps, as in a container without an init, is not.
fn is_there(path: &str) -> bool {
    let status = std::fs::read_to_string(format!("{path}/status")).unwrap_or_default();
    Path::new(path).exists() && !status.contains("State:\tZ")
}
