//! What is kept of a peer between knocks: the noise protocol's state, which all probes with the same keys share.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep_until};

use super::clock_mark::{self, TOLERANCE};
use super::config::Keys;
use super::packet::Inner;
use crate::probe::vpn::metrics::Ignored;
use crate::probe::vpn::random::random;
use crate::probe::{Failure, Reason};
use crate::sync::lock;

/// Between two initiations of one peer: what arrives within 20 ms is dropped (`HandshakeInitationRate` in wireguard-go's
/// device/constants.go).
const GAP: Duration = Duration::from_millis(25);
/// Our ports inside are at least this (RFC 6335, section 6), and so many are remembered.
const FIRST_PORT: u16 = 49_152;
const PORTS: usize = 256;
/// After so many handshakes in a row that nobody answers, our stamps may be too early although they were accepted before.
const SILENCES: u32 = 3;
/// The longest packet over UDP.
pub(super) const MAX_PACKET: usize = 65_535;

/// The kinds of packets, which are their first four bytes (WireGuard's paper, section 5.4).
const RESPONSE: u32 = 2;
const COOKIE: u32 = 3;
const DATA: u32 = 4;
/// Their lengths, and the least one of data.
const INITIATION_LENGTH: usize = 148;
const RESPONSE_LENGTH: usize = 92;
const COOKIE_LENGTH: usize = 64;
const DATA_LENGTH: usize = 32;

/// All sessions that somebody uses, by the [name of their keys](Keys::id).
static ALL: LazyLock<Mutex<HashMap<[u8; 32], Weak<Session>>>> = LazyLock::new(Mutex::default);

/// The noise protocol with one server, with one set of keys. Its stamps never go back while it lives, whatever the system's
/// clock does.
pub(super) struct Session {
    keys: Keys,
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    /// In how many turns there were packets of sessions that are not ours.
    foreign: AtomicU32,
    /// The number of the next echo: the first half is the same for all, so that answers to others' can be told.
    echo: AtomicU32,
    /// The ports that our connections inside had last.
    ports: Mutex<VecDeque<u16>>,
}

struct State {
    /// Its `Debug` shows the pre-shared key: never to be printed.
    tunn: Tunn,
    /// The clock when `tunn` was made, from which it counts on, and when that was.
    anchor: (Duration, Instant),
    /// The upper 24 bits of all indices that `tunn` gives out, and of those that the one before it gave out.
    prefixes: (u32, Option<u32>),
    /// The index of the last initiation, until it is answered.
    asked: Option<u32>,
    /// The index of the session that the last answer opened.
    opened: Option<u32>,
    /// When the last initiation was made.
    initiated: Option<Instant>,
    /// The latest stamp that the server has seen, as far as is known.
    mark: Option<Duration>,
    /// What of that is in the state directory.
    written: Option<Duration>,
    /// Whether the server has accepted a stamp of `tunn`.
    is_accepted: bool,
    /// How many handshakes in a row nobody has answered.
    silences: u32,
}

/// What a packet of a handshake is.
pub(super) enum Handshake {
    /// The server has accepted us; the packet is to be sent to it, for it to know that we have heard.
    Accepted(Vec<u8>),
    /// The server knows us, and has another pre-shared key.
    PresharedKeyDiffers,
    /// The server wants the initiation again with the cookie that it sent.
    Cookie,
    /// Nothing that we asked for.
    Not(Ignored),
}

/// What a packet through the tunnel is.
pub(super) enum Data {
    /// It holds a packet.
    Inner(Vec<u8>),
    /// It holds nothing: the server says that it is there.
    Keepalive,
    /// It is not of our session.
    Not(Ignored),
}

impl Session {
    /// The session with these keys: the one that is there already, or a new one. `mark` is asked for the latest stamp that an
    /// earlier process has used.
    ///
    /// # Errors
    /// `clock_behind` if the system's clock is set to a time before 1970, which no stamp can tell.
    pub(super) fn of(keys: &Keys, mark: impl FnOnce() -> Option<Duration>) -> Result<Arc<Self>, Failure> {
        let mut all = lock(&ALL);
        if let Some(session) = all.get(&keys.id()).and_then(Weak::upgrade) {
            return Ok(session);
        }
        all.retain(|_, session| session.strong_count() > 0);
        let session = Arc::new(Self::new(keys.clone(), mark())?);
        all.insert(keys.id(), Arc::downgrade(&session));
        Ok(session)
    }

    fn new(keys: Keys, mark: Option<Duration>) -> Result<Self, Failure> {
        let (tunn, anchor, prefix) = tunn(&keys)?;
        let state = State {
            tunn,
            anchor,
            prefixes: (prefix, None),
            asked: None,
            opened: None,
            initiated: None,
            mark,
            written: mark,
            is_accepted: false,
            silences: 0,
        };
        let echo = AtomicU32::new(u32::from_be_bytes(random()?));
        let (turn, foreign, ports) = (Arc::default(), AtomicU32::new(0), Mutex::default());
        Ok(Self { keys, turn, state: Mutex::new(state), foreign, echo, ports })
    }

    /// By how much our stamps are behind what the server has seen, if they are.
    pub(super) fn behind(&self) -> Option<Duration> {
        let state = lock(&self.state);
        state.mark?.checked_sub(state.stamp()).filter(|behind| *behind > TOLERANCE)
    }

    /// Waits until nobody else with these keys knocks, or is in the tunnel: a handshake takes the tunnel away from whoever is
    /// in it. Then until the server will listen to an initiation again.
    pub(super) async fn turn(self: &Arc<Self>) -> Turn {
        let guard = Arc::clone(&self.turn).lock_owned().await;
        let initiated = lock(&self.state).initiated;
        if let Some(initiated) = initiated {
            sleep_until(initiated + GAP).await;
        }
        Turn { session: Arc::clone(self), foreign: Mutex::new(false), _guard: guard }
    }

    /// A turn at once, if nobody has one.
    pub(super) fn try_turn(self: &Arc<Self>) -> Option<Turn> {
        let guard = Arc::clone(&self.turn).try_lock_owned().ok()?;
        Some(Turn { session: Arc::clone(self), foreign: Mutex::new(false), _guard: guard })
    }
}

impl State {
    /// What the next initiation will be stamped with.
    fn stamp(&self) -> Duration {
        self.anchor.0 + self.anchor.1.elapsed()
    }

    /// What a packet is that belongs to the session of that index, if not to the one that we wait for.
    fn of_another(&self, index: u32) -> Ignored {
        let (prefix, earlier) = self.prefixes;
        match index >> 8 {
            ours if ours == prefix || Some(ours) == earlier => Ignored::Late,
            _ => Ignored::ForeignSession,
        }
    }
}

/// The noise protocol's state, anchored at the system's clock, and what all its indices begin with.
fn tunn(keys: &Keys) -> Result<(Tunn, (Duration, Instant), u32), Failure> {
    let before_1970 = || Failure::new(Reason::ClockBehind, "the system's clock is set to a time before 1970");
    // The crate reads the clock itself, and would panic.
    let now = clock_mark::now().ok_or_else(before_1970)?;
    let prefix = u32::from_be_bytes(random()?) >> 8;
    let own = keys.own();
    // Without one of ours, the crate takes the eleventh response for an attack.
    let limiter = RateLimiter::new(&x25519::PublicKey::from(&own), u64::MAX);
    let tunn = Tunn::new(own, keys.server(), keys.preshared(), None, prefix, Some(Arc::new(limiter)));
    Ok((tunn, (now, Instant::now()), prefix))
}

/// A session while one visit has it to itself.
pub(super) struct Turn {
    session: Arc<Session>,
    /// Whether there was a packet of a session that is not ours.
    foreign: Mutex<bool>,
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    /// A new initiation. The ones before it are void.
    ///
    /// # Errors
    /// `internal` if the crate makes none.
    pub(super) fn initiation(&self) -> Result<Vec<u8>, Failure> {
        let mut state = lock(&self.session.state);
        let mut buffer = [0; INITIATION_LENGTH];
        let packet = match state.tunn.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(packet) => packet.to_vec(),
            _ => return Err(Failure::new(Reason::Internal, "no initiation could be made")),
        };
        state.asked = number(&packet, 4);
        state.opened = None;
        state.initiated = Some(Instant::now());
        Ok(packet)
    }

    /// What a packet is while we wait for the answer to the last initiation.
    pub(super) fn handshake(&self, packet: &[u8]) -> Handshake {
        let state = &mut *lock(&self.session.state);
        let index = match (number(packet, 0), packet.len()) {
            (Some(RESPONSE), RESPONSE_LENGTH) => number(packet, 8),
            (Some(COOKIE), COOKIE_LENGTH) | (Some(DATA), DATA_LENGTH..) => number(packet, 4),
            _ => None,
        };
        let Some(index) = index else { return Handshake::Not(Ignored::Malformed) };
        if state.asked != Some(index) || number(packet, 0) == Some(DATA) {
            return Handshake::Not(state.of_another(index));
        }
        let mut buffer = [0; INITIATION_LENGTH];
        let stamp = state.stamp();
        match state.tunn.decapsulate(None, packet, &mut buffer) {
            TunnResult::WriteToNetwork(keepalive) => {
                (state.asked, state.opened, state.mark) = (None, Some(index), Some(stamp));
                (state.is_accepted, state.silences) = (true, 0);
                Handshake::Accepted(keepalive.to_vec())
            }
            TunnResult::Done => Handshake::Cookie,
            // The first of its two checksums is right, which takes our public key: the server has found it in the initiation.
            TunnResult::Err(WireGuardError::InvalidAeadTag) if number(packet, 0) == Some(RESPONSE) => {
                state.mark = Some(stamp);
                Handshake::PresharedKeyDiffers
            }
            TunnResult::Err(WireGuardError::InvalidAeadTag | WireGuardError::InvalidMac) => {
                Handshake::Not(Ignored::Forged)
            }
            _ => Handshake::Not(Ignored::Malformed),
        }
    }

    /// Packs a packet for the tunnel.
    ///
    /// # Errors
    /// `internal` if there is none.
    pub(super) fn seal(&self, inner: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut state = lock(&self.session.state);
        let mut buffer = vec![0; inner.len() + INITIATION_LENGTH];
        let is_open = state.opened.is_some();
        match state.tunn.encapsulate(inner, &mut buffer) {
            TunnResult::WriteToNetwork(packet) if is_open => Ok(packet.to_vec()),
            _ => Err(Failure::new(Reason::Internal, "there is no tunnel to send through")),
        }
    }

    /// Unpacks a packet that came through the tunnel.
    pub(super) fn open(&self, packet: &[u8]) -> Data {
        let state = &mut *lock(&self.session.state);
        let index = match (number(packet, 0), packet.len()) {
            (Some(DATA), DATA_LENGTH..=MAX_PACKET) => number(packet, 4),
            // The network may deliver an answer twice.
            (Some(RESPONSE), RESPONSE_LENGTH) => return Data::Not(state.of_another(number(packet, 8).unwrap_or(0))),
            (Some(COOKIE), COOKIE_LENGTH) => return Data::Not(state.of_another(number(packet, 4).unwrap_or(0))),
            // An initiation of the server's own too: it may want to renew the session, which we do ourselves.
            _ => None,
        };
        let Some(index) = index else { return Data::Not(Ignored::Malformed) };
        if state.opened != Some(index) {
            // The crate would take the tunnel back to an older session.
            return Data::Not(state.of_another(index));
        }
        let mut buffer = vec![0; packet.len()];
        match state.tunn.decapsulate(None, packet, &mut buffer) {
            TunnResult::WriteToTunnelV4(inner, _) | TunnResult::WriteToTunnelV6(inner, _) => {
                Data::Inner(inner.to_vec())
            }
            TunnResult::Done => Data::Keepalive,
            TunnResult::Err(WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter) => {
                Data::Not(Ignored::Late)
            }
            TunnResult::Err(WireGuardError::InvalidAeadTag) => Data::Not(Ignored::Forged),
            _ => Data::Not(Ignored::Malformed),
        }
    }

    /// The number of a new echo.
    pub(super) fn new_echo(&self) -> u32 {
        let next = |number: u32| Some((number & 0xffff_0000) | (number.wrapping_add(1) & 0xffff));
        self.session.echo.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|number| number)
    }

    /// A port for a new conversation.
    ///
    /// # Errors
    /// `local` without random numbers.
    pub(super) fn new_port(&self) -> Result<u16, Failure> {
        let port = FIRST_PORT | u16::from_be_bytes(random()?);
        let mut ports = lock(&self.session.ports);
        ports.truncate(PORTS - 1);
        ports.push_front(port);
        Ok(port)
    }

    /// Whether a packet that came through our tunnel answers what we never asked: somebody else has asked it with our keys, and
    /// from our address.
    pub(super) fn is_of_another(&self, inner: &Inner<'_>) -> bool {
        let ours = self.session.echo.load(Ordering::Relaxed) >> 16;
        inner.echo_answered().is_some_and(|number| number >> 16 != ours)
            || inner.connection_answered().is_some_and(|port| !lock(&self.session.ports).contains(&port))
    }

    /// Says once in the log that somebody else has our keys. One turn is not enough for that: after a restart, the server may
    /// still send for the session of the process before.
    pub(super) fn heard_foreign(&self, server: SocketAddr) {
        let is_first = !std::mem::replace(&mut *lock(&self.foreign), true);
        if is_first && self.session.foreign.fetch_add(1, Ordering::Relaxed) == 1 {
            let key = self.session.keys.public.beginning();
            tracing::warn!(
                %server, key,
                "packets for a session, or a conversation inside, that this process never opened: another instance, or a \
                 client, probably uses the same private key, and they take the tunnel from each other; each needs a peer of its own on the server"
            );
        }
    }

    /// By how much our stamps are behind what the server has seen, if they are.
    pub(super) fn behind(&self) -> Option<Duration> {
        self.session.behind()
    }

    /// After silence: if the clock is ahead of our stamps, because it was wrong when the session was made, the next ones
    /// follow it. Somebody else may have knocked with the same keys and a right clock, and the server waits for later ones.
    ///
    /// # Errors
    /// Those of a new session.
    pub(super) fn catch_up(&self, now: Option<Duration>) -> Result<(), Failure> {
        let mut state = lock(&self.session.state);
        state.silences += 1;
        // Stamps that the server has accepted were late enough: one packet that is lost is no reason to follow a clock that may
        // be the one that is wrong.
        let is_enough = !state.is_accepted || state.silences >= SILENCES;
        if !is_enough || now.is_none_or(|now| now <= state.stamp() + TOLERANCE) {
            return Ok(());
        }
        (state.is_accepted, state.silences) = (false, 0);
        let (tunn, anchor, prefix) = tunn(&self.session.keys)?;
        let earlier = state.prefixes.0;
        (state.tunn, state.anchor, state.prefixes) = (tunn, anchor, (prefix, Some(earlier)));
        (state.asked, state.opened) = (None, None);
        Ok(())
    }

    /// The mark that is to be written to the state directory now, if one is. It counts as written.
    pub(super) fn mark_to_write(&self) -> Option<Duration> {
        let mut state = lock(&self.session.state);
        let mark = state.mark.filter(|mark| clock_mark::is_due(state.written, *mark))?;
        state.written = Some(mark);
        Some(mark)
    }
}

/// Four bytes of a packet, little endian.
fn number(packet: &[u8], at: usize) -> Option<u32> {
    packet.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}
