//! The probe does no harm: real clients get in while a hundred probes knock.

use std::time::Duration;

use lab::vpn::{OpenvpnOptions, OpenvpnServer, Wrap};
use tokio::time::Instant;

use super::openvpn::wrapped;
use super::{failed, network, probe, replies, watch};
use crate::support::{Metrics, midwatch};

/// What an OpenVPN server gets from a process in ten seconds at most.
const BUDGET: f64 = 20.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_probes_leave_room_for_real_clients() {
    let Some(network) = network() else { return };
    let server = OpenvpnServer::start(&network.server, OpenvpnOptions::new(Wrap::Crypt)).await.unwrap();
    let keys = format!("interval = \"5s\"\ntimeout = \"4s\"\n{}", wrapped(Wrap::Crypt, server.wrap_key().as_deref()));
    let names: Vec<_> = (0..100).map(|number| format!("p{number}")).collect();
    let text: String = names.iter().map(|name| probe(name, "openvpn", &server.address(), &keys)).collect();
    let started = Instant::now();
    let daemon = watch(&network, &text).await;
    let all = |m: &Metrics, count: fn(&Metrics, &str) -> f64| names.iter().map(|name| count(m, name)).sum::<f64>();
    let answered = |m: &Metrics| all(m, |m, name| replies(m, name, "server_reset"));
    let limited = |m: &Metrics| all(m, |m, name| failed(m, name, "handshake", "rate_limited"));
    daemon.until("the budget to be used up", |m| (answered(m) >= BUDGET && limited(m) > 20.0).then_some(())).await;

    // Again and again, for longer than the server's own span.
    let mut clients = Vec::new();
    while started.elapsed() < Duration::from_secs(25) {
        let client = server.connect(&network.client).await.unwrap();
        assert_eq!(client.restarts(), 0, "a client was shut out");
        clients.push(client);
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert!(clients.len() >= 3, "{}", clients.len());
    let metrics = daemon.metrics().await;
    let sent: f64 = metrics.all("midwatch_vpn_packets_sent_total", &[]).map(|sample| sample.value).sum();
    let spans = started.elapsed().as_secs_f64() / 10.0;
    assert!(sent <= BUDGET * (spans + 1.0), "{sent} in {spans} spans");
    assert_eq!(all(&metrics, |m, name| failed(m, name, "handshake", "timeout")), 0.0, "{}", daemon.log());
}

#[test]
fn intervals_have_floors_and_the_reason_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |protocol: &str, rest: &str| {
        let file = folder.path().join("midwatch.toml");
        std::fs::write(&file, probe("p", protocol, "10.77.0.1", rest)).unwrap();
        let output = midwatch(&["check", file.to_str().unwrap()]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (protocol, rest, why) in [
        ("openvpn", "interval = \"4s\"\ntimeout = \"1s\"", "connect-freq-initial"),
        ("ikev2", "mode = \"full\"\ninterval = \"5s\"\ntimeout = \"1s\"", "half-open"),
        ("anyconnect", "interval = \"19s\"\ntimeout = \"500ms\"", "max-ban-score"),
        ("sstp", "interval = \"4s\"\ntimeout = \"500ms\"", "TLS handshake"),
    ] {
        let (code, said) = refused(protocol, rest);
        assert!(code == Some(64) && said.contains(why), "{protocol}: {code:?}: {said}");
    }
}
