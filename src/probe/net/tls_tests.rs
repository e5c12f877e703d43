//! Handshakes with servers of every kind of badness.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::connect;
use super::*;

/// An authority, as PEM and as what signs.
fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

/// A server's side for the names, valid until the year.
fn server(issuer: &Issuer<'static, KeyPair>, names: &[&str], until: i32) -> ServerConfig {
    let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "db\u{7}1");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 11, 18);
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap()
}

/// The outcome of a handshake with a peer that does this with its connection.
async fn against<F>(
    tls: &Tls,
    host: &str,
    peer: impl FnOnce(TcpStream) -> F,
) -> (Result<TlsStream, Failure>, Option<CertInfo>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connected = connect(listener.local_addr().unwrap()).await.unwrap();
    let peer = tokio::spawn(peer(listener.accept().await.unwrap().0));
    let outcome = tls.handshake(connected.stream, host).await;
    peer.await.unwrap();
    outcome
}

async fn with_server(tls: &Tls, host: &str, config: ServerConfig) -> (Result<TlsStream, Failure>, Option<CertInfo>) {
    against(tls, host, |stream| async move {
        let _ = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
    })
    .await
}

fn trusting(ca: &str) -> Tls {
    Tls::new(&TlsOptions { ca: Some(ca.as_bytes()), ..TlsOptions::default() }, &Net::default()).unwrap()
}

#[tokio::test]
async fn a_good_certificate_is_shown() {
    let (ca, issuer) = authority("Fleet CA");
    let tls = trusting(&ca);
    for host in ["db1.test", "db1.test.", "127.0.0.1"] {
        let (result, info) = with_server(&tls, host, server(&issuer, &["db1.test", "127.0.0.1"], 2099)).await;
        result.unwrap();
        let info = info.unwrap();
        assert_eq!((info.not_after, info.issuer.as_str()), (4_098_643_200, "Fleet CA"));
        assert_eq!(info.subject, "db 1", "control characters are gone");
    }
}

#[tokio::test]
async fn a_refused_certificate_is_shown_too() {
    let (ca, issuer) = authority("Fleet CA");
    let (_, stranger) = authority("Other CA");
    let (_, namesake) = authority("Fleet CA");
    let tls = trusting(&ca);
    for (config, host, words) in [
        (server(&issuer, &["db1.test"], 2021), "db1.test", "the certificate of db1.test expired "),
        (
            server(&issuer, &["a.test", "b.test"], 2099),
            "db1.test",
            "not valid for the name db1.test; it is for a.test, b.test",
        ),
        (server(&issuer, &["db1.test"], 2099), "10.0.0.1", "not valid for the name 10.0.0.1; it is for db1.test"),
        (
            server(&stranger, &["db1.test"], 2099),
            "db1.test",
            "issued by \"Other CA\", which no trusted root vouches for",
        ),
        (server(&namesake, &["db1.test"], 2099), "db1.test", "another key than the trusted root \"Fleet CA\""),
    ] {
        let (result, info) = with_server(&tls, host, config).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.reason, Reason::Certificate, "{failure}");
        assert!(failure.detail.contains(words), "{failure}");
        assert!(info.is_some(), "{failure}");
    }
}

#[tokio::test]
async fn the_name_can_be_overridden_and_the_check_switched_off() {
    let (ca, issuer) = authority("Fleet CA");
    let options = TlsOptions { ca: Some(ca.as_bytes()), server_name: Some("db1.test"), ..TlsOptions::default() };
    let tls = Tls::new(&options, &Net::default()).unwrap();
    with_server(&tls, "10.0.0.1", server(&issuer, &["db1.test"], 2099)).await.0.unwrap();
    let tls = Tls::new(&TlsOptions { insecure: true, ..TlsOptions::default() }, &Net::default()).unwrap();
    let (result, info) = with_server(&tls, "x", server(&issuer, &["db1.test"], 2021)).await;
    result.unwrap();
    assert!(info.is_some());
}

#[tokio::test]
async fn peers_without_tls_are_told() {
    let (ca, _) = authority("Fleet CA");
    let tls = trusting(&ca);
    let (result, info) = against(&tls, "db1", |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    assert_eq!(result.unwrap_err(), Failure::new(Reason::Tls, "db1 does not speak TLS on this port"));
    assert_eq!(info, None);
    let (result, _) = against(&tls, "db1", |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    assert_eq!(result.unwrap_err().reason, Reason::Closed);
    let (result, _) = against(&tls, "db1", |mut stream| async move {
        let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let failure = result.unwrap_err();
    assert_eq!(failure.reason, Reason::Tls);
    assert!(failure.detail.contains("HandshakeFailure"), "{failure}");
}

#[test]
fn bad_options_are_told() {
    let (ca, _) = authority("Fleet CA");
    let new = |options: TlsOptions<'_>| Tls::new(&options, &Net::default()).map(|_| ()).unwrap_err();
    assert_eq!(new(TlsOptions { ca: Some(b"rubbish"), ..Default::default() }), "the CA file holds no certificate");
    let client = |chain, key| new(TlsOptions { client: Some(ClientCertificate { chain, key }), ..Default::default() });
    assert!(client(b"", b"").contains("holds no certificate"));
    assert!(client(ca.as_bytes(), b"").contains("no usable private key"));
    let other = KeyPair::generate().unwrap().serialize_pem();
    assert!(client(ca.as_bytes(), other.as_bytes()).contains("cannot be used"));
    assert!(new(TlsOptions { server_name: Some("a b"), ..Default::default() }).contains("is not a name"));
}

#[tokio::test]
async fn a_stalled_handshake_is_left_to_the_deadline() {
    let (ca, _) = authority("Fleet CA");
    let tls = trusting(&ca);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connected = connect(listener.local_addr().unwrap()).await.unwrap();
    let handshake = tls.handshake(connected.stream, "db1");
    assert!(tokio::time::timeout(Duration::from_millis(50), handshake).await.is_err());
}
