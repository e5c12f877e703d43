//! Reassignments in progress: how much is left to copy, how fast it goes, and when it will be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// The time constant of a rate, in seconds.
const TIME_CONSTANT: f64 = 60.0;
/// After this many samples in a row without progress, or without an answer, a move counts as stalled,
const STALLED_AFTER: u32 = 3;
/// and after so long: a throttled replica gets up to 10 MiB at once (`replica.fetch.response.max.bytes`), and then nothing until
/// that is within its quota again, while the other replicas of its broker take turns.
const STALLED_FOR: Duration = Duration::from_secs(20);

/// A partition that `ListPartitionReassignments` lists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moving<'l> {
    pub topic: &'l Arc<str>,
    pub partition: i32,
    /// All replicas, old and new.
    pub replicas: &'l [i32],
    pub adding: &'l [i32],
    pub removing: &'l [i32],
}

/// What was measured of one replica that is being added; what is unknown is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub leader_bytes: Option<u64>,
    pub replica_bytes: Option<u64>,
    pub leader_end: Option<i64>,
    pub replica_end: Option<i64>,
}

/// One replica that is being added. Remaining and total are those of the last sample that there was.
#[derive(Debug, Clone)]
pub(super) struct MoveView<'m> {
    pub topic: &'m Arc<str>,
    pub partition: i32,
    pub broker: i32,
    pub remaining_bytes: Option<f64>,
    /// The leader's size.
    pub total_bytes: Option<f64>,
    pub remaining_records: Option<f64>,
    /// How fast the gap to the leader closes, in bytes per second; negative if it grows.
    pub rate: Option<f64>,
    /// None as long as it is not known, and when stalled.
    pub eta_seconds: Option<f64>,
    pub stalled: bool,
    /// When it was first listed, in unix seconds.
    pub started: f64,
}

/// All replicas that one broker receives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BrokerView {
    pub broker: i32,
    /// None as long as that of one of them is unknown.
    pub remaining_bytes: Option<f64>,
    /// Bytes per second, all together, of those that move.
    pub rate: Option<f64>,
    pub eta_seconds: Option<f64>,
}

/// What happened to reassignments of partitions since the last call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub started: u64,
    pub completed: u64,
    /// Or the topic went away.
    pub cancelled: u64,
}

/// All partitions that are being reassigned.
#[derive(Debug, Default)]
pub(super) struct Moves {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, Move>>,
    /// The replicas that moves were adding when they were found to be over, by topic and partition, and when that was.
    ended: BTreeMap<Arc<str>, BTreeMap<i32, Ended>>,
    /// How fast each broker receives all that it is to receive.
    flows: BTreeMap<i32, Flow>,
    counts: Counts,
}

/// When a move was found to be over, and what it was adding.
type Ended = (Instant, Vec<i32>);

#[derive(Debug, Default)]
struct Move {
    /// The replicas that it will have, ascending.
    aim: Vec<i32>,
    adding: Vec<i32>,
    /// One for each of `adding`, in that order.
    tracks: Vec<Track>,
}

/// How one replica catches up.
#[derive(Debug, Clone, Default)]
struct Track {
    broker: i32,
    started: f64,
    /// The last sample: when, and the leader's bytes that the replica does not have.
    last: Option<(Instant, f64)>,
    total: Option<f64>,
    records: Option<f64>,
    rate: Average,
    /// Samples in a row without progress.
    idle: u32,
    /// When there was progress last, or was first looked for it.
    moved: Option<Instant>,
    /// When was last looked for it.
    looked: Option<Instant>,
}

/// A moving average of a rate.
#[derive(Debug, Clone, Copy, Default)]
struct Average {
    /// Times its weight.
    sum: f64,
    /// How much of all weight the rates so far have: the sum divided by it is the plain average in the beginning.
    weight: f64,
}

impl Average {
    fn saw(&mut self, rate: f64, seconds: f64) {
        let share = -(-seconds / TIME_CONSTANT).exp_m1();
        self.sum += (rate - self.sum) * share;
        self.weight += (1.0 - self.weight) * share;
    }

    fn get(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// What one broker receives. Its replicas share one throttle: when one of them is done or waits for its turn the others go the
/// faster, so that the rates of those that are left would not add up to that of the broker.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    /// When it was last measured.
    last: Option<Instant>,
    /// Bytes that arrived since then.
    arrived: f64,
    rate: Average,
}

impl Moves {
    /// Takes in the list of all that moves. `replicas_now` are the replicas of a partition that is not moving any more, read after the
    /// list, or none if it is gone: they tell whether it was completed or cancelled. `wall` is now, in unix seconds.
    pub fn listed(&mut self, listing: &[Moving<'_>], replicas_now: impl Fn(&str, i32) -> Option<Vec<i32>>, wall: f64) {
        let mut before = std::mem::take(&mut self.topics);
        for moving in listing {
            let old = before.get_mut(moving.topic).and_then(|topic| topic.remove(&moving.partition));
            self.counts.started += u64::from(old.is_none());
            let new = Move::new(moving, &old.unwrap_or_default(), wall);
            self.topics.entry(Arc::clone(moving.topic)).or_default().insert(moving.partition, new);
        }
        for (topic, partitions) in before {
            for (partition, old) in partitions {
                let now = replicas_now(&topic, partition).map(sorted);
                let is_completed = now.as_ref() == Some(&old.aim);
                let count = if is_completed { &mut self.counts.completed } else { &mut self.counts.cancelled };
                *count += 1;
                for track in &old.tracks {
                    // What was missing has come, or will never.
                    let flow = self.flows.entry(track.broker).or_default();
                    flow.arrived += track.remaining().unwrap_or(0.0) * f64::from(u8::from(is_completed));
                }
                let ended = self.ended.entry(Arc::clone(&topic)).or_default();
                ended.insert(partition, (Instant::now(), old.adding));
            }
        }
    }

    /// Forgets what was being added by moves that were known to be over before `asked`, when the topics that are known now were
    /// asked for.
    pub fn forget_ended(&mut self, asked: Instant) {
        for partitions in self.ended.values_mut() {
            partitions.retain(|_, (at, _)| *at >= asked);
        }
        self.ended.retain(|_, partitions| !partitions.is_empty());
    }

    /// Takes in a sample of each replica that is being added, by topic, partition and broker.
    pub fn measured(&mut self, at: Instant, sample: impl Fn(&str, i32, i32) -> Sample) {
        let mut answered = BTreeSet::new();
        for (topic, partitions) in &mut self.topics {
            for (partition, one) in partitions {
                for track in &mut one.tracks {
                    if let Some(arrived) = track.measured(at, &sample(topic, *partition, track.broker)) {
                        let flow = self.flows.entry(track.broker).or_default();
                        flow.arrived += arrived;
                        answered.insert(track.broker);
                    }
                }
            }
        }
        let receivers: BTreeSet<_> = self.tracks().map(|(_, _, track)| track.broker).collect();
        self.flows.retain(|broker, _| receivers.contains(broker));
        for (_, flow) in self.flows.iter_mut().filter(|(broker, _)| answered.contains(broker)) {
            flow.measured(at);
        }
    }

    /// Whether the rate of some replica is unknown only because it was measured but once.
    pub fn lacks_rates(&self) -> bool {
        self.tracks().any(|(_, _, track)| track.remaining().is_some_and(|gap| gap > 0.0) && track.rate().is_none())
    }

    /// Whether anything moves.
    pub fn is_active(&self) -> bool {
        !self.topics.is_empty()
    }

    /// The replicas that the partition is being given, or was when the topics that are known now were asked for; empty when it
    /// is not moving. Without the latter, a replica that was not yet in sync then would count as lacking as soon as the move
    /// is over.
    pub fn adding(&self, topic: &str, partition: i32) -> &[i32] {
        let moving = self.topics.get(topic).and_then(|partitions| partitions.get(&partition)).map(|one| &one.adding);
        let ended =
            || self.ended.get(topic).and_then(|partitions| partitions.get(&partition)).map(|(_, adding)| adding);
        moving.or_else(ended).map_or(&[], Vec::as_slice)
    }

    /// The partitions that are being reassigned, those that only lose or reorder replicas included.
    pub fn keys(&self) -> impl Iterator<Item = (&Arc<str>, i32)> {
        self.topics.iter().flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic, *partition)))
    }

    /// Every replica that is being added.
    pub fn each(&self) -> impl Iterator<Item = MoveView<'_>> {
        self.tracks().map(|(topic, partition, track)| MoveView {
            topic,
            partition,
            broker: track.broker,
            remaining_bytes: track.remaining(),
            total_bytes: track.total,
            remaining_records: track.records,
            rate: track.rate(),
            eta_seconds: track.eta(),
            stalled: track.stalled(),
            started: track.started,
        })
    }

    /// Every broker that receives replicas, ascending. Throttles are per broker: what it receives is done when all of it is.
    pub fn brokers(&self) -> Vec<BrokerView> {
        let mut brokers: BTreeMap<i32, Vec<&Track>> = BTreeMap::new();
        for (_, _, track) in self.tracks() {
            brokers.entry(track.broker).or_default().push(track);
        }
        let rate = |broker: i32| self.flows.get(&broker).and_then(|flow| flow.rate.get());
        brokers.into_iter().map(|(broker, tracks)| received(broker, &tracks, rate(broker))).collect()
    }

    /// Seconds until all is copied: those of the broker that takes the longest. None if one's are unknown.
    pub fn eta_seconds(&self) -> Option<f64> {
        self.brokers()
            .into_iter()
            .try_fold(0.0, |longest: f64, broker| Some(longest.max(broker.eta_seconds?)))
            .filter(|_| self.is_active())
    }

    /// What happened since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn tracks(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Track)> {
        let partitions = self
            .topics
            .iter()
            .flat_map(|(topic, all)| all.iter().map(move |(partition, one)| (topic, *partition, one)));
        partitions.flat_map(|(topic, partition, one)| one.tracks.iter().map(move |track| (topic, partition, track)))
    }
}

impl Move {
    /// The move as it is listed now. Brokers that `old` was adding too go on as they were.
    fn new(moving: &Moving<'_>, old: &Self, wall: f64) -> Self {
        let stays = moving.replicas.iter().filter(|replica| !moving.removing.contains(replica));
        let track = |broker: &i32| {
            let known = old.tracks.iter().find(|track| track.broker == *broker).cloned();
            known.unwrap_or_else(|| Track { broker: *broker, started: wall, ..Track::default() })
        };
        Self {
            aim: sorted(stays.copied().collect()),
            adding: moving.adding.to_vec(),
            tracks: moving.adding.iter().map(track).collect(),
        }
    }
}

impl Flow {
    fn measured(&mut self, at: Instant) {
        if let Some(last) = self.last {
            let seconds = at.saturating_duration_since(last).as_secs_f64();
            if seconds <= 0.0 {
                return;
            }
            self.rate.saw(self.arrived / seconds, seconds);
        }
        (self.last, self.arrived) = (Some(at), 0.0);
    }
}

impl Track {
    /// How much smaller the gap to the leader has become; none without an answer.
    fn measured(&mut self, at: Instant, sample: &Sample) -> Option<f64> {
        self.moved.get_or_insert(at);
        self.looked = Some(at);
        if let Some((leader, replica)) = sample.leader_end.zip(sample.replica_end) {
            self.records = Some(leader.saturating_sub(replica).max(0) as f64);
        }
        let Some((leader, replica)) = sample.leader_bytes.zip(sample.replica_bytes) else {
            // A leader that does not say how much it has says nothing about the receiver.
            self.idle = self.idle.saturating_add(u32::from(sample.replica_bytes.is_none()));
            return None;
        };
        let gap = leader.saturating_sub(replica) as f64;
        self.total = Some(leader as f64);
        let mut arrived = 0.0;
        if let Some((before, gap_before)) = self.last {
            let seconds = at.saturating_duration_since(before).as_secs_f64();
            if seconds <= 0.0 {
                return None;
            }
            arrived = gap_before - gap;
            self.rate.saw(arrived / seconds, seconds);
            let is_well = arrived > 0.0 || gap <= 0.0;
            (self.idle, self.moved) = if is_well { (0, Some(at)) } else { (self.idle.saturating_add(1), self.moved) };
        }
        self.last = Some((at, gap));
        Some(arrived)
    }

    fn remaining(&self) -> Option<f64> {
        self.last.map(|(_, gap)| gap)
    }

    fn rate(&self) -> Option<f64> {
        self.rate.get()
    }

    fn stalled(&self) -> bool {
        let idle_for = self.looked.zip(self.moved).map(|(now, moved)| now.saturating_duration_since(moved));
        self.idle >= STALLED_AFTER && idle_for >= Some(STALLED_FOR)
    }

    fn eta(&self) -> Option<f64> {
        let rate = self.rate().filter(|_| !self.stalled());
        eta(self.remaining()?, rate)
    }
}

/// What one broker receives.
fn received(broker: i32, tracks: &[&Track], rate: Option<f64>) -> BrokerView {
    let remaining: Option<f64> = tracks.iter().map(|track| track.remaining()).sum();
    // A replica that stands still waits for its share of the throttle, as long as others move.
    let is_moving = tracks.iter().any(|track| track.remaining() != Some(0.0) && !track.stalled());
    let rate = rate.filter(|_| is_moving);
    BrokerView {
        broker,
        remaining_bytes: remaining,
        rate,
        eta_seconds: remaining.and_then(|remaining| eta(remaining, rate)),
    }
}

/// Seconds until `remaining` is 0; none if that is never.
fn eta(remaining: f64, rate: Option<f64>) -> Option<f64> {
    if remaining <= 0.0 {
        return Some(0.0);
    }
    rate.filter(|rate| *rate > 0.0).map(|rate| remaining / rate)
}

fn sorted(mut brokers: Vec<i32>) -> Vec<i32> {
    brokers.sort_unstable();
    brokers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing<'l>(topic: &'l Arc<str>, replicas: &'l [i32], adding: &'l [i32], removing: &'l [i32]) -> Moving<'l> {
        Moving { topic, partition: 0, replicas, adding, removing }
    }

    fn bytes(leader: u64, replica: u64) -> Sample {
        Sample { leader_bytes: Some(leader), replica_bytes: Some(replica), ..Sample::default() }
    }

    fn moving(adding: &[i32]) -> Moves {
        let mut moves = Moves::default();
        moves.listed(&[listing(&"t".into(), &[1, 2, 3], adding, &[1])], |_, _| None, 100.0);
        moves
    }

    #[test]
    fn eta_is_right_from_half_way_on_under_a_constant_throttle() {
        for (lasting, every) in [(30.0, 2.0), (30.0, 10.0), (60.0, 2.0), (60.0, 7.0), (600.0, 10.0)] {
            let (mut moves, start) = (moving(&[3]), Instant::now());
            // Producers make the leader grow by a tenth of what is copied.
            let (size, speed) = (1e9, 1e9 / lasting);
            let mut seconds = 0.0;
            while seconds < lasting {
                let sample = bytes((size + seconds * speed * 0.1) as u64, (seconds * speed * 1.1) as u64);
                moves.measured(start + Duration::from_secs_f64(seconds), |_, _, _| sample);
                let (eta, truth) = (moves.eta_seconds(), lasting - seconds);
                assert_eq!(eta.is_none(), seconds == 0.0, "one sample is no rate");
                if seconds >= lasting / 2.0 {
                    let eta = eta.unwrap();
                    assert!((eta / truth - 1.0).abs() < 0.25, "{eta} instead of {truth}");
                }
                seconds += every;
            }
            moves.measured(start + Duration::from_secs_f64(seconds), |_, _, _| bytes(500, 500));
            assert_eq!(moves.eta_seconds(), Some(0.0));
        }
    }

    #[test]
    fn no_progress_or_no_answer_is_a_stall_that_ends() {
        for stuck in [bytes(1000, 100), Sample::default(), bytes(2000, 100)] {
            let (mut moves, start) = (moving(&[3]), Instant::now());
            let at = |seconds| start + Duration::from_secs(seconds);
            moves.measured(at(0), |_, _, _| bytes(1000, 0));
            moves.measured(at(10), |_, _, _| bytes(1000, 100));
            assert_eq!(moves.eta_seconds(), Some(90.0));
            for sample in 1..=4 {
                moves.measured(at(10 + 10 * sample), |_, _, _| stuck);
                let view = moves.each().next().unwrap();
                assert_eq!(view.stalled, sample >= 3);
                assert!(!view.stalled || view.eta_seconds.is_none() && moves.eta_seconds().is_none());
                assert!(view.remaining_bytes.unwrap() >= 900.0);
            }
            moves.measured(at(60), |_, _, _| bytes(1000, 900));
            let view = moves.each().next().unwrap();
            assert!(!view.stalled && view.eta_seconds.unwrap() > 0.0);
        }
    }

    #[test]
    fn replica_that_is_done_is_not_stalled() {
        let (mut moves, start) = (moving(&[3]), Instant::now());
        for seconds in 0..9 {
            moves.measured(start + Duration::from_secs(seconds), |_, _, _| bytes(1000, 1001));
        }
        let view = moves.each().next().unwrap();
        assert_eq!((view.stalled, view.remaining_bytes, view.eta_seconds), (false, Some(0.0), Some(0.0)));
    }

    #[test]
    fn ends_are_told_apart_and_counted_once() {
        let (topic, gone): (Arc<str>, Arc<str>) = ("t".into(), "gone".into());
        let mut moves = Moves::default();
        let list = [
            listing(&topic, &[1, 2, 3], &[3], &[1]),
            Moving { partition: 1, ..listing(&topic, &[1, 2, 3], &[3], &[1]) },
            listing(&gone, &[1, 2], &[2], &[]),
        ];
        moves.listed(&list, |_, _| None, 100.0);
        moves.listed(&list, |_, _| None, 110.0);
        assert_eq!(moves.take_counts(), Counts { started: 3, ..Counts::default() });
        assert_eq!((moves.keys().count(), moves.adding("t", 1)), (3, &[3][..]));
        assert!(moves.each().all(|view| (view.started - 100.0).abs() < 1e-9));
        let now = |topic: &str, partition| (topic == "t").then(|| if partition == 0 { vec![3, 2] } else { vec![1, 2] });
        moves.listed(&[], now, 120.0);
        assert_eq!(moves.take_counts(), Counts { started: 0, completed: 1, cancelled: 2 });
        assert_eq!(moves.take_counts(), Counts::default());
        assert!(!moves.is_active() && moves.eta_seconds().is_none());
        // Topics that were asked for while it moved show replicas that were not in sync yet.
        assert_eq!(moves.adding("t", 0), [3]);
        moves.forget_ended(Instant::now() + Duration::from_secs(1));
        assert!(moves.adding("t", 0).is_empty());
    }

    #[test]
    fn change_midway_keeps_what_goes_on() {
        let (topic, start): (Arc<str>, _) = ("t".into(), Instant::now());
        let mut moves = moving(&[3]);
        moves.measured(start, |_, _, _| bytes(1000, 0));
        moves.listed(&[listing(&topic, &[1, 2, 3, 4], &[4, 3], &[1])], |_, _| None, 200.0);
        moves.measured(start + Duration::from_secs(10), |_, _, broker| bytes(1000, if broker == 3 { 500 } else { 0 }));
        let views: Vec<_> = moves.each().map(|view| (view.broker, view.started, view.eta_seconds)).collect();
        assert_eq!(views, [(4, 200.0, None), (3, 100.0, Some(10.0))]);
        assert_eq!(moves.eta_seconds(), None, "one destination is unknown");
        assert_eq!(moves.take_counts().started, 1);
    }

    #[test]
    fn brokers_add_up_and_the_slowest_decides() {
        let (topic, start): (Arc<str>, _) = ("t".into(), Instant::now());
        let mut moves = Moves::default();
        let one = listing(&topic, &[1, 3, 4], &[3, 4], &[]);
        moves.listed(&[one, Moving { partition: 1, adding: &[3], ..one }], |_, _| None, 1.0);
        for seconds in [0, 10] {
            let speed = |partition, broker| if broker == 4 { 5 } else { 10 + 10 * partition as u64 };
            moves.measured(start + Duration::from_secs(seconds), |_, partition, broker| Sample {
                leader_end: Some(50),
                replica_end: Some(20),
                ..bytes(1000, seconds * speed(partition, broker))
            });
        }
        let brokers = moves.brokers();
        assert_eq!(brokers.iter().map(|view| view.broker).collect::<Vec<_>>(), [3, 4]);
        let near = |one: Option<f64>, other: f64| (one.unwrap() - other).abs() < 1e-6;
        assert!(near(brokers[0].remaining_bytes, 1700.0) && near(brokers[0].rate, 30.0));
        assert!(near(brokers[0].eta_seconds, 1700.0 / 30.0) && near(moves.eta_seconds(), 950.0 / 5.0));
        assert!(moves.each().all(|view| view.remaining_records == Some(30.0) && view.total_bytes == Some(1000.0)));
    }

    #[test]
    fn only_removing_is_in_progress_with_nothing_to_copy() {
        let mut moves = Moves::default();
        moves.listed(&[listing(&"t".into(), &[1, 2, 3], &[], &[3])], |_, _| None, 1.0);
        assert!(moves.is_active() && moves.each().next().is_none() && moves.brokers().is_empty());
        assert_eq!((moves.keys().count(), moves.eta_seconds()), (1, Some(0.0)));
        moves.listed(&[], |_, _| Some(vec![2, 1]), 2.0);
        assert_eq!(moves.take_counts(), Counts { started: 1, completed: 1, cancelled: 0 });
    }
}
