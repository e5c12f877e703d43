//! What keeps those slow who guess, and the log short.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::rate::RateLimit;
use crate::sync::lock;

/// An address may be refused so often at once, and once more for each [`PACE`].
const BURST: u32 = 30;
/// See [`BURST`].
const PACE: Duration = Duration::from_secs(1);
/// The same for all addresses together that never told anything.
const BURST_OF_ALL: u32 = 300;
/// See [`BURST_OF_ALL`].
const PACE_OF_ALL: Duration = Duration::from_millis(100);
/// So many addresses are remembered.
const MOST_PEERS: usize = 2048;
/// The log is told of refusals no more often.
const EVERY: Duration = Duration::from_secs(60);

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is wrong, or there is no such job.
    Unknown,
    /// It cannot be read, or is too large.
    Malformed,
    /// There are too many.
    Limited,
}

/// Counts refusals: of addresses, to have them wait, and of all, for the log.
pub(super) struct Guard {
    peers: Mutex<HashMap<IpAddr, Peer>>,
    all: RateLimit,
    tally: Mutex<Tally>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { peers: Mutex::default(), all: RateLimit::new(PACE_OF_ALL, BURST_OF_ALL), tally: Mutex::default() }
    }
}

/// What is known of an address.
struct Peer {
    refusals: RateLimit,
    /// Whether it told something with the right token: then others that guess do not keep it out.
    is_welcome: bool,
    last: Instant,
}

/// What the log has not been told yet.
#[derive(Default)]
struct Tally {
    unknown: u64,
    malformed: u64,
    limited: u64,
    not_stored: u64,
    /// Why something was not stored, as of the last time.
    error: String,
    said: Option<Instant>,
}

impl Guard {
    /// Lets an address tell something.
    ///
    /// # Errors
    /// It was refused too often, or too many were. After how long it may.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<(), Duration> {
        let is_welcome = match lock(&self.peers).get(&network(peer)) {
            Some(peer) => peer.refusals.check().map(|()| peer.is_welcome)?,
            None => false,
        };
        if is_welcome { Ok(()) } else { self.all.check() }
    }

    /// An address has shown a right token.
    pub(super) fn welcome(&self, peer: IpAddr) {
        self.visit(peer, |peer| peer.is_welcome = true);
    }

    /// An address is refused.
    pub(super) fn refused(&self, peer: IpAddr, why: Refusal) {
        if matches!(why, Refusal::Unknown | Refusal::Malformed) {
            let is_welcome = self.visit(peer, |peer| {
                // Those that were let in at the same time may be more than the rest of the burst.
                let _ = peer.refusals.admit();
                peer.is_welcome
            });
            if !is_welcome {
                let _ = self.all.admit();
            }
        }
        self.count(|tally| match why {
            Refusal::Unknown => tally.unknown += 1,
            Refusal::Malformed => tally.malformed += 1,
            Refusal::Limited => tally.limited += 1,
        });
    }

    /// Something could not be written, for the reason that is given.
    pub(super) fn not_stored(&self, error: String) {
        self.count(|tally| {
            tally.not_stored += 1;
            tally.error = error;
        });
    }

    /// Tells the log now and then what it was not told at once, for ever.
    pub(super) async fn report(&self) {
        loop {
            sleep(EVERY).await;
            lock(&self.tally).say();
        }
    }

    fn count(&self, what: impl FnOnce(&mut Tally)) {
        let mut tally = lock(&self.tally);
        what(&mut tally);
        tally.say();
    }

    fn visit<T>(&self, peer: IpAddr, what: impl FnOnce(&mut Peer) -> T) -> T {
        let (key, now) = (network(peer), Instant::now());
        let mut peers = lock(&self.peers);
        if peers.len() >= MOST_PEERS && !peers.contains_key(&key) {
            // Strangers first, and whoever was not here for longest.
            let oldest = peers.iter().min_by_key(|(_, peer)| (peer.is_welcome, peer.last)).map(|(key, _)| *key);
            oldest.map(|oldest| peers.remove(&oldest));
        }
        let new = || Peer { refusals: RateLimit::new(PACE, BURST), is_welcome: false, last: now };
        let peer = peers.entry(key).or_insert_with(new);
        peer.last = now;
        what(peer)
    }
}

impl Tally {
    /// Tells the log, unless there is nothing to tell or it was told a short while ago.
    fn say(&mut self) {
        let is_early = self.said.is_some_and(|said| said.elapsed() < EVERY);
        let Self { unknown, malformed, limited, not_stored, error, .. } = &*self;
        if is_early || unknown + malformed + limited + not_stored == 0 {
            return;
        }
        tracing::warn!(unknown, malformed, rate_limited = limited, not_stored, error, "refused messages about backups");
        *self = Self { said: Some(Instant::now()), ..Self::default() };
    }
}

/// Whom an address counts for: whoever has one of IPv6 has 2^64 of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}
