//! Against FAKE servers. A real ocserv is in `tests/it`; of SSTP there is nothing but this stub.

use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use super::*;
use crate::probe::vpn::testing::{Bench, Identities, config};

const LOG_IN: &str = "HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nContent-Type: text/xml\r\nContent-Length: 85\r\n\
                      X-Transcend-Version: 1\r\n\r\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                      <config-auth client=\"vpn\" type=\"auth-request\">";
const SSTP_OPEN: &str = "HTTP/1.1 200\r\nContent-Length: 18446744073709551615\r\nServer: Microsoft-HTTPAPI/2.0\r\n\r\n";

/// What a run against a server with these certificates ended in, which does this with the request and its connection.
async fn against<F>(
    identities: &Identities,
    protocol: &str,
    serve: impl FnOnce(TlsStream<TcpStream>, String) -> F + Send + 'static,
) -> (Result<(), Failure>, Bench)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let keys = format!(
        "protocol = \"{protocol}\"\nserver = \"127.0.0.1:{port}\"\ntls = {{ ca_file = \"ca.pem\", server_name = \"vpn.test\" }}\n"
    );
    let bench = Bench::within(identities.folder.path(), &keys, &Shared::default());
    let acceptor = identities.server(&TLS13, false);
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let mut request = vec![0; 4_096];
        let length = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8(request[..length].to_vec()).unwrap();
        serve(stream, request).await;
    });
    let result = bench.run(Duration::from_secs(2)).await;
    server.await.unwrap();
    (result, bench)
}

/// The same of a server that says this and waits for the end.
async fn saying(identities: &Identities, protocol: &str, text: &str) -> (Result<(), Failure>, Bench) {
    let text = text.to_owned();
    against(identities, protocol, |mut stream, _| async move {
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.flush().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

#[tokio::test]
async fn a_request_to_log_in_is_success() {
    let identities = Identities::new(2099);
    let (result, bench) = against(&identities, "anyconnect", |mut stream, request| async move {
        assert!(request.starts_with("POST / HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nX-Aggregate-Auth: 1\r\n"), "{request}");
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{request}");
        assert!(body.contains("<config-auth client=\"vpn\" type=\"init\">"), "{request}");
        stream.write_all(LOG_IN.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    result.unwrap();
    for stage in ["connect", "tls", "handshake"] {
        assert_eq!(bench.sum("midwatch_vpn_stage_success", &format!("stage={stage}")), 1.0, "{stage}");
    }
    assert_eq!(bench.sum("midwatch_vpn_replies_total", "reply=auth_request"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_certificate_expiry_timestamp_seconds", ""), 4_098_643_200.0);
    assert_eq!(bench.sum("midwatch_vpn_tls_info", "version=TLSv1.3"), 1.0);
}

#[tokio::test]
async fn an_open_channel_is_success() {
    let identities = Identities::new(2099);
    let (result, bench) = against(&identities, "sstp", |mut stream, request| async move {
        let line = "SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n";
        assert!(request.starts_with(line) && request.ends_with("\r\n\r\n"), "{request}");
        assert!(request.contains("\r\nContent-Length: 18446744073709551615\r\n"), "{request}");
        let id = request.split_once("SSTPCORRELATIONID: {").unwrap().1.split_once('}').unwrap().0;
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        stream.write_all(SSTP_OPEN.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    result.unwrap();
    assert_eq!(bench.sum("midwatch_vpn_replies_total", "reply=accepted"), 1.0);
}

#[tokio::test]
async fn other_answers_have_reasons() {
    let identities = Identities::new(2099);
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi";
    let complete = "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
                    1e;x=y\r\n<config-auth type=\"complete\"/>\r\n0\r\n\r\n";
    for (protocol, text, reason, words) in [
        ("anyconnect", "HTTP/1.1 404 Not Found\r\n\r\n", Reason::Mismatch, "HTTP/1.1 404 Not Found"),
        ("anyconnect", page, Reason::Mismatch, "its type is \"text/html\""),
        ("anyconnect", complete, Reason::Mismatch, "answered with \"complete\""),
        (
            "anyconnect",
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 4\r\n\r\n<a/>",
            Reason::Protocol,
            "XML",
        ),
        ("anyconnect", "SSH-2.0-OpenSSH_9\r\n", Reason::Protocol, "does not speak HTTP"),
        ("sstp", "HTTP/1.1 404 Not Found\r\n\r\n", Reason::Mismatch, "HTTP/1.1 404 Not Found"),
        ("sstp", "HTTP/1.0 200 OK\r\n\r\n", Reason::Mismatch, "HTTP/1.0 200 OK"),
        ("sstp", "+OK POP3 ready\r\n", Reason::Protocol, "does not speak HTTP"),
    ] {
        let (result, bench) = saying(&identities, protocol, text).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.reason, reason, "{text}: {failure}");
        assert!(failure.detail.contains(words), "{text}: {failure}");
        assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=tls"), 1.0);
        assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=handshake"), 0.0);
    }
}

#[tokio::test]
async fn a_server_that_closes_or_never_ends_is_told() {
    let identities = Identities::new(2099);
    let (result, _) = against(&identities, "anyconnect", |stream, _| async { drop(stream) }).await;
    assert_eq!(result.unwrap_err().reason, Reason::Closed);
    let (result, _) = saying(&identities, "anyconnect", &LOG_IN[..100]).await;
    assert_eq!(result.unwrap_err().reason, Reason::Timeout);
    // More and more headers, and a body without an end.
    for beginning in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n"] {
        let (result, _) = against(&identities, "anyconnect", move |mut stream, _| async move {
            let _ = stream.write_all(beginning.as_bytes()).await;
            while stream.write_all(b"a: b\r\n").await.is_ok() {}
        })
        .await;
        let failure = result.unwrap_err();
        assert_eq!(failure.reason, Reason::Protocol, "{failure}");
        assert!(failure.detail.contains("is longer than"), "{failure}");
    }
}

#[tokio::test]
async fn a_refused_certificate_is_shown() {
    let identities = Identities::new(2021);
    let (result, bench) = saying(&identities, "sstp", SSTP_OPEN).await;
    assert_eq!(result.unwrap_err().reason, Reason::Certificate);
    assert_eq!(bench.sum("midwatch_vpn_certificate_expiry_timestamp_seconds", ""), 1_637_193_600.0);
    assert_eq!(bench.sum("midwatch_vpn_tls_info", "version=TLSv1.3"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_stage_failures_total", "stage=tls reason=certificate"), 1.0);
}

#[tokio::test]
async fn a_port_without_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let bench = Bench::new(&format!("protocol = \"sstp\"\nserver = \"127.0.0.1:{port}\"\ntls = {{ insecure = true }}"));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"220 mail.test ESMTP\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    assert_eq!(bench.run(Duration::from_secs(2)).await.unwrap_err().reason, Reason::Tls);
    server.await.unwrap();
    assert_eq!(bench.run(Duration::from_secs(2)).await.unwrap_err().reason, Reason::Refused);
}

#[test]
fn tls_cannot_be_switched_off() {
    let told = |keys: &str| {
        let keys = format!("protocol = \"anyconnect\"\nserver = \"vpn.test\"\n{keys}");
        config(std::path::Path::new("/"), &keys).err().unwrap_or_default().join("\n")
    };
    assert_eq!((told(""), told("tls = true"), told("tls = { insecure = true }")), Default::default());
    assert!(told("tls = false").contains("`tls`: this protocol is not spoken without TLS"));
    let wrong = told("tls = 3");
    assert!(wrong.lines().count() == 1 && !wrong.contains("not spoken"), "{wrong}");
}
