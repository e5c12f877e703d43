//! Disks: the storage cycle.

use std::collections::BTreeMap;

use super::super::metrics::{DIR_OFFLINE, DIR_SIZE, DIR_TOTAL, DIR_USABLE, TOPIC_SIZE};
use super::super::state::State;
use super::{Sink, flag, number};

pub(super) fn show(state: &State, sink: &mut Sink<'_>) {
    let mut topics: BTreeMap<&str, i64> = BTreeMap::new();
    for (broker, (_, dirs)) in &state.disks {
        let mut buffer = itoa::Buffer::new();
        let broker = buffer.format(*broker);
        for dir in &dirs.dirs {
            let labels = [broker, &dir.path];
            let mut size = 0i64;
            for (topic, replicas) in &dir.topics {
                let bytes = replicas.iter().fold(0i64, |sum, replica| sum.saturating_add(replica.bytes));
                size = size.saturating_add(bytes);
                let of_topic = topics.entry(topic).or_default();
                *of_topic = of_topic.saturating_add(bytes);
            }
            let is_offline = !dir.error.is_ok();
            sink.set(&DIR_OFFLINE, labels, flag(is_offline));
            if !is_offline {
                sink.set(&DIR_SIZE, labels, number(size));
            }
            sink.set_some(&DIR_TOTAL, labels, dir.total_bytes.map(number));
            sink.set_some(&DIR_USABLE, labels, dir.usable_bytes.map(number));
        }
    }
    // Without the replicas of a broker that did not answer or is gone, or of a disk that is offline, every topic would seem to
    // have shrunk.
    let is_whole = |broker: &i32| {
        let told = state.disks.get(broker).filter(|(round, _)| *round == state.storage_round);
        told.is_some_and(|(_, dirs)| dirs.dirs.iter().all(|dir| dir.error.is_ok()))
    };
    if state.known_brokers().iter().all(is_whole) {
        for (topic, bytes) in topics.into_iter().filter(|(topic, _)| state.topics.contains_key(*topic)) {
            sink.set(&TOPIC_SIZE, [topic], number(bytes));
        }
    }
}
