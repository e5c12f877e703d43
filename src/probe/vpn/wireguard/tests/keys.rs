//! Reading keys, and never showing them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::UdpSocket;

use super::fake::Fake;
use super::{Bench, Folder, LITTLE, Pair, key, random};
use crate::probe::vpn::testing::{config, config_without_secrets};
use crate::probe::{Probe as _, Shared};

const SERVER: &str = "server = \"127.0.0.1:51820\"\nprotocol = \"wireguard\"\n";

/// What somebody could read a key from.
fn shapes(key: &[u8]) -> Vec<String> {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = format!("{key:?}");
    let text = STANDARD.encode(key);
    vec![
        text[..16].to_owned(),
        hex[..16].to_owned(),
        hex[..16].to_uppercase(),
        bytes[1..24].to_owned(),
        format!("{:?}", &key[8..16]).trim_matches(['[', ']']).to_owned(),
    ]
}

fn assert_hidden(text: &str, keys: &[[u8; 32]]) {
    for shape in keys.iter().flat_map(|key| shapes(key)) {
        assert!(!text.contains(&shape), "a key shows in: {text}");
    }
}

#[tokio::test]
async fn no_key_is_ever_shown() {
    let (pair, preshared) = (Pair::new(), random());
    let hidden = [pair.own, preshared];
    let folder = |server: SocketAddr| {
        let folder = Folder::new(&pair, server, "preshared_key = { file = \"psk\" }\ninside_address = \"10.88.0.2\"");
        key(folder.dir.path(), "psk", &preshared);
        for name in ["own", "psk"] {
            fs::set_permissions(folder.dir.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        folder
    };
    let config = folder("127.0.0.1:9".parse().unwrap()).read().unwrap();
    assert_hidden(&format!("{config:?} {config:#?}"), &hidden);

    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let other_psk = Fake::new(&pair).await.start();
    for server in [silent.local_addr().unwrap(), closed, other_psk] {
        let bench = Bench::with(folder(server), &Shared::default(), None);
        let wireguard = bench.wireguard();
        assert_hidden(&format!("{wireguard:?} {wireguard:#?} {:?}", wireguard.keys), &hidden);
        let concerns = bench.concerns();
        assert_eq!(concerns.len(), 2, "{concerns:?}");
        assert_hidden(&concerns.concat(), &hidden);
        let failure = bench.run(LITTLE).await.unwrap_err();
        assert_hidden(&format!("{failure} {failure:?}"), &hidden);
        assert_hidden(&bench.text(), &hidden);
    }
}

#[tokio::test]
async fn a_tunnel_shows_no_key_and_the_beginning_of_the_public_one_is_recorded() {
    let pair = Pair::new();
    let bench = Bench::new(&pair, Fake::new(&pair).await.start(), "");
    bench.well().await;
    let public = STANDARD.encode(pair.own_public().as_bytes());
    assert_eq!(bench.sum("midwatch_vpn_key_info", &format!("key={}", &public[..8])), 1.0);
    assert_hidden(&bench.text(), &[pair.own]);

    let server = Fake::new(&pair).await.start();
    let (rec, losses) = (crate::metrics::Recorder::default(), Default::default());
    rec.ends_at(tokio::time::Instant::now() + super::PLENTY);
    let (target, config) = (rec.target("t"), Folder::new(&pair, server, "").read().unwrap());
    let knock = crate::probe::vpn::knock::Knock::new((&rec, &target), ("t", "t", server), &config, &losses);
    let tunnel = bench.wireguard().knock(&knock).await.unwrap();
    assert_hidden(&format!("{tunnel:?} {tunnel:#?}"), &[pair.own]);
}

#[test]
fn what_is_no_key_is_refused_without_showing_it() {
    let (pair, dir) = (Pair::new(), tempfile::tempdir().unwrap());
    let server = STANDARD.encode(pair.server_public().as_bytes());
    let bad = [
        "short".to_owned(),
        STANDARD.encode([7; 31]),
        STANDARD.encode([7; 33]),
        format!("{} ", STANDARD.encode([7; 32])),
        format!("{}\n\n", STANDARD.encode([7; 32])),
        STANDARD.encode([7; 32]).replace('=', ""),
        "x".repeat(100_000),
    ];
    for text in bad {
        fs::write(dir.path().join("own"), &text).unwrap();
        key(dir.path(), "psk", &[1; 32]);
        for (own, psk) in [("own", "psk"), ("psk", "own")] {
            let text_of = format!(
                "{SERVER}private_key = {{ file = \"{own}\" }}\npreshared_key = {{ file = \"{psk}\" }}\nserver_public_key = \"{server}\""
            );
            let problems = config(dir.path(), &text_of).unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].contains("expected a key of 32 bytes in base64"),
                "{problems:?}"
            );
            assert!(!problems[0].contains(text.trim()), "{problems:?}");
        }
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let (pair, dir) = (Pair::new(), tempfile::tempdir().unwrap());
    key(dir.path(), "own", &pair.own);
    let problems = |text: &str| config(dir.path(), &format!("{SERVER}{text}")).unwrap_err().join("\n");
    let said = problems("");
    assert!(said.contains("`private_key`") && said.contains("`server_public_key`"), "{said}");
    let said = problems("private_key = \"in the clear\"\nserver_public_key = \"x\"\ninside_address = \"10.0.0.1/24\"");
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(!said.contains("in the clear"), "{said}");
    let own = STANDARD.encode(pair.own_public().as_bytes());
    let said = problems(&format!("private_key = {{ file = \"own\" }}\nserver_public_key = \"{own}\""));
    assert!(said.contains("is our own public key"), "{said}");
    let zero = STANDARD.encode([0; 32]);
    let said = problems(&format!("private_key = {{ file = \"own\" }}\nserver_public_key = \"{zero}\""));
    assert!(said.contains("`server_public_key`"), "{said}");
    for ip in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"] {
        let text = Folder::new(&pair, "127.0.0.1:1".parse().unwrap(), &format!("inside_address = \"{ip}\""));
        let said = text.read().unwrap_err();
        assert!(said.len() == 1 && said[0].contains("not an address that a peer can have"), "{said:?}");
    }
}

#[test]
fn the_families_of_both_ends_inside_must_agree() {
    let pair = Pair::new();
    let server = "127.0.0.1:1".parse().unwrap();
    let of = |ours: &str, target: &str| {
        Folder::new(&pair, server, &format!("inside_address = \"{ours}\"\ninside = [{{ {target} }}]")).read()
    };
    assert!(of("10.0.0.2", "icmp = \"10.0.0.1\"").is_ok() && of("fd00::2", "tcp = \"[fd00::1]:1\"").is_ok());
    for target in ["icmp = \"fd00::1\"", "tcp = \"[fd00::1]:1\"", "http = \"http://[fd00::1]/\""] {
        let said = of("10.0.0.2", target).unwrap_err().join("\n");
        assert!(said.contains("`inside`") && said.contains("IPv6"), "{said}");
    }
    let said = of("fd00::2", "dns = \"a.b\", server = \"10.0.0.1\"").unwrap_err().join("\n");
    assert!(said.contains("IPv4"), "{said}");
}

#[test]
fn a_configuration_is_checked_without_its_keys() {
    let (pair, dir) = (Pair::new(), tempfile::tempdir().unwrap());
    let public = STANDARD.encode(pair.server_public().as_bytes());
    let text = format!(
        "{SERVER}private_key = {{ file = \"gone\" }}\npreshared_key = {{ file = \"gone\" }}\nserver_public_key = \"{public}\""
    );
    let checked = std::sync::Arc::new(config_without_secrets(dir.path(), &text).unwrap());
    crate::probe::vpn::Vpn::new(&checked, &Shared::default(), None).unwrap();
    assert!(config(dir.path(), &text).is_err());
}
