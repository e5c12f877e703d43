//! One new connection to one member, phase by phase.

use std::net::SocketAddr;

use bson::rawdoc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::access::{Access, Login, ScramHash};
use super::auth::Auth;
use super::census::Census;
use super::hello::{Hello, hello};
use super::metrics::{AUTH, COMMAND, CONNECT, HELLO, RESOLVE, TCP, TCP_CLOCK, TLS};
use super::wire::Connection;
use crate::metrics::{Recorder, Target};
use crate::probe::net::{Net, Tls, connect_any};
use crate::probe::sasl::scram::Hash;
use crate::probe::{Failure, Reason};

/// What bytes go over: TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to members as the configuration says.
pub(super) struct Connector {
    net: Net,
    tls: Option<Tls>,
    auth: Auth,
}

impl Connector {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with a certificate, a key or the credentials, in words.
    pub(super) fn new(access: &Access, net: &Net) -> Result<Self, String> {
        let tls = access.tls.as_ref().map(|tls| tls.build(net)).transpose()?;
        Ok(Self { net: net.clone(), tls, auth: new_auth(&access.login)? })
    }

    /// Opens a connection and logs in, with nobody watching the phases.
    ///
    /// # Errors
    /// What keeps us out.
    pub(super) async fn open(&self, member: &str) -> Result<(Connection<Box<dyn Stream>>, Hello), Failure> {
        let (host, port) = split(member)?;
        let addresses = self.net.resolve(host).await?;
        let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let stream = connect_any(&addresses).await?.stream;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.handshake(stream, host).await.0?),
        };
        let mut conn = Connection::new(stream);
        let mut attempt = self.auth.begin()?;
        let hello = hello(&mut conn, attempt.speculative()).await?;
        attempt.prepare(&hello).await;
        if !hello.state.is_without_users() {
            attempt.finish(&mut conn).await?;
        }
        Ok((conn, hello))
    }

    /// Probes one member and leaves the verdict on it.
    pub(super) async fn probe(&self, member: String, rec: &Recorder, census: &Census<'_>) {
        let target = rec.target(&member).phases(&CONNECT);
        let visit = Visit { connector: self, member: &member, rec, target, census };
        let verdict = visit.connect().await;
        visit.target.finish(verdict);
    }
}

fn new_auth(login: &Login) -> Result<Auth, String> {
    match login {
        Login::None => Ok(Auth::none()),
        Login::X509 => Ok(Auth::x509()),
        Login::Scram { hash, username, password, source } => {
            let hash = match hash {
                ScramHash::Sha256 => Hash::Sha256,
                ScramHash::Sha1 => Hash::Sha1,
            };
            Auth::scram(hash, username, password.expose(), source)
        }
    }
}

/// One connection to one member.
struct Visit<'v> {
    connector: &'v Connector,
    member: &'v str,
    rec: &'v Recorder,
    target: Target,
    census: &'v Census<'v>,
}

impl Visit<'_> {
    async fn connect(&self) -> Result<(), Failure> {
        let (host, port) = split(self.member)?;
        let stream = self.reach(host, port).await?;
        match &self.connector.tls {
            None => self.speak(stream).await,
            Some(tls) => {
                tls.prepare().await?;
                let phase = self.target.phase(TLS);
                let (result, certificate) = tls.handshake(stream, host).await;
                if let Some(certificate) = certificate {
                    self.census.certificate(self.member, certificate.not_after);
                }
                let stream = phase.run(async { result }).await?;
                self.speak(stream).await
            }
        }
    }

    async fn reach(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        // Reading the system's configuration anew is no part of asking a name server.
        self.connector.net.prepare(host).await?;
        let addresses = self.target.phase(RESOLVE).run(self.connector.net.resolve(host)).await?;
        let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let phase = self.target.phase(TCP);
        match connect_any(&addresses).await {
            Ok(connected) => {
                phase.done_in(connected.handshake);
                self.rec.add(&TCP_CLOCK, [self.member, connected.clock.label()], 1.0);
                Ok(connected.stream)
            }
            Err(failure) => {
                phase.fail(&failure);
                Err(failure)
            }
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<(), Failure> {
        let mut conn = Connection::new(stream);
        let auth = &self.connector.auth;
        let mut attempt = auth.begin()?;
        let hello = self.target.phase(HELLO).run(hello(&mut conn, attempt.speculative())).await?;
        self.target.note(hello.state.label());
        // Our own arithmetic, the derivation of a key, is part of no phase.
        attempt.prepare(&hello).await;
        let is_arbiter = hello.state.is_without_users();
        self.census.answer(self.member, hello);
        // An arbiter has no users and answers these commands to anybody; logging in there can only fail.
        if auth.is_needed() && !is_arbiter {
            self.target.phase(AUTH).run(attempt.finish(&mut conn)).await?;
            self.census.trust(self.member);
        } else if !auth.is_needed() {
            self.census.trust(self.member);
        }
        let ping = rawdoc! { "ping": 1, "$db": "admin" };
        self.target.phase(COMMAND).run(async { conn.command(&ping).await.map(|_| ()) }).await
    }
}

/// Host and port of a member's label, the host without brackets.
fn split(member: &str) -> Result<(&str, u16), Failure> {
    let parts = member.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.ok_or_else(|| Failure::new(Reason::Internal, "the member's address has no port"))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}
