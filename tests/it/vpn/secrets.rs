//! No key is seen anywhere.

use std::path::{Path, PathBuf};
use std::process::Output;

use lab::vpn::{Implementation, OpenvpnOptions, OpenvpnServer, WireguardServer, Wrap};

use super::openvpn::wrapped;
use super::{inside_command, network, probe, wireguard};
use crate::support::{Place, eventually};

/// What must not be seen of a key's file: every line of it that is long enough to be a part of a key.
fn parts(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| line.len() >= 32 && !line.starts_with(['-', '#']));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_in_the_log_or_on_a_page_or_in_any_output() {
    let Some(network) = network() else { return };
    let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
    let (peer, other) =
        (server.add_peer("10.88.0.2/32", true).unwrap(), server.add_peer("10.88.0.3/32", true).unwrap());
    // One with which all is well, and one whose pre-shared key is wrong.
    let wrong = lab::vpn::Peer { preshared_key: peer.preshared_key.clone(), ..other.clone() };
    let rhythm = "interval = \"5s\"\ntimeout = \"1s\"\nattempts = 1\n";
    let mut files: Vec<PathBuf> = [&peer, &other]
        .iter()
        .flat_map(|peer| [Some(peer.private_key.clone()), peer.preshared_key.clone()])
        .flatten()
        .collect();
    let mut text = wireguard("good", &server, &peer, rhythm) + &wireguard("wrong", &server, &wrong, rhythm);
    let mut servers = Vec::new();
    for (port, wrap) in (1194..).zip([Wrap::Auth, Wrap::Crypt, Wrap::CryptV2]) {
        let server = OpenvpnServer::start(&network.server, OpenvpnOptions::new(wrap).port(port)).await.unwrap();
        for (name, key) in [("own", server.wrap_key()), ("foreign", server.foreign_key())] {
            let rest = format!("{rhythm}{}", wrapped(wrap, key.as_deref()));
            text += &probe(&format!("{name}-{wrap:?}"), "openvpn", &server.address(), &rest);
            files.extend(key);
        }
        servers.push(server);
    }
    let place = Place::new();
    place.write("midwatch.toml", &place.text(&format!("log_level = \"trace\"\n{text}")));
    let daemon = place.launch_within(&network.client, inside_command(&network));
    daemon.wait_ready().await;
    daemon
        .until("runs of every probe", |m| {
            let runs: Vec<_> = m.all("midwatch_probe_runs_total", &[]).map(|sample| sample.value).collect();
            (runs.len() == 8 && runs.iter().all(|runs| *runs >= 2.0)).then_some(())
        })
        .await;
    let mut seen = daemon.log();
    for path in ["/metrics", "/config", "/runs", "/"] {
        seen += &daemon.request("GET", path).await.unwrap().1;
    }
    for arguments in [
        &["probe", "vpn", "good"][..],
        &["probe", "vpn", "wrong"],
        &["probe", "vpn", "own-Auth"],
        &["probe", "vpn", "foreign-CryptV2"],
    ] {
        let output = output(inside_command(&network).args(arguments).arg("--config").arg(daemon.config()));
        assert!(!output.stdout.is_empty(), "{output:?}");
        seen += &String::from_utf8_lossy(&output.stdout);
        seen += &String::from_utf8_lossy(&output.stderr);
    }
    // A key that is no key, and one in the wrong place.
    let spoilt =
        daemon.place.write("spoilt", &format!("{}x", std::fs::read_to_string(&peer.private_key).unwrap().trim()));
    let bad = lab::vpn::Peer { private_key: spoilt.clone(), ..peer.clone() };
    let (status, said) = daemon.reload(&wireguard("good", &server, &bad, rhythm)).await;
    assert_eq!(status, 422, "{said}");
    seen += &said;
    eventually("the refusal to be logged", async || daemon.log().contains("private_key").then_some(())).await;
    seen += &daemon.log();

    let mut looked_for = 0;
    for file in files.iter().chain([&spoilt]) {
        for part in parts(file) {
            looked_for += 1;
            assert!(!seen.contains(&part), "a part of {}", file.display());
        }
    }
    assert!(looked_for > 50, "{looked_for}");
    assert!(seen.contains("psk_mismatch"), "the wrong one was tried");
}

fn output(command: &mut std::process::Command) -> Output {
    command.output().unwrap()
}
