//! IKEv2: the first message of an initiator, and what the responder makes of it (RFC 7296, sections 1.2, 2.6 and 2.7).
//!
//! By default it proposes what no responder accepts: the answer, NO_PROPOSAL_CHOSEN, says that the server is there and has left
//! nothing behind. `mode = "full"` proposes what servers accept, at the price of a half-open SA for each knock.

mod message;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use ring::agreement::{ECDH_P256, ECDH_P384, EphemeralPrivateKey, X25519};
use ring::rand::SystemRandom;

pub use self::message::read;
use self::message::{Answer, Cookie, Group, Initiation};
use super::budget;
use super::exchange::{Judged, Question, ask};
use super::knock::Knock;
use super::metrics::{self, Ignored, Reply};
use super::random::{fill, random};
use crate::probe::net::Datagrams;
use crate::probe::{Failure, Reason};
use crate::settings::{Invalid, Item, Section, Value};
use crate::sync::lock;

/// The port on which four zero octets tell IKE from ESP (RFC 7296, section 3.1).
const NAT_TRAVERSAL_PORT: u16 = 4500;

/// The keys of IKEv2.
#[derive(Debug, PartialEq)]
pub(super) struct Config {
    mode: Mode,
    /// Whether packets begin with four zero octets; `None` is as the port says.
    nat_traversal: Option<bool>,
}

/// What is proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// What nobody accepts.
    #[default]
    StateFree,
    /// What servers accept.
    Full,
}

impl Value for Mode {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[("state_free", Self::StateFree), ("full", Self::Full)])
    }
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let mode = section.or("mode", Mode::default());
        let nat_traversal = section.optional("nat_traversal");
        Some(Self { mode, nat_traversal })
    }

    /// Whether an accepted knock leaves a half-open SA on the server.
    pub(super) fn leaves_state(&self) -> bool {
        self.mode == Mode::Full
    }
}

/// Knocks as an initiator.
pub(super) struct Ikev2 {
    mode: Mode,
    nat_traversal: Option<bool>,
    /// The group that the responder wanted last.
    group: Mutex<Group>,
}

impl Ikev2 {
    pub(super) fn new(config: &Config) -> Self {
        Self { mode: config.mode, nat_traversal: config.nat_traversal, group: Mutex::new(Group::Curve25519) }
    }

    /// Sends IKE_SA_INIT until somebody answers it.
    ///
    /// # Errors
    /// `timeout`, `refused`, `unreachable`, `rate_limited`; `overload` if the server wants cookie after cookie.
    pub(super) async fn knock(&self, knock: &Knock<'_>) -> Result<(), Failure> {
        let stage = knock.stage(metrics::HANDSHAKE);
        match self.ask(knock).await {
            Ok(time) => {
                stage.done_in(time);
                Ok(())
            }
            Err(failure) => Err(stage.fail(self.explained(failure))),
        }
    }

    async fn ask(&self, knock: &Knock<'_>) -> Result<Duration, Failure> {
        let socket = Datagrams::connect(knock.address, None)?;
        let is_marked = self.nat_traversal.unwrap_or(knock.address.port() == NAT_TRAVERSAL_PORT);
        let ends = (socket.local_addr()?, knock.address);
        if self.mode == Mode::Full {
            knock.permit(budget::IKE_HALF_OPEN).await?;
        }
        let mut talk = Talk {
            knock,
            mode: self.mode,
            is_marked,
            ends,
            group: *lock(&self.group),
            current: None,
            is_repeated: false,
            earlier: Vec::new(),
            wanted: Wanted::Nothing,
        };
        let answered = ask(knock, &socket, budget::IKE, &mut talk).await?;
        *lock(&self.group) = talk.group;
        knock.replied(answered.answer);
        knock.note(in_words(answered.answer));
        Ok(answered.round_trip)
    }

    fn explained(&self, failure: Failure) -> Failure {
        if failure.reason != Reason::Timeout || self.mode == Mode::StateFree {
            return failure;
        }
        let words =
            format!("{}; a server that holds too many half-open SAs of one address is silent too", failure.detail);
        Failure::new(failure.reason, words)
    }
}

fn in_words(reply: Reply) -> &'static str {
    match reply {
        Reply::SaInit => "accepted our proposal",
        Reply::NoProposal => "is there, and accepted none of our proposals",
        Reply::InvalidKe => "is there, and wants another Diffie-Hellman group",
        Reply::InvalidVersion => "is there, and speaks another version of IKE",
        _ => "is there, and answered with a notification",
    }
}

/// What the responder wanted to see.
enum Wanted {
    Nothing,
    /// The same message with its cookie.
    Cookie(Cookie),
    /// A public value of this group.
    Group(Group),
}

/// A conversation with one responder.
struct Talk<'k> {
    knock: &'k Knock<'k>,
    mode: Mode,
    is_marked: bool,
    /// Our address and the responder's, for the detection of NAT.
    ends: (SocketAddr, SocketAddr),
    /// The group of our public value.
    group: Group,
    current: Option<Initiation>,
    is_repeated: bool,
    /// The SPIs of earlier attempts.
    earlier: Vec<[u8; 8]>,
    wanted: Wanted,
}

impl Talk<'_> {
    /// Whether our public value is of that group because the responder wanted it.
    fn has_changed_to(&self, group: u16) -> bool {
        let is_current = |current: &Initiation| current.group as u16 == group && current.has_other_group;
        self.current.as_ref().is_some_and(is_current)
    }
}

impl Question for Talk<'_> {
    type Answer = Reply;

    fn packet(&mut self) -> Result<Vec<u8>, Failure> {
        self.is_repeated = false;
        match (std::mem::replace(&mut self.wanted, Wanted::Nothing), &mut self.current) {
            // RFC 7296, section 2.6: everything but the cookie stays as it was.
            (Wanted::Cookie(cookie), Some(current)) => current.cookie = Some(cookie),
            (Wanted::Group(group), Some(current)) => {
                self.group = group;
                (current.group, current.has_other_group) = (group, true);
                current.public = public_value(group)?;
            }
            // The same again finds the half-open SA that it may have left; another would leave one more.
            (Wanted::Nothing, Some(_)) if self.mode == Mode::Full => self.is_repeated = true,
            (_, current) => {
                self.earlier.extend(current.as_ref().map(|current| current.spi));
                *current = Some(initiation(self.mode, self.group)?);
            }
        }
        let packet = self.current.as_ref().map(|current| current.packet(self.ends)).unwrap_or_default();
        Ok(if self.is_marked { [&[0; 4], &packet[..]].concat() } else { packet })
    }

    fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    fn judge(&mut self, packet: &[u8]) -> Judged<Reply> {
        let packet = match packet.strip_prefix(&[0; 4]) {
            Some(rest) if self.is_marked => rest,
            _ if self.is_marked => return Judged::Not(Ignored::Malformed),
            _ => packet,
        };
        let Some((spi, answer)) = read(packet) else { return Judged::Not(Ignored::Malformed) };
        match &self.current {
            Some(current) if current.spi == spi => {}
            _ if self.earlier.contains(&spi) => return Judged::Not(Ignored::Late),
            _ => return Judged::Not(Ignored::ForeignSession),
        }
        match answer {
            Answer::Accepted => Judged::Answer(Reply::SaInit),
            // The network may deliver twice what has been heeded already.
            Answer::Cookie(cookie)
                if self.current.as_ref().is_some_and(|current| current.cookie == Some(cookie.clone())) =>
            {
                Judged::Not(Ignored::Late)
            }
            Answer::InvalidKe(group) if self.has_changed_to(group) => Judged::Not(Ignored::Late),
            Answer::Cookie(cookie) => {
                self.knock.replied(Reply::Cookie);
                self.wanted = Wanted::Cookie(cookie);
                Judged::Again
            }
            Answer::InvalidKe(group) => match (Group::of(group), self.mode) {
                (Some(group), Mode::Full) if self.current.as_ref().is_some_and(|current| current.group != group) => {
                    self.knock.replied(Reply::InvalidKe);
                    self.wanted = Wanted::Group(group);
                    Judged::Again
                }
                _ => Judged::Answer(Reply::InvalidKe),
            },
            Answer::NoProposal => Judged::Answer(Reply::NoProposal),
            Answer::InvalidVersion => Judged::Answer(Reply::InvalidVersion),
            Answer::Other => Judged::Answer(Reply::OtherNotify),
        }
    }
}

fn initiation(mode: Mode, group: Group) -> Result<Initiation, Failure> {
    let (mut spi, nonce) = (random::<8>()?, random()?);
    // Zero is "no SPI" (RFC 7296, section 3.1).
    spi[0] |= 1;
    Ok(Initiation {
        is_acceptable: mode == Mode::Full,
        spi,
        nonce,
        group,
        has_other_group: false,
        public: public_value(group)?,
        cookie: None,
    })
}

/// A public value of which nobody will ever compute the secret. That of a curve must be a point on it, because responders check.
fn public_value(group: Group) -> Result<Vec<u8>, Failure> {
    let of_curve = |algorithm| {
        let key = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new());
        let public = key.and_then(|key| key.compute_public_key());
        public.map_err(|_| Failure::new(Reason::Local, "no random numbers for a key"))
    };
    match group {
        Group::Curve25519 => Ok(of_curve(&X25519)?.as_ref().to_vec()),
        // RFC 5903, section 7: without the octet that says "not compressed".
        Group::Ecp256 => Ok(of_curve(&ECDH_P256)?.as_ref().get(1..).unwrap_or_default().to_vec()),
        Group::Ecp384 => Ok(of_curve(&ECDH_P384)?.as_ref().get(1..).unwrap_or_default().to_vec()),
        Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => {
            let mut value = vec![0; group.length()];
            fill(&mut value)?;
            // Below the prime, whose first octets are all ones.
            if let Some(first) = value.first_mut() {
                *first &= 0x7f;
            }
            Ok(value)
        }
    }
}
