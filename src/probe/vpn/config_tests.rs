//! Bad keys, each with its exact message, and what good ones amount to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::testing::config;
use super::{Probe as _, Vpn};

/// Of 32 bytes, in base64.
const KEY: &str = "f5RzQyjEMoCL/PMki18WEY78b874evnRNc+kldyC7Ek=";
const OWN: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

/// Keys, and a problem that is told of them.
const BAD: &[(&str, &str)] = &[
    ("# nothing", "1:1: missing field `protocol` (or an `interface` that leads `inside`, and no `server`)"),
    ("interface = \"tun0\"", "1:1: `interface`: needs targets `inside`"),
    (
        "protocol = \"pptp\"\nserver = \"a\"",
        "1:12: `protocol`: expected \"wireguard\" or \"openvpn\" or \"ikev2\" or \"anyconnect\" or \"sstp\"; did you mean \"sstp\"?",
    ),
    ("protocol = \"ikev2\"", "1:1: missing field `server`"),
    (
        "protocol = \"ikev2\"\nserver = \"a:0\"",
        "2:10: `server`: expected \"host:port\" or \"host\"; the port is not a number from 1 to 65535",
    ),
    ("protocol = \"ikev2\"\nserver = \"a\"\nattempts = 0", "3:12: `attempts`: must be from 1 to 10"),
    ("protocol = \"ikev2\"\nserver = \"a\"\nloss_window = 9", "3:15: `loss_window`: must be from 10 to 100000"),
    (
        "protocol = \"ikev2\"\nserver = \"a\"\naddresses = \"some\"",
        "3:13: `addresses`: expected \"first\" or \"all\", found another string",
    ),
    (
        "protocol = \"ikev2\"\nserver = \"a\"\ninside = [{ icmp = \"10.0.0.1\" }]",
        "3:1: `inside`: needs an `interface` that leads there; only WireGuard's tunnel is one of our own",
    ),
    ("interface = \"a/b\"\ninside = [{ icmp = \"::1\" }]", "1:13: `interface`: is not the name of an interface"),
    (
        "interface = \"a\"\ninside = [{ icmp = \"db1\" }]",
        "2:20: inside: `icmp`: expected an IP address; names inside are not looked up",
    ),
    (
        "interface = \"a\"\ninside = [{ count = 1 }]",
        "2:11: inside: expected exactly one of `icmp`, `tcp`, `http` and `dns`",
    ),
    (
        "interface = \"a\"\ninside = [{ icmp = \"::1\", tcp = \"[::1]:1\" }]",
        "2:11: inside: expected exactly one of `icmp`, `tcp`, `http` and `dns`",
    ),
    ("interface = \"a\"\ninside = [{ icmp = \"::1\", count = 101 }]", "2:35: inside: `count`: must be from 1 to 100"),
    (
        "interface = \"a\"\ninside = [{ tcp = \"10.0.0.1\" }]",
        "2:19: inside: `tcp`: expected an IP address with a port, such as \"10.8.0.1:22\"",
    ),
    (
        "interface = \"a\"\ninside = [{ http = \"https://10.0.0.1/\" }]",
        "2:20: inside: `http`: expected \"http://ADDRESS/PATH\" with an IP address; neither names nor https are supported inside",
    ),
    (
        "interface = \"a\"\ninside = [{ dns = \"x.test\" }]",
        "2:11: inside: `dns` and `server` belong together: a name, and the name server inside that is asked for it",
    ),
    ("interface = \"a\"\ninside = [{ icmp = \"::1\" }, { icmp = \"::1\" }]", "2:1: `inside`: names a target twice"),
];

/// A folder with our key.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), OWN).unwrap();
    fs::write(folder.path().join("bad"), "c2hvcnQ=").unwrap();
    folder
}

/// What is wrong with these keys, without the file's name.
fn problems(folder: &Path, keys: &str) -> Vec<String> {
    let said = config(folder, keys).err().unwrap_or_default();
    said.iter().map(|problem| problem.rsplit_once("midwatch.toml:").map_or("", |(_, rest)| rest).to_owned()).collect()
}

#[test]
fn every_bad_key_is_told_in_words() {
    let folder = folder();
    let wireguard = format!("private_key = {{ file = \"key\" }}\nserver_public_key = \"{KEY}\"\n");
    let mut wrong = String::new();
    for (keys, expected) in BAD {
        let said = problems(folder.path(), keys);
        if !said.iter().any(|problem| problem == expected) {
            wrong.push_str(&format!("{keys}\nexpected {expected}\nfound {said:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let inside = format!("protocol = \"wireguard\"\nserver = \"a\"\n{wireguard}inside = [{{ icmp = \"10.0.0.1\" }}]");
    assert_eq!(problems(folder.path(), &inside), ["5:1: `inside`: needs an `inside_address` (or an `interface`)"]);
    let bad = inside.replace("\"key\"", "\"bad\"");
    let said = problems(folder.path(), &bad);
    assert!(said.iter().any(|problem| problem.contains("`private_key`: ") && problem.contains("32 bytes")), "{said:?}");
}

#[test]
fn intervals_have_a_floor_that_knows_what_is_knocked_at() {
    let folder = folder();
    let floor = |keys: &str| Vpn::floor(&config(folder.path(), keys).unwrap()).map(|floor| floor.interval);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let wireguard = format!("private_key = {{ file = \"key\" }}\nserver_public_key = \"{KEY}\"\n");
    assert_eq!(floor(&format!("protocol = \"wireguard\"\nserver = \"a\"\n{wireguard}")), seconds(1));
    assert_eq!(floor("protocol = \"openvpn\"\nserver = \"a\""), seconds(5));
    assert_eq!(floor("protocol = \"openvpn\"\nserver = \"a\"\ntls = true"), seconds(10));
    assert_eq!(floor("protocol = \"ikev2\"\nserver = \"a:500\""), seconds(1));
    assert_eq!(floor("protocol = \"ikev2\"\nserver = \"a:500\"\nmode = \"full\""), seconds(10));
    assert_eq!(floor("protocol = \"ikev2\"\nserver = \"a\"\nmode = \"full\""), seconds(20), "two ports");
    assert_eq!(floor("protocol = \"sstp\"\nserver = \"a\""), seconds(5));
    assert_eq!(floor("interface = \"a\"\ninside = [{ icmp = \"::1\" }]"), None);
}

#[test]
fn a_protocol_knows_its_ports() {
    let folder = folder();
    let ports = |keys: &str| config(folder.path(), keys).unwrap().ports();
    assert_eq!(ports("protocol = \"ikev2\"\nserver = \"a\""), [500, 4500]);
    assert_eq!(ports("protocol = \"ikev2\"\nserver = \"[::1]:77\""), [77]);
    assert_eq!(ports("protocol = \"openvpn\"\nserver = \"[::1]\""), [1194]);
    assert_eq!(ports("protocol = \"anyconnect\"\nserver = \"a\""), [443]);
}
