//! Members that die, freeze, step down and come back.

use lab::mongodb::{Options, ReplicaSet, Tls};

use super::{FAILURES, login_over_tls, observed, probe, state, success};
use crate::support::{Metrics, Midwatch};

const NAME: &str = "orders";

/// A daemon that probes all members, and the set.
async fn watched() -> (ReplicaSet, Midwatch, Vec<String>) {
    let set = ReplicaSet::with(Options::default().auth().tls(Tls::Server)).await.unwrap();
    let rest = format!("interval = \"1s\"\ntimeout = \"900ms\"\n{}", login_over_tls(&set));
    let hosts = set.hosts();
    let daemon = Midwatch::start(&probe(NAME, &hosts, &rest)).await;
    all_good(&daemon, &hosts).await;
    (set, daemon, hosts)
}

async fn all_good(daemon: &Midwatch, hosts: &[String]) {
    daemon
        .until("all members to be good", |metrics| {
            hosts.iter().all(|host| success(metrics, NAME, host) == Some(1.0)).then_some(())
        })
        .await;
}

fn failures(metrics: &Metrics, member: &str, phase: &str, reason: &str) -> f64 {
    let labels = [("probe", NAME), ("member", member), ("phase", phase), ("reason", reason)];
    metrics.get(FAILURES, &labels).expect("counters of known reasons start at 0")
}

fn of_set(metrics: &Metrics, name: &str) -> f64 {
    metrics.get(name, &[("probe", NAME)]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_one_member_is_told_and_leaves_the_others_alone() {
    let (set, daemon, hosts) = watched().await;
    let files_before = daemon.open_files();
    let primary = set.primary().await.unwrap();
    let victim = (primary + 1) % 3;
    let others: Vec<_> = (0..3).filter(|member| *member != victim).map(|member| hosts[member].as_str()).collect();
    let name = hosts[victim].as_str();

    // Frozen: the kernel still accepts the connection, nobody answers on it.
    set.freeze(victim).unwrap();
    let metrics =
        daemon.until("the freeze to show", |m| (failures(m, name, "tls", "timeout") > 0.0).then(|| m.clone())).await;
    assert_eq!(state(&metrics, NAME, name).as_deref(), Some("unreachable"));
    assert_eq!(success(&metrics, NAME, name), Some(0.0));
    assert_eq!(of_set(&metrics, "midwatch_mongodb_primaries"), 1.0);
    for other in &others {
        assert_eq!(success(&metrics, NAME, other), Some(1.0), "{other}\n{}", daemon.log());
    }
    // What came before the phase that hung was observed, what comes after it was not.
    let count = |phase| observed(&metrics, NAME, name, phase);
    assert_eq!(count("tcp"), count("tls"));
    assert_eq!(count("tls"), count("total"));
    assert_eq!(count("hello"), count("tls") - failures(&metrics, name, "tls", "timeout"));
    set.thaw(victim).unwrap();
    all_good(&daemon, &hosts).await;

    // Killed: its port refuses. Back again: another process.
    set.kill(victim);
    let metrics =
        daemon.until("the kill to show", |m| (failures(m, name, "tcp", "refused") > 0.0).then(|| m.clone())).await;
    for other in &others {
        assert_eq!(success(&metrics, NAME, other), Some(1.0), "{other}");
    }
    let restarts = |m: &Metrics, member: &str| m.get("midwatch_mongodb_restarts_total", &[("member", member)]);
    assert_eq!(restarts(&metrics, name), Some(0.0));
    set.restart(victim).await.unwrap();
    set.wait_settled().await.unwrap();
    all_good(&daemon, &hosts).await;
    let metrics = daemon.metrics().await;
    assert_eq!(restarts(&metrics, name), Some(1.0));
    assert!(others.iter().all(|other| restarts(&metrics, other) == Some(0.0)));

    // Another primary: one change, a higher term.
    let term = of_set(&metrics, "midwatch_mongodb_election_term");
    let before = set.primary().await.unwrap();
    set.step_down().await.unwrap();
    let after = set.wait_primary().await.unwrap();
    assert_ne!(before, after);
    let metrics = daemon
        .until("the new primary to show", |m| {
            (state(m, NAME, &hosts[after]).as_deref() == Some("primary")).then(|| m.clone())
        })
        .await;
    assert!(of_set(&metrics, "midwatch_mongodb_election_term") > term);
    assert!(of_set(&metrics, "midwatch_mongodb_primary_changes_total") >= 1.0);

    assert_nothing_leaks(&set, &daemon, files_before).await;
}

/// No descriptor and no connection is left over from runs that failed.
async fn assert_nothing_leaks(set: &ReplicaSet, daemon: &Midwatch, files_before: usize) {
    crate::support::eventually("as many open files as at the start", async || {
        (daemon.open_files() <= files_before).then_some(())
    })
    .await;
    for member in 0..3 {
        crate::support::eventually("no connection of midwatch between two runs", async || {
            (set.connections_of(member, "midwatch").await.ok()? == 0).then_some(())
        })
        .await;
    }
}
