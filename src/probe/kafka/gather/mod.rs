//! Asks the brokers. Each file has one rhythm of the collector: what it asks, of whom, in which order; the answers go into the
//! [state](super::state), from where they are shown.
//!
//! Brokers are asked side by side, and one that does not answer costs the others nothing: what it would have said stays out.

mod cluster;
mod listeners;
mod moves;
mod offsets;
mod records;
mod storage;
mod time_lag;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::client::api::{Api, Request};
use super::client::{Client, ErrorCode, Lane};
use super::config::Config;
use super::state::{Shared, Source};
use crate::probe::{Failure, net};

/// Asks the brokers of one cluster.
pub(super) struct Collector {
    pub(super) config: Arc<Config>,
    pub(super) client: Client,
    pub(super) state: Arc<Shared>,
    /// Held while topics and groups are being listed: two cycles that find them out of date ask once.
    listing: tokio::sync::Mutex<()>,
    /// Whether what is known was listed by this very probe, and not by one that it replaced and that had other filters.
    relist: AtomicBool,
    /// Held while moves are being listed: an older list that came last would make moves that are over begin again.
    listing_moves: tokio::sync::Mutex<()>,
}

/// The answers of brokers, or why there is none.
type Answers<T> = Vec<(i32, Result<T, Failure>)>;

impl Collector {
    /// Without any I/O.
    ///
    /// # Errors
    /// What is wrong with certificates or credentials.
    pub(super) fn new(config: &Arc<Config>, net: &net::Net, state: Arc<Shared>) -> Result<Self, String> {
        let client = Client::new(&config.access, net, config.request_timeout)?;
        Ok(Self {
            config: Arc::clone(config),
            client,
            state,
            listing: tokio::sync::Mutex::default(),
            relist: AtomicBool::new(true),
            listing_moves: tokio::sync::Mutex::default(),
        })
    }

    /// Sends each broker its request, all at once.
    async fn ask_each<R: Request>(&self, lane: Lane, requests: BTreeMap<i32, R>) -> Answers<R::Response> {
        let ask = async |(broker, request): (i32, R)| (broker, self.client.ask(broker, lane, &request).await);
        join_all(requests.into_iter().map(ask)).await
    }

    /// Notes that an ACL forbids an API, and says so if it is news.
    fn forbidden(&self, api: Api, error: ErrorCode) {
        if self.state.lock().forbidden.note(api) {
            let api = api.label();
            tracing::warn!(api, %error, "the cluster's ACLs forbid this; it is left out, and tried again every ten minutes and after a reload");
        }
    }

    /// Notes how a round of a source went.
    fn note(&self, source: Source, asked_failed: (usize, usize), began: Instant) {
        self.state.lock().sources.note(source, asked_failed, began.elapsed(), wall());
    }
}

/// How many of the answers are failures, of how many; and the first failure.
fn tally<T>(answers: &Answers<T>) -> ((usize, usize), Option<&Failure>) {
    let mut failures = answers.iter().filter_map(|(_, answer)| answer.as_ref().err());
    let first = failures.next();
    ((answers.len(), failures.count() + usize::from(first.is_some())), first)
}

/// The wall clock in Unix seconds: for points in time only, never for durations.
pub(super) fn wall() -> f64 {
    since_1970().as_secs_f64()
}

/// The wall clock in milliseconds, which is what records are stamped with.
fn wall_ms() -> i64 {
    i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
