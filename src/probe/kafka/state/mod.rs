//! What is known of a cluster from cycle to cycle. Cycles of one probe run beside each other and share this; what one of them
//! records, it takes from here, so that a broker that does not answer costs the values of others nothing.
//!
//! Everything that a broker tells is stamped with the round it was told in. It is shown for [`KEPT`] rounds more, then it is gone.

mod brokers;
mod groups;
mod sources;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::client::api::log_dirs::LogDirs;
use super::client::api::metadata::Topology;
use super::moves::Moves;

pub(super) use brokers::Counters;
pub(super) use groups::{Commit, GroupKind, GroupState, GroupTopic, Lag};
pub(super) use sources::{Forbidden, Source, Sources};
pub(super) use topics::{PartitionState, SETTINGS, TopicState};

/// For how many rounds the values of a broker that does not answer are shown.
pub(super) const KEPT: u64 = 3;

/// Shared by the cycles of a probe, and by the probes that replace each other.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<State>);

impl Shared {
    /// Each change is whole in itself, so what a panic left behind is whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names that are gone.
///
/// Their series are ended in two rounds: what the first one recorded never shows if a reload cut it off.
#[derive(Debug, Default)]
pub(super) struct Gone(Vec<(Arc<str>, bool)>);

impl Gone {
    /// Adds names.
    fn extend(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        self.0.extend(names.into_iter().map(|name| (name, false)));
    }

    /// Those whose series are to end with this round.
    pub(super) fn round(&mut self) -> Vec<Arc<str>> {
        let names = self.0.iter().map(|(name, _)| Arc::clone(name)).collect();
        self.0.retain_mut(|(_, is_second)| !std::mem::replace(is_second, true));
        names
    }
}

/// What is known of a cluster.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The brokers and topics as they were listed last; only topics that the filter admits.
    pub(super) topology: Option<Arc<Topology>>,
    /// The round of the cluster cycle in which that was.
    pub(super) topology_round: u64,
    /// Somebody answered that it is out of date, or did not answer at all.
    pub(super) stale: bool,
    pub(super) topics: BTreeMap<Arc<str>, TopicState>,
    pub(super) groups: BTreeMap<Arc<str>, GroupState>,
    /// Topics and groups that were deleted, whose series are to end with the next rounds of the cluster cycle.
    pub(super) gone_topics: Gone,
    pub(super) gone_groups: Gone,
    pub(super) moves: Moves,
    /// The brokers that have series.
    pub(super) seen_brokers: BTreeSet<i32>,
    /// The active controller.
    pub(super) controller: Option<i32>,
    /// When the controllers were asked last.
    pub(super) controller_asked: Option<Instant>,
    /// When settings of topics were asked for last.
    pub(super) settings_asked: Option<Instant>,
    /// The partition whose times are asked for first in the next cycle, when not all could be in the last one.
    pub(super) time_lag_turn: Option<(Arc<str>, i32)>,
    /// The disks of each broker, and in which round of the storage cycle it told.
    pub(super) disks: BTreeMap<i32, (u64, LogDirs)>,
    /// Counts rounds of the offsets cycle.
    pub(super) offsets_round: u64,
    /// Counts rounds of the cluster cycle.
    pub(super) cluster_round: u64,
    /// Counts rounds of the storage cycle.
    pub(super) storage_round: u64,
    pub(super) sources: Sources,
    pub(super) forbidden: Forbidden,
    pub(super) counters: Counters,
}

impl State {
    /// Brokers that are live or hold a replica.
    pub(super) fn known_brokers(&self) -> BTreeSet<i32> {
        let Some(topology) = &self.topology else { return BTreeSet::new() };
        let live = topology.brokers.iter().map(|broker| broker.id);
        let holders =
            topology.topics.iter().flat_map(|topic| &topic.partitions).flat_map(|partition| &partition.replicas);
        live.chain(holders.copied()).collect()
    }

    /// The live brokers.
    pub(super) fn live_brokers(&self) -> Vec<i32> {
        self.topology.iter().flat_map(|topology| &topology.brokers).map(|broker| broker.id).collect()
    }
}

/// Whether something told in `round` is still to be shown in the round `now`.
pub(super) fn is_fresh(round: u64, now: u64) -> bool {
    round != 0 && now.saturating_sub(round) <= KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_ended_twice() {
        let mut gone = Gone::default();
        gone.extend(["a".into()]);
        assert_eq!(gone.round(), ["a".into()]);
        gone.extend(["b".into()]);
        assert_eq!(gone.round(), ["a".into(), "b".into()]);
        assert_eq!(gone.round(), ["b".into()]);
        assert!(gone.round().is_empty());
    }
}
