//! Requests over HTTP/1.1: one on a connection of its own, or several on one.

use std::net::SocketAddr;
use std::pin::Pin;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1::{self, SendRequest};
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
    at: (&HostPort, Option<&Tls>),
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, Failure> {
    Connection::open(net, at).await?.ask(request, limit).await
}

/// What reads and writes the bytes of a connection, as long as it is polled.
pub type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Connects to the server at an address, over TLS if it is given.
///
/// # Errors
/// What keeps us from asking.
pub async fn open<B>(net: &Net, (address, tls): (&HostPort, Option<&Tls>)) -> Result<(SendRequest<B>, Driver), Failure>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let addresses = net.resolve(&address.host).await?;
    let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, address.port)).collect();
    let stream = connect_any(&addresses).await?.stream;
    match tls {
        None => over(stream).await,
        Some(tls) => over(tls.handshake(stream, &address.host).await.0?).await,
    }
}

async fn over<B>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(SendRequest<B>, Driver), Failure>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    Ok((sender, Box::pin(driver)))
}

/// A connection that carries one request after the other. One whose request was given up must be dropped: the answer to it may still come.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Reads and writes, while somebody asks. `None` once it is done: the connection is closed.
    driver: Option<Driver>,
}

impl Connection {
    /// Connects to the server at an address, over TLS if it is given.
    ///
    /// # Errors
    /// What keeps us from asking.
    pub async fn open(net: &Net, at: (&HostPort, Option<&Tls>)) -> Result<Self, Failure> {
        let (sender, driver) = open(net, at).await?;
        Ok(Self { sender, driver: Some(driver) })
    }

    /// Whether another request can be sent, as far as is known here: the server may be closing it just now.
    pub async fn is_ready(&mut self) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        tokio::select! {
            biased;
            _ = driver => {
                self.driver = None;
                false
            }
            ready = self.sender.ready() => ready.is_ok(),
        }
    }

    /// Sends a request, which names its `Host` itself, and reads at most `limit` bytes of the answer's body.
    ///
    /// # Errors
    /// `closed` and `protocol` for what is no whole answer.
    pub async fn ask(&mut self, request: Request<Full<Bytes>>, limit: usize) -> Result<Response<Bytes>, Failure> {
        let answer = async {
            let (head, body) = self.sender.send_request(request).await.map_err(|error| broken(&error))?.into_parts();
            let body = Limited::new(body, limit).collect().await;
            let body = body.map_err(|error| match error.downcast_ref() {
                Some(error) => broken(error),
                None => Failure::new(Reason::Protocol, clean(&error.to_string())),
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        let Some(driver) = &mut self.driver else { return answer.await };
        let done = tokio::select! {
            biased;
            result = &mut answer => return result,
            result = driver => result,
        };
        self.driver = None;
        match done {
            // The connection may be done before the answer is taken out of it.
            Ok(()) => answer.await,
            Err(error) => Err(broken(&error)),
        }
    }
}

/// The failure that an error of a connection is.
pub fn broken(error: &hyper::Error) -> Failure {
    let reason = if error.is_parse() { Reason::Protocol } else { Reason::Closed };
    Failure::new(reason, clean(&error.to_string()))
}
