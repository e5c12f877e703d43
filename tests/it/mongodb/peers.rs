//! Peers that are no MongoDB at all: each way of not answering has its own phase and reason.

use lab::net::{Blackhole, Peer, Refused, Then};

use super::{FAILURES, after_runs, observed, probe, state, success};
use crate::support::Midwatch;

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_not_answering_has_its_own_reason() {
    let (hole, refused) = (Blackhole::open().await.unwrap(), Refused::pick().unwrap());
    let (silent, garbage) = (Peer::silent().await.unwrap(), Peer::garbage().await.unwrap());
    let closing = Peer::scripted(Vec::new(), Then::Close).await.unwrap();
    let oversized =
        Peer::scripted([0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0, 1, 0, 0, 0, 0xdd, 7, 0, 0], Then::Hold).await.unwrap();
    // A header that promises 100 bytes, and then nothing more.
    let truncated = Peer::scripted([100, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0xdd, 7, 0, 0], Then::Close).await.unwrap();
    let expected = [
        (hole.address().to_string(), "tcp", "timeout"),
        (refused.address().to_string(), "tcp", "refused"),
        (silent.address().to_string(), "hello", "timeout"),
        (garbage.address().to_string(), "hello", "protocol"),
        (closing.address().to_string(), "hello", "closed"),
        (oversized.address().to_string(), "hello", "protocol"),
        (truncated.address().to_string(), "hello", "closed"),
        ("no-such-host.invalid:27017".to_owned(), "resolve", "resolve"),
    ];
    let hosts: Vec<_> = expected.iter().map(|(host, ..)| host.clone()).collect();
    let rhythm = "interval = \"1s\"\ntimeout = \"700ms\"\n";
    let text = [
        probe("all", &hosts, rhythm),
        probe("plain_peer", &hosts[3..4], &format!("{rhythm}tls = true")),
        probe("silent_tls", &hosts[2..3], &format!("{rhythm}tls = {{ insecure = true }}")),
    ]
    .concat();
    let daemon = Midwatch::start(&text).await;
    let metrics = after_runs(&daemon, 3, 2.0).await;
    for (host, phase, reason) in &expected {
        assert_eq!(success(&metrics, "all", host), Some(0.0), "{host}");
        assert_eq!(state(&metrics, "all", host).as_deref(), Some("unreachable"));
        let of = [("probe", "all"), ("member", host.as_str())];
        let failed: Vec<_> = metrics.all(FAILURES, &of).filter(|sample| sample.value > 0.0).collect();
        let told: Vec<_> = failed.iter().map(|sample| (&*sample.labels["phase"], &*sample.labels["reason"])).collect();
        // A host without a name server to ask cannot tell a name that does not exist from one that nobody answers for.
        let unanswered = *phase == "resolve" && told == [("resolve", "timeout")];
        assert!(told == [(*phase, *reason)] || unanswered, "{host}: {told:?}\n{}", daemon.log());
        assert_eq!(failed[0].value, observed(&metrics, "all", host, "total"));
        assert_eq!(failed[0].value, observed(&metrics, "all", host, phase));
    }
    for (name, host, reason) in [("plain_peer", &hosts[3], "tls"), ("silent_tls", &hosts[2], "timeout")] {
        let labels = [("probe", name), ("member", host.as_str()), ("phase", "tls"), ("reason", reason)];
        assert!(metrics.get(FAILURES, &labels).unwrap() >= 2.0, "{name}\n{}", daemon.log());
    }
}
