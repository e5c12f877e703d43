//! Servers that freeze and die, networks that lose, answers that are not ours.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::until;
use lab::vpn::{
    Ike, IkeOptions, Implementation, Network, Ocserv, OpenvpnOptions, OpenvpnServer, WireguardServer, Wrap,
};
use tokio::task::JoinHandle;

use super::openvpn::wrapped;
use super::{OFTEN, PATIENCE, ask, failed, network, of, probe, trusting, watch, wireguard, wireguard_at};
use crate::support::{Metrics, Midwatch};

/// Waits until each probe has failed once more in that stage for that reason than it has now.
async fn until_failed(daemon: &Midwatch, what: &str, expected: &[(&str, &str, &str)]) {
    let before = daemon.metrics().await;
    let count = |m: &Metrics, (probe, stage, reason): (&str, &str, &str)| failed(m, probe, stage, reason);
    let waiting = until(what, PATIENCE, async || {
        let now = daemon.metrics().await;
        let missing: Vec<_> = expected.iter().filter(|each| count(&now, **each) <= count(&before, **each)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} not yet; the log:\n{}", daemon.log())) }
    });
    waiting.await.unwrap();
}

async fn until_up(daemon: &Midwatch, probes: &[&str]) -> Metrics {
    let waiting = until("all to be up", PATIENCE, async || {
        let now = daemon.metrics().await;
        let down: Vec<_> = probes.iter().filter(|probe| of(&now, "up", probe) != Some(1.0)).collect();
        if down.is_empty() { Ok(now) } else { Err(format!("{down:?}; the log:\n{}", daemon.log())) }
    });
    waiting.await.unwrap()
}

/// Those that may be asked often. ocserv may not: it is asked once in each situation.
const OFTEN_ASKED: [&str; 4] = ["wireguard", "openvpn", "openvpn-tcp", "ikev2"];

/// Asks ocserv, which must fail in that stage for that reason.
fn refuses(network: &Network, daemon: &Midwatch, stage: &str, reason: &str) {
    let (is_good, said) = ask(network, daemon.config(), "ocserv");
    assert!(!is_good && said.contains(stage) && said.contains(reason), "{stage}, {reason}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_servers_and_networks_has_its_reason() {
    let Some(network) = network() else { return };
    let mut guard = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let peer = guard.add_peer("10.88.0.2/32", false).unwrap();
    let options = || OpenvpnOptions::new(Wrap::Crypt);
    let mut over_udp = OpenvpnServer::start(&network.server, options()).await.unwrap();
    let mut over_tcp = OpenvpnServer::start(&network.server, options().port(1195).tcp()).await.unwrap();
    let mut ike = Ike::start(&network.server, &IkeOptions::default()).await.unwrap();
    let mut ocserv = Ocserv::start(&network.server, time::Duration::days(3)).await.unwrap();
    let seldom = "interval = \"5s\"\ntimeout = \"2s\"\nattempts = 2\n";
    let twenty = "interval = \"20s\"\ntimeout = \"2s\"\n";
    let of_openvpn = |server: &OpenvpnServer| format!("{seldom}{}", wrapped(Wrap::Crypt, server.wrap_key().as_deref()));
    let daemon = watch(
        &network,
        &[
            wireguard(OFTEN_ASKED[0], &guard, &peer, OFTEN),
            probe(OFTEN_ASKED[1], "openvpn", &over_udp.address(), &of_openvpn(&over_udp)),
            probe(
                OFTEN_ASKED[2],
                "openvpn",
                &over_tcp.address(),
                &format!("transport = \"tcp\"\n{}", of_openvpn(&over_tcp)),
            ),
            probe(OFTEN_ASKED[3], "ikev2", "10.77.0.1:500", OFTEN),
            probe("ocserv", "anyconnect", "10.77.0.1:443", &format!("{twenty}{}", trusting(ocserv.ca_file()))),
        ]
        .concat(),
    )
    .await;
    until_up(&daemon, &OFTEN_ASKED).await;
    let (is_good, said) = ask(&network, daemon.config(), "ocserv");
    assert!(is_good, "{said}");

    let silent = [
        ("wireguard", "handshake", "timeout"),
        ("openvpn", "handshake", "timeout"),
        ("openvpn-tcp", "handshake", "timeout"),
        ("ikev2", "handshake", "timeout"),
    ];
    guard.freeze().unwrap();
    over_udp.freeze().unwrap();
    over_tcp.freeze().unwrap();
    ike.freeze().unwrap();
    ocserv.freeze().unwrap();
    until_failed(&daemon, "the freeze to show", &silent).await;
    refuses(&network, &daemon, "tls", "timeout");
    guard.thaw().unwrap();
    over_udp.thaw().unwrap();
    over_tcp.thaw().unwrap();
    ike.thaw().unwrap();
    ocserv.thaw().unwrap();
    until_up(&daemon, &OFTEN_ASKED).await;

    let mut lost = silent;
    lost[2].1 = "connect";
    for (incoming, outgoing) in [("meta l4proto { tcp, udp } drop", ""), ("", "meta l4proto { tcp, udp } drop")] {
        network.server.rules_both(incoming, outgoing).unwrap();
        until_failed(&daemon, "one-way loss to show", &lost).await;
        refuses(&network, &daemon, "connect", "timeout");
        network.server.rules("").unwrap();
        until_up(&daemon, &OFTEN_ASKED).await;
    }

    guard.kill();
    over_udp.kill();
    over_tcp.kill();
    ike.kill();
    ocserv.kill();
    let mut closed = lost;
    for each in &mut closed {
        each.2 = "refused";
    }
    until_failed(&daemon, "closed ports to show", &closed).await;
    refuses(&network, &daemon, "connect", "refused");
}

/// Exactly one of ten echoes, and one of ten first packets, is lost on the way.
#[tokio::test(flavor = "multi_thread")]
async fn ten_percent_loss_is_measured_as_ten_percent() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let mut text = String::new();
    let probes: Vec<_> = (0..5).map(|number| format!("p{number}")).collect();
    for (number, name) in (2..).zip(&probes) {
        let address = format!("10.88.0.{number}");
        let peer = server.add_peer(&format!("{address}/32"), false).unwrap();
        let rest = format!(
            "interval = \"4s\"\ntimeout = \"3900ms\"\nloss_window = 1000\ninside_address = \"{address}\"\n\
             inside = [{{ icmp = \"10.88.0.1\", count = 100 }}]\n"
        );
        text += &wireguard(name, &server, &peer, &rest);
    }
    network
        .server
        .rules(&format!("iifname \"{}\" icmp type echo-request numgen inc mod 10 == 0 drop", server.interface()))
        .unwrap();
    let daemon = watch(&network, &text).await;
    let sum = |m: &Metrics, name: &str| {
        let labels = [("stage", "inside")];
        m.all(&format!("midwatch_vpn_packets_{name}_total"), &labels).map(|sample| sample.value).sum::<f64>()
    };
    let metrics = daemon.until("500 echoes", |m| (sum(m, "sent") >= 500.0).then(|| m.clone())).await;
    let (sent, lost) = (sum(&metrics, "sent"), sum(&metrics, "lost"));
    let error = (0.1 * 0.9 / sent).sqrt();
    assert!((lost / sent - 0.1).abs() <= error, "{lost} of {sent}");
    for name in &probes {
        let labels = [("probe", name.as_str()), ("stage", "inside")];
        let ratio = metrics.get("midwatch_vpn_loss_ratio", &labels);
        let of_probe = |what: &str| metrics.get(&format!("midwatch_vpn_packets_{what}_total"), &labels);
        assert_eq!(ratio, of_probe("lost").zip(of_probe("sent")).map(|(lost, sent)| lost / sent), "{name}");
        assert_eq!(of(&metrics, "up", name), Some(1.0), "loss is not death");
    }
}

/// A way to a server on which answers are changed, or held up.
struct Relay(Vec<JoinHandle<()>>);

impl Relay {
    /// From one port of the server's namespace to another. The last client gets all answers.
    fn open(
        network: &Network,
        (from, to): (u16, u16),
        delay: Duration,
        change: impl Fn(&mut Vec<u8>) + Send + 'static,
    ) -> Relay {
        let host = IpAddr::from(Network::SERVER.0);
        let near = std::sync::Arc::new(network.server.bind(SocketAddr::new(host, from)).unwrap());
        let far = std::sync::Arc::new(network.server.bind(SocketAddr::new(host, 0)).unwrap());
        let (told, client) = tokio::sync::watch::channel(None);
        let (near_in, far_in) = (std::sync::Arc::clone(&near), std::sync::Arc::clone(&far));
        let there = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = near_in.recv_from(&mut buffer).await {
                told.send_replace(Some(from));
                let _ = far_in.send_to(&buffer[..length], (host, to)).await;
            }
        });
        let back = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok(length) = far.recv(&mut buffer).await {
                let mut answer = buffer[..length].to_vec();
                change(&mut answer);
                let (near, client) = (std::sync::Arc::clone(&near), *client.borrow());
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    if let Some(client) = client {
                        let _ = near.send_to(&answer, client).await;
                    }
                });
            }
        });
        Relay(vec![there, back])
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_ours_or_too_late_never_count() {
    let Some(network) = network() else { return };
    let guard = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let peers = [2, 3, 4].map(|number| guard.add_peer(&format!("10.88.0.{number}/32"), false).unwrap());
    let plain = OpenvpnServer::start(&network.server, OpenvpnOptions::new(Wrap::None)).await.unwrap();
    let signed = OpenvpnServer::start(&network.server, OpenvpnOptions::new(Wrap::Auth).port(1195)).await.unwrap();
    let _ike = Ike::start(&network.server, &IkeOptions::default()).await.unwrap();
    let (soon, late) = (Duration::ZERO, Duration::from_millis(700));
    let flip = |at: usize| {
        move |answer: &mut Vec<u8>| {
            if let Some(byte) = answer.get_mut(at) {
                *byte ^= 1;
            }
        }
    };
    let _relays = [
        // The highest byte of WireGuard's receiver index, and what its mac1 covers.
        Relay::open(&network, (7001, 51820), soon, flip(11)),
        Relay::open(&network, (7002, 51820), soon, flip(40)),
        Relay::open(&network, (7003, 51820), late, |_| {}),
        // Our session id in the answer; the authentication code.
        Relay::open(&network, (7004, 1194), soon, flip(14)),
        Relay::open(&network, (7005, 1195), soon, flip(9)),
        Relay::open(&network, (7006, 1194), late, |_| {}),
        // Our SPI.
        Relay::open(&network, (7007, 500), soon, flip(3)),
        Relay::open(&network, (7008, 500), late, |_| {}),
        // Nothing changed: the way itself is good.
        Relay::open(&network, (7009, 500), soon, |_| {}),
    ];
    let at = |port: u16| format!("10.77.0.1:{port}");
    let ours = |name, port, peer| wireguard_at(name, &at(port), guard.public_key(), peer, OFTEN);
    let seldom = "interval = \"5s\"\ntimeout = \"900ms\"\nattempts = 2\n";
    let signed_keys = format!("{seldom}{}", wrapped(Wrap::Auth, signed.wrap_key().as_deref()));
    let daemon = watch(
        &network,
        &[
            ours("index", 7001, &peers[0]),
            ours("mac", 7002, &peers[1]),
            ours("late", 7003, &peers[2]),
            probe("session", "openvpn", &at(7004), seldom),
            probe("hmac", "openvpn", &at(7005), &signed_keys),
            probe("late-session", "openvpn", &at(7006), seldom),
            probe("spi", "ikev2", &at(7007), &format!("nat_traversal = false\n{OFTEN}")),
            probe("late-spi", "ikev2", &at(7008), OFTEN),
            probe("good", "ikev2", &at(7009), OFTEN),
        ]
        .concat(),
    )
    .await;
    let ignored = |m: &Metrics, (probe, why): (&str, &str)| {
        m.get("midwatch_vpn_ignored_packets_total", &[("probe", probe), ("why", why)]).unwrap_or(0.0)
    };
    let expected = [
        ("index", "foreign_session"),
        ("mac", "forged"),
        ("late", "late"),
        ("session", "foreign_session"),
        ("hmac", "forged"),
        ("late-session", "late"),
        ("spi", "foreign_session"),
        ("late-spi", "late"),
    ];
    let waiting = until("packets to be ignored", PATIENCE, async || {
        let metrics = daemon.metrics().await;
        let is_missing = |each: &&(&str, &str)| {
            ignored(&metrics, **each) < 2.0 || failed(&metrics, each.0, "handshake", "timeout") < 2.0
        };
        let missing: Vec<_> = expected.iter().filter(is_missing).collect();
        if missing.is_empty() { Ok(metrics) } else { Err(format!("{missing:?}; the log:\n{}", daemon.log())) }
    });
    let metrics = waiting.await.unwrap();
    for (name, _) in expected {
        assert_eq!(of(&metrics, "up", name), Some(0.0), "{name}");
        let successes = metrics.get("midwatch_probe_last_success_timestamp_seconds", &[("probe", name)]);
        assert!(successes.unwrap_or(0.0) == 0.0, "{name}: {successes:?}");
    }
    assert_eq!(of(&metrics, "up", "good"), Some(1.0), "{}", daemon.log());
    drop(plain);
}
