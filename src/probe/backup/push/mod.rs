//! Messages over HTTP, with the paths, methods and answers of healthchecks.io
//! (<https://healthchecks.io/docs/http_api/>), so that existing clients need another host and nothing else.
//!
//! All jobs of the process share one [`Desk`], which is the door to `/ping/`: only who sees all of them can find the job that a
//! token stands for, in a time that does not depend on which it is.

#[doc(hidden)]
pub mod fuzz;
mod guard;
mod message;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::time::{Instant, timeout};

use self::guard::{Guard, Refusal};
use self::message::{Address, Message, note};
use super::clerk::Clerk;
use super::ledger::Files;
use super::told::Told;
use crate::door::{Answer, Door, Doors, Knock, LINGER, Opened};
use crate::probe::Elsewhere;
use crate::rate::RateLimit;
use crate::sync::lock;

/// What paths of messages begin with.
pub(super) const PREFIX: &str = "/ping/";
/// A job may be told so many messages at once, and one for each [`PACE`] beyond them.
const BURST: u32 = 60;
/// See [`BURST`].
const PACE: Duration = Duration::from_secs(1);
/// For so long a message waits for its turn to be written.
const PATIENCE: Duration = Duration::from_secs(5);
/// For so long after the start jobs that are not known yet may still be.
const SETTLING: Duration = Duration::from_secs(2);

const NOT_FOUND: Answer = Answer::new(StatusCode::NOT_FOUND, "not found");
const AMBIGUOUS: Answer = Answer::new(StatusCode::CONFLICT, "ambiguous: name the job, /ping/<token>/<job>");
const TOO_MANY: Answer = Answer::new(StatusCode::TOO_MANY_REQUESTS, "rate limited");
const UNAVAILABLE: Answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "not stored, try again");

/// Where messages about all jobs arrive.
pub(super) struct Desk {
    jobs: Mutex<Vec<Arc<Job>>>,
    guard: Guard,
    since: Instant,
}

impl Default for Desk {
    fn default() -> Self {
        Self { jobs: Mutex::default(), guard: Guard::default(), since: Instant::now() }
    }
}

/// A job that messages may be about.
struct Job {
    name: Hash,
    token: Hash,
    keeper: Keeper,
    rate: RateLimit,
    /// When it left, because its probe ended or is being replaced.
    left: Mutex<Option<Instant>>,
}

/// Who is told the messages about a job.
enum Keeper {
    Clerk(Clerk),
    /// Another shard, and what it is told about.
    Elsewhere(String, Elsewhere),
}

/// What is compared in place of a text: of one length, and equal if the texts are.
type Hash = [u8; 32];

fn hash(text: &[u8]) -> Hash {
    Sha256::digest(text).into()
}

/// Whose a message is.
enum Found {
    Job(Arc<Job>),
    Nobody,
    Several,
    /// Of a job that left just now.
    Left,
}

impl Desk {
    /// Takes messages about a job from whoever knows the token, until the result is dropped.
    pub(super) fn attend(self: &Arc<Self>, doors: &Doors, clerk: &Clerk, token: &str) -> Attended {
        self.admit(doors, (clerk.job(), token), Keeper::Clerk(clerk.clone()))
    }

    /// Has messages about a job that belongs to another shard told there: from whoever knows the token, which is checked here as well,
    /// so that nobody else learns that there is such a job.
    pub(super) fn refer(self: &Arc<Self>, doors: &Doors, (job, token): (&str, &str), to: &Elsewhere) -> Attended {
        self.admit(doors, (job, token), Keeper::Elsewhere(format!("job {job}"), to.clone()))
    }

    fn admit(self: &Arc<Self>, doors: &Doors, (job, token): (&str, &str), keeper: Keeper) -> Attended {
        let job = Job {
            name: hash(job.as_bytes()),
            token: hash(token.as_bytes()),
            keeper,
            rate: RateLimit::new(PACE, BURST),
            left: Mutex::default(),
        };
        let job = Arc::new(job);
        let mut jobs = lock(&self.jobs);
        jobs.retain(|known| !(known.is_gone() || known.name == job.name && lock(&known.left).is_some()));
        jobs.push(Arc::clone(&job));
        drop(jobs);
        Attended { job, _door: doors.open(PREFIX, Arc::clone(self) as Arc<dyn Door>) }
    }

    /// Writes to the log what has been refused and not been said yet, now and then, for ever.
    pub(super) async fn report(&self) {
        self.guard.report().await;
    }

    /// The job that is meant. Every job is compared with all that was sent, so that how long it takes says nothing.
    fn find(&self, address: &Address, secret: Option<&[u8]>) -> Found {
        let first = hash(address.first.as_bytes());
        let named = address.job.as_ref().map(|job| hash(job.as_bytes()));
        let secret = secret.map(hash);
        let (mut by_path, mut by_header) = (Vec::new(), Vec::new());
        let mut jobs = lock(&self.jobs);
        jobs.retain(|job| !job.is_gone());
        for job in jobs.iter() {
            let is_named = named.unwrap_or(first).ct_eq(&job.name);
            let is_named_in_path = is_named | Choice::from(u8::from(named.is_none()));
            if bool::from(first.ct_eq(&job.token) & is_named_in_path) {
                by_path.push(job);
            }
            let shows_token = secret.unwrap_or_default().ct_eq(&job.token) & Choice::from(u8::from(secret.is_some()));
            if bool::from(shows_token & is_named & Choice::from(u8::from(named.is_none()))) {
                by_header.push(job);
            }
        }
        let found = if by_header.is_empty() { by_path } else { by_header };
        let (here, left): (Vec<_>, Vec<_>) = found.into_iter().partition(|job| lock(&job.left).is_none());
        match (&here[..], &left[..]) {
            ([job], _) => Found::Job(Arc::clone(job)),
            ([], []) => Found::Nobody,
            ([], _) => Found::Left,
            _ => Found::Several,
        }
    }

    async fn take(&self, knock: Knock) -> Answer {
        let peer = knock.peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if let Err(wait) = self.guard.admit(peer) {
            return self.refused(peer, Refusal::Limited, TOO_MANY.again_after(wait));
        }
        let message = match Message::read(&knock.path, &knock.query) {
            Ok(message) => message,
            Err(problem) => {
                return self.refused(peer, Refusal::Malformed, Answer::new(StatusCode::BAD_REQUEST, problem));
            }
        };
        let job = match self.find(&message.address, knock.secret.as_ref().map(|secret| &secret[..])) {
            Found::Job(job) => job,
            Found::Several => return self.refused(peer, Refusal::Malformed, AMBIGUOUS),
            Found::Left => return UNAVAILABLE.again_after(PACE),
            Found::Nobody if self.since.elapsed() < SETTLING => return UNAVAILABLE.again_after(PACE),
            Found::Nobody => return self.refused(peer, Refusal::Unknown, NOT_FOUND),
        };
        self.guard.welcome(peer);
        if let Err(wait) = job.rate.admit() {
            return self.refused(peer, Refusal::Limited, TOO_MANY.again_after(wait));
        }
        match &job.keeper {
            Keeper::Clerk(clerk) => {
                let note = note(message.exit_status, &knock.body);
                self.enter(clerk.clone(), Told { note, ..message.told }).await
            }
            Keeper::Elsewhere(what, to) => to.tell(what, PREFIX, knock).await.unwrap_or_else(|(answer, why)| {
                self.guard.not_stored(why);
                answer
            }),
        }
    }

    /// Enters a message, and says so only when it is on disk.
    async fn enter(&self, clerk: Clerk, told: Told) -> Answer {
        let Ok(turn) = timeout(PATIENCE, clerk.ledger.turn(Files::Journal)).await else {
            self.guard.not_stored("too many wait to be written".to_owned());
            return UNAVAILABLE.again_after(PACE);
        };
        let write = move || {
            let _turn = turn;
            clerk.enter(&told)
        };
        let error = match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => return Answer::new(StatusCode::OK, "OK"),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.guard.not_stored(error);
        UNAVAILABLE.again_after(PACE)
    }

    fn refused(&self, peer: IpAddr, why: Refusal, answer: Answer) -> Answer {
        self.guard.refused(peer, why);
        answer
    }
}

impl Door for Desk {
    fn answer(self: Arc<Self>, knock: Knock) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        Box::pin(async move { self.take(knock).await })
    }

    fn turned_away(&self, peer: IpAddr) {
        self.guard.refused(peer, Refusal::Malformed);
    }
}

impl Job {
    /// Whether it left so long ago that it is not known any more.
    fn is_gone(&self) -> bool {
        lock(&self.left).is_some_and(|left| left.elapsed() >= LINGER)
    }
}

/// Messages about a job are taken; dropped, no more. For a while who tells one is told to come again, because a probe that
/// changes is back in a moment.
#[must_use]
pub(super) struct Attended {
    job: Arc<Job>,
    _door: Opened,
}

impl Drop for Attended {
    fn drop(&mut self) {
        *lock(&self.job.left) = Some(Instant::now());
    }
}
