//! Our half of a session: makes packets and judges what the server begins with.

use std::time::{SystemTime, UNIX_EPOCH};

use super::packet::{Body, Head, Opcode, SessionId, wants_key_again};
use super::wrap::Wrap;
use crate::probe::vpn::exchange::Judged;
use crate::probe::vpn::metrics::Ignored;
use crate::probe::vpn::random::random;
use crate::probe::{Failure, Reason};

/// Our half of a session.
pub(super) struct Session<'w> {
    wrap: &'w Wrap,
    pub(super) ours: SessionId,
    /// The number of the last packet sent, against replays.
    replay: u32,
}

/// The server's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) session: SessionId,
    /// Whether it has kept nothing of the first packet, and needs the client's key once more.
    pub(super) wants_key: bool,
}

impl<'w> Session<'w> {
    /// A session of that id.
    pub(super) fn of(wrap: &'w Wrap, ours: SessionId) -> Self {
        Self { wrap, ours, replay: wrap.replay_start() }
    }

    /// A session that nobody has heard of, and its first packet.
    ///
    /// # Errors
    /// `local` without random numbers.
    pub(super) fn begin(wrap: &'w Wrap) -> Result<(Self, Vec<u8>), Failure> {
        let mut session = Self::of(wrap, random()?);
        let opcode = if wrap.is_v2() { Opcode::ClientResetV3 } else { Opcode::ClientReset };
        let packet = session.packet(opcode, &Body { id: Some(0), ..Body::default() });
        Ok((session, packet))
    }

    /// A packet of this session.
    pub(super) fn packet(&mut self, opcode: Opcode, body: &Body) -> Vec<u8> {
        self.replay = self.replay.wrapping_add(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Its four bytes are what the protocol has for it.
        #[allow(clippy::cast_possible_truncation, reason = "the protocol has four bytes for it")]
        let replay = (self.replay, now as u32);
        self.wrap.seal(Head { opcode, session: self.ours }, replay, body)
    }

    /// How many bytes a packet grows by when it is wrapped.
    pub(super) fn overhead(&self) -> usize {
        self.wrap.overhead()
    }

    /// Reads a packet of the server.
    ///
    /// # Errors
    /// `Malformed` if it is none, `Forged` if it was made without the key.
    pub(super) fn open(&self, packet: &[u8]) -> Result<(Head, Body), Ignored> {
        self.wrap.open(packet)
    }

    /// Whether the packet is the server's answer to our first one. `earlier` are sessions that we gave up.
    pub(super) fn judge(&self, earlier: &[SessionId], packet: &[u8]) -> Judged<Peer> {
        let (head, body) = match self.open(packet) {
            Ok(opened) => opened,
            Err(_) if self.is_in_clear(packet) => {
                return Judged::Failed(Failure::new(
                    Reason::WrapMismatch,
                    "the server answered in clear: it does without the key that its packets were to be wrapped with",
                ));
            }
            Err(why) => return Judged::Not(why),
        };
        if head.opcode != Opcode::ServerReset {
            return Judged::Not(Ignored::Malformed);
        }
        match () {
            () if !body.acks.contains(&0) => Judged::Not(Ignored::Malformed),
            () if body.peer == self.ours => {
                Judged::Answer(Peer { session: head.session, wants_key: wants_key_again(&body.payload) })
            }
            () if earlier.contains(&body.peer) => Judged::Not(Ignored::Late),
            () => Judged::Not(Ignored::ForeignSession),
        }
    }

    /// Whether a server that wraps nothing answered our wrapped packet. It acknowledges whatever it took for the packet's id.
    fn is_in_clear(&self, packet: &[u8]) -> bool {
        let opened = if matches!(self.wrap, Wrap::None) { Err(Ignored::Malformed) } else { Wrap::None.open(packet) };
        opened.is_ok_and(|(head, body)| {
            head.opcode == Opcode::ServerReset && !body.acks.is_empty() && body.peer == self.ours
        })
    }
}
