//! OpenVPN: a hard reset, wrapped as the server wants it, and TLS if that is asked for.
//!
//! What a server does with a first packet that is wrapped in another way than its own (seen with OpenVPN 2.6.14):
//!
//! | Probe | Server: none | tls-auth | tls-crypt | tls-crypt-v2 |
//! |---|---|---|---|---|
//! | none | answer | UDP: silence, TCP: closed | the same | the same |
//! | tls-auth | UDP: answer in clear (`wrap_mismatch`), TCP: closed | answer | UDP: silence, TCP: closed | the same |
//! | tls-crypt | UDP: answer in clear (`wrap_mismatch`), TCP: silence | UDP: silence, TCP: closed | answer | UDP: silence, TCP: closed |
//! | tls-crypt-v2 | UDP: silence, TCP: closed | the same | the same | answer |
//!
//! Another key of the right kind, another direction and another digest: UDP silence, TCP closed.

mod config;
mod fuzz;
mod key;
mod link;
mod packet;
mod reliable;
mod session;
mod tls;
mod wrap;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, timeout};

pub(super) use self::config::Config;
use self::config::{Mode, Transport};
pub(super) use self::fuzz::read;
use self::link::Link;
use self::packet::SessionId;
use self::session::{Peer, Session};
use self::wrap::Wrap;
use super::budget;
use super::exchange::{self, Judged, Question};
use super::knock::Knock;
use super::metrics::{self, Reply};
use crate::probe::key_file;
use crate::probe::net::{Clock, Datagrams, Tls, connect};
use crate::probe::{Failure, Reason, Shared};

/// Knocks as a client.
pub(super) struct Openvpn {
    transport: Transport,
    mode: Mode,
    wrap: Wrap,
    /// The files that nobody else should read.
    key_files: Vec<PathBuf>,
    tls: Option<Tls>,
}

/// A session that the server has answered.
struct Opened<'w> {
    link: Link,
    session: Session<'w>,
    peer: Peer,
    /// How long the answer took.
    round_trip: Duration,
}

impl Openvpn {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with a key or a certificate, without anything of them.
    pub(super) fn new(config: &Config, shared: &Shared) -> Result<Self, String> {
        Ok(Self {
            transport: config.transport,
            mode: config.mode,
            wrap: config.wrap()?,
            key_files: config.key_files(),
            tls: config.tls.as_ref().map(|tls| tls.build(&shared.net).map(Tls::of_any_name)).transpose()?,
        })
    }

    /// The stages, in order.
    pub(super) fn stages(&self) -> Vec<&'static str> {
        let connect = (self.transport == Transport::Tcp).then_some(metrics::CONNECT);
        let tls = self.tls.as_ref().map(|_| metrics::TLS);
        connect.into_iter().chain([metrics::HANDSHAKE]).chain(tls).collect()
    }

    /// What will not work well.
    pub(super) fn concerns(&self) -> Vec<String> {
        self.key_files.iter().filter_map(|path| key_file::concern(path)).collect()
    }

    /// Begins a session, and ends it without a word.
    ///
    /// # Errors
    /// Why the server cannot be said to be there.
    pub(super) async fn knock(&self, knock: &Knock<'_>) -> Result<(), Failure> {
        if let Some(tls) = &self.tls {
            tls.prepare().await?;
        }
        let opened = match self.transport {
            Transport::Udp => self.over_udp(knock).await?,
            Transport::Tcp => self.over_tcp(knock).await?,
        };
        knock.replied(Reply::ServerReset);
        match &self.tls {
            Some(tls) => tls::examine(knock, tls, opened).await,
            None => Ok(()),
        }
    }

    async fn over_udp(&self, knock: &Knock<'_>) -> Result<Opened<'_>, Failure> {
        let stage = knock.stage(metrics::HANDSHAKE);
        let mut reset = Reset { wrap: &self.wrap, session: None, earlier: Vec::new() };
        let asked = async {
            let socket = Datagrams::connect(knock.address, None)?;
            let answered = exchange::ask(knock, &socket, budget::OPENVPN, &mut reset).await?;
            Ok((socket, answered))
        };
        match (asked.await, reset.session) {
            (Ok((socket, answered)), Some(session)) => {
                stage.done_in(answered.round_trip);
                let (peer, round_trip) = (answered.answer, answered.round_trip);
                Ok(Opened { link: Link::udp(socket), session, peer, round_trip })
            }
            (Ok(_), None) => Err(stage.fail(Failure::new(Reason::Internal, "an answer without a question"))),
            (Err(failure), _) => Err(stage.fail(self.explain(failure))),
        }
    }

    async fn over_tcp(&self, knock: &Knock<'_>) -> Result<Opened<'_>, Failure> {
        // A server has a session for each connection, from its beginning.
        if let Err(failure) = knock.permit(budget::OPENVPN).await {
            return Err(knock.stage(metrics::HANDSHAKE).fail(failure));
        }
        let stage = knock.stage(metrics::CONNECT);
        let connected = match timeout(knock.time_left(), connect(knock.address)).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(failure)) => return Err(stage.fail(failure)),
            Err(_) => {
                let words = format!("{} did not answer to the connection", knock.address);
                return Err(stage.fail(Failure::new(Reason::Timeout, words)));
            }
        };
        stage.done_in(connected.handshake);
        let stage = knock.stage(metrics::HANDSHAKE);
        let mut link = Link::tcp(connected.stream);
        let result = match timeout(knock.time_left(), self.reset_over_tcp(knock, &mut link)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(Reason::Timeout, format!("no answer from {}", knock.address))),
        };
        knock.sent(metrics::HANDSHAKE, result.is_ok());
        match result {
            Ok((session, peer, round_trip)) => {
                knock.timed(Clock::User);
                stage.done_in(round_trip);
                Ok(Opened { link, session, peer, round_trip })
            }
            Err(failure) => Err(stage.fail(self.explain(failure))),
        }
    }

    async fn reset_over_tcp(
        &self,
        knock: &Knock<'_>,
        link: &mut Link,
    ) -> Result<(Session<'_>, Peer, Duration), Failure> {
        let (session, packet) = Session::begin(&self.wrap)?;
        let sent = Instant::now();
        link.send(&packet).await?;
        loop {
            let packet = link.receive().await?;
            match session.judge(&[], &packet) {
                Judged::Answer(peer) => return Ok((session, peer, sent.elapsed())),
                Judged::Failed(failure) => return Err(failure),
                Judged::Not(why) => knock.ignored(why),
                // Servers want no other first packet.
                Judged::Again => {}
            }
        }
    }

    /// Adds what silence, or an end without a word, means with this configuration.
    fn explain(&self, failure: Failure) -> Failure {
        let why = match (failure.reason, self.transport, self.mode) {
            (Reason::Timeout, Transport::Udp, Mode::None) => {
                "; the server is down, or wants packets that are wrapped (tls-auth, tls-crypt), or shuts everybody out after too \
                 many first packets"
            }
            (Reason::Timeout, Transport::Udp, _) => {
                "; the server is down, or has another key (or key_direction, or auth_digest), or another way to wrap packets, or \
                 shuts everybody out after too many first packets"
            }
            (Reason::Timeout, Transport::Tcp, Mode::None) => "; the connection stands, but whoever listens is stuck",
            (Reason::Timeout, Transport::Tcp, _) => {
                "; the connection stands, but whoever listens is stuck, or does not wrap packets at all"
            }
            (Reason::Closed, _, Mode::None) => {
                "; a server that wants packets that are wrapped (tls-auth, tls-crypt) does that"
            }
            (Reason::Closed, _, _) => {
                "; a server does that whose key is another one (or key_direction, or auth_digest), or that wraps packets in another way"
            }
            _ => return failure,
        };
        Failure::new(failure.reason, format!("{}{why}", failure.detail))
    }
}

/// The question that begins a session, which each attempt does anew.
struct Reset<'w> {
    wrap: &'w Wrap,
    session: Option<Session<'w>>,
    earlier: Vec<SessionId>,
}

impl Question for Reset<'_> {
    type Answer = Peer;

    fn packet(&mut self) -> Result<Vec<u8>, Failure> {
        let (session, packet) = Session::begin(self.wrap)?;
        self.earlier.extend(self.session.replace(session).map(|earlier| earlier.ours));
        Ok(packet)
    }

    fn judge(&mut self, packet: &[u8]) -> Judged<Peer> {
        match &self.session {
            Some(session) => session.judge(&self.earlier, packet),
            None => Judged::Not(metrics::Ignored::Malformed),
        }
    }
}

#[cfg(test)]
mod tests;
