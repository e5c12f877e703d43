//! A small client of Kafka's protocol for asking brokers about themselves: one connection per broker and [`Lane`],
//! opened when it is first needed, and requests that do not wait for each other's answers.
//!
//! It never retries but in one case, a connection that the broker closed while it was idle, and has no timer but the
//! deadline of each request: what to do about a failure is the caller's to say.

pub mod api;
mod breaker;
pub mod connect;
mod connection;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod frame;
pub mod fuzz;
mod login;
#[cfg(test)]
mod login_tests;
#[cfg(feature = "msk-iam")]
mod msk;
mod peer;
mod reader;
#[cfg(test)]
mod tests;
pub(super) mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout_at};

pub use error::ErrorCode;

use self::api::{Api, Request};
use self::connect::Dialer;
use self::peer::{GRACE, Peer, Via};
use super::access::Access;
use crate::probe::net::{Net, clean};
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;
use crate::sync::lock;

/// How long one broker of several may stay silent before the next is asked beside it.
const STAGGER: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// When the run that asks has to have its answers.
    static ENDS: Instant;
}

/// Does the work of a run, whose requests wait for no broker beyond that time: several that hang one after the other would
/// otherwise use up more than the run has.
pub async fn until<T>(ends: Instant, work: impl Future<Output = T>) -> T {
    ENDS.scope(ends, work).await
}

/// Which of a broker's connections a request takes. A broker answers the requests of a connection one after the other, so
/// that slow ones need their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Whatever a broker answers from memory.
    Main,
    /// What makes it look at its disks.
    Storage,
}

/// Where a broker listens, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Its id.
    pub id: i32,
    /// A name or an IP address without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// Requests since the last time they were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The broker's id; -1 is all bootstrap addresses.
    pub broker: i32,
    /// What was asked.
    pub api: Api,
    /// How often, attempts to connect for it included.
    pub requests: u64,
    /// How many of them have no answer that can be read, or were refused.
    pub errors: u64,
}

/// A client of one cluster. Its copies share everything; with the last of them all connections are closed.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Arc<Dialer>,
    /// How long a request may take, as configured.
    limit: Duration,
    /// The same in nanoseconds, or less where a run has less time.
    current_limit: AtomicU64,
    seeds: Vec<Arc<Peer>>,
    brokers: Mutex<HashMap<i32, Arc<Peer>>>,
    /// Of brokers that are gone.
    left: Mutex<Vec<Count>>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Client {
    /// A client. No I/O: connections are opened when they are needed.
    ///
    /// # Errors
    /// What is wrong with a certificate, a key or the credentials, in words.
    pub fn new(access: &Access, net: &Net, request_timeout: Duration) -> Result<Self, String> {
        let shared = Shared {
            dialer: Arc::new(Dialer::new(access, net)?),
            limit: request_timeout,
            current_limit: AtomicU64::new(nanos(request_timeout)),
            seeds: access.bootstrap.iter().map(|address| Arc::new(Peer::new(address.clone()))).collect(),
            brokers: Mutex::default(),
            left: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Gives requests no more than this: a run has to end in time although a broker does not answer.
    pub fn hurry(&self, most: Duration) {
        self.shared.current_limit.store(nanos(self.shared.limit.min(most)), Ordering::Relaxed);
    }

    /// How long a request may take now.
    pub fn limit(&self) -> Duration {
        let most = Duration::from_nanos(self.shared.current_limit.load(Ordering::Relaxed));
        let left = ENDS.try_with(|ends| ends.saturating_duration_since(Instant::now()));
        left.map_or(most, |left| most.min(left))
    }

    /// What opens connections as this client does.
    pub fn dialer(&self) -> &Dialer {
        &self.shared.dialer
    }

    /// Tells the client where the brokers listen. Connections to brokers that are gone or moved are closed, as are those
    /// to bootstrap addresses that are no broker's.
    pub fn learn(&self, brokers: &[BrokerAddress]) {
        if brokers.is_empty() {
            return;
        }
        let mut known = lock(&self.shared.brokers);
        let mut before = std::mem::take(&mut *known);
        for broker in brokers {
            let address = HostPort { host: broker.host.to_string(), port: broker.port };
            let kept = before.remove(&broker.id).filter(|peer| peer.address == address).or_else(|| {
                // What a bootstrap address and its connections are known for belongs to the broker behind it.
                let seed = self.shared.seeds.iter().find(|seed| seed.address == address)?;
                (!known.values().any(|peer| Arc::ptr_eq(peer, seed))).then(|| Arc::clone(seed))
            });
            known.insert(broker.id, kept.unwrap_or_else(|| Arc::new(Peer::new(address))));
        }
        for (id, peer) in before {
            lock(&self.shared.left).extend(counts(id, &peer));
        }
        for seed in &self.shared.seeds {
            if !known.values().any(|peer| Arc::ptr_eq(peer, seed)) {
                seed.hang_up();
            }
        }
    }

    /// Asks one broker. Fails within the request timeout, and at once while the broker is left alone after a failure. An
    /// answer that says that the request failed is an answer.
    ///
    /// # Errors
    /// Why there is no answer; `rejected` if the broker does not speak the API.
    pub async fn ask<R: Request>(&self, broker: i32, lane: Lane, request: &R) -> Result<R::Response, Failure> {
        self.peer(broker)?.ask(&self.via(lane), request).await
    }

    /// Asks whichever broker answers first: those that are known, then the bootstrap addresses. The next one is asked when
    /// one failed, or beside it after a second. If all are left alone after failures, all are tried nevertheless.
    ///
    /// # Errors
    /// If none answers within the request timeout, the failure that says most.
    pub async fn ask_any<R: Request>(&self, request: &R) -> Result<R::Response, Failure> {
        let peers = self.candidates();
        let all_paused = peers.iter().all(|peer| peer.health.breaker.admit().is_err());
        let via = Via { is_forced: all_paused, ..self.via(Lane::Main) };
        let stagger = STAGGER.min(self.limit() / 4);
        let mut waiting = peers.iter();
        let mut attempts = FuturesUnordered::new();
        let mut failures = Vec::new();
        let race = async {
            loop {
                attempts.extend(waiting.next().map(|peer| peer.ask(&via, request)));
                tokio::select! {
                    biased;
                    Some(result) = attempts.next() => match result {
                        Ok(answer) => return Some(answer),
                        Err(failure) => failures.push(failure),
                    },
                    () = sleep(stagger), if waiting.len() > 0 => {}
                    else => return None,
                }
            }
        };
        match timeout_at(Instant::now() + self.limit() + GRACE, race).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(summary(&failures)),
            Err(_) => {
                failures.push(Failure::new(Reason::Timeout, "no other broker answered in time"));
                Err(summary(&failures))
            }
        }
    }

    /// The version in which the broker is asked; `None` if it does not speak the API. Connects if needed.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn version(&self, broker: i32, lane: Lane, api: Api) -> Result<Option<i16>, Failure> {
        self.peer(broker)?.version(&self.via(lane), api).await
    }

    /// Requests and failed requests since the last call.
    pub fn take_counts(&self) -> Vec<Count> {
        let mut all = std::mem::take(&mut *lock(&self.shared.left));
        let known = lock(&self.shared.brokers);
        for (id, peer) in &*known {
            all.extend(counts(*id, peer));
        }
        // Those that are a broker's have been counted with it.
        all.extend(self.shared.seeds.iter().flat_map(|seed| counts(-1, seed)));
        all
    }

    /// Whether the last exchange with the broker went well; `None` if there was none.
    pub fn is_up(&self, broker: i32) -> Option<bool> {
        self.peer(broker).ok()?.health.breaker.is_up()
    }

    fn peer(&self, broker: i32) -> Result<Arc<Peer>, Failure> {
        let peer = lock(&self.shared.brokers).get(&broker).cloned();
        peer.ok_or_else(|| Failure::new(Reason::Mismatch, format!("no broker has the id {broker}")))
    }

    fn via(&self, lane: Lane) -> Via<'_> {
        Via { dialer: &self.shared.dialer, lane, limit: self.limit(), is_forced: false }
    }

    /// Brokers that are well first, then other brokers, then the bootstrap addresses.
    fn candidates(&self) -> Vec<Arc<Peer>> {
        let known = lock(&self.shared.brokers);
        let mut peers: Vec<_> = known.iter().collect();
        peers.sort_by_key(|(id, peer)| (peer.health.breaker.is_up() != Some(true), **id));
        let mut peers: Vec<_> = peers.into_iter().map(|(_, peer)| Arc::clone(peer)).collect();
        for seed in &self.shared.seeds {
            if !peers.iter().any(|peer| Arc::ptr_eq(peer, seed)) {
                peers.push(Arc::clone(seed));
            }
        }
        peers
    }
}

fn counts(broker: i32, peer: &Peer) -> impl Iterator<Item = Count> {
    peer.health.take_counts().map(move |(api, requests, errors)| Count { broker, api, requests, errors })
}

/// One failure for those of all brokers: what a peer said counts more than that it said nothing, and that more than
/// trouble on the way there.
fn summary(failures: &[Failure]) -> Failure {
    let weight = |failure: &&Failure| match failure.reason {
        Reason::Auth | Reason::Certificate | Reason::Tls => 0,
        Reason::Unreachable | Reason::Local => 2,
        _ => 1,
    };
    let Some(worst) = failures.iter().min_by_key(weight) else {
        return Failure::new(Reason::Internal, "there is no broker to ask");
    };
    let all: Vec<&str> = failures.iter().map(|failure| failure.detail.as_ref()).collect();
    Failure::new(worst.reason, clean(&all.join("; ")))
}
