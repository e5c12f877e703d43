//! Disks: the storage cycle.

use std::collections::BTreeMap;

use super::super::metrics::{DIR_OFFLINE, DIR_SIZE, DIR_TOTAL, DIR_USABLE, TOPIC_SIZE};
use super::super::state::{Source, State};
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
                let bytes: i64 = replicas.iter().map(|replica| replica.bytes).sum();
                size = size.saturating_add(bytes);
                *topics.entry(topic).or_default() += bytes;
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
    // Without the replicas of a broker that did not answer, every topic would seem to have shrunk.
    if state.sources.is_whole(Source::LogDirs) {
        for (topic, bytes) in topics.into_iter().filter(|(topic, _)| state.topics.contains_key(*topic)) {
            sink.set(&TOPIC_SIZE, [topic], number(bytes));
        }
    }
}
