//! What is known of the timestamps of one partition: facts that answers told, and looks at the end of the log.

use super::NARROW;
use super::questions::line;

/// The most facts that are kept of a partition, of 32 bytes each; eight times as many if very many groups need them.
const MOST_FACTS: usize = 64;
/// The most looks at the end of the log that are kept of a partition whose timestamps are of no use, of 16 bytes each.
pub(super) const MOST_LOOKS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Ascending in offset, in `asked` and in the timestamps.
    pub(super) facts: Vec<Fact>,
    /// Kept only once timestamps turned out to be of no use. Ascending.
    pub(super) looks: Option<Vec<Look>>,
    /// Counts answers, to forget the oldest first.
    pub(super) answers: u32,
    /// How many groups the facts are kept for, as told last.
    pub(super) groups: usize,
}

/// All records below `offset` have timestamps < `asked`. With a timestamp, the record at `offset` has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub(super) offset: i64,
    pub(super) timestamp: Option<i64>,
    pub(super) asked: i64,
    /// The number of the answer.
    pub(super) answer: u32,
}

/// The end of the log was `end` at the wall time `at`, and had not been before, as far as we looked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// −1: no look yet.
    pub(super) end: i64,
    pub(super) at: i64,
}

impl Default for Look {
    fn default() -> Self {
        Self { end: -1, at: 0 }
    }
}

impl Known {
    /// The index of the first fact at or above `first`.
    pub(super) fn above(&self, first: i64) -> usize {
        self.facts.partition_point(|fact| fact.offset < first)
    }

    /// The question for `first` if records go on as between the last two known before it.
    pub(super) fn pace(&self, first: i64, top: i64) -> Option<i64> {
        let mut below = self.facts[..self.above(first)].iter().rev().filter(|fact| fact.timestamp.is_some());
        let (later, earlier) = (below.next()?, below.next()?);
        Some(line(*earlier, later.offset as f64, later.timestamp?, first, top))
    }

    /// Whether the last two answers on one side of `first` are close together: guesses do not get any further.
    pub(super) fn crawls(&self, first: i64) -> bool {
        let above = self.above(first);
        let close = |one: Option<&Fact>, other: Option<&Fact>| {
            one.zip(other).is_some_and(|(one, other)| other.asked.saturating_sub(one.asked) < 2 * NARROW)
        };
        let upwards = above >= 2 && close(self.facts.get(above - 2), self.facts.get(above - 1));
        upwards || close(self.facts.get(above), self.facts.get(above + 1))
    }

    pub(super) fn insert(&mut self, mut new: Fact) {
        self.answers = self.answers.wrapping_add(1);
        new.answer = self.answers;
        let contradicts = |old: &Fact| match old.offset.cmp(&new.offset) {
            std::cmp::Ordering::Less => old.timestamp.is_some_and(|at| at >= new.asked),
            std::cmp::Ordering::Equal => false,
            std::cmp::Ordering::Greater => new.timestamp.is_some_and(|at| at >= old.asked),
        };
        self.facts.retain(|old| !contradicts(old));
        if let Some(old) = self.facts.iter_mut().find(|old| old.offset == new.offset) {
            old.asked = old.asked.min(new.asked);
            old.timestamp = new.timestamp.or(old.timestamp);
            old.answer = new.answer;
            new = *old;
        } else if new.timestamp.is_none()
            && self.facts.iter().any(|old| old.offset > new.offset && old.asked <= new.asked)
        {
            return;
        } else {
            let index = self.above(new.offset);
            self.facts.insert(index, new);
        }
        // What says no more than the new one.
        self.facts.retain(|old| old.timestamp.is_some() || old.offset >= new.offset || old.asked < new.asked);
        if self.facts.len() > MOST_FACTS.max(self.groups.saturating_mul(3)).min(MOST_FACTS * 8) {
            let oldest = self
                .facts
                .iter()
                .enumerate()
                .min_by_key(|(_, fact)| fact.answer.wrapping_sub(self.answers.wrapping_add(1)));
            if let Some((index, _)) = oldest {
                self.facts.remove(index);
            }
        }
    }
}

/// Drops the looks that matter least: those whose neighbours are close together, compared with their age.
pub(super) fn thin_out(looks: &mut Vec<Look>) {
    while looks.len() > MOST_LOOKS {
        let newest = looks.last().map_or(0, |look| look.at);
        let worth = |three: &[Look]| {
            let age = newest.saturating_sub(three[0].at) as f64 + 1.0;
            three[2].at.saturating_sub(three[0].at) as f64 / age
        };
        let least = looks.windows(3).map(worth).enumerate().min_by(|one, other| one.1.total_cmp(&other.1));
        let Some((index, _)) = least else { return };
        looks.remove(index + 1);
    }
}
