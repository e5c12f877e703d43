//! Topics, brokers and groups: the cluster cycle.

use super::super::client::api::metadata::{Partition, Topology};
use super::super::metrics::{
    BROKER_INFO, BROKER_LEADERS, BROKER_REPLICAS, BROKERS, CLUSTER_NOT_PREFERRED, CLUSTER_OFFLINE, CLUSTER_PARTITIONS,
    CLUSTER_UNDER_MIN_ISR, CLUSTER_URP, CONTROLLER, COUNT_CHANGED, COUNT_CHANGES, GROUP_INFO, GROUP_MEMBERS,
    GROUP_STATE, IMBALANCE, LEADER_CHANGES, LEADER_SKEW, PARTITION_ISR, PARTITION_LEADER, PARTITION_OFFLINE,
    PARTITION_PREFERRED, PARTITION_REPLICAS, PARTITION_START, PARTITION_UNDER_MIN_ISR, PARTITION_URP, REPLICA_SKEW,
    REPLICATION, TOPIC_PARTITIONS,
};
use super::super::skew::broker_shares;
use super::super::state::{State, TopicState, is_fresh};
use super::{Sink, count, flag, number};

/// The states that groups are in, spelled as Kafka spells them; what is none of them is `Unknown`.
const STATES: &[&str] = &[
    "Unknown",
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Empty",
    "Assigning",
    "Reconciling",
    "NotReady",
];

/// How many partitions are in a bad way.
#[derive(Default)]
struct Tally {
    partitions: usize,
    offline: usize,
    under_replicated: usize,
    not_preferred: usize,
    /// None as soon as one topic's setting is not known.
    under_min_isr: Option<usize>,
}

pub(super) fn show(state: &mut State, sink: &mut Sink<'_>) {
    let State { gone_topics, gone_groups, topics, groups, .. } = state;
    for topic in gone_topics.round().into_iter().filter(|topic| !topics.contains_key(topic)) {
        sink.rec.end(&["topic"], &topic);
    }
    for group in gone_groups.round().into_iter().filter(|group| !groups.contains_key(group)) {
        sink.rec.end(&["consumergroup"], &group);
    }
    show_counters(state, sink);
    let Some(topology) = state.topology.clone() else { return };
    if !is_fresh(state.topology_round, state.cluster_round) {
        return;
    }
    let mut tally = Tally { under_min_isr: Some(0), ..Tally::default() };
    for topic in &topology.topics {
        let Some(known) = state.topics.get(&topic.name) else { continue };
        for partition in &topic.partitions {
            show_partition((&topic.name, partition), known, state, &mut tally, sink);
        }
        if known.min_isr.is_none() {
            tally.under_min_isr = None;
        }
        let labels = [&*topic.name];
        sink.set(&TOPIC_PARTITIONS, labels, count(topic.partitions.len()));
        let replicas = |partition: &Partition| partition.replicas.len() - adding(state, &topic.name, partition);
        sink.set_some(&REPLICATION, labels, topic.partitions.iter().map(replicas).min().map(count));
        sink.set_some(&COUNT_CHANGED, labels, known.count_changed);
    }
    sink.set(&CLUSTER_PARTITIONS, [], count(tally.partitions));
    sink.set(&CLUSTER_OFFLINE, [], count(tally.offline));
    sink.set(&CLUSTER_URP, [], count(tally.under_replicated));
    sink.set(&CLUSTER_NOT_PREFERRED, [], count(tally.not_preferred));
    sink.set_some(&CLUSTER_UNDER_MIN_ISR, [], tally.under_min_isr.map(count));
    show_brokers(state, &topology, sink);
    show_groups(state, sink);
}

/// How many replicas of a partition are only just being added.
fn adding(state: &State, topic: &str, partition: &Partition) -> usize {
    let adding = state.moves.adding(topic, partition.index);
    partition.replicas.iter().filter(|replica| adding.contains(replica)).count()
}

fn show_partition(
    (topic, partition): (&str, &Partition),
    known: &TopicState,
    state: &State,
    tally: &mut Tally,
    sink: &mut Sink<'_>,
) {
    let mut buffer = itoa::Buffer::new();
    let labels = [topic, buffer.format(partition.index)];
    let place = usize::try_from(partition.index).ok().and_then(|index| known.partitions.get(index));
    let start = place.filter(|known| is_fresh(known.start.1, state.cluster_round)).map(|known| number(known.start.0));
    sink.set_some(&PARTITION_START, labels, start);
    sink.set(&PARTITION_LEADER, labels, f64::from(partition.leader));
    sink.set(&PARTITION_REPLICAS, labels, count(partition.replicas.len()));
    sink.set(&PARTITION_ISR, labels, count(partition.in_sync.len()));
    let is_preferred = partition.replicas.first() == Some(&partition.leader);
    sink.set(&PARTITION_PREFERRED, labels, flag(is_preferred));
    // KIP-352: a replica that is being added is not expected to be in sync yet.
    let adding = state.moves.adding(topic, partition.index);
    let expected = partition.replicas.iter().filter(|replica| !adding.contains(replica));
    let is_under_replicated = expected.clone().any(|replica| !partition.in_sync.contains(replica));
    sink.set(&PARTITION_URP, labels, flag(is_under_replicated));
    let is_offline = partition.leader < 0;
    if is_offline {
        sink.set(&PARTITION_OFFLINE, labels, 1.0);
    }
    // A topic with fewer replicas than that takes as many as it has (`Partition.effectiveMinIsr`).
    let is_under_min_isr =
        known.min_isr.is_some_and(|least| partition.in_sync.len() < least.min(partition.replicas.len()));
    if is_under_min_isr {
        sink.set(&PARTITION_UNDER_MIN_ISR, labels, 1.0);
    }
    tally.partitions += 1;
    tally.offline += usize::from(is_offline);
    tally.under_replicated += usize::from(is_under_replicated);
    tally.not_preferred += usize::from(!is_preferred);
    tally.under_min_isr = tally.under_min_isr.map(|all| all + usize::from(is_under_min_isr));
}

fn show_brokers(state: &State, topology: &Topology, sink: &mut Sink<'_>) {
    sink.set(&BROKERS, [], count(topology.brokers.len()));
    for broker in &topology.brokers {
        let (mut id, address) = (itoa::Buffer::new(), format!("{}:{}", broker.host, broker.port));
        sink.set(&BROKER_INFO, [id.format(broker.id), &address], 1.0);
    }
    if let Some(controller) = state.controller {
        sink.set(&CONTROLLER, [itoa::Buffer::new().format(controller)], 1.0);
    }
    let live: Vec<_> = topology.brokers.iter().map(|broker| broker.id).collect();
    let partitions = topology.topics.iter().flat_map(|topic| &topic.partitions);
    for share in broker_shares(&live, partitions.map(|partition| (partition.leader, &*partition.replicas))) {
        let mut buffer = itoa::Buffer::new();
        let labels = [buffer.format(share.broker)];
        sink.set(&BROKER_LEADERS, labels, count(share.leaders));
        sink.set(&BROKER_REPLICAS, labels, count(share.replicas));
        sink.set(&LEADER_SKEW, labels, share.leader_skew);
        sink.set(&REPLICA_SKEW, labels, share.replica_skew);
        sink.set(&IMBALANCE, labels, share.imbalance);
    }
}

fn show_groups(state: &State, sink: &mut Sink<'_>) {
    for (name, group) in &state.groups {
        let mut coordinator = itoa::Buffer::new();
        let info = [&**name, group.kind.label(), &group.assignor, coordinator.format(group.coordinator)];
        sink.set(&GROUP_INFO, info, 1.0);
        sink.set_some(&GROUP_MEMBERS, [name], group.members.map(count));
        let now = STATES.iter().find(|state| **state == &*group.state).unwrap_or(&"Unknown");
        for of in STATES {
            sink.set(&GROUP_STATE, [name, of], flag(of == now));
        }
    }
}

fn show_counters(state: &mut State, sink: &mut Sink<'_>) {
    for (topic, changes) in &mut state.counters.leader_changes {
        sink.rec.add(&LEADER_CHANGES, [topic], std::mem::take(changes) as f64);
    }
    for (topic, (more, fewer)) in &mut state.counters.count_changes {
        sink.rec.add(&COUNT_CHANGES, [topic, "increase"], std::mem::take(more) as f64);
        sink.rec.add(&COUNT_CHANGES, [topic, "decrease"], std::mem::take(fewer) as f64);
    }
}
