//! The server with TLS, logins and limits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::*;
use crate::http::Users;
use crate::rate::RateLimit;

/// A server's side, and the certificate that a client has to trust.
fn tls() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().der().clone();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (Arc::new(builder.with_single_cert(vec![cert.clone()], key).unwrap()), cert)
}

/// Connects over TLS; `None` if the server has another certificate than the one that is trusted.
async fn connect(addr: SocketAddr, trusted: &CertificateDer<'static>) -> Option<Client<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config.with_no_client_auth())).connect(name, stream).await.ok()?;
    Some(Client { stream, unread: Vec::new() })
}

fn over_tls() -> (Arc<Protection>, CertificateDer<'static>) {
    let (tls, cert) = tls();
    (Arc::new(Protection { tls: Some(tls), ..Protection::default() }), cert)
}

/// alice with the password "secret", and bob with "other", at a cost.
pub(super) fn users(cost: u32) -> Users {
    let hash = |password| Zeroizing::new(bcrypt::hash(password, cost).unwrap());
    Users::new([("alice".to_owned(), hash("secret")), ("bob".to_owned(), hash("other"))])
}

fn protected_by(users: Users) -> Arc<Protection> {
    Arc::new(Protection { users, ..Protection::default() })
}

fn login(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn both_addresses_speak_tls() {
    let server = Running::listen(MadeUp::new(10_000), Limits::default(), Some(local()), PATIENCE).await;
    let (protection, cert) = over_tls();
    server.protection.send_replace(protection);
    for addr in [server.addr, server.admin.unwrap()] {
        let mut client = connect(addr, &cert).await.expect("a handshake");
        for _ in 0..2 {
            client.send(SCRAPE).await;
            let reply = client.reply().await.unwrap();
            assert_eq!((reply.status, reply.body.lines().count()), (200, 10_002));
        }
    }
}

#[tokio::test]
async fn plain_http_is_told_to_speak_tls() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    server.protection.send_replace(over_tls().0);
    let reply = server.ask("GET /metrics").await;
    assert_eq!((reply.status, &*reply.body), (400, "Client sent an HTTP request to an HTTPS server.\n"));
    // Also one that sends much, whose connection must not be reset before it has read the answer.
    let mut client = server.connect().await;
    client.send(&format!("POST /-/reload HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000))).await;
    assert_eq!(client.reply().await.unwrap().status, 400);
    // What is neither is closed; there may be an alert, but no answer.
    let mut client = server.connect().await;
    client.send("\u{16}\u{3}\u{1}\0\u{1}\0").await;
    assert_ne!(client.ends().await.first(), Some(&b'H'));
    assert_eq!(server.site.scraped.load(SeqCst), 0);
    server.nothing_is_left().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let ((first, old), (second, new)) = (over_tls(), over_tls());
    server.protection.send_replace(first);
    let mut open = connect(server.addr, &old).await.expect("the first certificate");
    open.send(SCRAPE).await;
    assert_eq!(open.reply().await.unwrap().status, 200);
    server.protection.send_replace(second);
    assert!(connect(server.addr, &old).await.is_none(), "the old certificate is gone");
    let mut client = connect(server.addr, &new).await.expect("the second certificate");
    for client in [&mut open, &mut client] {
        client.send(SCRAPE).await;
        assert_eq!(client.reply().await.unwrap().status, 200);
    }
    // And without TLS again.
    server.protection.send_replace(Arc::default());
    assert_eq!(server.ask("GET /metrics").await.status, 200);
}

#[tokio::test]
async fn handshakes_that_never_end_are_cut_off() {
    let server = Running::start(MadeUp::new(1), quick()).await;
    let (protection, cert) = over_tls();
    server.protection.send_replace(protection);
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.send("\u{16}\u{3}\u{1}").await;
    // After the handshake the same time goes on.
    let mut idle = connect(server.addr, &cert).await.unwrap();
    for client in [&mut silent, &mut half] {
        assert_eq!(client.ends().await, b"");
    }
    assert_eq!(idle.ends().await, b"");
    server.nothing_is_left().await;
}

#[tokio::test]
async fn handshakes_that_never_end_make_way() {
    let server = Running::start(MadeUp::new(1), Limits { connections: 4, ..Limits::default() }).await;
    let (protection, cert) = over_tls();
    server.protection.send_replace(protection);
    let mut silent = Vec::new();
    for n in 0..20 {
        let mut client = server.connect().await;
        client.send(if n % 2 == 0 { "" } else { "\u{16}\u{3}\u{1}" }).await;
        silent.push(client);
    }
    let mut client = connect(server.addr, &cert).await.expect("room");
    client.send(SCRAPE).await;
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert!(server.connections() <= 4);
}

#[tokio::test]
async fn a_slow_reader_over_tls_is_cut_off() {
    let server = Running::start(MadeUp::new(150_000), quick()).await;
    let (protection, cert) = over_tls();
    server.protection.send_replace(protection);
    let mut slow = connect(server.addr, &cert).await.unwrap();
    slow.send(SCRAPE).await;
    let mut client = connect(server.addr, &cert).await.unwrap();
    client.send(SCRAPE).await;
    assert_eq!(client.reply().await.unwrap().body.lines().count(), 150_002);
    until("every scrape is over", || server.site.scraped.load(SeqCst) == 2).await;
    drop(client);
    server.nothing_is_left().await;
    assert!(slow.ends().await.len() < 15_000_000);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_handshakes() {
    let mut server = Running::start(MadeUp::new(1), Limits::default()).await;
    server.protection.send_replace(over_tls().0);
    let mut half = server.connect().await;
    half.send("\u{16}\u{3}\u{1}").await;
    until("it is accepted", || server.connections() == 1).await;
    server.stop();
    timeout(PATIENCE / 2, &mut server.task).await.expect("it ends").unwrap();
    assert_eq!(half.ends().await, b"");
}

#[tokio::test]
async fn only_those_who_log_in_are_served() {
    let server = Running::listen(MadeUp::new(1), Limits::default(), Some(local()), PATIENCE).await;
    server.protection.send_replace(protected_by(users(4)));
    let good = login("alice", "secret");
    let twice = format!("{good}{good}");
    for (headers, status) in [
        (String::new(), 401),
        (good.clone(), 200),
        (good.clone(), 200),
        (login("bob", "other"), 200),
        (login("alice", "other"), 401),
        (login("alice", "secret2"), 401),
        (login("alice", ""), 401),
        (login("Alice", "secret"), 401),
        (login("carol", "secret"), 401),
        (login("", ""), 401),
        (login("alice", &"x".repeat(10_000)), 401),
        ("Authorization: Bearer x\r\n".to_owned(), 401),
        ("Authorization: Basic alice:secret\r\n".to_owned(), 401),
        (twice, 401),
    ] {
        // What there is, and what is served where, is not for strangers.
        for path in ["/metrics", "/-/healthy", "/-/ready", "/", "/nothing", "/config"] {
            for addr in [server.addr, server.admin.unwrap()] {
                let mut client = Client { stream: TcpStream::connect(addr).await.unwrap(), unread: Vec::new() };
                client.send(&get(path, &headers)).await;
                let reply = client.reply().await.unwrap();
                if status == 401 {
                    assert_eq!(reply.status, 401, "{path} {headers}");
                    assert_eq!(reply.header("www-authenticate"), Some("basic realm=\"midwatch\""));
                    assert_eq!(reply.body, "This needs a user name and a password.\n");
                } else {
                    assert_ne!(reply.status, 401, "{path} {headers}");
                }
            }
        }
    }
    assert_eq!(server.site.reloads.load(SeqCst), 0);
}

#[tokio::test]
async fn the_body_of_a_stranger_is_discarded_within_limits() {
    let server = Running::start(MadeUp::new(1), quick()).await;
    server.protection.send_replace(protected_by(users(4)));
    let mut client = server.connect().await;
    let post = "POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: ";
    // A small one, after which the connection goes on; then one that is too large, and on another connection a slow one.
    client.send(&format!("{post}5\r\n\r\nhello")).await;
    assert_eq!(client.reply().await.unwrap().status, 401);
    client.send(&get("/metrics", &login("alice", "secret"))).await;
    assert_eq!(client.reply().await.unwrap().status, 200);
    client.send(&format!("{post}99999999\r\n\r\n")).await;
    assert_eq!(client.reply().await.unwrap().status, 413);
    let mut client = server.connect().await;
    client.send(&format!("{post}5\r\n\r\n")).await;
    assert_eq!(client.reply().await.unwrap().status, 408);
    assert_eq!(server.site.reloads.load(SeqCst), 0);
}

#[tokio::test]
async fn another_password_counts_at_once_on_open_connections() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    server.protection.send_replace(protected_by(users(4)));
    let mut client = server.connect().await;
    let mut status = async |password: &str| {
        client.send(&get("/metrics", &login("alice", password))).await;
        client.reply().await.unwrap().status
    };
    assert_eq!(status("secret").await, 200);
    let hash = Zeroizing::new(bcrypt::hash("changed", 4).unwrap());
    server.protection.send_replace(protected_by(Users::new([("alice".to_owned(), hash)])));
    assert_eq!([status("secret").await, status("changed").await], [401, 200]);
    server.protection.send_replace(Arc::default());
    assert_eq!(status("whatever").await, 200);
}

/// Each guess takes as long as the hash's cost asks, and there are more of them than connections.
#[tokio::test]
async fn those_who_guess_keep_nobody_out_who_is_known() {
    let limits = Limits { connections: 16, login_time: 100 * PATIENCE, ..Limits::default() };
    let server = Running::start(MadeUp::new(1), limits).await;
    server.protection.send_replace(protected_by(users(12)));
    let request = get("/metrics", &login("alice", "secret"));
    let mut known = server.connect().await;
    known.send(&request).await;
    assert_eq!(known.reply().await.unwrap().status, 200);
    drop(known);
    let mut guessing = Vec::new();
    for n in 0..40 {
        let mut client = server.connect().await;
        client.send(&get("/metrics", &login(if n % 2 == 0 { "alice" } else { "carol" }, &n.to_string()))).await;
        guessing.push(tokio::spawn(async move { client.reply().await.map(|reply| reply.status) }));
    }
    for _ in 0..5 {
        let mut known = server.connect().await;
        known.send(&request).await;
        assert_eq!(known.reply().await.unwrap().status, 200);
    }
    let waiting = guessing.iter().filter(|task| !task.is_finished()).count();
    assert!(waiting > 0, "every guess was verified before");
    for task in guessing {
        task.abort();
        // Those that had to make way got no answer, and no other got more than a refusal.
        assert!(matches!(task.await, Err(_) | Ok(None | Some(401))));
    }
}

#[tokio::test]
async fn a_login_whose_turn_does_not_come_is_told_to_come_again() {
    let server =
        Running::start(MadeUp::new(1), Limits { login_time: Duration::from_millis(50), ..Limits::default() }).await;
    server.protection.send_replace(protected_by(users(13)));
    let guesses: Vec<_> = (0..8)
        .map(|n| {
            let addr = server.addr;
            tokio::spawn(async move {
                let mut client = Client { stream: TcpStream::connect(addr).await.unwrap(), unread: Vec::new() };
                client.send(&get("/metrics", &login("alice", &n.to_string()))).await;
                client.reply().await.unwrap()
            })
        })
        .collect();
    let mut refused = 0;
    for guess in guesses {
        let reply = guess.await.unwrap();
        assert!(matches!(reply.status, 401 | 503), "{reply:?}");
        refused += usize::from(reply.status == 503);
        assert_eq!(reply.header("retry-after").is_some(), reply.status == 503);
    }
    assert!(refused > 0, "all had their turn within 50 ms");
}

#[tokio::test]
async fn every_response_carries_the_headers() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let headers = vec![
        (header::X_FRAME_OPTIONS, header::HeaderValue::from_static("deny")),
        (header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static("default-src 'self'")),
    ];
    server.protection.send_replace(Arc::new(Protection { users: users(4), headers, ..Protection::default() }));
    for (path, login, status) in [
        ("/metrics", login("alice", "secret"), 200),
        ("/nothing", login("alice", "secret"), 404),
        ("/", String::new(), 401),
    ] {
        let mut client = server.connect().await;
        client.send(&get(path, &login)).await;
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("x-frame-options"), Some("deny"));
        assert_eq!(reply.head.matches("content-security-policy: default-src 'self'").count(), 1, "{}", reply.head);
        assert_eq!(reply.head.matches("content-security-policy").count(), 1, "{}", reply.head);
    }
}

#[tokio::test]
async fn requests_beyond_the_rate_are_refused_before_their_login() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let rate_limit = Some(RateLimit::new(Duration::from_secs(3600), 2));
    server.protection.send_replace(Arc::new(Protection { users: users(4), rate_limit, ..Protection::default() }));
    let mut client = server.connect().await;
    for status in [401, 401, 429, 429] {
        client.send(SCRAPE).await;
        assert_eq!(client.reply().await.unwrap().status, status);
    }
}
