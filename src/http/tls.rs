//! From a client's socket to a TLS session, or to a client that knows why there is none.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::socket::Socket;

/// What a client reads that speaks plain HTTP; the words are those of Go's server, which people know to look for.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 48\r\n\
    Connection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Does the handshake, within the socket's time for a header. `None` when it failed; the client was told as far as TLS
/// can say it.
pub(super) async fn accept(mut socket: Socket, config: Arc<ServerConfig>) -> Option<TlsStream<Socket>> {
    match socket.peek().await {
        // No record of TLS begins with a letter, and every method of HTTP does.
        Ok(Some(first)) if first.is_ascii_alphabetic() => {
            if socket.write_all(PLAIN_HTTP).await.is_ok() {
                // With time for the client to read it: closed at once, the connection would be reset.
                let _ = socket.shutdown().await;
            }
            return None;
        }
        Ok(Some(_)) => {}
        Ok(None) | Err(_) => return None,
    }
    match TlsAcceptor::from(config).accept(socket).into_fallible().await {
        Ok(stream) => Some(stream),
        Err((error, mut socket)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            // What TLS itself found is sent as an alert, which a reset would take away again.
            if error.kind() == io::ErrorKind::InvalidData {
                let _ = socket.shutdown().await;
            }
            None
        }
    }
}
