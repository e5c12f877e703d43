//! The web configuration file: what it may say, what it must not, and what no message repeats.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::MAX_BYTES;
use crate::config::tests::support::{World, fixtures, probe};

/// What looks like a hash.
const HASH: &str = "$2y$04$1NFU/r5g.qMwxtsPL42Uj.mTRPA8F9Y5yXgFyvNnqGkGY3qZD0XDC";

/// A certificate signed by itself, and its key.
fn pair() -> (String, String) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A folder with a certificate `s.crt`, its key `s.key`, another's key `o.key`, and a main file that names `web.yml`.
fn world(web: &str) -> World {
    let world = World::new(&format!("[server]\nweb_config_file = \"web.yml\"\n{}", probe("a")));
    let (cert, key) = pair();
    world.write("s.crt", cert);
    world.write("s.key", key);
    world.write("o.key", pair().1);
    world.write("web.yml", web);
    world
}

/// Every `*.yml` of the folder with its `*.expected`, which is empty for a good one. `MIDWATCH_BLESS=1` writes them. The
/// files that they name are made anew, because keys have no place in a repository.
#[test]
fn every_fixture_gives_its_exact_message() {
    let (mut seen, mut wrong) = (0, String::new());
    for entry in fs::read_dir(fixtures().join("web")).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        seen += 1;
        let world = world("");
        fs::copy(&path, world.path("web.yml")).unwrap();
        let found = world.check(false).err().unwrap_or_default();
        let expected = path.with_extension("expected");
        if std::env::var_os("MIDWATCH_BLESS").is_some() {
            fs::write(&expected, &found).expect("written");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if found != expected {
            wrong.push_str(&format!("{}:\nexpected\n{expected}found\n{found}\n", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(seen >= 25, "only {seen} fixtures");
}

#[test]
fn the_example_is_good() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/web.yml");
    let world = world(&fs::read_to_string(example).unwrap());
    for name in ["server.crt", "clients-ca.crt"] {
        fs::copy(world.path("s.crt"), world.path(name)).unwrap();
    }
    fs::copy(world.path("s.key"), world.path("server.key")).unwrap();
    let web = world.check(false).unwrap().server.web.unwrap();
    assert!(web.tls.is_some() && !web.users.is_empty() && !web.headers.is_empty());
}

#[test]
fn what_is_there_is_read() {
    let text = format!(
        "\u{feff}tls_server_config: {{cert_file: s.crt, key_file: s.key, max_version: TLS12}}\r\n\
         basic_auth_users:\r\n  alice: {HASH}\r\n  42: '{HASH}'\r\n  ~: {HASH}\r\n\
         http_server_config:\r\n  http2: no\r\n  headers: {{X-Frame-Options: deny, X-XSS-Protection: ''}}\r\n\
         rate_limit: {{interval: 1h, burst: 3}}\r\n"
    );
    let world = world(&text.replace("  ~: ", "  bob: "));
    let config = world.check(false).unwrap();
    let web = config.server.web.as_ref().unwrap();
    assert_eq!(web.users.keys().collect::<Vec<_>>(), ["42", "alice", "bob"]);
    assert_eq!(web.headers.len(), 1);
    assert_eq!(web.headers[0].1, "deny");
    assert_eq!(web.rate_limit.unwrap().burst, 3);
    let tls = web.tls.as_ref().unwrap();
    assert!(tls.ignore_client_order && tls.alpn_protocols == [b"http/1.1"]);
    // Neither what is rendered nor what a log may show has any of it.
    for shown in [config.redacted(), format!("{web:?}"), format!("{config:?}")] {
        assert!(!shown.contains("alice") && !shown.contains(&HASH[7..]) && !shown.contains("PRIVATE"), "{shown}");
    }
    assert!(config.redacted().contains("web_config_file = \"web.yml\""));
}

#[test]
fn every_file_is_part_of_the_configuration() {
    let mut world = world(
        "tls_server_config:\n  cert_file: s.crt\n  key_file: s.key\n  client_ca_file: s.crt\n  client_auth_type: RequireAndVerifyClientCert\n",
    );
    let first = world.good();
    // Another probe is no other protection.
    world.write("midwatch.toml", format!("[server]\nweb_config_file = \"web.yml\"\n{}", probe("b")));
    let second = world.good();
    assert_eq!(first.server.web, second.server.web);
    // Half of a rotation is refused, and the whole of it taken.
    let (cert, key) = pair();
    world.write("s.crt", cert);
    let expected = "web.yml:2:3: tls_server_config: the private key does not belong to the certificate\n";
    assert_eq!(world.refused(), expected);
    world.write("s.key", key);
    let third = world.good();
    assert_ne!(second.server.web, third.server.web);
    assert!(Arc::ptr_eq(&second.probes[0].probe, &third.probes[0].probe), "no probe is touched");
    world.remove("s.key");
    assert_eq!(
        world.refused(),
        "web.yml:3:13: tls_server_config: `key_file`: cannot read the file: it does not exist\n"
    );
    world.check(true).expect("without secrets");
    world.remove("web.yml");
    let expected = "midwatch.toml:2:19: server: `web_config_file`: cannot read the file: it does not exist\n";
    assert_eq!(world.refused(), expected);
    world.check(true).expect("without secrets");
}

/// A marker as the value of every key, in every kind of value, is in no message.
#[test]
fn no_message_repeats_a_value() {
    const MARKER: &str = "hunter2marker";
    let keys = [
        (
            "tls_server_config",
            "cert_file cert key_file key client_ca_file client_ca client_auth_type client_allowed_sans \
                               min_version max_version cipher_suites prefer_server_cipher_suites curve_preferences x",
        ),
        ("http_server_config", "http2 headers x"),
        ("basic_auth_users", "x"),
        ("rate_limit", "interval burst x"),
    ];
    let shapes = [
        "{}",
        "'{}'",
        "'{}",
        "\"\\{}\"",
        "[{}]",
        "[[{}]]",
        "{a: {}}",
        "{X-Frame-Options: {}}",
        "&{} 1",
        "*{}",
        "!{} 1",
        "|\n   {}\n -",
        "{a: {}",
        "`{}",
        "@{}",
        "%{}",
        "{}: {}",
        "- {}",
        "1\n{}",
        "1\n  {}",
    ];
    let mut bad = 0;
    let world = world("");
    for (table, keys) in keys {
        for key in keys.split_whitespace() {
            for shape in shapes {
                let value = shape.replace("{}", MARKER);
                for text in [format!("{table}:\n  {key}: {value}\n"), format!("{table}: {value}\n")] {
                    world.write("web.yml", &text);
                    if let Err(problems) = world.check(false) {
                        bad += 1;
                        let without_keys = problems.replace(&format!("unknown field `{MARKER}`"), "");
                        assert!(!without_keys.contains(MARKER), "{text}: {problems}");
                    }
                }
            }
        }
    }
    assert!(bad > 600, "{bad}");
}

#[test]
fn odd_files_get_one_clear_problem() {
    let world = world("");
    let bomb: String = (1..20).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect();
    for (text, expected) in [
        (b"".as_slice(), "1:1: the file is empty; one that asks for nothing holds at least a comment"),
        (b" \n", "1:1: the file is empty; one that asks for nothing holds at least a comment"),
        (b"# \xc3\xa4\n\xc3\xa4\0", "2:2: the file contains a NUL byte; it is not text, or was only half written"),
        (b"a: \xe4", "1:4: the file is not UTF-8 text"),
        (format!("a0: &a0 x\n{bomb}").as_bytes(), "1:5: anchors and aliases are not accepted here"),
        ("[".repeat(10).as_bytes(), "1:7: nested too deeply"),
        ("[".repeat(10_000).as_bytes(), "1:256: not YAML: recursion limit exceeded"),
        ("- ".repeat(10_000).as_bytes(), "1:13: nested too deeply"),
        ("{a: ".repeat(10).as_bytes(), "1:22: nested too deeply"),
    ] {
        world.write("web.yml", text);
        let problems = world.check(false).expect_err(expected);
        assert_eq!(problems, format!("web.yml:{expected}\n"));
    }
    for text in
        ["# nothing yet\n", "{}\n", "---\n", "tls_server_config:\n", "tls_server_config: {}\nbasic_auth_users:\n"]
    {
        world.write("web.yml", text);
        let web = world.check(false).expect(text).server.web.unwrap();
        assert!(web.tls.is_none() && web.users.is_empty());
    }
}

#[test]
fn garbage_of_full_size_is_answered_soon() {
    let world = world("");
    for line in [
        "a\n", "a: \n", "- ", "- a\n", "\"", "'\n", "[", "{", "? ", ": ", "a: b\n ", "|\n", "é", "[a, ", "#", "- - a\n",
    ] {
        world.write("web.yml", line.repeat(MAX_BYTES / line.len()));
        let start = tokio::time::Instant::now();
        let problems = world.check(false).err().unwrap_or_default();
        assert!(problems.len() < 1 << 20, "{}", problems.len());
        assert!(start.elapsed().as_secs() < 60, "{line:?}: {:?}", start.elapsed());
    }
    world.write("web.yml", "#".repeat(MAX_BYTES + 1));
    let problems = world.check(false).expect_err("large");
    assert_eq!(problems, "web.yml:1:1: cannot read the file: it is larger than 64 KiB\n");
}

/// An authority's certificate, and what signs.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

/// A client's certificate with these names, until the year.
fn client(issuer: &Issuer<'static, KeyPair>, until: i32) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::new(vec!["client.test".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::Rfc822Name("ops@client.test".try_into().unwrap()));
    params.subject_alt_names.push(SanType::URI("spiffe://client.test/x".try_into().unwrap()));
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    (cert.der().clone(), PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap())
}

/// Whether a client gets through the handshake and an answer after it: with TLS 1.3 it learns only then of a refusal.
async fn served(
    server: &Arc<ServerConfig>,
    root: &str,
    shown: Option<&(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match shown {
        Some((cert, key)) => builder.with_client_auth_cert(vec![cert.clone()], key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let (one, two) = tokio::io::duplex(1 << 16);
    let answer = tokio::spawn(TlsAcceptor::from(Arc::clone(server)).accept(one));
    let answer = async {
        let Ok(mut stream) = answer.await.unwrap() else { return };
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
    };
    let ask = async {
        let name = "localhost".try_into().unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, two).await.ok()?;
        stream.read_exact(&mut [0; 5]).await.ok()
    };
    tokio::join!(answer, ask).1.is_some()
}

#[tokio::test]
async fn who_shows_which_certificate_is_let_in() {
    let (ca, issuer) = authority();
    let (_, stranger) = authority();
    let (good, wrong) = (client(&issuer, 2099), client(&stranger, 2099));
    let expired = client(&issuer, 2021);
    let nobody = None;
    let world = world("");
    world.write("ca.crt", ca);
    let root = fs::read_to_string(world.path("s.crt")).unwrap();
    let verify = "client_ca_file: ca.crt\n  client_auth_type: ";
    let and = |name: &str| format!("{verify}RequireAndVerifyClientCert\n  client_allowed_sans: [other.test, '{name}']");
    for (rest, expected) in [
        // By the good one, one of another authority, one that expired, and none.
        ("client_auth_type: NoClientCert".to_owned(), [true, true, true, true]),
        ("client_auth_type: RequestClientCert".to_owned(), [true, true, true, true]),
        ("client_auth_type: RequireAnyClientCert".to_owned(), [true, true, true, false]),
        (format!("{verify}VerifyClientCertIfGiven"), [true, false, false, true]),
        (format!("{verify}RequireAndVerifyClientCert"), [true, false, false, false]),
        (and("client.test"), [true, false, false, false]),
        (and("10.0.0.1"), [true, false, false, false]),
        (and("ops@client.test"), [true, false, false, false]),
        (and("spiffe://client.test/x"), [true, false, false, false]),
        (and("test"), [false, false, false, false]),
        (and("CLIENT.TEST"), [false, false, false, false]),
        (and("10.0.0.2"), [false, false, false, false]),
        (
            "client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [client.test]".to_owned(),
            [true, true, true, false],
        ),
    ] {
        for max in ["TLS12", "TLS13"] {
            let text =
                format!("tls_server_config:\n  cert_file: s.crt\n  key_file: s.key\n  max_version: {max}\n  {rest}\n");
            world.write("web.yml", &text);
            let web = world.check(false).expect(&text).server.web.unwrap();
            let server = web.tls.as_ref().unwrap();
            for (shown, expected) in [Some(&good), Some(&wrong), Some(&expired), nobody].into_iter().zip(expected) {
                assert_eq!(served(server, &root, shown).await, expected, "{text}");
            }
        }
    }
}
