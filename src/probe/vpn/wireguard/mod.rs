//! WireGuard: a full handshake as a configured peer, and the tunnel that it opens, in userspace.
//!
//! Every attempt is a new initiation, so that its answer can be told from those to earlier ones. A server answers only to peers
//! that it knows, and to nobody else: silence has many causes, and what is said of it names them.

mod clock_mark;
mod config;
mod fuzz;
mod packet;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod tunnel;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

pub(super) use self::config::Config;
use self::config::Keys;
pub use self::fuzz::read as fuzz;
use self::session::{Handshake, Session, Turn};
pub(super) use self::tunnel::Tunnel;
use super::budget::WIREGUARD;
use super::exchange::{Judged, Question, ask};
use super::knock::Knock;
use super::metrics::{HANDSHAKE, Ignored, Reply};
use crate::probe::key_file;
use crate::probe::net::Datagrams;
use crate::probe::{Failure, Reason, Shared, State};

/// Knocks as a peer.
pub(super) struct Wireguard {
    keys: Keys,
    key_files: Vec<PathBuf>,
    ours: Option<IpAddr>,
    state: State,
    session: OnceLock<Arc<Session>>,
    writes: Arc<Writes>,
}

/// What is known of writing to the state directory.
#[derive(Debug, Default)]
struct Writes {
    /// One is under way: a disk that hangs gets no second.
    is_busy: AtomicBool,
    /// One has failed, and that was said.
    has_warned: AtomicBool,
}

impl fmt::Debug for Wireguard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wireguard").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Wireguard {
    /// A peer with these keys. The session of `old` goes on if its keys are the same.
    pub(super) fn new(config: &Config, shared: &Shared, old: Option<&Self>) -> Result<Self, String> {
        let keys = config.keys();
        let session = old.filter(|old| old.keys.id() == keys.id()).map(|old| old.session.clone());
        Ok(Self {
            keys,
            key_files: config.key_files().map(Into::into).collect(),
            ours: config.inside_address,
            state: shared.state.clone(),
            session: session.unwrap_or_default(),
            writes: Arc::default(),
        })
    }

    /// Key files that others can read; a clock that is behind.
    pub(super) fn concerns(&self) -> Vec<String> {
        let mut all: Vec<_> = self.key_files.iter().filter_map(|path| key_file::concern(path)).collect();
        match self.session().map(|session| session.behind()) {
            Ok(None) => {}
            Ok(Some(behind)) => all.push(behind_words(behind)),
            Err(failure) => all.push(failure.detail.into_owned()),
        }
        all
    }

    /// The session with our keys, which begins when somebody asks.
    fn session(&self) -> Result<&Arc<Session>, Failure> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let mark = || clock_mark::read(&self.state.dir()?, &self.keys.name());
        let session = Session::of(&self.keys, mark)?;
        Ok(self.session.get_or_init(|| session))
    }

    /// A handshake. The tunnel is ours until it is dropped.
    ///
    /// # Errors
    /// What [`ask`] says; `psk_mismatch`; `clock_behind`; `rate_limited` if others with the same keys take all the time.
    pub(super) async fn knock<'k>(&self, knock: &'k Knock<'_>) -> Result<Tunnel<'k>, Failure> {
        knock.key(&self.keys.public.beginning());
        let stage = knock.stage(HANDSHAKE);
        match self.handshake(knock).await {
            Ok((tunnel, time)) => {
                stage.done_in(time);
                Ok(tunnel)
            }
            Err(failure) => Err(stage.fail(failure)),
        }
    }

    async fn handshake<'k>(&self, knock: &'k Knock<'_>) -> Result<(Tunnel<'k>, Duration), Failure> {
        let ends = Instant::now() + knock.time_left();
        let turn = timeout_at(ends, self.session()?.turn()).await.map_err(|_| {
            let words = "not asked: other probes of this process came with the same keys all the time, and only one at a time \
                         can have the tunnel";
            Failure::new(Reason::RateLimited, words)
        })?;
        let socket = Datagrams::connect(knock.address, None)?;
        let mut question = Initiations { knock, turn: &turn, keys: &self.keys, has_cookie: false };
        let result = ask(knock, &socket, WIREGUARD, &mut question).await;
        let has_cookie = question.has_cookie;
        self.remember(&turn);
        match result {
            Ok(answered) => {
                socket.send(&answered.answer).await?;
                Ok((Tunnel::new(knock, socket, turn, self.ours), answered.round_trip))
            }
            Err(failure) if failure.reason == Reason::Timeout => {
                let failure = self.silence(&turn, &failure, has_cookie);
                turn.catch_up(clock_mark::now())?;
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// What silence may mean.
    fn silence(&self, turn: &Turn, failure: &Failure, has_cookie: bool) -> Failure {
        let key = self.keys.public.beginning();
        let causes = match has_cookie {
            false => {
                "the server is down or out of reach, it does not know our public key, or its own is not `server_public_key`: \
                      WireGuard is silent in all of these cases, and they cannot be told apart"
            }
            true => {
                "a cookie came, so the server is there and its public key is right, but it is under load, or does not know \
                     our public key"
            }
        };
        match turn.behind() {
            Some(behind) => {
                let words = format!("{}; {}", failure.detail, behind_words(behind));
                Failure::new(Reason::ClockBehind, words)
            }
            None => Failure::new(Reason::Timeout, format!("{}; {causes} (ours begins with {key})", failure.detail)),
        }
    }

    /// Keeps the latest stamp that the server has seen for the next process, if that is due. Nobody waits for the disk.
    fn remember(&self, turn: &Turn) {
        let Some(dir) = self.state.own_dir() else { return };
        if self.writes.is_busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let (writes, name) = (Arc::clone(&self.writes), self.keys.name());
        let Some(mark) = turn.mark_to_write() else {
            writes.is_busy.store(false, Ordering::Relaxed);
            return;
        };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = clock_mark::write(&dir, &name, mark)
                && !writes.has_warned.swap(true, Ordering::Relaxed)
            {
                tracing::warn!(
                    %error,
                    "cannot keep in the state directory which time WireGuard servers have seen of us: if the clock is set back while \
                     midwatch is restarted, failures that come of it cannot be told from others"
                );
            }
            writes.is_busy.store(false, Ordering::Relaxed);
        });
    }
}

fn behind_words(behind: Duration) -> String {
    format!(
        "the system's clock is {} s behind the time that the server has seen of this key: it drops our handshakes until the clock \
         has caught up, or the peer is added to it anew",
        behind.as_secs().max(1)
    )
}

/// The question: an initiation, and what answers it.
struct Initiations<'q> {
    knock: &'q Knock<'q>,
    turn: &'q Turn,
    keys: &'q Keys,
    has_cookie: bool,
}

impl Question for Initiations<'_> {
    /// What tells the server that we have heard its answer.
    type Answer = Vec<u8>;

    fn packet(&mut self) -> Result<Vec<u8>, Failure> {
        self.turn.initiation()
    }

    fn judge(&mut self, packet: &[u8]) -> Judged<Vec<u8>> {
        match self.turn.handshake(packet) {
            Handshake::Accepted(keepalive) => {
                self.knock.replied(Reply::Response);
                Judged::Answer(keepalive)
            }
            Handshake::PresharedKeyDiffers => {
                self.knock.replied(Reply::Response);
                let words = match self.keys.preshared() {
                    Some(_) => {
                        "the server knows our public key, but has another pre-shared key for it than ours, or none"
                    }
                    None => {
                        "the server knows our public key, but has a pre-shared key for it, and none is configured here"
                    }
                };
                Judged::Failed(Failure::new(Reason::PskMismatch, words))
            }
            Handshake::Cookie => {
                self.has_cookie = true;
                self.knock.replied(Reply::Cookie);
                Judged::Again
            }
            Handshake::Not(why) => {
                if why == Ignored::ForeignSession {
                    self.turn.heard_foreign(self.knock.address);
                }
                Judged::Not(why)
            }
        }
    }
}
