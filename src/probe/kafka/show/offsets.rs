//! What groups and topics are at: the offsets cycle.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::super::client::Client;
use super::super::gather::Collector;
use super::super::metrics::{
    BROKER_UP, GROUP_AHEAD, GROUP_DRAIN, GROUP_HEADROOM, GROUP_LAG, GROUP_LAG_MAX, GROUP_LAG_SECONDS,
    GROUP_LAG_SECONDS_MAX, GROUP_LAG_SUM, GROUP_LOST, GROUP_OFFSET, GROUP_OFFSET_SUM, GROUP_PROGRESS, GROUP_UNASSIGNED,
    GROUP_UNCOMMITTED, HOT_ID, HOT_RATIO, PARTITION_END, PARTITION_HOT, RATE_CV,
};
use super::super::skew::topic_skew;
use super::super::state::{Commit, GroupState, GroupTopic, Lag, State, TopicState, is_fresh};
use super::{Sink, count, flag, number};

/// Of a group with more partitions than are shown, so many: those that lag most.
const MOST_LAGGING: usize = 20;

pub(super) fn show(state: &State, sink: &mut Sink<'_>, collector: &Collector) {
    let (round, partitions_per_group) = (state.offsets_round, collector.config.partitions_per_group);
    show_brokers(state, sink, &collector.client);
    for (name, topic) in &state.topics {
        show_topic(name, topic, round, sink);
    }
    for (name, group) in &state.groups {
        if !is_fresh(group.fetched, round) {
            continue;
        }
        let partitions: usize = group.topics.values().map(|topic| topic.commits.len()).sum();
        let most_lagging = (partitions > partitions_per_group).then(|| most_lagging(group, round));
        for (topic_name, topic) in &group.topics {
            let Some(log) = state.topics.get(topic_name) else { continue };
            let view = GroupView { group: name, topic: topic_name, state: group, log, round };
            view.show_partitions(topic, most_lagging.as_ref(), sink);
            view.show_topic(topic, sink);
        }
        let owned = group.owned.iter().flat_map(|owned| owned.keys());
        for topic_name in owned.filter(|name| !group.topics.contains_key(&***name)) {
            let Some(log) = state.topics.get(&**topic_name) else { continue };
            GroupView { group: name, topic: topic_name, state: group, log, round }.show_unclaimed(0, sink);
        }
    }
}

/// Which brokers answer: said in the quickest cycle, because it explains what else is missing there.
fn show_brokers(state: &State, sink: &mut Sink<'_>, client: &Client) {
    let live = state.live_brokers();
    for broker in state.known_brokers() {
        let is_up = if live.contains(&broker) { client.is_up(broker) } else { Some(false) };
        sink.set_some(&BROKER_UP, [itoa::Buffer::new().format(broker)], is_up.map(flag));
    }
}

fn show_topic(name: &str, topic: &TopicState, round: u64, sink: &mut Sink<'_>) {
    let mut rates = Vec::with_capacity(topic.partitions.len());
    for (index, partition) in (0i32..).zip(&topic.partitions) {
        if is_fresh(partition.end.1, round) {
            let mut buffer = itoa::Buffer::new();
            sink.set(&PARTITION_END, [name, buffer.format(index)], number(partition.end.0));
            rates.extend(partition.rate.per_second().map(|rate| (index, rate)));
        }
    }
    // A share of what is not wholly known would be a share of something else.
    let Some(skew) = topic_skew(&rates).filter(|_| rates.len() == topic.partitions.len()) else { return };
    sink.set(&HOT_RATIO, [name], skew.ratio);
    sink.set(&RATE_CV, [name], skew.cv);
    sink.set(&HOT_ID, [name], f64::from(skew.hottest));
    for index in skew.hot {
        sink.set(&PARTITION_HOT, [name, itoa::Buffer::new().format(index)], 1.0);
    }
}

/// A sum. Whoever may commit can commit any number, so it has to have an end.
fn total(values: impl Iterator<Item = i64>) -> i64 {
    values.fold(0, i64::saturating_add)
}

/// The partitions of a large group that are shown, by topic and number.
fn most_lagging(group: &GroupState, round: u64) -> BTreeSet<(&str, i32)> {
    let mut lags = Vec::new();
    for (name, topic) in &group.topics {
        for commit in &topic.commits {
            let lag = GroupTopic::shown(commit, round).map(|(lag, _)| lag.records);
            // Names and numbers decide where lags are equal, so that the same ones are shown from round to round.
            lags.extend(lag.map(|lag| (Reverse(lag), &**name, commit.partition)));
        }
    }
    lags.sort_unstable();
    lags.into_iter().take(MOST_LAGGING).map(|(_, topic, partition)| (topic, partition)).collect()
}

/// A group in a topic.
struct GroupView<'s> {
    group: &'s str,
    topic: &'s str,
    state: &'s GroupState,
    log: &'s TopicState,
    round: u64,
}

impl GroupView<'_> {
    /// The partitions, or only some of them.
    fn show_partitions(&self, topic: &GroupTopic, only: Option<&BTreeSet<(&str, i32)>>, sink: &mut Sink<'_>) {
        for commit in &topic.commits {
            if only.is_none_or(|only| only.contains(&(self.topic, commit.partition))) {
                let lag = GroupTopic::shown(commit, self.round).map(|(lag, _)| lag);
                self.show_partition(commit, lag, sink);
            }
        }
    }

    fn show_partition(&self, commit: &Commit, lag: Option<Lag>, sink: &mut Sink<'_>) {
        let mut buffer = itoa::Buffer::new();
        let labels = [self.group, self.topic, buffer.format(commit.partition)];
        sink.set(&GROUP_OFFSET, labels, number(commit.offset));
        let Some(lag) = lag else { return };
        sink.set(&GROUP_LAG, labels, number(lag.records));
        sink.set_some(&GROUP_LAG_SECONDS, labels, commit.age);
        if lag.lost > 0 {
            sink.set(&GROUP_LOST, labels, number(lag.lost));
        }
    }

    fn show_topic(&self, topic: &GroupTopic, sink: &mut Sink<'_>) {
        let labels = [self.group, self.topic];
        let lags: Vec<_> = topic.commits.iter().filter_map(|commit| GroupTopic::shown(commit, self.round)).collect();
        // A sum of a part would look like a group that has caught up.
        let is_whole = !topic.incomplete && lags.len() == topic.commits.len() && lags.iter().all(|(_, now)| *now);
        if is_whole {
            let offsets = total(topic.commits.iter().map(|commit| commit.offset));
            sink.set(&GROUP_OFFSET_SUM, labels, number(offsets));
            sink.set(&GROUP_LAG_SUM, labels, number(total(lags.iter().map(|(lag, _)| lag.records))));
            sink.set_some(&GROUP_LAG_MAX, labels, lags.iter().map(|(lag, _)| lag.records).max().map(number));
            sink.set_some(&GROUP_DRAIN, labels, topic.drain.seconds());
            let ages: Option<Vec<_>> = topic.commits.iter().map(|commit| commit.age).collect();
            sink.set_some(&GROUP_LAG_SECONDS_MAX, labels, ages.and_then(|ages| ages.into_iter().reduce(f64::max)));
            let headroom = lags.iter().filter_map(|(lag, _)| lag.headroom).reduce(f32::min);
            sink.set_some(&GROUP_HEADROOM, labels, headroom.map(f64::from));
        }
        let partitions = self.log.partitions.len();
        let committed = topic
            .commits
            .iter()
            .filter(|commit| usize::try_from(commit.partition).is_ok_and(|index| index < partitions));
        self.show_unclaimed(committed.count(), sink);
        sink.set(&GROUP_AHEAD, labels, count(lags.iter().filter(|(lag, _)| lag.ahead).count()));
        sink.set(&GROUP_PROGRESS, labels, topic.progress);
    }

    /// The partitions without a commit or an owner. Also of topics that members own without having committed anything yet.
    fn show_unclaimed(&self, committed: usize, sink: &mut Sink<'_>) {
        let (labels, partitions) = ([self.group, self.topic], self.log.partitions.len());
        sink.set(&GROUP_UNCOMMITTED, labels, count(partitions.saturating_sub(committed)));
        if let Some(owned) = self.state.owned.as_ref().filter(|_| self.state.consumes) {
            let owned = owned.get(self.topic).map_or(0, BTreeSet::len);
            sink.set(&GROUP_UNASSIGNED, labels, count(partitions.saturating_sub(owned)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_lags_as_many_are_shown_as_of_others_and_the_same_ones_each_time() {
        let commit = |partition: i32, end| Commit {
            partition,
            offset: 10,
            lag: Some((Lag::new(10, Some(0), end), 1)),
            age: None,
            record: None,
        };
        let mut group = GroupState::default();
        for topic in ["a", "b"] {
            // Of the second topic one lags more than all others.
            let commits = (0..300).map(|index| commit(index, if (topic, index) == ("b", 299) { 31 } else { 30 }));
            group.topics.insert(topic.into(), GroupTopic { commits: commits.collect(), ..GroupTopic::default() });
        }
        let shown = most_lagging(&group, 1);
        let expected: BTreeSet<_> = (0..19).map(|index| ("a", index)).chain([("b", 299)]).collect();
        assert_eq!(shown, expected);
        // What is not known does not lag.
        group.topics.values_mut().flat_map(|topic| &mut topic.commits).for_each(|commit| commit.lag = None);
        assert!(most_lagging(&group, 1).is_empty());
    }
}
