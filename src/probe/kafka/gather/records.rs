//! The times of the records that groups have yet to read, by reading the records: exact whatever the timestamps around them, but
//! a batch of records travels for each partition that lags, and the user needs `Read` on topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;

use super::super::client::Lane;
use super::super::client::api::Api;
use super::super::client::api::fetch::{FetchOne, first_timestamp};
use super::super::state::Source;
use super::Collector;

/// How many records a cycle may read: what is left waits for the next cycle.
const MOST_RECORDS: usize = 5_000;
/// How many requests are on their way at a time: each is answered with a whole batch.
const AT_ONCE: usize = 8;

impl Collector {
    /// Reads the first unread record of every partition of every group, unless it is known from the cycle before.
    pub(super) async fn gather_records(&self) {
        let wanted = self.wanted_records();
        let (began, asked) = (Instant::now(), wanted.len());
        let is_forbidden = AtomicBool::new(false);
        let read = stream::iter(wanted).map(async |(leader, request): (i32, FetchOne)| {
            let answer = self.client.ask(leader, Lane::Main, &request).await.ok()?;
            if answer.error.is_forbidden() {
                is_forbidden.store(true, Ordering::Relaxed);
                self.forbidden(Api::Fetch, answer.error);
            }
            // Records without a timestamp have -1.
            let timestamp = first_timestamp(&answer.records, request.offset).filter(|timestamp| *timestamp >= 0)?;
            Some((request.topic, request.partition, request.offset, timestamp))
        });
        let mut told = 0;
        let mut read = read.buffer_unordered(AT_ONCE);
        while let Some(answer) = read.next().await {
            // One by one, so that a run that is cut off has not read in vain.
            if let Some((topic, partition, offset, timestamp)) = answer {
                told += 1;
                self.state.lock().set_record((&topic, partition), offset, timestamp);
            }
        }
        if told > 0 && !is_forbidden.load(Ordering::Relaxed) {
            self.state.lock().forbidden.clear(Api::Fetch);
        }
        self.note(Source::TimeLag, (asked, asked - told), began);
    }

    /// What has to be read, with the leader to ask; each record once, however many groups wait for it.
    fn wanted_records(&self) -> Vec<(i32, FetchOne)> {
        let state = self.state.lock();
        let mut wanted = BTreeMap::new();
        for (name, topic) in state.groups.values().flat_map(|group| &group.topics) {
            let Some(log) = state.topics.get(name) else { continue };
            for commit in &topic.commits {
                let Some((target, known)) = commit.target(log, state.offsets_round) else { continue };
                let offset = target.committed.max(target.start);
                let is_known = commit.record.as_deref().is_some_and(|(read, _)| *read == offset);
                if offset < target.end && !is_known && wanted.len() < MOST_RECORDS {
                    let (topic, partition, leader_epoch) = (Arc::clone(name), commit.partition, known.leader_epoch);
                    let request = FetchOne { topic, partition, leader_epoch, offset };
                    wanted.insert((name, commit.partition, offset), (known.leader, request));
                }
            }
        }
        wanted.into_values().collect()
    }
}
