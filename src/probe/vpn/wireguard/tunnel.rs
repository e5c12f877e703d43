//! The way inside: packets made here, sent through the tunnel that a handshake opened. Needs no interface and no privilege.
//!
//! Round trips are those of the outer packets, which the kernel times: from the one that carried the question to the one that
//! carried its answer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::packet::{self, Inner, Segment};
use super::session::{Data, MAX_PACKET, Turn};
use super::stream::{Stage, Stream};
use crate::probe::net::{Datagrams, Received, Sent};
use crate::probe::vpn::inside::{Heard, NO_ANSWER, Times, Way};
use crate::probe::vpn::knock::Knock;
use crate::probe::vpn::metrics::Ignored;
use crate::probe::vpn::random::random;
use crate::probe::{Failure, Reason};
use crate::sync::lock;

/// The text of an echo: so long that nobody guesses it.
const ECHO_TEXT: usize = 16;
/// How much of an answer is heard before it is said to be none.
const MOST_HEARD: usize = 16 << 10;
/// What is left of the time of a conversation that brings nothing, to reset it.
const LAST_WORDS: Duration = Duration::from_millis(10);
/// How long the peer of a connection has to say goodbye. Then it is reset.
const GOODBYE: Duration = Duration::from_millis(250);

/// The tunnel. Nobody else with the same keys knocks while it is there.
pub(in crate::probe::vpn) struct Tunnel<'k> {
    knock: &'k Knock<'k>,
    socket: Datagrams,
    turn: Turn,
    ours: Option<IpAddr>,
    buffer: Mutex<Vec<u8>>,
}

impl fmt::Debug for Tunnel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("server", &self.knock.address).field("ours", &self.ours).finish_non_exhaustive()
    }
}

/// A packet that came through the tunnel.
struct Arrived {
    packet: Vec<u8>,
    received: Received,
}

impl<'k> Tunnel<'k> {
    /// The tunnel behind that socket, in which we have that address.
    pub(super) fn new(knock: &'k Knock<'_>, socket: Datagrams, turn: Turn, ours: Option<IpAddr>) -> Self {
        Self { knock, socket, turn, ours, buffer: Mutex::default() }
    }

    /// Our own address, of the family of that one.
    fn ours(&self, to: IpAddr) -> Result<IpAddr, Failure> {
        self.ours.filter(|ours| ours.is_ipv4() == to.is_ipv4()).ok_or_else(|| {
            let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
            Failure::new(Reason::Local, format!("we have no {family} address inside: `inside_address` is none"))
        })
    }

    fn our_end(&self, to: SocketAddr) -> Result<SocketAddr, Failure> {
        Ok(SocketAddr::new(self.ours(to.ip())?, self.turn.new_port()?))
    }

    async fn send(&self, inner: &[u8]) -> Result<Sent, Failure> {
        self.socket.send(&self.turn.seal(inner)?).await.map_err(|failure| outside(&failure))
    }

    /// The next packet through the tunnel that is for us.
    async fn receive(&self, ours: IpAddr) -> Result<Arrived, Failure> {
        let mut buffer = std::mem::take(&mut *lock(&self.buffer));
        buffer.resize(MAX_PACKET, 0);
        loop {
            let received = self.socket.receive(&mut buffer).await.map_err(|failure| outside(&failure))?;
            let why = match self.turn.open(buffer.get(..received.length).unwrap_or_default()) {
                Data::Keepalive => continue,
                Data::Not(why) => why,
                Data::Inner(packet) => match Inner::read(&packet).filter(|inner| inner.to == ours) {
                    Some(inner) if self.turn.is_of_another(&inner) => Ignored::ForeignSession,
                    Some(_) => {
                        *lock(&self.buffer) = buffer;
                        return Ok(Arrived { packet, received });
                    }
                    None => continue,
                },
            };
            if why == Ignored::ForeignSession {
                self.turn.heard_foreign(self.knock.address);
            }
            self.knock.ignored(why);
        }
    }

    /// The time between the two.
    fn round_trip(&self, sent: &Sent, received: &Received) -> Duration {
        let (time, clock) = self.socket.round_trip(sent, received);
        self.knock.timed(clock);
        time
    }

    /// Sends what the connection has to say. The first packets that ask and that say something are remembered: an answer to
    /// one that was sent again may be one to the first.
    async fn flush(&self, talk: &mut Talk) -> Result<(), Failure> {
        while let Some(packet) = talk.stream.outgoing() {
            let sent = self.send(&packet).await?;
            match packet::segment(&packet) {
                Segment::Syn => talk.asked = talk.asked.take().or(Some((packet, sent))),
                Segment::Data => talk.said = talk.said.or(Some(sent)),
                Segment::Other => {}
            }
        }
        Ok(())
    }

    /// Goes on until something happens: a packet of the connection, which is returned, or a time that it wants to know of.
    async fn step(&self, talk: &mut Talk) -> Result<Option<Received>, Failure> {
        self.flush(talk).await?;
        let due = talk.stream.due(talk.began.elapsed());
        let arrived = match due {
            Some(due) => timeout(due, self.receive(talk.ours)).await.ok().transpose()?,
            None => Some(self.receive(talk.ours).await?),
        };
        let (mut packet, mut received) = (None, None);
        if let Some(arrived) = arrived {
            let inner = Inner::read(&arrived.packet);
            let asked = talk.asked.as_ref().and_then(|(packet, _)| Inner::read(packet));
            if let (Some(inner), Some(asked)) = (&inner, &asked)
                && let Some(failure) = inner.error_about(asked)
            {
                return Err(failure);
            }
            if inner.is_some_and(|inner| talk.stream.takes(&inner)) {
                (packet, received) = (Some(arrived.packet), Some(arrived.received));
            }
        }
        talk.stream.go_on(talk.began.elapsed(), packet);
        Ok(received)
    }

    /// The connection's handshake.
    async fn open(&self, talk: &mut Talk) -> Result<Duration, Failure> {
        loop {
            let received = self.step(talk).await?;
            match (talk.stream.stage(), &talk.asked, received) {
                (Stage::Opening, ..) => {}
                (Stage::Closed, ..) => {
                    return Err(Failure::new(Reason::Refused, "nothing listens there: the connection was reset"));
                }
                (_, Some((_, asked)), Some(received)) => return Ok(self.round_trip(asked, &received)),
                // A connection opens with a packet that we have asked for.
                _ => return Err(Failure::new(Reason::Internal, "a connection without a packet")),
            }
        }
    }

    /// Says and listens: the time to the first byte.
    async fn talk(
        &self,
        talk: &mut Talk,
        say: &[u8],
        listen: &(dyn Fn(&[u8]) -> Heard + Sync),
    ) -> Result<Option<Duration>, Failure> {
        if say.is_empty()
            && let Heard::All(result) = listen(&[])
        {
            return result.map(|()| None);
        }
        talk.stream.say(say);
        talk.stream.go_on(talk.began.elapsed(), None);
        let (mut heard, mut answer) = (Vec::new(), None);
        loop {
            let received = self.step(talk).await?;
            talk.stream.hear(&mut heard);
            if let (None, false, Some(said), Some(received)) = (answer, heard.is_empty(), &talk.said, received) {
                answer = Some(self.round_trip(said, &received));
            }
            match listen(&heard) {
                Heard::All(result) => return result.map(|()| answer),
                Heard::More if heard.len() > MOST_HEARD => {
                    return Err(Failure::new(Reason::Protocol, "the answer is longer than any that was expected"));
                }
                Heard::More => {}
            }
            if !matches!(talk.stream.stage(), Stage::Open) {
                return Err(Failure::new(Reason::Closed, "the connection ended before the answer did"));
            }
        }
    }

    /// Closes the connection, so that the peer keeps nothing of it.
    async fn end(&self, talk: &mut Talk, until: Instant) {
        talk.stream.close();
        talk.stream.go_on(talk.began.elapsed(), None);
        let goodbye = async {
            let mut rest = Vec::new();
            while talk.stream.stage() != Stage::Closed && self.step(talk).await.is_ok() {
                talk.stream.hear(&mut rest);
                rest.clear();
            }
        };
        let _ = timeout_at(until.min(Instant::now() + GOODBYE), goodbye).await;
        self.reset(talk).await;
    }

    /// Ends what there still is of the connection. If that fails, it harms nobody but the peer's memory.
    async fn reset(&self, talk: &mut Talk) {
        if talk.stream.stage() != Stage::Closed {
            talk.stream.abort();
        }
        talk.stream.go_on(talk.began.elapsed(), None);
        let _ = self.flush(talk).await;
    }
}

/// A connection, and when the packets were sent whose answers are timed.
struct Talk {
    stream: Stream,
    ours: IpAddr,
    began: Instant,
    asked: Option<(Vec<u8>, Sent)>,
    said: Option<Sent>,
}

impl Way for Tunnel<'_> {
    async fn echo(&self, to: IpAddr, _until: Instant) -> Result<Duration, Failure> {
        let ours = self.ours(to)?;
        let (number, text) = (self.turn.new_echo(), random::<ECHO_TEXT>()?);
        let packet = packet::echo(ours, to, number, &text).ok_or_else(no_packet)?;
        let asked = Inner::read(&packet).ok_or_else(no_packet)?;
        let sent = self.send(&packet).await?;
        loop {
            let arrived = self.receive(ours).await?;
            let Some(inner) = Inner::read(&arrived.packet) else { continue };
            if inner.is_echo_of(&asked) {
                return Ok(self.round_trip(&sent, &arrived.received));
            }
            if let Some(failure) = inner.error_about(&asked) {
                return Err(failure);
            }
        }
    }

    async fn converse(
        &self,
        to: SocketAddr,
        say: &[u8],
        listen: &(dyn Fn(&[u8]) -> Heard + Sync),
        until: Instant,
    ) -> Result<Times, Failure> {
        let end = self.our_end(to)?;
        let stream = Stream::connect(end, to, (u64::from_le_bytes(random()?), say.len()))?;
        let mut talk = Talk { stream, ours: end.ip(), began: Instant::now(), asked: None, said: None };
        talk.stream.go_on(Duration::ZERO, None);
        // Whoever asked drops us at the end, and the peer would be left with a connection.
        let left = until.saturating_duration_since(Instant::now());
        let silence = until.checked_sub(LAST_WORDS.min(left / 10)).unwrap_or(until);
        let Ok(connect) = timeout_at(silence, self.open(&mut talk)).await else {
            self.reset(&mut talk).await;
            return Err(Failure::new(Reason::DataPlaneTimeout, "nothing came back through the tunnel"));
        };
        let connect = connect?;
        let Ok(answer) = timeout_at(silence, self.talk(&mut talk, say, listen)).await else {
            self.reset(&mut talk).await;
            return Err(Failure::new(Reason::Timeout, NO_ANSWER));
        };
        self.end(&mut talk, until).await;
        Ok(Times { connect, answer: answer? })
    }

    async fn question(
        &self,
        to: SocketAddr,
        say: &[u8],
        listen: &(dyn Fn(&[u8]) -> Heard + Sync),
        _until: Instant,
    ) -> Result<Duration, Failure> {
        let end = self.our_end(to)?;
        let packet = packet::datagram(end, to, say).ok_or_else(no_packet)?;
        let asked = Inner::read(&packet).ok_or_else(no_packet)?;
        let sent = self.send(&packet).await?;
        loop {
            let arrived = self.receive(end.ip()).await?;
            let Some(inner) = Inner::read(&arrived.packet) else { continue };
            if let Some(failure) = inner.error_about(&asked) {
                return Err(failure);
            }
            if let Some(text) = inner.datagram(to, end)
                && let Heard::All(result) = listen(text)
            {
                return result.map(|()| self.round_trip(&sent, &arrived.received));
            }
        }
    }

    /// What was sent cannot have taken another way than the tunnel.
    fn prove(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// What the outer network says is not what the one inside says.
fn outside(failure: &Failure) -> Failure {
    Failure::new(failure.reason, format!("the server is gone since the handshake: {}", failure.detail))
}

fn no_packet() -> Failure {
    Failure::new(Reason::Internal, "the packet cannot be made")
}
