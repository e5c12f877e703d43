//! The lab's VPN servers let clients of their own kind in, and its networks lose what they are told to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::vpn::{
    Ike, IkeOptions, Implementation, Inside, Network, Ocserv, OpenvpnOptions, OpenvpnServer, WireguardServer, Wrap,
    available,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A page inside, asked for from the client's namespace: the status line.
async fn page(network: &Network, path: &str) -> lab::Result<String> {
    let mut stream = network.client.connect(SocketAddr::new(WireguardServer::INSIDE.into(), 8080)).await?;
    let io = |source| lab::Error::Io { what: "the page".to_owned(), source };
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.map_err(io)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(io)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wireguard_client_goes_through_either_implementation() {
    if !available().unwrap() {
        return;
    }
    for implementation in [Implementation::Go, Implementation::Boringtun] {
        let network = Network::new().unwrap();
        let server = WireguardServer::start(&network.server, implementation).await.unwrap();
        let _inside = Inside::serve(&network.server, IpAddr::from(WireguardServer::INSIDE)).unwrap();
        let peer = server.add_peer("10.88.0.2/32", true).unwrap();
        let client = WireguardServer::connect(&network, &server, &peer, "10.88.0.2/24").await.unwrap();
        assert_eq!(page(&network, "/x").await.unwrap(), "HTTP/1.1 200 OK", "{implementation:?}");
        assert_eq!(page(&network, "/y").await.unwrap(), "HTTP/1.1 404 Not Found");
        let handshakes = client.show("latest-handshakes").unwrap();
        assert!(handshakes.contains(server.public_key()) && !handshakes.ends_with("\t0\n"), "{handshakes}");
        let name = client.interface().to_owned();
        drop(client);
        assert!(!network.client.ip(&["link"]).unwrap().contains(&name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openvpn_lets_clients_in_in_every_mode() {
    if !available().unwrap() {
        return;
    }
    for (wrap, tcp) in [(Wrap::None, false), (Wrap::Auth, true), (Wrap::Crypt, false), (Wrap::CryptV2, false)] {
        let network = Network::new().unwrap();
        let options = OpenvpnOptions::new(wrap);
        let options = if tcp { options.tcp() } else { options };
        let server = OpenvpnServer::start(&network.server, options).await.unwrap();
        let client = server.connect(&network.client).await.unwrap();
        assert_eq!(client.restarts(), 0, "{wrap:?}");
        assert_eq!(server.wrap_key().is_some(), wrap != Wrap::None);
        assert_eq!(server.wrap_key().map(|key| key.exists()), server.foreign_key().map(|key| key.exists()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strongswan_lets_strongswan_in_and_counts_who_waits() {
    if !available().unwrap() {
        return;
    }
    let network = Network::new().unwrap();
    let server = Ike::start(&network.server, &IkeOptions::default().half_open_timeout(5)).await.unwrap();
    let client = Ike::client(&network.client, &IkeOptions::default()).await.unwrap();
    client.initiate().await.unwrap();
    assert!(server.connections().unwrap().contains("ESTABLISHED"), "{}", server.connections().unwrap());
    assert_eq!(server.half_open().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ocserv_asks_anyconnect_clients_to_log_in() {
    if !available().unwrap() {
        return;
    }
    let network = Network::new().unwrap();
    let server = Ocserv::start(&network.server, time::Duration::days(3)).await.unwrap();
    let ca = server.ca_file().display().to_string();
    let post = |body: &str| {
        let arguments = ["-sS", "-i", "--max-time", "10", "--cacert", &ca, "-H", "X-Aggregate-Auth: 1", "-d", body];
        let arguments = [&arguments[..], &["https://10.77.0.1/"]].concat();
        network.client.run("curl", &arguments).unwrap()
    };
    let init = "<?xml version=\"1.0\"?><config-auth client=\"vpn\" type=\"init\"><version who=\"vpn\">5.0</version></config-auth>";
    let answer = post(init);
    assert!(answer.contains("200 OK") && answer.contains("auth-request"), "{answer}");
}

/// How many of `count` packets arrive.
async fn arrive(network: &Network, count: usize) -> usize {
    let to = network.server.bind(SocketAddr::new(Network::SERVER.0.into(), 9)).unwrap();
    let from = network.client.bind(SocketAddr::new(Network::CLIENT.0.into(), 0)).unwrap();
    for _ in 0..count {
        from.send_to(b"x", (Network::SERVER.0, 9)).await.unwrap();
    }
    // Over a cable without a queue: what has arrived is there.
    let mut arrived = 0;
    let mut buffer = [0; 8];
    while tokio::time::timeout(Duration::from_millis(500), to.recv(&mut buffer)).await.is_ok() {
        arrived += 1;
    }
    arrived
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_lose_exactly_what_they_are_told_to() {
    if !available().unwrap() {
        return;
    }
    let network = Network::new().unwrap();
    assert_eq!(arrive(&network, 100).await, 100);
    network.server.rules("udp dport 9 numgen inc mod 10 == 0 drop").unwrap();
    assert_eq!(arrive(&network, 100).await, 90);
    network.server.rules("").unwrap();
    network.client.rules_both("", "udp dport 9 drop").unwrap();
    let from = network.client.bind(SocketAddr::new(Network::CLIENT.0.into(), 0)).unwrap();
    let to = network.server.bind(SocketAddr::new(Network::SERVER.0.into(), 9)).unwrap();
    from.send_to(b"x", (Network::SERVER.0, 9)).await.unwrap_err();
    tokio::time::timeout(Duration::from_millis(200), to.recv(&mut [0; 8])).await.unwrap_err();

    // Nobody there has no rights, and no device for tunnels.
    let mut command = network.client.command_of_nobody("/bin/sh").unwrap();
    let output = command.args(["-c", "id -u; cat /proc/self/status; ls /dev/net"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("65534\n") && text.contains("CapEff:\t0000000000000000"), "{output:?}");
    assert!(!text.ends_with("tun\n"), "{text}");

    let names = [&network.server, &network.client].map(|namespace| format!("/run/netns/{}", namespace.name()));
    assert!(names.iter().all(|name| std::path::Path::new(name).exists()));
    drop(network);
    assert!(!names.iter().any(|name| std::path::Path::new(name).exists()));
}
