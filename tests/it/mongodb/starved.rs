//! The story this project exists for: compressors take one member's CPU, and its new connections say so.

use lab::load::Hog;
use lab::mongodb::{Options, ReplicaSet, Tls};

use super::{CONNECT, login_over_tls, probe};
use crate::support::{Metrics, Midwatch};

/// The core that is hogged, and the one for everything else.
pub const HOGGED: usize = 1;
pub const QUIET: usize = 0;

/// Buckets of one member and phase, not cumulated, as a list of bound and count.
fn buckets(metrics: &Metrics, member: &str, phase: &str) -> Vec<(f64, f64)> {
    let labels = [("member", member), ("phase", phase)];
    let mut below = 0.0;
    let name = format!("{CONNECT}_bucket");
    metrics
        .all(&name, &labels)
        .map(|sample| {
            let count = sample.value - std::mem::replace(&mut below, sample.value);
            (sample.labels["le"].replace("+Inf", "inf").parse().unwrap(), count)
        })
        .collect()
}

/// The bound below which half of the observations between two scrapes lie: what `histogram_quantile` would see.
pub fn median(before: &Metrics, after: &Metrics, member: &str, phase: &str) -> f64 {
    let (before, after) = (buckets(before, member, phase), buckets(after, member, phase));
    let counts: Vec<_> =
        after.iter().zip(before).map(|((bound, after), (_, before))| (*bound, after - before)).collect();
    let total: f64 = counts.iter().map(|(_, count)| count).sum();
    assert!(total >= 10.0, "{member} {phase}: {total} observations");
    let mut seen = 0.0;
    counts
        .iter()
        .find(|(_, count)| {
            seen += count;
            seen >= total / 2.0
        })
        .unwrap()
        .0
}

/// Scrapes before and after so many runs of the probe with these labels.
pub async fn after_runs(daemon: &Midwatch, labels: &[(&str, &str)], runs: f64) -> (Metrics, Metrics) {
    let total = |metrics: &Metrics| metrics.get("midwatch_probe_runs_total", labels);
    let before = daemon.metrics().await;
    let start = total(&before).unwrap();
    let after = daemon.until("more runs", |m| total(m).is_some_and(|now| now >= start + runs).then(|| m.clone())).await;
    (before, after)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_starved_member_shows_in_hello_auth_and_tls_and_not_in_tcp() {
    let set = ReplicaSet::with(Options::default().auth().tls(Tls::Server)).await.unwrap();
    let victim = (set.primary().await.unwrap() + 1) % 3;
    let healthy = (victim + 1) % 3;
    for member in 0..3 {
        set.pin(member, if member == victim { HOGGED } else { QUIET }).unwrap();
    }
    let rest = format!("interval = \"500ms\"\ntimeout = \"490ms\"\n{}", login_over_tls(&set));
    let hosts = set.hosts();
    let daemon = Midwatch::start(&probe("story", &hosts, &rest)).await;
    lab::process::pin(daemon.child.id().unwrap(), QUIET).unwrap();
    after_runs(&daemon, &[], 2.0).await;

    let (start, end) = after_runs(&daemon, &[], 20.0).await;
    let quiet = |phase| median(&start, &end, &hosts[victim], phase);
    let quiet: Vec<_> = ["tcp", "tls", "hello", "auth"].into_iter().map(quiet).collect();

    let hog = Hog::start(8, HOGGED).unwrap();
    let (start, end) = after_runs(&daemon, &[], 20.0).await;
    let starved = |phase| median(&start, &end, &hosts[victim], phase);
    let neighbour = |phase| median(&start, &end, &hosts[healthy], phase);
    let growth = |phase, at: usize| starved(phase) - quiet[at];
    let tcp = growth("tcp", 0);
    for (at, phase) in [(1, "tls"), (2, "hello"), (3, "auth")] {
        let grown = growth(phase, at);
        assert!(grown > 0.0, "{phase}: {} then {}", quiet[at], starved(phase));
        assert!(grown > 5.0 * tcp, "{phase} grew by {grown}, tcp by {tcp}");
        assert!(starved(phase) > neighbour(phase), "{phase}: {} beside {}", starved(phase), neighbour(phase));
    }
    drop(hog);
}
