//! OpenVPN: every way to wrap packets, over UDP and TCP; certificates.

use std::path::Path;

use lab::vpn::{Network, OpenvpnOptions, OpenvpnServer, Wrap};

use super::{Expected, Verdict, network, of, probe, replies, trusting, until_all, watch};

/// As often as OpenVPN may be asked.
const RHYTHM: &str = "interval = \"5s\"\ntimeout = \"2s\"\nattempts = 1\n";

/// The same with TLS.
const DEEP_RHYTHM: &str = "interval = \"10s\"\ntimeout = \"2s\"\nattempts = 1\n";

/// The keys of a client of that mode with that file.
pub(super) fn wrapped(wrap: Wrap, key: Option<&Path>) -> String {
    let Some(key) = key.map(Path::display) else { return String::new() };
    let (mode, rest) = match wrap {
        Wrap::None => return String::new(),
        Wrap::Auth => ("tls-auth", "key_direction = 1\n"),
        Wrap::Crypt => ("tls-crypt", ""),
        Wrap::CryptV2 => ("tls-crypt-v2", ""),
    };
    format!("wrap = \"{mode}\"\nwrap_key = \"{key}\"\n{rest}")
}

/// A server in each mode, at ports that follow each other.
async fn servers(network: &Network, tcp: bool) -> Vec<(Wrap, OpenvpnServer)> {
    let mut all = Vec::new();
    for (port, wrap) in (1194..).zip([Wrap::None, Wrap::Auth, Wrap::Crypt, Wrap::CryptV2]) {
        let options = OpenvpnOptions::new(wrap).port(port);
        let options = if tcp { options.tcp() } else { options };
        all.push((wrap, OpenvpnServer::start(&network.server, options).await.unwrap()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_is_spoken_and_every_wrong_key_has_its_reason() {
    for tcp in [false, true] {
        let Some(network) = network() else { return };
        let servers = servers(&network, tcp).await;
        let transport = if tcp { "transport = \"tcp\"\n" } else { "" };
        let silence = if tcp { "closed" } else { "timeout" };
        let mut text = String::new();
        let mut expected: Vec<(String, Verdict<'_>)> = Vec::new();
        let mut add = |name: String, server: &OpenvpnServer, rest: &str, verdict| {
            let rhythm = if rest.contains("tls = ") { DEEP_RHYTHM } else { RHYTHM };
            text.push_str(&probe(&name, "openvpn", &server.address(), &format!("{rhythm}{transport}{rest}")));
            expected.push((name, verdict));
        };
        let [none, auth, crypt, v2] = &servers[..] else { unreachable!("four modes") };
        for (wrap, server) in &servers {
            let key = server.wrap_key();
            let good = wrapped(*wrap, key.as_deref());
            add(format!("good-{wrap:?}"), server, &good, Ok(()));
            let deep = format!("{good}{}", trusting(server.ca_file()));
            add(format!("deep-{wrap:?}"), server, &deep, Ok(()));
            if *wrap != Wrap::None {
                let foreign = wrapped(*wrap, server.foreign_key().as_deref());
                add(format!("foreign-{wrap:?}"), server, &foreign, Err(("handshake", silence)));
                add(format!("bare-{wrap:?}"), server, "", Err(("handshake", silence)));
            }
        }
        // The wrong way to wrap: a plain server answers in clear, but over TCP it waits for a packet that is the first by its number.
        let in_clear = if tcp { "timeout" } else { "wrap_mismatch" };
        let auth_key = wrapped(Wrap::Auth, auth.1.wrap_key().as_deref());
        let crypt_key = wrapped(Wrap::Crypt, crypt.1.wrap_key().as_deref());
        add("crypt-at-plain".to_owned(), &none.1, &crypt_key, Err(("handshake", in_clear)));
        add("auth-at-v2".to_owned(), &v2.1, &auth_key, Err(("handshake", silence)));
        let direction = auth_key.replace("key_direction = 1", "key_direction = 0");
        add("direction".to_owned(), &auth.1, &direction, Err(("handshake", silence)));
        let digest = format!("{auth_key}auth_digest = \"SHA256\"\n");
        add("digest".to_owned(), &auth.1, &digest, Err(("handshake", silence)));

        let daemon = watch(&network, &text).await;
        let expected: Vec<Expected<'_>> = expected.iter().map(|(name, verdict)| (name.as_str(), *verdict)).collect();
        let metrics = until_all(&daemon, &expected).await;
        for (wrap, _) in &servers {
            let (good, deep) = (format!("good-{wrap:?}"), format!("deep-{wrap:?}"));
            assert!(replies(&metrics, &good, "server_reset") > 0.0, "{good}");
            let expiry = of(&metrics, "certificate_expiry_timestamp_seconds", &deep).unwrap();
            let left = expiry - metrics.get("midwatch_probe_last_run_timestamp_seconds", &[("probe", &deep)]).unwrap();
            assert!((29.9..30.1).contains(&(left / 86_400.0)), "{left} s");
            assert!(metrics.all("midwatch_vpn_tls_info", &[("probe", &deep)]).count() == 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_shown_all_the_same() {
    let Some(network) = network() else { return };
    let options = OpenvpnOptions::new(Wrap::Crypt);
    let expired = OpenvpnServer::start(&network.server, options.clone().valid(time::Duration::days(-2))).await.unwrap();
    let good = OpenvpnServer::start(&network.server, options.port(1195)).await.unwrap();
    let section = |name: &str, server: &OpenvpnServer, ca: &Path| {
        let rest = format!("{DEEP_RHYTHM}{}{}", wrapped(Wrap::Crypt, server.wrap_key().as_deref()), trusting(ca));
        probe(name, "openvpn", &server.address(), &rest)
    };
    let daemon = watch(
        &network,
        &[section("old", &expired, expired.ca_file()), section("foreign", &good, expired.ca_file())].concat(),
    )
    .await;
    let refused = Err(("tls", "certificate"));
    let metrics = until_all(&daemon, &[("old", refused), ("foreign", refused)]).await;
    let now = metrics.get("midwatch_probe_last_run_timestamp_seconds", &[("probe", "old")]).unwrap();
    let ago = now - of(&metrics, "certificate_expiry_timestamp_seconds", "old").unwrap();
    assert!((1.9..2.1).contains(&(ago / 86_400.0)), "{ago} s");
    assert!(of(&metrics, "certificate_expiry_timestamp_seconds", "foreign").is_some_and(|expiry| expiry > now));
}
