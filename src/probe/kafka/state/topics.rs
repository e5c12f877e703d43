//! Topics and partitions from round to round.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::client::ErrorCode;
use super::super::client::api::metadata::{Partition, Topic, Topology};
use super::super::skew::Rate;
use super::super::timeline::{Holes, Timeline};
use super::State;

/// The setting that says how many replicas in sync producers with acks=all need.
const MIN_ISR: &str = "min.insync.replicas";
/// The setting that says whether records with the key of a later one are removed.
const CLEANUP_POLICY: &str = "cleanup.policy";
/// Settings of topics that matter here.
pub(in super::super) const SETTINGS: &[&str] = &[MIN_ISR, CLEANUP_POLICY];

/// A topic.
#[derive(Debug, Default)]
pub(in super::super) struct TopicState {
    /// Tells it from another topic of the same name; 0 where brokers do not tell.
    pub(in super::super) id: u128,
    /// Its partitions; the number of each is its place.
    pub(in super::super) partitions: Vec<PartitionState>,
    /// When the number of partitions was last seen to change, in Unix seconds.
    pub(in super::super) count_changed: Option<f64>,
    /// How many replicas in sync producers with acks=all need.
    pub(in super::super) min_isr: Option<usize>,
    /// Whether an ACL forbids to know its settings; then it is asked for them no more often than it has to be.
    pub(in super::super) is_secret: bool,
    /// Whether offsets may have no record.
    holes: Holes,
}

/// A partition.
#[derive(Debug)]
pub(in super::super) struct PartitionState {
    /// The leader's broker id; -1 is none.
    pub(in super::super) leader: i32,
    pub(in super::super) leader_epoch: i32,
    /// The offset of the next record, and the round of the offsets cycle in which it was told.
    pub(in super::super) end: (i64, u64),
    /// The offset of the oldest record, and the round of the cluster cycle in which it was told.
    pub(in super::super) start: (i64, u64),
    /// Records per second.
    pub(in super::super) rate: Rate,
    pub(in super::super) timeline: Timeline,
}

impl PartitionState {
    fn new(partition: &Partition, holes: Holes) -> Self {
        let mut timeline = Timeline::default();
        timeline.expect(holes);
        Self {
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            end: (0, 0),
            start: (0, 0),
            rate: Rate::default(),
            timeline,
        }
    }

    /// Takes over who leads it; true if that is another broker than before.
    fn lead(&mut self, partition: &Partition) -> bool {
        let changed = partition.leader != self.leader && partition.leader >= 0 && self.leader >= 0;
        if partition.leader_epoch != self.leader_epoch {
            // A new leader may have had fewer records, so what was told of their times may be of other ones.
            self.timeline.reset();
        }
        // A partition that was without a leader and comes back under the same one has not changed it.
        if partition.leader >= 0 {
            self.leader = partition.leader;
        }
        self.leader_epoch = partition.leader_epoch;
        changed
    }

    /// Notes where the log ends, told in `round`.
    pub(in super::super) fn ends(&mut self, end: i64, round: u64, (at, wall_ms): (Instant, i64)) {
        if self.end.1 != 0 && end < self.end.0 {
            // Truncated, or another topic of the same name.
            if end < self.start.0 {
                self.start = (0, 0);
            }
            self.timeline.reset();
            self.rate.reset();
        }
        self.end = (end, round);
        self.rate.saw(end, at);
        self.timeline.saw_end(end, wall_ms);
    }

    /// Notes where the log begins, told in `round`.
    pub(in super::super) fn begins(&mut self, start: i64, round: u64) {
        self.start = (start, round);
        self.timeline.advance_start(start);
    }
}

/// What is asked of each broker, by topic.
pub(in super::super) type ByLeader<T> = BTreeMap<i32, Vec<(Arc<str>, Vec<T>)>>;

impl State {
    /// Takes over what brokers say of topics, as far as `admits` them.
    pub(in super::super) fn set_topology(&mut self, mut topology: Topology, admits: impl Fn(&str) -> bool, wall: f64) {
        topology.topics.retain(|topic| topic.error.is_ok() && is_whole(topic) && admits(&topic.name));
        let mut known = std::mem::take(&mut self.topics);
        for topic in &topology.topics {
            let before = known.remove(&topic.name);
            if before.as_ref().is_some_and(|before| before.id != topic.id) {
                self.forget_lags(&topic.name);
            }
            let same = |state: &TopicState| state.id == topic.id;
            let state = before.filter(same).unwrap_or_else(|| TopicState { id: topic.id, ..TopicState::default() });
            let state = self.follow(topic, state, wall);
            self.topics.insert(Arc::clone(&topic.name), state);
        }
        let is_known = |name: &Arc<str>| self.topics.contains_key(name);
        self.counters.leader_changes.retain(|name, _| is_known(name));
        self.counters.count_changes.retain(|name, _| is_known(name));
        self.gone_topics.extend(known.into_keys().filter(|name| !is_known(name)));
        self.topology = Some(Arc::new(topology));
        self.topology_round = self.cluster_round;
    }

    fn follow(&mut self, topic: &Topic, mut state: TopicState, wall: f64) -> TopicState {
        let (before, now) = (state.partitions.len(), topic.partitions.len());
        let changes = self.counters.count_changes.entry(Arc::clone(&topic.name)).or_default();
        if before != 0 && before != now {
            if now > before {
                changes.0 += 1;
            } else {
                changes.1 += 1;
            }
            state.count_changed = Some(wall);
        }
        state.partitions.truncate(now);
        state.partitions.reserve_exact(now.saturating_sub(before));
        let leader_changes = self.counters.leader_changes.entry(Arc::clone(&topic.name)).or_default();
        for (index, partition) in topic.partitions.iter().enumerate() {
            match state.partitions.get_mut(index) {
                Some(known) => *leader_changes += u64::from(known.lead(partition)),
                None => state.partitions.push(PartitionState::new(partition, state.holes)),
            }
        }
        state
    }

    /// The settings of a topic that matter here.
    pub(in super::super) fn set_settings(&mut self, topic: &str, error: ErrorCode, values: &[(Box<str>, Box<str>)]) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        state.is_secret = error.is_forbidden();
        if !error.is_ok() {
            return;
        }
        let value = |key| values.iter().find(|(name, _)| &**name == key).map(|(_, value)| &**value);
        state.min_isr = value(MIN_ISR).and_then(|value| value.parse().ok());
        // A list of words: a topic may be compacted and have its old records deleted too.
        state.holes = match value(CLEANUP_POLICY) {
            Some(policy) if policy.split(',').any(|word| word.trim() == "compact") => Holes::Compacted,
            Some(_) => Holes::Never,
            None => Holes::Unsure,
        };
        for partition in &mut state.partitions {
            partition.timeline.expect(state.holes);
        }
    }

    /// The partitions with a leader, by leader: what is asked of each broker.
    pub(in super::super) fn by_leader<T>(&self, ask: impl Fn(i32, &PartitionState) -> T) -> ByLeader<T> {
        let mut leaders = ByLeader::<T>::new();
        let live = self.live_brokers();
        for (name, topic) in &self.topics {
            for (index, partition) in (0..).zip(&topic.partitions) {
                if live.binary_search(&partition.leader).is_err() {
                    continue;
                }
                let topics = leaders.entry(partition.leader).or_default();
                if topics.last().is_none_or(|(last, _)| last != name) {
                    topics.push((Arc::clone(name), Vec::new()));
                }
                if let Some((_, asked)) = topics.last_mut() {
                    asked.push(ask(index, partition));
                }
            }
        }
        leaders
    }

    /// Whether there is a partition that no live broker leads.
    pub(in super::super) fn has_leaderless(&self) -> bool {
        let live = self.live_brokers();
        let mut partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions.any(|partition| live.binary_search(&partition.leader).is_err())
    }

    /// A partition by topic and number.
    pub(in super::super) fn partition_mut(&mut self, topic: &str, index: i32) -> Option<&mut PartitionState> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

impl TopicState {
    /// A partition by its number.
    pub(in super::super) fn partition(&self, index: i32) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// Whether partitions are numbered from 0 on without a gap, as Kafka does: the place of each is its number.
fn is_whole(topic: &Topic) -> bool {
    !topic.partitions.is_empty() && (0..).zip(&topic.partitions).all(|(index, partition)| partition.index == index)
}

#[cfg(test)]
mod tests {
    use super::super::super::client::api::groups::Listed;
    use super::super::super::client::api::metadata::Broker;
    use super::super::super::client::api::offset_fetch::{GroupCommits, TopicCommits};
    use super::super::GroupTopic;
    use super::*;

    /// One broker and one topic of one partition.
    fn topology(id: u128) -> Topology {
        let partition = Partition { index: 0, leader: 1, leader_epoch: 0, replicas: [1].into(), in_sync: [1].into() };
        let topic = Topic { name: "orders".into(), id, error: ErrorCode::NONE, partitions: vec![partition] };
        let broker = Broker { id: 1, host: "broker".into(), port: 9092 };
        Topology { cluster_id: None, controller: 1, brokers: vec![broker], topics: vec![topic] }
    }

    /// A round in which the log was told to begin and end there, and the group to have committed there.
    fn round(state: &mut State, id: u128, (start, end): (Option<i64>, i64), committed: i64) {
        let now = Instant::now();
        state.cluster_round += 1;
        state.set_topology(topology(id), |_| true, 0.0);
        let listed = Listed {
            group: "billing".into(),
            protocol_type: "consumer".into(),
            state: "Empty".into(),
            group_type: "classic".into(),
        };
        state.set_groups(vec![(1, listed)], &std::collections::BTreeSet::new(), |_| true);
        state.offsets_round += 1;
        let topic = TopicCommits { name: "orders".into(), partitions: vec![(0, committed)], incomplete: false };
        let told = GroupCommits { group: "billing".into(), error: ErrorCode::NONE, topics: vec![topic] };
        state.set_commits(told, 0.0, |_| true);
        let (round, cluster_round) = (state.offsets_round, state.cluster_round);
        let partition = state.partition_mut("orders", 0).unwrap();
        partition.ends(end, round, (now, 0));
        if let Some(start) = start {
            partition.begins(start, cluster_round);
        }
        state.compute_lags(now);
    }

    fn shown(state: &State) -> Option<(i64, i64)> {
        let commit = &state.groups["billing"].topics["orders"].commits[0];
        GroupTopic::shown(commit, state.offsets_round).map(|(lag, _)| (lag.records, lag.lost))
    }

    #[tokio::test]
    async fn a_topic_made_anew_takes_nothing_over() {
        let mut state = State::default();
        round(&mut state, 7, (Some(50), 100), 60);
        assert_eq!(shown(&state), Some((40, 0)));
        // Before anything is told of the new one.
        state.set_topology(topology(8), |_| true, 0.0);
        assert_eq!(shown(&state), None);
        assert_eq!(state.topics["orders"].partitions[0].start, (0, 0));
        round(&mut state, 8, (Some(0), 10), 3);
        assert_eq!(shown(&state), Some((7, 0)));
    }

    #[test]
    fn settings_that_an_acl_hides_are_known_to_be_hidden_until_they_are_told() {
        let mut state = State::default();
        state.set_topology(topology(7), |_| true, 0.0);
        assert!(!state.topics["orders"].is_secret);
        state.set_settings("orders", ErrorCode(29), &[]);
        assert!(state.topics["orders"].is_secret && state.topics["orders"].min_isr.is_none());
        state.set_settings("orders", ErrorCode::NONE, &[(MIN_ISR.into(), "2".into())]);
        assert!(!state.topics["orders"].is_secret && state.topics["orders"].min_isr == Some(2));
    }

    #[tokio::test]
    async fn a_log_that_is_shorter_than_before_is_not_known_to_begin_where_it_did() {
        let mut state = State::default();
        round(&mut state, 0, (Some(50), 100), 60);
        round(&mut state, 0, (None, 10), 3);
        assert_eq!(shown(&state), Some((7, 0)), "and none is lost");
    }
}
