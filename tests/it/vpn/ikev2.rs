//! IKEv2: what strongSwan answers, and what is left behind on it.

use lab::vpn::{Ike, IkeOptions};

use super::{network, of, probe, replies, until_all, watch};
use crate::support::Metrics;

const RHYTHM: &str = "interval = \"2s\"\ntimeout = \"1900ms\"\nattempts = 2\n";

/// How many runs have ended.
fn runs(metrics: &Metrics, probe: &str) -> f64 {
    metrics.get("midwatch_probe_runs_total", &[("probe", probe)]).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_both_ports_answer_and_nothing_is_left_behind() {
    let Some(network) = network() else { return };
    let server = Ike::start(&network.server, &IkeOptions::default()).await.unwrap();
    // Without a port, both are asked: hence no label that is alone.
    let text = [
        probe("both", "ikev2", "10.77.0.1", RHYTHM),
        probe("ike", "ikev2", "10.77.0.1:500", RHYTHM),
        probe("nat", "ikev2", "10.77.0.1:4500", RHYTHM),
        probe("six", "ikev2", "[fd77::1]:500", RHYTHM),
        probe("closed", "ikev2", "10.77.0.1:9", RHYTHM),
    ];
    let daemon = watch(&network, &text.concat()).await;
    let closed = Err(("handshake", "refused"));
    until_all(&daemon, &[("ike", Ok(())), ("nat", Ok(())), ("six", Ok(())), ("closed", closed)]).await;
    let metrics =
        daemon.until("more runs", |m| (runs(m, "ike") >= 4.0 && runs(m, "both") >= 4.0).then(|| m.clone())).await;
    for port in ["500", "4500"] {
        let labels = [("probe", "both"), ("server", &*format!("10.77.0.1:{port}"))];
        assert_eq!(metrics.get("midwatch_vpn_up", &labels), Some(1.0), "{port}");
    }
    for name in ["ike", "nat", "six"] {
        assert!(replies(&metrics, name, "no_proposal_chosen") >= 4.0 || runs(&metrics, name) < 4.0, "{name}");
        assert_eq!(replies(&metrics, name, "sa_init"), 0.0, "{name}");
    }
    assert_eq!(server.half_open().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_proposal_is_accepted_within_what_a_server_holds() {
    let Some(network) = network() else { return };
    let server = Ike::start(&network.server, &IkeOptions::default()).await.unwrap();
    let full = |name: &str, at: &str| {
        probe(name, "ikev2", at, "mode = \"full\"\ninterval = \"10s\"\ntimeout = \"2s\"\nattempts = 2\n")
    };
    // Three probes together would leave more than there may be: the budget is for all of them.
    let names = ["a", "b", "c"];
    let daemon = watch(&network, &names.map(|name| full(name, "10.77.0.1:500")).concat()).await;
    let answered = |m: &Metrics| names.iter().map(|name| replies(m, name, "sa_init")).sum::<f64>();
    let limited =
        |m: &Metrics| names.iter().map(|name| super::failed(m, name, "handshake", "rate_limited")).sum::<f64>();
    let mut most = 0;
    daemon
        .until("the budget to be used up", |m| {
            most = most.max(server.half_open().unwrap());
            (answered(m) >= 3.0 && limited(m) >= 2.0).then_some(())
        })
        .await;
    assert!((1..5).contains(&most), "{most} half-open SAs");
    let metrics = daemon.metrics().await;
    assert!(names.iter().all(|name| super::failed(&metrics, name, "handshake", "timeout") == 0.0), "{}", daemon.log());
    // So a real client of the same address is still let in.
    let client = Ike::client(&network.client, &IkeOptions::default()).await.unwrap();
    client.initiate().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_and_other_groups_are_given_as_asked() {
    let Some(network) = network() else { return };
    let options = IkeOptions::default().proposals("aes128-sha256-modp2048").cookie_threshold(1);
    let options = options.block_threshold(50);
    let server = Ike::start(&network.server, &options).await.unwrap();
    let rest = "interval = \"10s\"\ntimeout = \"3s\"\nattempts = 3\n";
    let daemon = watch(
        &network,
        &[
            probe("full", "ikev2", "10.77.0.1:500", &format!("mode = \"full\"\n{rest}")),
            probe("free", "ikev2", "10.77.0.1:4500", rest),
        ]
        .concat(),
    )
    .await;
    let metrics = daemon
        .until("answers", |m| {
            let are_up = of(m, "up", "full") == Some(1.0) && of(m, "up", "free") == Some(1.0);
            (are_up && replies(m, "full", "cookie") > 0.0 && replies(m, "full", "sa_init") > 1.0).then(|| m.clone())
        })
        .await;
    assert!(replies(&metrics, "full", "invalid_ke_payload") > 0.0);
    assert!(server.half_open().unwrap() > 0, "the proposal was accepted");
}
