//! What the HTTP server gets to see of the daemon.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::reload::Status;
use super::runs::{self, Elsewhere, Probe};
use super::shards;
use crate::config::Requests;
use crate::door::Door;
use crate::http::{Landing, Reload, RunsQuery};
use crate::metrics::Snapshot;

/// Answers the server's questions.
pub(super) struct Site {
    status: Arc<Status>,
    requests: Requests<Reload>,
}

impl Site {
    pub(super) fn new(status: Arc<Status>, requests: Requests<Reload>) -> Self {
        Self { status, requests }
    }

    fn probes(&self) -> Arc<[Probe]> {
        Arc::clone(&self.status.probes.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn elsewhere(&self) -> Option<Arc<Elsewhere>> {
        self.status.elsewhere.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl crate::http::Site for Site {
    fn scrape(&self) -> Snapshot {
        self.status.metrics.before_scrape();
        self.status.store.snapshot()
    }

    fn openmetrics_created(&self) -> bool {
        self.status.openmetrics_created.load(Ordering::Relaxed)
    }

    fn scraped(&self, took: Duration) {
        self.status.metrics.scraped(took);
    }

    fn config(&self) -> Bytes {
        self.status.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn reload(&self) -> Reload {
        let ending = || Reload { ok: false, text: "midwatch is ending\n".to_owned() };
        self.requests.reload().await.unwrap_or_else(ending)
    }

    fn runs(&self, query: &RunsQuery) -> Result<String, String> {
        runs::answer((&self.probes(), self.elsewhere().as_deref()), query, SystemTime::now())
    }

    fn door<'p>(&self, path: &'p str) -> Option<(Arc<dyn Door>, &'p str)> {
        self.status.doors.find(path)
    }

    fn landing(&self) -> Landing {
        let share = self.elsewhere().map(|elsewhere| shards::sentence(elsewhere.shard, elsewhere.probes.len()));
        Landing { version: env!("CARGO_PKG_VERSION").into(), probes: self.probes().len(), share }
    }
}
