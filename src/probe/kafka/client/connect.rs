//! One new connection to one broker, phase by phase.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::api::api_versions::{AskVersions, Versions};
use super::api::{Api, Request};
use super::error::ErrorCode;
use super::frame::{self, Frames};
use super::login::Login;
use super::token::Token;
use crate::label_values::label_values;
use crate::probe::kafka::access::Access;
use crate::probe::net::{Net, Tls, connect_any, read_failure};
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;

label_values! {
    /// A part of opening a connection.
    pub enum Phase {
        /// Asking name servers.
        Resolve = "resolve",
        /// TCP's handshake, by the kernel's clock.
        Tcp = "tcp",
        /// TLS' handshake.
        Tls = "tls",
        /// The first request: the broker's process answers.
        ApiVersions = "api_versions",
        /// The login, with fetching a token for it.
        Auth = "auth",
    }
}

/// Is told of a connection while it is opened. A phase that has begun and not ended when opening is given up is the one
/// that it hung in.
pub trait Observer: Send + Sync {
    /// A phase begins.
    fn begin(&self, phase: Phase) {
        let _ = phase;
    }

    /// A phase took that long, and ended like this.
    fn end(&self, phase: Phase, took: Duration, result: Result<(), &Failure>) {
        let _ = (phase, took, result);
    }

    /// What the broker's name resolves to.
    fn resolved(&self, addresses: &[IpAddr]) {
        let _ = addresses;
    }

    /// A request was sent, and answered or not.
    fn asked(&self, api: Api, is_answered: bool) {
        let _ = (api, is_answered);
    }
}

/// A stream of bytes, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is ready for requests.
pub struct Opened {
    pub(super) stream: Box<dyn Stream>,
    pub(super) versions: Versions,
    /// When the login has to be made anew, which is done on a new connection.
    pub(super) expires: Option<Instant>,
}

/// Opens connections as the configuration says.
#[derive(Debug)]
pub struct Dialer {
    pub(super) net: Net,
    pub(super) tls: Option<Tls>,
    pub(super) login: Option<Login>,
}

impl Dialer {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with a certificate, a key or the credentials, in words.
    pub fn new(access: &Access, net: &Net) -> Result<Self, String> {
        let tls = access.tls.as_ref().map(|tls| tls.build(net)).transpose()?;
        let login = access.sasl.as_ref().map(|sasl| Login::new(sasl, net)).transpose()?;
        Ok(Self { net: net.clone(), tls, login })
    }

    /// A token to log in with and for how long it may be used, if that is how this logs in.
    ///
    /// # Errors
    /// Why there is no token.
    pub async fn token(&self) -> Option<Result<(Token, Duration), Failure>> {
        match &self.login {
            Some(Login::Bearer(tokens)) => Some(tokens.current_until().await),
            _ => None,
        }
    }

    /// Opens a connection. There is no timer here; that is the caller's.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub async fn dial(&self, address: &HostPort, observer: &dyn Observer) -> Result<Opened, Failure> {
        let stream = self.reach(address, observer).await?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                tls.prepare().await?;
                let handshake = async { tls.handshake(stream, &address.host).await.0 };
                Box::new(phase(observer, Phase::Tls, handshake).await?)
            }
        };
        let mut wire = Wire { stream, frames: Frames::default(), correlation: 0, observer };
        let negotiation = async { wire.versions().await.map_err(|failure| self.hint(failure)) };
        let versions = phase(observer, Phase::ApiVersions, negotiation).await?;
        let Some(login) = &self.login else { return Ok(Opened { stream: wire.stream, versions, expires: None }) };
        let lifetime = phase(observer, Phase::Auth, login.run(&mut wire, &versions)).await?;
        // Well before the broker would close it (KIP-368).
        let expires = lifetime.map(|lifetime| Instant::now() + lifetime * 4 / 5);
        Ok(Opened { stream: wire.stream, versions, expires })
    }

    async fn reach(&self, address: &HostPort, observer: &dyn Observer) -> Result<TcpStream, Failure> {
        // Reading the system's configuration anew is no part of asking a name server.
        self.net.prepare(&address.host).await?;
        let addresses = phase(observer, Phase::Resolve, self.net.resolve(&address.host)).await?;
        observer.resolved(&addresses);
        let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, address.port)).collect();
        observer.begin(Phase::Tcp);
        let started = Instant::now();
        match connect_any(&addresses).await {
            Ok(connected) => {
                observer.end(Phase::Tcp, connected.handshake, Ok(()));
                Ok(connected.stream)
            }
            Err(failure) => {
                observer.end(Phase::Tcp, started.elapsed(), Err(&failure));
                Err(failure)
            }
        }
    }

    /// A broker's TLS listener closes the connection of a client that does not begin with TLS.
    fn hint(&self, failure: Failure) -> Failure {
        if failure.reason == Reason::Closed && self.tls.is_none() {
            return Failure::new(Reason::Closed, format!("{}; does this listener want TLS?", failure.detail));
        }
        failure
    }
}

/// Runs a phase and tells the observer.
async fn phase<T>(
    observer: &dyn Observer,
    name: Phase,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    observer.begin(name);
    let started = Instant::now();
    let result = work.await;
    observer.end(name, started.elapsed(), result.as_ref().map(|_| ()));
    result
}

/// A connection that is being opened: one request, one answer.
pub(super) struct Wire<'o> {
    stream: Box<dyn Stream>,
    frames: Frames,
    correlation: i32,
    observer: &'o dyn Observer,
}

impl Wire<'_> {
    /// Asks what the broker speaks, in the newest version first: one that is too new is answered in version 0 (KIP-511).
    async fn versions(&mut self) -> Result<Versions, Failure> {
        let newest = *Api::ApiVersions.versions().end();
        let mut versions = self.ask(&AskVersions, newest).await?;
        if versions.error == ErrorCode::UNSUPPORTED_VERSION {
            versions = self.ask(&AskVersions, 0).await?;
        }
        if versions.error.is_ok() { Ok(versions) } else { Err(versions.error.failure("ApiVersions")) }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, Failure> {
        let result = self.exchange(request, version).await;
        self.observer.asked(R::API, result.is_ok());
        result
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, Failure> {
        let mut bytes = frame::request(request, version)?;
        self.correlation += 1;
        frame::number(&mut bytes, self.correlation);
        self.stream.write_all(&bytes).await.map_err(|error| read_failure("write", &error))?;
        self.stream.flush().await.map_err(|error| read_failure("write", &error))?;
        let answer = loop {
            if let Some(frame) = self.frames.next()? {
                break frame;
            }
            let read = self.frames.fill(&mut self.stream).await.map_err(|error| read_failure("read", &error))?;
            if read == 0 {
                let words = format!("the broker closed the connection instead of answering {}", R::API.label());
                return Err(Failure::new(Reason::Closed, words));
            }
        };
        if frame::correlation(&answer) != Some(self.correlation) || !self.frames.is_empty() {
            return Err(Failure::new(Reason::Protocol, "the answer is to another request"));
        }
        frame::response::<R>(&answer, version)
    }
}
