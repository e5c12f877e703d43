//! The probe type `mongodb` against real servers.

mod connect;
mod faults;
mod peers;
mod runs;
pub mod srv;
pub mod starved;

use lab::mongodb::{ReplicaSet, User};

use crate::support::{Metrics, Midwatch};

pub const CONNECT: &str = "midwatch_mongodb_connect_duration_seconds";
pub const FAILURES: &str = "midwatch_mongodb_connect_failures_total";
const STATE: &str = "midwatch_mongodb_member_state";

/// A probe's section: hosts as TOML, then further lines.
pub fn probe(name: &str, hosts: &[String], rest: &str) -> String {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    format!("[probe.mongodb.{name}]\nhosts = [{}]\n{rest}\n\n", hosts.join(", "))
}

/// How often a phase was observed.
fn observed(metrics: &Metrics, probe: &str, member: &str, phase: &str) -> f64 {
    let labels = [("probe", probe), ("member", member), ("phase", phase)];
    metrics.get(&format!("{CONNECT}_count"), &labels).unwrap_or(0.0)
}

/// Whether the member's last run succeeded.
fn success(metrics: &Metrics, probe: &str, member: &str) -> Option<f64> {
    metrics.get("midwatch_probe_success", &[("probe", probe), ("target", member)])
}

/// The state of which the gauge is 1; all others are 0.
fn state(metrics: &Metrics, probe: &str, member: &str) -> Option<String> {
    let labels = [("probe", probe), ("member", member)];
    let all: Vec<_> = metrics.all(STATE, &labels).collect();
    let sum: f64 = all.iter().map(|sample| sample.value).sum();
    assert!(all.is_empty() || (all.len() == 9 && sum == 1.0), "not one-hot: {all:?}");
    all.iter().find(|sample| sample.value == 1.0).map(|sample| sample.labels["state"].clone())
}

/// The keys of a login over TLS as the user that needs no privileges.
pub fn login_over_tls(set: &ReplicaSet) -> String {
    let user = User::midwatch();
    let password = set.folder().join("password");
    std::fs::write(&password, &user.password).unwrap();
    format!(
        "tls.ca_file = \"{}\"\nusername = \"{}\"\npassword = {{ file = \"{}\" }}\n",
        set.ca_path().display(),
        user.name,
        password.display()
    )
}

/// Metrics in which each of so many probes has ended so many runs.
pub async fn after_runs(daemon: &Midwatch, probes: usize, runs: f64) -> Metrics {
    daemon
        .until("runs of every probe", |metrics| {
            let ended: Vec<_> = metrics.all("midwatch_probe_runs_total", &[]).map(|sample| sample.value).collect();
            (ended.len() == probes && ended.iter().all(|ended| *ended >= runs)).then(|| metrics.clone())
        })
        .await
}
