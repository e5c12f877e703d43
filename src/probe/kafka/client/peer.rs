//! One broker: where it listens, its connections, and how it has been doing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::Lane;
use super::api::{Api, Request};
use super::breaker::Breaker;
use super::connect::Dialer;
use super::connection::{Connection, Lost};
use super::frame;
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;
use crate::sync::lock;

/// A broker that is well answers within this.
const LEAST: Duration = Duration::from_millis(100);
/// How much longer than a connection whoever waits for it is patient: the connection's own verdict says more, and the
/// breaker has it then.
pub(super) const GRACE: Duration = Duration::from_millis(50);

/// What connections leave behind.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) breaker: Breaker,
    counts: Mutex<[(u64, u64); Api::ALL.len()]>,
}

impl Health {
    /// Counts a request.
    pub(super) fn count(&self, api: Api, is_answered: bool) {
        let (requests, errors) = &mut lock(&self.counts)[api as usize];
        *requests += 1;
        *errors += u64::from(!is_answered);
    }

    /// Requests and those without an answer since the last call.
    pub(super) fn take_counts(&self) -> impl Iterator<Item = (Api, u64, u64)> + use<> {
        let counts = std::mem::take(&mut *lock(&self.counts));
        let all = Api::ALL.iter().zip(counts).map(|(api, (requests, errors))| (*api, requests, errors));
        all.filter(|(_, requests, _)| *requests > 0)
    }
}

/// A broker, or an address to begin with.
pub(super) struct Peer {
    pub(super) address: HostPort,
    pub(super) health: Arc<Health>,
    lanes: [Mutex<Option<Arc<Connection>>>; 2],
}

impl Peer {
    pub(super) fn new(address: HostPort) -> Self {
        Self { address, health: Arc::default(), lanes: Default::default() }
    }

    /// Closes the connections that nobody waits for.
    pub(super) fn hang_up(&self) {
        for lane in &self.lanes {
            *lock(lane) = None;
        }
    }

    /// Asks, and opens a connection for that if there is none. `limit` is for all of it.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn ask<R: Request>(&self, via: &Via<'_>, request: &R) -> Result<R::Response, Failure> {
        if via.limit < LEAST {
            // What it cannot answer in no time says nothing of the broker.
            return Err(self.name(Failure::new(Reason::Timeout, "not asked: the run has no time left")));
        }
        let deadline = Instant::now() + via.limit;
        let result = match tokio::time::timeout_at(deadline + GRACE, self.attempt(via, request, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(Reason::Timeout, format!("{}: no answer in time", R::API.label()))),
        };
        result.map_err(|failure| self.name(failure))
    }

    async fn attempt<R: Request>(&self, via: &Via<'_>, request: &R, deadline: Instant) -> Result<R::Response, Failure> {
        let mut may_retry = true;
        loop {
            let (connection, was_open) = self.connection(via)?;
            let count = Count { health: &self.health, api: R::API, is_answered: false };
            match exchange(&connection, request, deadline).await {
                Ok((answer, version)) => {
                    let answer = frame::response::<R>(&answer, version);
                    match &answer {
                        Ok(answer) if R::is_refused(answer) => {}
                        Ok(_) => count.answered(),
                        Err(_) => self.discard(via.lane, &connection),
                    }
                    return answer;
                }
                Err(lost) if lost.by_peer && was_open && may_retry => may_retry = false,
                Err(lost) => return Err(lost.failure),
            }
        }
    }

    /// The version in which requests to the broker are sent.
    ///
    /// # Errors
    /// There is no connection.
    pub(super) async fn version(&self, via: &Via<'_>, api: Api) -> Result<Option<i16>, Failure> {
        let connection = self.connection(via)?.0;
        match tokio::time::timeout(via.limit + GRACE, connection.ready()).await {
            Ok(Ok(versions)) => Ok(versions.pick(api)),
            Ok(Err(lost)) => Err(lost.failure),
            Err(_) => Err(Failure::new(Reason::Timeout, "no connection in time")),
        }
        .map_err(|failure| self.name(failure))
    }

    /// The lane's connection, and whether it was open already.
    fn connection(&self, via: &Via<'_>) -> Result<(Arc<Connection>, bool), Failure> {
        let mut lane = lock(&self.lanes[via.lane as usize]);
        if let Some(connection) = lane.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok((Arc::clone(connection), connection.is_open()));
        }
        if !via.is_forced {
            self.health.breaker.admit()?;
        }
        let new = Connection::open(Arc::clone(via.dialer), self.address.clone(), Arc::clone(&self.health), via.limit);
        Ok((Arc::clone(lane.insert(Arc::new(new))), false))
    }

    /// Gives up a connection that answers nonsense.
    fn discard(&self, lane: Lane, connection: &Arc<Connection>) {
        self.health.breaker.stumbled();
        let mut lane = lock(&self.lanes[lane as usize]);
        if lane.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *lane = None;
        }
    }

    /// Says which broker it was.
    fn name(&self, failure: Failure) -> Failure {
        if failure.detail.contains(&self.address.host) {
            return failure;
        }
        Failure::new(failure.reason, format!("{}: {}", self.address, failure.detail))
    }
}

/// How a peer is asked.
pub(super) struct Via<'c> {
    pub(super) dialer: &'c Arc<Dialer>,
    pub(super) lane: Lane,
    pub(super) limit: Duration,
    /// Whether to try although the breaker is open.
    pub(super) is_forced: bool,
}

/// Sends a request in the newest version that both sides know.
async fn exchange<R: Request>(
    connection: &Connection,
    request: &R,
    deadline: Instant,
) -> Result<(bytes::Bytes, i16), Lost> {
    let failed = |failure| Lost { failure, by_peer: false };
    let versions = connection.ready().await?;
    let version = versions.pick(R::API).ok_or_else(|| {
        failed(Failure::new(Reason::Rejected, format!("the broker does not speak {} as we do", R::API.label())))
    })?;
    let bytes = frame::request(request, version).map_err(failed)?;
    Ok((connection.exchange(bytes, deadline).await?, version))
}

/// Counts a request when it has ended, however it ends.
struct Count<'h> {
    health: &'h Health,
    api: Api,
    is_answered: bool,
}

impl Count<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.health.count(self.api, self.is_answered);
    }
}
