//! WireGuard: keys, cookies, clocks, and who else has the key.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use lab::clock::Clock;
use lab::vpn::{Implementation, Network, Peer, WireguardServer};

use super::{
    OFTEN, ask, failed, inside_command, network, of, replies, until_all, watch, watch_by, wireguard, wireguard_at,
};
use crate::support::{Metrics, Midwatch, Place, eventually, program};

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_key_has_its_reason() {
    for implementation in [Implementation::Go, Implementation::Boringtun] {
        let Some(network) = network() else { return };
        let server = WireguardServer::start(&network.server, implementation).await.unwrap();
        let peer = |number: u8, shared: bool| server.add_peer(&format!("10.88.0.{number}/32"), shared).unwrap();
        let (plain, shared, stranger) = (peer(2, false), peer(3, true), peer(4, false));
        server.remove_peer(&stranger).unwrap();
        let (both, alone, other, of_family, deaf) =
            (peer(5, true), peer(6, false), peer(7, true), peer(8, true), peer(9, false));
        let without = Peer { preshared_key: None, ..both };
        let with = Peer { preshared_key: shared.preshared_key.clone(), ..alone };
        let another = Peer { preshared_key: shared.preshared_key.clone(), ..other };
        let foreign_key = server.other_public_key().unwrap();
        let probes = [
            wireguard("plain", &server, &plain, OFTEN),
            wireguard("shared", &server, &shared, OFTEN),
            wireguard_at("six", "[fd77::1]:51820", server.public_key(), &of_family, OFTEN),
            wireguard("psk-missing", &server, &without, OFTEN),
            wireguard("psk-too-many", &server, &with, OFTEN),
            wireguard("psk-other", &server, &another, OFTEN),
            wireguard("stranger", &server, &stranger, OFTEN),
            wireguard_at("server-key", "10.77.0.1:51820", &foreign_key, &deaf, OFTEN),
            wireguard_at("closed", "10.77.0.1:9", server.public_key(), &deaf, OFTEN),
        ];
        // Anybody may read it now.
        let open = &plain.private_key;
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o644)).unwrap();

        let daemon = watch(&network, &probes.concat()).await;
        let metrics = until_all(
            &daemon,
            &[
                ("plain", Ok(())),
                ("shared", Ok(())),
                ("six", Ok(())),
                ("psk-missing", Err(("handshake", "psk_mismatch"))),
                ("psk-too-many", Err(("handshake", "psk_mismatch"))),
                ("psk-other", Err(("handshake", "psk_mismatch"))),
                ("stranger", Err(("handshake", "timeout"))),
                ("server-key", Err(("handshake", "timeout"))),
                ("closed", Err(("handshake", "refused"))),
            ],
        )
        .await;
        assert!(replies(&metrics, "shared", "response") > 0.0);
        assert!(replies(&metrics, "stranger", "response") == 0.0);
        let kernel = [("probe", "plain"), ("clock", "kernel")];
        assert!(metrics.get("midwatch_vpn_round_trip_clock_total", &kernel) > Some(0.0), "{implementation:?}");
        let warning = format!("the key file {} is open to everybody", open.display());
        assert!(daemon.log().contains(&warning), "{}", daemon.log());
        // The server believes that the handshake is whole: it has seen our confirmation.
        let seen = server.show("latest-handshakes").unwrap();
        let of_peer = |peer: &Peer| {
            seen.lines().find(|line| line.starts_with(&peer.public_key)).map(|line| !line.ends_with("\t0"))
        };
        assert_eq!((of_peer(&shared), of_peer(&deaf)), (Some(true), Some(false)), "{seen}");
    }
}

/// Boringtun asks for cookies above a hundred handshakes a second: those that a client's first packet, sent again and again, seems to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_under_load_wants_a_cookie_and_gets_it() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Boringtun).await.unwrap();
    let (peer, busy) =
        (server.add_peer("10.88.0.2/32", false).unwrap(), server.add_peer("10.88.0.3/32", false).unwrap());
    let first = first_packet(&network, &server, &busy).await;
    // The server takes it once. From then on each further one is a replay, from somebody whom it has no session with.
    let client = || network.client.bind(SocketAddr::new(Network::CLIENT.0.into(), 0)).unwrap();
    let once = client();
    once.send_to(&first, (Network::SERVER.0, WireguardServer::PORT)).await.unwrap();
    once.recv(&mut [0; 256]).await.unwrap();
    let from = client();
    let flood = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            for _ in 0..10 {
                // A full queue is load too.
                let _ = from.send_to(&first, (Network::SERVER.0, WireguardServer::PORT)).await;
            }
        }
    });
    let rest = "interval = \"1s\"\ntimeout = \"900ms\"\nattempts = 3";
    let daemon = watch(&network, &wireguard("loaded", &server, &peer, rest)).await;
    let metrics = daemon
        .until("a handshake with a cookie", |m| {
            let answered = replies(m, "loaded", "cookie") > 0.0 && replies(m, "loaded", "response") > 0.0;
            (answered && of(m, "up", "loaded") == Some(1.0)).then(|| m.clone())
        })
        .await;
    flood.abort();
    assert_eq!(failed(&metrics, "loaded", "handshake", "psk_mismatch"), 0.0);
}

/// What a client of the server sends first.
async fn first_packet(network: &Network, server: &WireguardServer, peer: &Peer) -> Vec<u8> {
    let client = WireguardServer::connect(network, server, peer, "10.88.0.3/24").await.unwrap();
    let listener = network.server.bind(SocketAddr::new(Network::SERVER.0.into(), 5182)).unwrap();
    client.move_endpoint(server, &format!("{}:5182", Network::SERVER.0)).unwrap();
    let pinger = network.client.bind("10.88.0.3:0".parse().unwrap()).unwrap();
    let mut buffer = [0; 256];
    loop {
        pinger.send_to(b"x", (WireguardServer::INSIDE, 9)).await.unwrap();
        let wait = tokio::time::timeout(Duration::from_millis(500), listener.recv(&mut buffer));
        if let Ok(Ok(148)) = wait.await {
            return buffer[..148].to_vec();
        }
    }
}

/// The program with that wall clock.
fn clocked(network: &Network, clock: &Clock) -> Command {
    let mut command = inside_command(network);
    command.envs(clock.environment());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_stepped_blinds_no_running_probe_and_is_named_after_a_restart() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let peer = server.add_peer("10.88.0.2/32", false).unwrap();
    let clock = Clock::new().unwrap();
    let mut daemon = watch_by(&network, &wireguard("w", &server, &peer, OFTEN), clocked(&network, &clock)).await;
    let remember = |daemon: &Midwatch| clock.started(daemon.child.id().unwrap());
    remember(&daemon);
    let answered = |m: &Metrics| replies(m, "w", "response");
    let mut before = until_all(&daemon, &[("w", Ok(()))]).await;
    let started = before.get("midwatch_probe_last_run_timestamp_seconds", &[("probe", "w")]).unwrap();
    for step in [-3_600, 0, 3_600, 0] {
        clock.step(step).unwrap();
        let enough = answered(&before) + 3.0;
        before = daemon.until("handshakes", |m| (answered(m) >= enough).then(|| m.clone())).await;
        let now = before.get("midwatch_probe_last_run_timestamp_seconds", &[("probe", "w")]).unwrap();
        assert_eq!((now - started).abs() > 3_000.0, step != 0, "the step has no effect");
        assert_eq!(failed(&before, "w", "handshake", "timeout"), 0.0, "{step}: {}", daemon.log());
    }

    // An hour ahead, the server sees the future; then a process that knows only the clock.
    clock.step(3_600).unwrap();
    daemon.restart_as(clocked(&network, &clock)).await;
    remember(&daemon);
    until_all(&daemon, &[("w", Ok(()))]).await;
    let state = daemon.place.folder.path().join("state/wireguard");
    let mark = || std::fs::read_dir(&state).ok().and_then(|mut files| files.next());
    eventually("the mark", async || mark().map(drop)).await;
    assert!(!daemon.log().contains("is behind"), "{}", daemon.log());
    clock.step(0).unwrap();
    daemon.restart_as(clocked(&network, &clock)).await;
    remember(&daemon);
    until_all(&daemon, &[("w", Err(("handshake", "clock_behind")))]).await;
    let said = daemon.log();
    assert!(
        said.lines().any(|line| line.contains("WARN") && line.contains("s behind the time that the server has seen")),
        "{said}"
    );

    // What the reason says helps: the peer added anew.
    server.remove_peer(&peer).unwrap();
    server.set_peer(&peer, "10.88.0.2/32").unwrap();
    daemon.until("the server to listen again", |m| (of(m, "up", "w") == Some(1.0)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_with_one_key_are_told_of_each_other() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let peer = server.add_peer("10.88.0.2/32", false).unwrap();
    // The first target is not there, so that both are in the tunnel for long enough to meet, and answers go to the wrong one.
    let rest = "interval = \"1s\"\ntimeout = \"900ms\"\ninside_address = \"10.88.0.2\"\n\
                inside = [{ icmp = \"10.88.0.99\", count = 100 }, { icmp = \"10.88.0.1\", count = 100 }]";
    let section = wireguard("shared", &server, &peer, rest);
    let (one, other) = tokio::join!(watch(&network, &section), watch(&network, &section));
    eventually("a warning", async || {
        [&one, &other].iter().any(|daemon| daemon.log().contains("uses the same private key")).then_some(())
    })
    .await;
    // Both show the beginning of the same key.
    let shown = async |daemon: &Midwatch| {
        let metrics = daemon.until("the key", |m| m.all("midwatch_vpn_key_info", &[]).next().cloned()).await;
        metrics.labels["key"].clone()
    };
    assert_eq!(shown(&one).await, shown(&other).await);
    assert!(peer.public_key.starts_with(&shown(&one).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_of_a_name_has_a_verdict_of_its_own() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let peer = server.add_peer("10.88.0.2/32", false).unwrap();
    // One of the two families is deaf.
    network.server.rules("ip6 daddr ::1 udp dport 51820 drop").unwrap();
    let rest = "interval = \"2s\"\ntimeout = \"1500ms\"\nattempts = 1\naddresses = \"all\"\nrequire = \"any\"";
    let place = Place::new();
    place.write("midwatch.toml", &place.text(&wireguard_at("w", "localhost:51820", server.public_key(), &peer, rest)));
    let daemon = place.launch_within(&network.server, network.server.command(program()).unwrap());
    daemon.wait_ready().await;
    let up = |m: &Metrics, address: &str| m.get("midwatch_vpn_up", &[("server", address)]);
    let expected = (Some(1.0), Some(0.0));
    let seen = |m: &Metrics| (up(m, "127.0.0.1:51820"), up(m, "[::1]:51820"));
    daemon.until("a verdict on each address", |m| (seen(m) == expected).then_some(())).await;
    assert_eq!(of(&daemon.metrics().await, "addresses", "w"), Some(2.0));
    network.server.rules("").unwrap();
    daemon.until("both to be up", |m| (seen(m) == (Some(1.0), Some(1.0))).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_the_stages_and_what_a_failure_means() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let peer = server.add_peer("10.88.0.2/32", true).unwrap();
    let inside = format!("{OFTEN}\ninside_address = \"10.88.0.2\"\ninside = [{{ icmp = \"10.88.0.1\" }}]");
    let place = Place::new();
    let without = Peer { preshared_key: None, ..peer.clone() };
    let text = wireguard("good", &server, &peer, &inside) + &wireguard("bad", &server, &without, OFTEN);
    let file = place.write("midwatch.toml", &place.text(&text));
    let (is_good, good) = ask(&network, &file, "good");
    assert!(is_good, "{good}");
    for word in ["handshake", "inside", "ms"] {
        assert!(good.contains(word), "{good}");
    }
    let (is_good, bad) = ask(&network, &file, "bad");
    assert!(!is_good, "{bad}");
    for words in ["psk_mismatch", "handshake", "has a pre-shared key for it, and none is configured here"] {
        assert!(bad.contains(words), "{bad}");
    }
}
