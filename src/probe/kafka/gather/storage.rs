//! What the brokers' disks hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::client::Lane;
use super::super::client::api::Api;
use super::super::client::api::log_dirs::DescribeLogDirs;
use super::super::state::{Source, is_fresh};
use super::{Collector, tally};
use crate::probe::Failure;

impl Collector {
    /// One round of the storage cycle.
    ///
    /// # Errors
    /// No broker answered.
    pub(in super::super) async fn gather_storage(&self) -> Result<(), Failure> {
        let began = Instant::now();
        {
            // A round that finds nobody is a round as well: what was told before it grows old.
            let mut state = self.state.lock();
            state.storage_round += 1;
            let round = state.storage_round;
            state.disks.retain(|_, (told, _)| is_fresh(*told, round));
        }
        if let Err(failure) = self.ensure_listed().await {
            self.note(Source::LogDirs, (1, 1), began);
            return Err(failure);
        }
        let (brokers, topics) = {
            let state = self.state.lock();
            if state.forbidden.holds(Api::DescribeLogDirs) {
                return Ok(());
            }
            let all = |partitions: usize| (0..i32::try_from(partitions).unwrap_or(i32::MAX)).collect::<BTreeSet<_>>();
            let named = state.topics.iter().map(|(name, topic)| (Arc::clone(name), all(topic.partitions.len())));
            // All in one word unless some are not to be looked at.
            let topics = (!self.config.topics.is_open()).then(|| named.collect::<Vec<_>>());
            (state.live_brokers(), topics)
        };
        let request = DescribeLogDirs { topics };
        let requests = brokers.into_iter().map(|broker| (broker, request.clone())).collect();
        let answers = self.ask_each(Lane::Storage, requests).await;
        let (counts, failure) = tally(&answers);
        let failure = failure.cloned().filter(|_| counts.0 == counts.1);
        let mut refused = None;
        let mut refusing = 0;
        {
            let mut state = self.state.lock();
            let round = state.storage_round;
            for (broker, dirs) in answers.into_iter().filter_map(|(broker, answer)| Some((broker, answer.ok()?))) {
                if dirs.error.is_ok() {
                    state.disks.insert(broker, (round, dirs));
                } else {
                    refusing += 1;
                    refused = Some(dirs.error);
                }
            }
        }
        self.note(Source::LogDirs, (counts.0, counts.1 + refusing), began);
        match refused {
            Some(error) if error.is_forbidden() => self.forbidden(Api::DescribeLogDirs, error),
            Some(_) => {}
            None => self.state.lock().forbidden.clear(Api::DescribeLogDirs),
        }
        failure.map_or(Ok(()), Err)
    }
}
