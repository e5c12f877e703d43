//! What the fake cluster pretends to hold: everything follows from a few numbers and the time, so that nothing is stored.

use std::ops::Range;
use std::time::{Duration, SystemTime};

/// How many records each partition had before the fake started.
const HISTORY: i64 = 100_000;
/// The oldest record that is retained.
const START: i64 = 1_000;
/// The time between two records of a partition in milliseconds, by the partition; each divides 1 000. One in ten is idle.
const STEPS: [i64; 10] = [1000, 500, 250, 200, 125, 100, 1000, 500, 250, 0];
/// How long ago an idle partition had its last record, in milliseconds, and how far apart its records are.
const IDLE: (i64, i64) = (3_600_000, 1000);
/// One in so many commits is far behind: by [`FAR`] records.
const FAR_ONE_IN: i64 = 20;
const FAR: i64 = 10_000;

/// The size of a fake cluster. Every topic has as many partitions, every group as many topics.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Brokers, with the ids from 1 on.
    pub brokers: i32,
    /// Topics, named `topic-00000` and so on.
    pub topics: i32,
    /// Partitions of a topic.
    pub partitions: i32,
    /// Groups, named `group-00000` and so on.
    pub groups: i32,
    /// Topics that a group has committed in, all partitions of each.
    pub topics_of_group: i32,
    /// One in so many groups is of the new protocol (KIP-848); 0 is none.
    pub new_protocol_one_in: i32,
    /// The newest version of an API that the brokers speak, by its number on the wire, where it is not the newest there is.
    pub newest: Vec<(i16, i16)>,
    /// Whether records arrive and groups read them. Otherwise every offset stays where it is.
    pub is_moving: bool,
}

impl Default for Shape {
    /// 12 brokers, 10 000 partitions, 1 000 groups with 50 000 commits, all of the classic protocol, moving.
    fn default() -> Self {
        Self {
            brokers: 12,
            topics: 1_000,
            partitions: 10,
            groups: 1_000,
            topics_of_group: 5,
            new_protocol_one_in: 0,
            newest: Vec::new(),
            is_moving: true,
        }
    }
}

impl Shape {
    pub(super) fn topic_name(topic: i32) -> String {
        format!("topic-{topic:05}")
    }

    pub(super) fn group_name(group: i32) -> String {
        format!("group-{group:05}")
    }

    /// The topic of that name.
    pub(super) fn topic(&self, name: &str) -> Option<i32> {
        let topic = name.strip_prefix("topic-")?.parse().ok()?;
        (0..self.topics).contains(&topic).then_some(topic)
    }

    /// The group of that name.
    pub(super) fn group(&self, name: &str) -> Option<i32> {
        let group = name.strip_prefix("group-")?.parse().ok()?;
        (0..self.groups).contains(&group).then_some(group)
    }

    /// The replicas of a partition, its leader first.
    pub(super) fn replicas(&self, topic: i32, partition: i32) -> impl Iterator<Item = i32> + use<> {
        let (first, brokers) = (topic * self.partitions + partition, self.brokers);
        (first..first + brokers.min(3)).map(move |place| place % brokers + 1)
    }

    pub(super) fn leads(&self, broker: i32, topic: i32, partition: i32) -> bool {
        self.replicas(topic, partition).next() == Some(broker)
    }

    pub(super) fn coordinator(&self, group: i32) -> i32 {
        group % self.brokers + 1
    }

    pub(super) fn is_of_new_protocol(&self, group: i32) -> bool {
        self.new_protocol_one_in > 0 && group % self.new_protocol_one_in == 0
    }

    /// The topics that a group has committed in.
    pub(super) fn topics_of(&self, group: i32) -> impl Iterator<Item = i32> + use<> {
        let (first, topics) = (group * self.topics_of_group, self.topics);
        (first..first + self.topics_of_group.min(topics)).map(move |place| place % topics)
    }

    pub(super) fn all_partitions(&self) -> Range<i32> {
        0..self.partitions
    }
}

/// The offsets of a shape as time goes by.
#[derive(Debug)]
pub(super) struct Clock {
    started: SystemTime,
    is_moving: bool,
}

impl Clock {
    pub(super) fn start(shape: &Shape) -> Self {
        Self { started: SystemTime::now(), is_moving: shape.is_moving }
    }

    /// Now, in milliseconds since the start.
    pub(super) fn now(&self) -> i64 {
        if self.is_moving { millis(self.started.elapsed().unwrap_or_default()) } else { 0 }
    }

    /// The start in Unix milliseconds.
    fn origin(&self) -> i64 {
        millis(self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// The offset after the last record of a partition.
    pub(super) fn end(log: i32, now: i64) -> i64 {
        // Offsets are counted such that the record of number HISTORY arrives at the start.
        step(log).map_or(HISTORY, |step| HISTORY + now / step + 1)
    }

    pub(super) fn start_offset() -> i64 {
        START
    }

    /// What a group has committed: half of them have read everything, most others lag by a few records.
    pub(super) fn commit(group: i32, log: i32, now: i64) -> i64 {
        let kind = i64::from(group).wrapping_mul(7).wrapping_add(i64::from(log)) % FAR_ONE_IN;
        let lag = match kind {
            0..10 => 0,
            _ if kind == FAR_ONE_IN - 1 => FAR,
            few => few,
        };
        (Self::end(log, now) - lag).max(START)
    }

    /// The first record at or after a timestamp in Unix milliseconds: its offset and timestamp.
    pub(super) fn first_after(&self, log: i32, timestamp: i64, now: i64) -> Option<(i64, i64)> {
        let since = timestamp - self.origin();
        let (step, origin) = step(log).map_or((IDLE.1, -IDLE.0), |step| (step, 0));
        let offset =
            (HISTORY + (since - origin).div_euclid(step) + i64::from((since - origin).rem_euclid(step) > 0)).max(START);
        (offset < Self::end(log, now)).then(|| (offset, self.origin() + origin + (offset - HISTORY) * step))
    }
}

/// The milliseconds between two records of a partition; none if it is idle.
fn step(log: i32) -> Option<i64> {
    let place = usize::try_from(log).unwrap_or(0) % STEPS.len();
    Some(STEPS[place]).filter(|step| *step > 0)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_and_offsets_agree() {
        let clock = Clock::start(&Shape::default());
        for log in 0..10 {
            for now in [0, 1, 999, 12_345] {
                let end = Clock::end(log, now);
                let (offset, at) = clock.first_after(log, 0, now).unwrap();
                assert_eq!(offset, START);
                assert_eq!(clock.first_after(log, at, now), Some((offset, at)));
                assert_eq!(clock.first_after(log, at + 1, now).map(|next| next.0), Some(START + 1));
                let (last, at) = clock.first_after(log, clock.origin() - 4_000_000, now).unwrap();
                assert!(last < end && at <= clock.origin() + now, "{log} at {now}: {last} of {end}");
                assert_eq!(clock.first_after(log, clock.origin() + now + 1, now), None);
            }
        }
    }
}
