//! The night that this project exists for: a dump on a standby takes its CPU, and both show under one name.

use std::path::Path;
use std::process::{Command, Stdio};

use lab::mongodb::ReplicaSet;
use lab::mongodb::driver::bson::doc;

use crate::mongodb::probe;
use crate::mongodb::starved::{HOGGED, QUIET, after_runs, median};
use crate::support::{Metrics, Midwatch, program};

const RUNNING: &str = "midwatch_backup_running";
/// Packs a member's files, as many times at once as backup tools start threads on large machines, until it is told to stop.
const DUMP: &str = r#"
data=$1 to=$2
for compressor in 1 2 3 4 5 6 7 8; do
    while [ ! -e "$to/stop" ]; do tar -c -C "$data" . 2>/dev/null | gzip -9 >/dev/null; done &
done
wait
tar -c -C "$data" . | gzip -9 >"$to/dump.gz"
"#;

/// The dump, wrapped, on the member's core.
fn wrapped(daemon: &Midwatch, member: &str, data: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .args(["backup", "run", "nightly", "--node", member, "--config"])
        .arg(daemon.config())
        .arg("--size-of")
        .arg(folder.join("dump.gz"))
        .args(["--", "taskset", "-c", &HOGGED.to_string(), "sh", "-c", DUMP, "dump"])
        .args([data, folder])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_starved_by_its_backup_is_joined_with_it() {
    let set = ReplicaSet::start(3).await.unwrap();
    let (hosts, primary) = (set.hosts(), set.wait_primary().await.unwrap());
    let (victim, healthy) = ((primary + 1) % 3, (primary + 2) % 3);
    for member in 0..3 {
        set.pin(member, if member == victim { HOGGED } else { QUIET }).unwrap();
    }
    let orders = set.client(primary, None).unwrap().database("shop").collection("orders");
    let order = |number: i64| doc! { "number": number, "text": format!("{:x}", number * 0x9e37_79b9).repeat(100) };
    orders.insert_many((0..2_000).map(order)).await.unwrap();

    let data = set.data(victim);
    assert!(data.is_dir());
    let token = "a-token-of-this-test-only";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), token).unwrap();
    let token = folder.path().join("token");
    let job = format!("[probe.backup.nightly]\nsource = \"exec\"\ntoken = {{ file = \"{}\" }}\n", token.display());
    let often = "interval = \"500ms\"\ntimeout = \"490ms\"\n";
    let daemon = Midwatch::start(&format!("{job}{often}\n{}", probe("story", &hosts, often))).await;
    lab::process::pin(daemon.child.id().unwrap(), QUIET).unwrap();

    let mut dump =
        tokio::process::Command::from(wrapped(&daemon, &hosts[victim], &data, folder.path())).spawn().unwrap();
    let node = [("node", hosts[victim].as_str())];
    let running =
        |value| move |metrics: &Metrics| (metrics.get(RUNNING, &node) == Some(value)).then(|| metrics.clone());
    daemon.until("the backup to run", running(1.0)).await;
    let (start, end) = after_runs(&daemon, &[("probe", "story")], 20.0).await;
    // What an alert does: the member of which the latency is told is the node at which a backup runs.
    assert!(running(1.0)(&end).is_some(), "the backup ended too early");
    let busy = end.all(RUNNING, &[]).find(|sample| sample.value == 1.0).unwrap().labels["node"].clone();
    assert_eq!(busy, hosts[victim]);
    let starved = median(&start, &end, &busy, "hello");
    for other in [primary, healthy] {
        let quiet = median(&start, &end, &hosts[other], "hello");
        assert!(starved > quiet, "hello takes {starved} at the starved member, {quiet} at {}", hosts[other]);
    }

    std::fs::write(folder.path().join("stop"), "").unwrap();
    assert!(dump.wait().await.unwrap().success());
    let metrics = daemon.until("the backup to end", running(0.0)).await;
    let one = |name: &str| metrics.get(&format!("midwatch_backup_{name}"), &[("probe", "nightly")]);
    let size = std::fs::metadata(folder.path().join("dump.gz")).unwrap().len();
    assert!(size > 0);
    assert_eq!(one("last_run_success"), Some(1.0));
    assert!(one("last_size_bytes").unwrap() >= size as f64);
    assert!(one("last_duration_seconds").unwrap() > 0.0 && one("cpu_seconds_total").unwrap() > 0.0);
    assert_eq!(metrics.get("midwatch_backup_runs_total", &[("outcome", "success")]), Some(1.0));
}
