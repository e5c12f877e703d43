//! Through the tunnel: in userspace, through an interface, without any rights; and when nothing comes back.

use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use lab::vpn::{Implementation, Inside, PAGE, Peer, SERVED_NAME, WireguardServer};

use super::{network, of, stage, until_all, watch, wireguard};
use crate::support::{Metrics, Place, program};

/// The user and the group that `command_of_nobody` runs as.
const NOBODY: u32 = 65534;

/// All kinds of targets, in either family.
fn targets() -> String {
    format!(
        "inside = [{{ icmp = \"10.88.0.1\", count = 3 }}, {{ icmp = \"fd88::1\" }}, {{ tcp = \"10.88.0.1:8080\" }}, \
         {{ http = \"http://10.88.0.1:8080{PAGE}\", status = 200 }}, {{ dns = \"{SERVED_NAME}\", server = \"10.88.0.1:53\" }}]\n"
    )
}

/// The same without IPv6, which a tunnel with one address of ours does not have.
fn targets_v4() -> String {
    targets().replace(" { icmp = \"fd88::1\" },", "")
}

const RHYTHM: &str = "interval = \"1s\"\ntimeout = \"950ms\"\nattempts = 1\n";

fn inside(metrics: &Metrics, probe: &str, target: &str) -> Option<f64> {
    metrics.get("midwatch_vpn_inside_success", &[("probe", probe), ("inside", target)])
}

/// How often targets inside failed for that reason.
fn failures(metrics: &Metrics, probe: &str, target: &str) -> Vec<String> {
    let labels = [("probe", probe), ("inside", target)];
    let all = metrics.all("midwatch_vpn_inside_failures_total", &labels).filter(|sample| sample.value > 0.0);
    all.map(|sample| sample.labels["reason"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_inside_answer_through_the_userspace_tunnel_of_either_implementation() {
    for implementation in [Implementation::Go, Implementation::Boringtun] {
        let Some(network) = network() else { return };
        let server = WireguardServer::start(&network.server, implementation).await.unwrap();
        let _inside = Inside::serve(&network.server, IpAddr::from(WireguardServer::INSIDE)).unwrap();
        let (peer, six) =
            (server.add_peer("10.88.0.2/32", true).unwrap(), server.add_peer("fd88::2/128", false).unwrap());
        let wrong = server.add_peer("10.88.0.3/32", false).unwrap();
        let with = |address: &str, rest: &str| format!("{RHYTHM}inside_address = \"{address}\"\n{rest}");
        let refusals = "inside = [{ tcp = \"10.88.0.1:9\" }, { http = \"http://10.88.0.1:8080/nothing\" }, \
             { dns = \"lab.example\", server = \"10.88.0.1\" }, { icmp = \"10.88.0.1\" }]";
        let daemon = watch(
            &network,
            &[
                wireguard("good", &server, &peer, &with("10.88.0.2", &targets_v4())),
                wireguard("six", &server, &six, &with("fd88::2", "inside = [{ icmp = \"fd88::1\", count = 2 }]")),
                wireguard("bad", &server, &wrong, &with("10.88.0.3", refusals)),
            ]
            .concat(),
        )
        .await;
        let verdicts = [("good", Ok(())), ("six", Ok(())), ("bad", Err(("inside", "refused")))];
        let metrics = until_all(&daemon, &verdicts).await;
        let labels = [("probe", "good")];
        let times: Vec<_> = metrics.all("midwatch_vpn_inside_round_trip_seconds_count", &labels).collect();
        assert_eq!(times.len(), 4, "{times:?}");
        assert!(times.iter().all(|sample| sample.value > 0.0), "{times:?}");
        assert_eq!(failures(&metrics, "bad", "tcp 10.88.0.1:9"), ["refused"]);
        assert_eq!(failures(&metrics, "bad", "http 10.88.0.1:8080/nothing"), ["mismatch"]);
        assert_eq!(failures(&metrics, "bad", "dns lab.example at 10.88.0.1:53"), ["resolve"]);
        assert_eq!(inside(&metrics, "bad", "icmp 10.88.0.1"), Some(1.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_data_plane_is_neither_up_nor_down() {
    for implementation in [Implementation::Go, Implementation::Boringtun] {
        let Some(network) = network() else { return };
        let mut server = WireguardServer::start(&network.server, implementation).await.unwrap();
        let peer = server.add_peer("10.88.0.2/32", false).unwrap();
        let rest = format!("{RHYTHM}inside_address = \"10.88.0.2\"\ninside = [{{ icmp = \"10.88.0.1\", count = 2 }}]");
        let daemon = watch(&network, &wireguard("w", &server, &peer, &rest)).await;
        let seen = |m: &Metrics| (of(m, "up", "w"), stage(m, "w", "handshake"), stage(m, "w", "inside"));
        let is = async |what: &str, expected| {
            daemon.until(what, |m| (seen(m) == expected).then(|| m.clone())).await;
        };
        let up = (Some(1.0), Some(1.0), Some(1.0));
        is("up", up).await;
        // Other addresses are allowed now.
        server.set_peer(&peer, "10.88.0.99/32").unwrap();
        is("a dead data plane", (Some(0.0), Some(1.0), Some(0.0))).await;
        assert!(super::failed(&daemon.metrics().await, "w", "inside", "data_plane_timeout") > 0.0);
        server.set_peer(&peer, "10.88.0.2/32").unwrap();
        is("up again", up).await;
        // A firewall behind the server.
        network.server.rules(&format!("iifname \"{}\" drop", server.interface())).unwrap();
        is("nothing behind it", (Some(0.0), Some(1.0), Some(0.0))).await;
        network.server.rules("").unwrap();
        is("up once more", up).await;
        server.kill();
        is("down", (Some(0.0), Some(0.0), None)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_leads_inside_and_packets_leave_by_it() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let _inside = Inside::serve(&network.server, IpAddr::from(WireguardServer::INSIDE)).unwrap();
    let peer = server.add_peer("10.88.0.2/32,fd88::2/128", false).unwrap();
    let client = WireguardServer::connect(&network, &server, &peer, "10.88.0.2/24").await.unwrap();
    network.client.ip(&["addr", "add", "fd88::2/64", "dev", client.interface(), "nodad"]).unwrap();
    let section = |name: &str, interface: &str, targets: &str| {
        format!("[probe.vpn.{name}]\n{RHYTHM}interface = \"{interface}\"\n{targets}\n\n")
    };
    // A tunnel whose program is dead: packets that are sent through it leave by nothing.
    network.client.ip(&["tuntap", "add", "dev", "dead0", "mode", "tun"]).unwrap();
    network.client.ip(&["addr", "add", "10.99.0.2/24", "dev", "dead0"]).unwrap();
    network.client.ip(&["link", "set", "dead0", "up"]).unwrap();
    // The cable answers at the server's outer address: through the tunnel's interface, nobody does.
    let outer = "inside = [{ icmp = \"10.77.0.1\" }]";
    let daemon = watch(
        &network,
        &[
            section("good", client.interface(), &targets()),
            section("outer", client.interface(), outer),
            section("nowhere", "absent0", outer),
            section("dead", "dead0", "inside = [{ icmp = \"10.99.0.1\", count = 2 }]"),
        ]
        .concat(),
    )
    .await;
    let metrics = daemon
        .until("verdicts", |m| {
            let is_outer_dead = super::failed(m, "outer", "inside", "data_plane_timeout") > 0.0
                || super::failed(m, "outer", "inside", "unreachable") > 0.0;
            let is_nowhere = super::failed(m, "nowhere", "inside", "unreachable") > 0.0;
            let is_dead = super::failed(m, "dead", "inside", "wrong_interface") > 0.0;
            (of(m, "up", "good") == Some(1.0) && is_outer_dead && is_nowhere && is_dead).then(|| m.clone())
        })
        .await;
    let failures: Vec<_> = metrics
        .all("midwatch_vpn_stage_failures_total", &[("probe", "good")])
        .filter(|sample| sample.value > 0.0)
        .collect();
    assert!(failures.is_empty(), "{failures:?}\n{}", daemon.log());
    assert_eq!((of(&metrics, "up", "outer"), of(&metrics, "up", "nowhere")), (Some(0.0), Some(0.0)));
    assert!(daemon.log().contains("there is no interface absent0"), "{}", daemon.log());
}

/// Whether a run has failed for that reason.
fn has_failed(metrics: &Metrics, probe: &str, reason: &str) -> bool {
    let labels = [("probe", probe), ("reason", reason)];
    metrics.all("midwatch_probe_failures_total", &labels).any(|sample| sample.value > 0.0)
}

/// A copy of a key that only nobody can read.
fn copy(from: &Path, to: PathBuf) -> PathBuf {
    std::fs::copy(from, &to).unwrap();
    chown(&to, Some(NOBODY), Some(NOBODY)).unwrap();
    to
}

#[tokio::test(flavor = "multi_thread")]
async fn the_userspace_tunnel_needs_no_rights_and_what_does_says_so_at_load() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let _inside = Inside::serve(&network.server, IpAddr::from(WireguardServer::INSIDE)).unwrap();
    let peer = server.add_peer("10.88.0.2/32", true).unwrap();
    let place = Place::new();
    let folder = place.folder.path().to_owned();
    chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let own = Peer {
        private_key: copy(&peer.private_key, folder.join("key")),
        preshared_key: peer.preshared_key.as_ref().map(|path| copy(path, folder.join("psk"))),
        ..peer
    };
    let rest = format!("{RHYTHM}inside_address = \"10.88.0.2\"\n{}", targets_v4());
    let device = network.client.ip(&["-o", "link", "show", "type", "veth"]).unwrap();
    let device = device.split(": ").nth(1).unwrap().split('@').next().unwrap();
    let text = wireguard("tunnel", &server, &own, &rest)
        + &format!("[probe.vpn.device]\n{RHYTHM}interface = \"{device}\"\ninside = [{{ icmp = \"10.77.0.1\" }}]\n");
    place.write("midwatch.toml", &place.text(&text));
    let daemon = place.launch_within(&network.client, network.client.command_of_nobody(program()).unwrap());
    daemon.wait_ready().await;
    let metrics = daemon
        .until("verdicts", |m| {
            let is_local = has_failed(m, "device", "local");
            (of(m, "up", "tunnel") == Some(1.0) && is_local).then(|| m.clone())
        })
        .await;
    assert_eq!(of(&metrics, "up", "device"), None, "nothing is known of what was not asked");
    assert!(daemon.log().contains("echoes cannot be sent"), "{}", daemon.log());
}
