//! Commits and the ends of logs: what a lag is made of. Commits first: the end is then never older than the commit, and no
//! lag negative.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::super::client::Lane;
use super::super::client::api::Api;
use super::super::client::api::list_offsets::{Asked, LATEST, ListOffsets};
use super::super::client::api::offset_fetch::{GroupCommits, MANY_GROUPS, OffsetFetch};
use super::super::config::TimeLag;
use super::super::state::{GroupKind, PartitionState, Source};
use super::{Collector, tally, wall, wall_ms};
use crate::probe::Failure;

/// How many groups one request asks for.
const GROUPS_A_REQUEST: usize = 200;

impl Collector {
    /// One round of the offsets cycle.
    ///
    /// # Errors
    /// No broker answered.
    pub(in super::super) async fn gather_offsets(&self) -> Result<(), Failure> {
        // A round that finds nobody is a round as well: what was told before it grows old.
        self.state.lock().offsets_round += 1;
        let began = Instant::now();
        if let Err(failure) = self.ensure_listed().await {
            self.note(Source::Offsets, (1, 1), began);
            self.note(Source::Commits, (1, 1), began);
            return Err(failure);
        }
        let commits = self.gather_commits().await;
        let ends = self.gather_ends().await;
        self.state.lock().compute_lags(Instant::now());
        match self.config.time_lag {
            TimeLag::Offsets => {
                // What is known without asking is shown also if the deadline passes while others are being asked.
                self.state.lock().compute_ages(wall_ms());
                self.gather_time_lag().await;
                self.state.lock().compute_ages(wall_ms());
            }
            TimeLag::Fetch => {
                self.gather_records().await;
                self.state.lock().compute_read_ages(wall_ms());
            }
            TimeLag::Off => {}
        }
        ends.or(commits)
    }

    async fn gather_commits(&self) -> Result<(), Failure> {
        let began = Instant::now();
        let mut coordinators: BTreeMap<i32, Vec<Arc<str>>> = BTreeMap::new();
        for (name, group) in self.state.lock().groups.iter().filter(|(_, group)| group.kind != GroupKind::Other) {
            coordinators.entry(group.coordinator).or_default().push(Arc::clone(name));
        }
        let ask = async |(broker, groups): (i32, Vec<Arc<str>>)| (broker, self.fetch_commits(broker, &groups).await);
        let answers = join_all(coordinators.into_iter().map(ask)).await;
        let (counts, failure) = tally(&answers);
        let failure = failure.cloned();
        let mut refused = 0;
        {
            let mut state = self.state.lock();
            state.stale |= failure.is_some();
            for told in answers.into_iter().filter_map(|(_, answer)| answer.ok()).flatten() {
                state.stale |= told.error.is_stale_coordinator();
                refused += usize::from(!told.error.is_ok());
                state.set_commits(told, wall(), |topic| self.config.topics.admits(topic));
            }
        }
        self.note(Source::Commits, (counts.0 + refused, counts.1 + refused), began);
        failure.filter(|_| counts.0 == counts.1).map_or(Ok(()), Err)
    }

    /// What the groups of one coordinator have committed.
    async fn fetch_commits(&self, broker: i32, groups: &[Arc<str>]) -> Result<Vec<GroupCommits>, Failure> {
        let many = self.client.version(broker, Lane::Main, Api::OffsetFetch).await?;
        let size = if many.is_some_and(|version| version >= MANY_GROUPS) { GROUPS_A_REQUEST } else { 1 };
        let ask = async |groups: &[Arc<str>]| {
            let mut told = self.client.ask(broker, Lane::Main, &OffsetFetch { groups: groups.to_vec() }).await?;
            if let ([group], [told]) = (groups, told.as_mut_slice()) {
                // Old versions answer without the name that was asked for.
                told.group = (**group).into();
            }
            Ok(told)
        };
        let answers = join_all(groups.chunks(size).map(ask)).await;
        let answers: Result<Vec<_>, Failure> = answers.into_iter().collect();
        Ok(answers?.into_iter().flatten().collect())
    }

    /// Asks leaders where logs end.
    async fn gather_ends(&self) -> Result<(), Failure> {
        let began = Instant::now();
        let asked = |partition, known: &PartitionState| Asked {
            partition,
            leader_epoch: known.leader_epoch,
            timestamp: LATEST,
        };
        let requests = self.state.lock().by_leader(asked).into_iter();
        let requests = requests.map(|(leader, topics)| (leader, ListOffsets { topics, ..ListOffsets::default() }));
        let answers = self.ask_each(Lane::Main, requests.collect()).await;
        let (counts, failure) = tally(&answers);
        let failure = failure.cloned();
        let now = (Instant::now(), wall_ms());
        let mut refused = BTreeSet::new();
        {
            let mut state = self.state.lock();
            state.stale |= failure.is_some();
            let round = state.offsets_round;
            for (broker, topics) in answers.into_iter().filter_map(|(broker, answer)| Some((broker, answer.ok()?))) {
                for topic in topics {
                    for told in &topic.partitions {
                        if !told.error.is_ok() {
                            state.stale |= told.error.is_stale_topology();
                            refused.insert(broker);
                        } else if let Some(partition) = state.partition_mut(&topic.name, told.partition) {
                            partition.ends(told.offset, round, now);
                        }
                    }
                }
            }
        }
        // Nobody could be asked about partitions without a leader: that counts as one more broker that brought nothing.
        let missing = refused.len() + usize::from(self.state.lock().has_leaderless());
        self.note(Source::Offsets, (counts.0 + missing, counts.1 + missing), began);
        failure.filter(|_| counts.0 == counts.1).map_or(Ok(()), Err)
    }
}
