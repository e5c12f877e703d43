//! Keys and their files: what is wrong with the configuration, and that no key is shown.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::probe::Probe as _;
use crate::probe::vpn::testing::config;

const HEAD: &str = "protocol = \"openvpn\"\nserver = \"vpn.test\"\n";

/// All that is wrong with these keys, beside files with good and bad keys.
fn problems(keys: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("static.key"), static_file(|place| byte(1, place))).unwrap();
    fs::write(dir.path().join("v2.key"), v2_file(|place| byte(1, place))).unwrap();
    fs::write(dir.path().join("short.key"), static_file(|place| byte(1, place)).replacen("1f", "", 1)).unwrap();
    config(dir.path(), &format!("{HEAD}{keys}")).err().unwrap_or_default().join("\n")
}

#[test]
fn what_does_not_fit_together_is_told() {
    for good in [
        "",
        "transport = \"tcp\"\nwrap = \"none\"",
        "wrap = \"tls-auth\"\nwrap_key = \"static.key\"\nkey_direction = 0\nauth_digest = \"SHA512\"",
        "wrap = \"tls-crypt\"\nwrap_key = \"static.key\"\ntls = { insecure = true }",
        "wrap = \"tls-crypt-v2\"\nwrap_key = \"v2.key\"\ntls = true",
    ] {
        assert_eq!(problems(good), "", "{good}");
    }
    for (bad, words) in [
        ("wrap = \"tls-crypt\"", "missing field `wrap_key`"),
        ("wrap_key = \"static.key\"", "`wrap_key`: has a meaning only with wrap = "),
        ("key_direction = 1", "`key_direction`: has a meaning only with wrap = \"tls-auth\""),
        ("auth_digest = \"SHA1\"", "`auth_digest`: has a meaning only with wrap = \"tls-auth\""),
        ("wrap = \"tls-auth\"\nwrap_key = \"static.key\"\nkey_direction = 2", "must be 0 or 1"),
        ("wrap = \"tls-auth\"\nwrap_key = \"static.key\"\nauth_digest = \"MD5\"", "`auth_digest`: "),
        ("wrap = \"tlscrypt\"", "`wrap`: "),
        ("transport = \"sctp\"", "`transport`: "),
        ("wrap = \"tls-crypt\"\nwrap_key = \"v2.key\"", "holds an OpenVPN tls-crypt-v2 client key"),
        ("wrap = \"tls-crypt-v2\"\nwrap_key = \"static.key\"", "holds an OpenVPN Static key V1"),
        ("wrap = \"tls-crypt\"\nwrap_key = \"short.key\"", "the static key is not 2048 bits long"),
        ("wrap = \"tls-crypt\"\nwrap_key = \"nowhere\"", "`wrap_key`: "),
    ] {
        let told = problems(bad);
        assert!(told.contains(words), "{bad}: {told}");
    }
}

/// Every spelling of a part of the key.
fn spellings(part: &[u8]) -> Vec<String> {
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{part:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    vec![hex.to_uppercase(), hex, list, STANDARD.encode(part)]
}

/// Whatever is printed of a probe, its configuration, its problems and its failures, no part of a key is in it.
#[tokio::test]
async fn no_key_is_ever_shown() {
    let seen = |place: usize| byte(1, place);
    let key: Vec<u8> = (0..256).map(seen).collect();
    // Three bytes of Base64 at a time, so that it is the same wherever it begins.
    let parts: Vec<String> = (0..250).step_by(3).flat_map(|from| spellings(&key[from..from + 6])).collect();
    let mut shown = Vec::new();
    for kind in &ALL[1..] {
        let dir = tempfile::tempdir().unwrap();
        let port = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let bench = bench_within(dir.path(), *kind, port, "");
        let failure = bench.run(TIME).await.unwrap_err();
        shown.push(format!("{failure} {failure:?}"));
        shown.push(format!("{:?}", bench.probe.concerns()));
        let keys = format!("{HEAD}{}", kind.keys());
        shown.push(format!("{:?}", config(dir.path(), &keys).unwrap()));
        for file in ["static.key", "v2.key"] {
            let text = fs::read_to_string(dir.path().join(file)).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let middle = lines.len() / 2;
            for damaged in [
                text.replacen(lines[middle], "", 1),
                text.replacen(lines[middle], &lines[middle].replacen(char::is_alphanumeric, "?", 1), 1),
                text.replacen("BEGIN", "BEGUN", 1),
                text.replacen("-----END", "", 1),
                lines[middle].to_owned(),
                String::new(),
            ] {
                fs::write(dir.path().join(file), damaged).unwrap();
                shown.extend(config(dir.path(), &keys).err().unwrap_or_default());
            }
        }
    }
    assert!(shown.iter().any(|text| text.contains("Base64")) && shown.len() > 40, "{shown:?}");
    let all = shown.join("\n");
    for part in parts {
        assert!(!all.contains(&part), "{part} is in {all}");
    }
}
