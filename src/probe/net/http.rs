//! One request over HTTP/1.1 on a connection of its own.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Net, Tls, clean, connect_any};
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;

/// Asks the server at an address, over TLS if it is given, and reads at most `limit` bytes of the answer's body. The request names
/// its `Host` itself.
///
/// # Errors
/// What keeps us from asking; `closed` and `protocol` for what is no whole answer.
pub async fn ask(
    net: &Net,
    (address, tls): (&HostPort, Option<&Tls>),
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, Failure> {
    let addresses = net.resolve(&address.host).await?;
    let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, address.port)).collect();
    let stream = connect_any(&addresses).await?.stream;
    match tls {
        None => exchange(stream, request, limit).await,
        Some(tls) => exchange(tls.handshake(stream, &address.host).await.0?, request, limit).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, Failure> {
    let broken = |error: hyper::Error| {
        let reason = if error.is_parse() { Reason::Protocol } else { Reason::Closed };
        Failure::new(reason, clean(&error.to_string()))
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection = std::pin::pin!(connection);
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|error| Failure::new(Reason::Protocol, clean(&error.to_string())))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        result = &mut answer => result,
        // The connection may be done before the answer is taken out of it.
        result = &mut connection => match result {
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}
