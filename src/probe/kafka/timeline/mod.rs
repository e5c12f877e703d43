//! How old the first unconsumed record of a partition is, from what the broker answers to `ListOffsets` by timestamp.
//!
//! A question is a timestamp T. The answer is the first offset whose record has a timestamp ≥ T, and that timestamp. It
//! tells two things that stay true for as long as the log is not truncated: there is such a record, and every record
//! before it has a timestamp < T. Only these facts are kept, so nothing that is shown is extrapolated: what is shown is
//! the upper end of the bracket that the timestamp lies in, so the real age is never less than the age shown.
//!
//! Limits:
//! - Where producers set timestamps out of order, the age is a lower bound: records before the record in question hide it.
//! - A group whose next offset is neither answered nor followed closely by the next answer either has records of one and
//!   the same millisecond ahead of it, or a hole (compaction) up to the next answer. No question tells these apart; [`Holes`] does.
//! - A record that compaction removes after it was answered counts as there, until an answer says otherwise.
//! - Records without a timestamp, or with one in the future, are as old as our own view of them: their age is a lower
//!   bound too, too small by up to the time between two looks at the end of the log, and unknown for records that were
//!   there before the first look.

mod known;
mod questions;

use self::known::{Fact, Known, Look, thin_out};

/// A bracket this narrow is not narrowed further, in ms.
const NARROW: i64 = 1000;
/// A bracket may be shown when it is at most this share of the age.
const TOLERANCE: f64 = 0.02;
/// How far a record's timestamp may lie ahead of our clock before it counts as wrong, in ms: clocks of producers differ.
const SKEW: i64 = 60_000;

/// What is known of the timestamps of one partition, shared by all groups.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// The end of the log as seen last, and when it was first seen so.
    last: Look,
    /// The end that was seen before that.
    before: Look,
    holes: Holes,
    /// Allocated with the first answer: most partitions of a large cluster are never asked about.
    known: Option<Box<Known>>,
}

/// The age of a group's first unconsumed record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Age {
    /// There is no such record.
    CaughtUp,
    /// In seconds, at least 0.
    Known(f64),
    /// Not known well enough to be shown.
    Unknown,
}

/// Where a group stands in the partition. The first offset it wants is the larger of `committed` and `start`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// What the group committed: the next offset it will read.
    pub committed: i64,
    /// The first offset of the log.
    pub start: i64,
    /// The offset after the last one.
    pub end: i64,
}

/// Whether offsets between two records may have no record, which `cleanup.policy` tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Holes {
    /// Not known: an age that depends on it is unknown.
    #[default]
    Unsure,
    /// The log is not compacted. Every offset has a record.
    Never,
    /// The log is compacted. Where only this tells, the offsets up to the next answer count as removed: a lower bound.
    Compacted,
}

/// What the facts say of the timestamp in question.
enum Stand {
    CaughtUp,
    /// It is missing, or wrong.
    Useless,
    /// From `low` to `high`. Questions above `low` and up to `top` are worth asking.
    Within {
        low: i64,
        high: i64,
        top: i64,
    },
    /// There is no lower bound yet. Questions up to `top` are worth asking.
    Open {
        top: i64,
    },
}

impl Target {
    fn first(self) -> i64 {
        self.committed.max(self.start)
    }
}

impl Timeline {
    /// Says whether offsets may have no record. Without it, groups that stopped within a burst of one millisecond have no age.
    pub fn expect(&mut self, holes: Holes) {
        self.holes = holes;
    }

    /// The end of the log was `end` at the wall time `now`, in ms. Ends that go back are ignored: after a change of the leader
    /// the high watermark may, and a truncation is told by [`Self::reset`].
    pub fn saw_end(&mut self, end: i64, now: i64) {
        let looks = self.known.as_mut().and_then(|known| known.looks.as_mut());
        // The clock was set back: what was seen was seen by now at the latest.
        if now < self.last.at {
            self.last.at = now;
            self.before.at = self.before.at.min(now);
        }
        if end > self.last.end {
            self.before = self.last;
            self.last = Look { end, at: now };
        }
        if let Some(looks) = looks {
            looks.iter_mut().rev().take_while(|look| look.at > now).for_each(|look| look.at = now);
            if looks.last().is_none_or(|look| look.end < self.last.end) {
                looks.push(self.last);
            }
            thin_out(looks);
        }
    }

    /// Takes in the broker's answer to "the first record at or after the timestamp `asked`": its offset and timestamp, or none
    /// if no record below `end`, which was the end of the log before the question, is that young. Answers that cannot be are
    /// ignored; of two that contradict each other the later one counts.
    pub fn learn(&mut self, asked: i64, answer: Option<(i64, i64)>, end: i64) {
        let (offset, timestamp) = match answer {
            Some((offset, timestamp)) if asked >= 0 && offset >= 0 && timestamp >= asked => (offset, Some(timestamp)),
            None if asked >= 0 && end > 0 => (end, None),
            _ => return,
        };
        let useless = timestamp.map_or(asked <= 0, |timestamp| timestamp > self.last.at.saturating_add(SKEW));
        let known = self.known.get_or_insert_default();
        known.insert(Fact { offset, timestamp, asked, answer: 0 });
        if useless && known.looks.is_none() && self.last.end >= 0 {
            known.looks = Some([self.before, self.last].into_iter().filter(|look| look.end >= 0).collect());
        }
    }

    /// The age at the wall time `now`, in ms, of the first record at or after the target.
    pub fn age(&self, target: Target, now: i64) -> Age {
        let since = match self.stand(target, now) {
            Stand::CaughtUp => return Age::CaughtUp,
            Stand::Useless => self.arrival(target.first()),
            Stand::Within { low, high, .. } => (high.saturating_sub(low) <= tolerated(high, now)).then_some(high),
            Stand::Open { .. } => None,
        };
        since.map_or(Age::Unknown, |since| Age::Known(now.saturating_sub(since).max(0) as f64 / 1000.0))
    }

    /// Timestamps worth asking the broker for, the best first, at most `most`. None when the age is known within a second, or
    /// cannot be known any better.
    pub fn questions(&self, target: Target, now: i64, most: usize) -> Vec<i64> {
        let mut asks = match self.stand(target, now) {
            Stand::Within { low, high, top } if high.saturating_sub(low) > NARROW && top > low => {
                self.narrowing(target, low, top, most)
            }
            Stand::Open { top } if top >= 0 => self.opening(target.first(), top, now, most),
            _ => Vec::new(),
        };
        asks.truncate(most);
        asks
    }

    /// Forgets all: the log was truncated or begins anew (leader epoch, new topic id).
    pub fn reset(&mut self) {
        *self = Self { holes: self.holes, ..Self::default() };
    }

    /// The log starts at `start` now. Of what is below it, only the last of each kind is of use: as a lower bound.
    pub fn advance_start(&mut self, start: i64) {
        let Some(known) = &mut self.known else { return };
        let last_below = known.facts.iter().rposition(|fact| fact.offset < start && fact.timestamp.is_some());
        let mut index = 0;
        known.facts.retain(|fact| {
            index += 1;
            fact.offset >= start || Some(index - 1) == last_below
        });
        if let Some(looks) = &mut known.looks {
            let below = looks.partition_point(|look| look.end <= start);
            looks.drain(..below.saturating_sub(1));
        }
    }

    /// Forgets what is of no use for any of these targets: all but the closest facts on either side of each.
    pub fn keep_for(&mut self, targets: &[Target]) {
        let Some(known) = &mut self.known else { return };
        let mut wanted = vec![false; known.facts.len()];
        for target in targets {
            let above = known.above(target.first());
            if let Some(wanted) = wanted.get_mut(above) {
                *wanted = true;
            }
            if let Some(below) = known.facts[..above].iter().rposition(|fact| fact.timestamp.is_some()) {
                wanted[below] = true;
            }
        }
        let mut wanted = wanted.into_iter();
        known.facts.retain(|_| wanted.next().unwrap_or(true));
        known.facts.shrink_to_fit();
        known.groups = targets.len();
    }

    /// The closest facts: the last record below `first`, and the first fact at or above it.
    fn around(&self, first: i64) -> (Option<Fact>, Option<Fact>) {
        let Some(known) = &self.known else { return (None, None) };
        let above = known.above(first);
        let below = known.facts[..above].iter().rfind(|fact| fact.timestamp.is_some());
        (below.copied(), known.facts.get(above).copied())
    }

    fn stand(&self, target: Target, now: i64) -> Stand {
        let first = target.first();
        if first >= target.end {
            return Stand::CaughtUp;
        }
        let latest = now.saturating_add(SKEW);
        let (below, above) = self.around(first);
        let low = below.and_then(|below| below.timestamp);
        if low.is_some_and(|low| low > latest) {
            return Stand::Useless;
        }
        let asked = above.map_or(now.saturating_add(1), |above| above.asked);
        let top = asked.saturating_sub(1).min(now);
        let exactly = |at: i64| {
            if at > latest { Stand::Useless } else { Stand::Within { low: at, high: at, top: at } }
        };
        // The record after `first` that is known to be there, and its timestamp.
        let next = above.and_then(|above| Some((above.offset, above.timestamp?)));
        match (next, low) {
            (Some((offset, at)), _) if offset == first => exactly(at),
            // No record below the answer has a timestamp at all.
            (Some((_, at)), _) if asked <= 0 && self.holes != Holes::Never => exactly(at),
            (Some((_, at)), Some(low)) if top <= low && self.holes == Holes::Compacted => exactly(at),
            (_, _) if asked <= 0 => Stand::Useless,
            (_, None) => Stand::Open { top },
            // There may be no record before the answer, so that its own timestamp is the one.
            (Some((_, at)), Some(low)) if self.holes != Holes::Never || at.saturating_sub(low) <= NARROW => {
                Stand::Within { low, high: at.min(now), top }
            }
            (_, Some(low)) => Stand::Within { low, high: top, top },
        }
    }

    /// When we first saw a log that had the offset; none if it was there before we looked.
    fn arrival(&self, offset: i64) -> Option<i64> {
        let two = [self.before, self.last];
        let looks = self.known.as_ref().and_then(|known| known.looks.as_deref()).unwrap_or(&two);
        let after = looks.partition_point(|look| look.end <= offset);
        let seen_before = after > 0 && looks[after - 1].end >= 0;
        looks.get(after).filter(|_| seen_before).map(|look| look.at)
    }
}

/// The widest bracket up to `high` that may be shown, in ms.
fn tolerated(high: i64, now: i64) -> i64 {
    NARROW.max((now.saturating_sub(high) as f64 * TOLERANCE) as i64)
}

#[cfg(test)]
mod tests;
