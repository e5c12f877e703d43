//! Consumer groups from round to round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::client::api::groups::{Described, Listed};
use super::super::client::api::offset_fetch::GroupCommits;
use super::super::timeline::{Age, Target};
use super::topics::TopicState;
use super::{KEPT, State};
use crate::probe::kafka::drain::Drain;

/// Where groups stand, by topic and partition.
pub(in super::super) type Targets = BTreeMap<Arc<str>, BTreeMap<i32, Vec<Target>>>;

/// The protocol of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum GroupKind {
    /// The classic protocol; also groups that only commit.
    #[default]
    Classic,
    /// The new consumer protocol (KIP-848).
    Consumer,
    /// Share groups and whatever else may come: they commit no offsets.
    Other,
}

impl GroupKind {
    fn of(listed: &Listed) -> Self {
        match listed.group_type.to_ascii_lowercase().as_str() {
            "" | "classic" => Self::Classic,
            "consumer" => Self::Consumer,
            _ => Self::Other,
        }
    }

    /// The value of the label `group_type`.
    pub(in super::super) const fn label(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Other => "other",
        }
    }
}

/// A group.
#[derive(Debug, Default)]
pub(in super::super) struct GroupState {
    pub(in super::super) coordinator: i32,
    pub(in super::super) kind: GroupKind,
    /// Whether it is a group of consumers, and not one that only commits or one of Connect.
    pub(in super::super) consumes: bool,
    pub(in super::super) state: Box<str>,
    pub(in super::super) assignor: Box<str>,
    /// The round of the cluster cycle in which it was described last.
    pub(in super::super) described: u64,
    /// How many members it has, once it was described.
    pub(in super::super) members: Option<usize>,
    /// What its members own, by topic, once it was described.
    pub(in super::super) owned: Option<BTreeMap<Box<str>, BTreeSet<i32>>>,
    /// The round of the cluster cycle in which it was listed last.
    listed: u64,
    /// The topics that it has committed in.
    pub(in super::super) topics: BTreeMap<Arc<str>, GroupTopic>,
    /// The round of the offsets cycle in which its commits were told last.
    pub(in super::super) fetched: u64,
}

/// A group in one topic.
#[derive(Debug, Default)]
pub(in super::super) struct GroupTopic {
    /// By partition.
    pub(in super::super) commits: Vec<Commit>,
    /// Whether the coordinator left something out.
    pub(in super::super) incomplete: bool,
    /// When a commit last moved, in Unix seconds.
    pub(in super::super) progress: f64,
    pub(in super::super) drain: Drain,
}

/// A commit, and what follows from it.
#[derive(Clone, Debug)]
pub(in super::super) struct Commit {
    pub(in super::super) partition: i32,
    pub(in super::super) offset: i64,
    /// What followed when both the commit and the end of the log were told in the same round, and that round.
    pub(in super::super) lag: Option<(Lag, u64)>,
    /// The age of the first unread record in seconds, if it could be found out in that round.
    pub(in super::super) age: Option<f64>,
    /// The first unread record that was read last: its offset and timestamp. In a box, because most clusters are not asked for
    /// records, and there are very many commits.
    pub(in super::super) record: Option<Box<(i64, i64)>>,
}

/// What a commit and the ends of a log amount to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Lag {
    /// Records not yet read.
    pub(in super::super) records: i64,
    /// Records that were deleted before they were read.
    pub(in super::super) lost: i64,
    /// Whether the commit lies beyond the end of the log.
    pub(in super::super) ahead: bool,
    /// The share of the retained records that may be deleted before any is lost; none without the log's start.
    pub(in super::super) headroom: Option<f32>,
}

impl Lag {
    /// From a commit and the start and end of the log, told after it.
    pub(in super::super) fn new(committed: i64, start: Option<i64>, end: i64) -> Self {
        let first = committed.max(start.unwrap_or(0));
        let headroom = start.filter(|start| *start < end).map(|start| {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "a share does not need the last bits of an offset"
            )]
            let share = ((committed - start) as f64 / (end - start) as f64).clamp(0.0, 1.0) as f32;
            share
        });
        Self {
            records: end.saturating_sub(first).max(0),
            lost: start.map_or(0, |start| start.min(end).saturating_sub(committed).max(0)),
            ahead: committed > end,
            headroom,
        }
    }
}

impl State {
    /// Takes over the groups that coordinators list. One that none of them lists is gone, unless its coordinator may be one
    /// that did not answer, or may not have taken it over yet: then it stays for a while.
    pub(in super::super) fn set_groups(
        &mut self,
        listed: Vec<(i32, Listed)>,
        silent: &BTreeSet<i32>,
        admits: impl Fn(&str) -> bool,
    ) {
        let (round, live) = (self.cluster_round, self.live_brokers());
        let mut known = std::mem::take(&mut self.groups);
        for (coordinator, listed) in listed {
            let kind = GroupKind::of(&listed);
            let mut group = known.remove(&listed.group).unwrap_or_default();
            (group.coordinator, group.kind, group.listed) = (coordinator, kind, round);
            group.consumes = kind == GroupKind::Consumer || &*listed.protocol_type == "consumer";
            group.state = listed.state;
            if &*group.state != "Dead" {
                self.groups.insert(listed.group, group);
            }
        }
        for (name, group) in known {
            let may_be_moving = !silent.is_empty() || !live.contains(&group.coordinator);
            if may_be_moving && admits(&name) && round.saturating_sub(group.listed) <= KEPT {
                self.groups.insert(name, group);
            } else {
                self.gone_groups.extend([name]);
            }
        }
    }

    /// Takes over what coordinators say of groups in detail.
    pub(in super::super) fn describe_group(&mut self, described: Described) {
        let round = self.cluster_round;
        let Some(group) = self.groups.get_mut(&*described.group).filter(|_| described.error.is_ok()) else { return };
        (group.state, group.assignor) = (described.state, described.assignor);
        (group.members, group.described) = (Some(described.members), round);
        let mut owned: BTreeMap<Box<str>, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partition) in described.owned {
            owned.entry(topic).or_default().insert(partition);
        }
        group.owned = Some(owned);
    }

    /// Forgets what was said of groups in detail too long ago.
    pub(in super::super) fn forget_descriptions(&mut self) {
        let round = self.cluster_round;
        for group in self.groups.values_mut().filter(|group| !super::is_fresh(group.described, round)) {
            (group.members, group.owned) = (None, None);
        }
    }

    /// Takes over what a group has committed.
    pub(in super::super) fn set_commits(&mut self, told: GroupCommits, wall: f64, admits: impl Fn(&str) -> bool) {
        let round = self.offsets_round;
        let Some(group) = self.groups.get_mut(&*told.group).filter(|_| told.error.is_ok()) else { return };
        group.fetched = round;
        let mut known = std::mem::take(&mut group.topics);
        for topic in told.topics {
            if topic.partitions.is_empty() || !admits(&topic.name) {
                continue;
            }
            let (name, mut state) =
                known.remove_entry(&*topic.name).unwrap_or_else(|| (Arc::from(topic.name), GroupTopic::default()));
            state.set(topic.partitions, wall);
            state.incomplete = topic.incomplete;
            group.topics.insert(name, state);
        }
    }

    /// Works out the lag of all groups whose commits were told in this round.
    pub(in super::super) fn compute_lags(&mut self, at: Instant) {
        let round = self.offsets_round;
        for group in self.groups.values_mut().filter(|group| group.fetched == round) {
            for (name, topic) in &mut group.topics {
                if let Some(log) = self.topics.get(name) {
                    topic.compute_lags(log, round, at);
                }
            }
        }
    }

    /// Forgets what groups lagged in a topic that was made anew under its old name.
    pub(super) fn forget_lags(&mut self, topic: &str) {
        for topic in self.groups.values_mut().filter_map(|group| group.topics.get_mut(topic)) {
            topic.drain = Drain::default();
            for commit in &mut topic.commits {
                (commit.lag, commit.age) = (None, None);
            }
        }
    }

    /// Where groups stand in this round, by topic and partition.
    pub(in super::super) fn targets(&self) -> Targets {
        let mut targets = Targets::new();
        for (name, topic) in self.groups.values().flat_map(|group| &group.topics) {
            let Some(log) = self.topics.get(name) else { continue };
            let target = |commit: &Commit| Some((commit.partition, commit.target(log, self.offsets_round)?.0));
            let mut told = topic.commits.iter().filter_map(target).peekable();
            if told.peek().is_some() {
                let of_topic = targets.entry(Arc::clone(name)).or_default();
                told.for_each(|(partition, target)| of_topic.entry(partition).or_default().push(target));
            }
        }
        targets
    }

    /// Forgets what was learnt of times that is of no use for any group where it stands now.
    fn forget_times(&mut self) {
        for (name, partitions) in self.targets() {
            for (index, targets) in partitions {
                if let Some(partition) = self.partition_mut(&name, index) {
                    partition.timeline.keep_for(&targets);
                }
            }
        }
    }

    /// Works out ages, once everything was asked that was to be asked.
    pub(in super::super) fn compute_ages(&mut self, wall_ms: i64) {
        let round = self.offsets_round;
        for (name, topic) in self.groups.values_mut().flat_map(|group| &mut group.topics) {
            let Some(log) = self.topics.get(name) else { continue };
            for commit in &mut topic.commits {
                let Some((target, partition)) = commit.target(log, round) else { continue };
                commit.age = match partition.timeline.age(target, wall_ms) {
                    Age::CaughtUp => Some(0.0),
                    Age::Known(seconds) => Some(seconds),
                    Age::Unknown => None,
                };
            }
        }
        self.forget_times();
    }
}

impl State {
    /// Takes over the timestamp of a record that was read, for all groups that have yet to read it.
    pub(in super::super) fn set_record(&mut self, (topic, index): (&str, i32), offset: i64, timestamp: i64) {
        let Some(log) = self.topics.get(topic) else { return };
        let round = self.offsets_round;
        for commits in self.groups.values_mut().filter_map(|group| group.topics.get_mut(topic)) {
            let Ok(at) = commits.commits.binary_search_by_key(&index, |commit| commit.partition) else { continue };
            let commit = &mut commits.commits[at];
            if commit.target(log, round).is_some_and(|(target, _)| target.committed.max(target.start) == offset) {
                commit.record = Some(Box::new((offset, timestamp)));
            }
        }
    }

    /// Works out ages from the records that were read.
    pub(in super::super) fn compute_read_ages(&mut self, wall_ms: i64) {
        let round = self.offsets_round;
        for (name, topic) in self.groups.values_mut().flat_map(|group| &mut group.topics) {
            let Some(log) = self.topics.get(name) else { continue };
            for commit in &mut topic.commits {
                let Some((target, _)) = commit.target(log, round) else { continue };
                let first = target.committed.max(target.start);
                let read = commit.record.as_deref().filter(|(offset, _)| *offset == first);
                // A record from the future, by this machine's clock, is as young as can be.
                let age = |(_, timestamp): &(i64, i64)| {
                    super::super::show::number(wall_ms.saturating_sub(*timestamp).max(0)) / 1000.0
                };
                commit.age = if first >= target.end { Some(0.0) } else { read.map(age) };
            }
        }
    }
}

impl Commit {
    /// What the age of the first unread record depends on, if the lag was worked out in this round.
    pub(in super::super) fn target<'l>(
        &self,
        log: &'l TopicState,
        round: u64,
    ) -> Option<(Target, &'l super::PartitionState)> {
        self.lag.filter(|(_, told)| *told == round)?;
        let partition = log.partitions.get(usize::try_from(self.partition).ok()?)?;
        let start = if partition.start.1 == 0 { 0 } else { partition.start.0 };
        Some((Target { committed: self.offset, start, end: partition.end.0 }, partition))
    }
}

impl GroupTopic {
    /// Takes over the commits, by partition.
    fn set(&mut self, told: Vec<(i32, i64)>, wall: f64) {
        let mut known = std::mem::take(&mut self.commits).into_iter().peekable();
        let is_new = known.peek().is_none();
        let mut moved = is_new;
        self.commits = Vec::with_capacity(told.len());
        for (partition, offset) in told {
            while known.next_if(|commit| commit.partition < partition).is_some() {}
            let before = known.next_if(|commit| commit.partition == partition);
            moved |= before.as_ref().is_none_or(|before| before.offset != offset);
            let mut commit = before.unwrap_or(Commit { partition, offset, lag: None, age: None, record: None });
            commit.offset = offset;
            self.commits.push(commit);
        }
        if moved {
            self.progress = wall;
        }
    }

    fn compute_lags(&mut self, log: &TopicState, round: u64, at: Instant) {
        let mut sum = Some(0i64);
        for commit in &mut self.commits {
            let partition = usize::try_from(commit.partition).ok().and_then(|index| log.partitions.get(index));
            let Some(partition) = partition.filter(|partition| partition.end.1 == round) else {
                sum = None;
                continue;
            };
            // Logs begin later and later: what was told long ago is still right as a bound.
            let start = (partition.start.1 != 0).then_some(partition.start.0);
            let lag = Lag::new(commit.offset, start, partition.end.0);
            commit.lag = Some((lag, round));
            commit.age = None;
            sum = sum.map(|sum| sum.saturating_add(lag.records));
        }
        if let Some(sum) = sum {
            self.drain.saw(sum, at);
        }
    }

    /// The lag of a partition, if it is known well enough to be shown, and whether it is of this very round.
    pub(in super::super) fn shown(commit: &Commit, round: u64) -> Option<(Lag, bool)> {
        commit.lag.filter(|(_, told)| super::is_fresh(*told, round)).map(|(lag, told)| (lag, told == round))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_never_negative_and_counts_what_is_lost() {
        let lag = |committed, start, end| Lag::new(committed, Some(start), end);
        assert_eq!(lag(40, 10, 100).records, 60);
        assert_eq!(lag(100, 10, 100), Lag { records: 0, lost: 0, ahead: false, headroom: Some(1.0) });
        // Deleted below the commit, and everything deleted.
        assert_eq!((lag(40, 70, 100).records, lag(40, 70, 100).lost), (30, 30));
        assert_eq!((lag(40, 100, 100).records, lag(40, 100, 100).lost), (0, 60));
        // Beyond the end: the topic was made anew.
        assert_eq!((lag(40, 0, 5).records, lag(40, 0, 5).ahead, lag(40, 0, 5).lost), (0, true, 0));
        assert_eq!(Lag::new(40, None, 100).records, 60);
        assert_eq!(lag(55, 10, 100).headroom, Some(0.5));
    }
}
