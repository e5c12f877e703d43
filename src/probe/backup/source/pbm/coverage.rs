//! Which points of time the saved oplog covers.
//!
//! A replica set's oplog is saved in chunks. There is a gap between two of them if the one ends before the next begins; a cluster can be
//! restored to a point that every replica set's chunks cover. The rules are those of `pbm status`.

use std::collections::BTreeMap;

/// A BSON timestamp: unix seconds, and a number within the second.
pub(super) type Time = (u32, u32);

/// So many replica sets are looked at.
const SETS: usize = 1000;
/// So many stretches without a gap are remembered of each; of more, the oldest are forgotten.
const STRETCHES: usize = 1000;

/// Time without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: Time,
    pub(super) end: Time,
}

/// What is covered, replica set by replica set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Coverage {
    sets: BTreeMap<String, Set>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Set {
    /// Where the last chunk begins.
    last: Time,
    /// In their order.
    stretches: Vec<Stretch>,
}

impl Coverage {
    /// Adds a chunk. Those of a replica set come in the order in which they begin; others are left out, and so is one that ends before it
    /// begins.
    pub(super) fn add(&mut self, set: &str, start: Time, end: Time) {
        if end < start || (self.sets.len() >= SETS && !self.sets.contains_key(set)) {
            return;
        }
        let set = self.sets.entry(set.to_owned()).or_default();
        if start < set.last {
            return;
        }
        set.last = start;
        match set.stretches.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => set.stretches.push(Stretch { start, end }),
        }
        if set.stretches.len() > STRETCHES {
            set.stretches.remove(0);
        }
    }

    /// Adds chunks.
    pub(super) fn extend<'c>(&mut self, chunks: impl IntoIterator<Item = (&'c str, Time, Time)>) {
        for (set, start, end) in chunks {
            self.add(set, start, end);
        }
    }

    /// Every replica set, with where its last chunk begins and up to where it is covered.
    pub(super) fn sets(&self) -> impl Iterator<Item = (&str, Time, Time)> {
        self.sets.iter().filter_map(|(name, set)| Some((name.as_str(), set.last, set.stretches.last()?.end)))
    }

    /// What every one of those replica sets covers, in its order. One that has no chunks is left out.
    pub(super) fn common(&self, is_one: impl Fn(&str) -> bool) -> Vec<Stretch> {
        let mut sets = self.sets.iter().filter(|(name, _)| is_one(name)).map(|(_, set)| set.stretches.as_slice());
        let Some(first) = sets.next() else { return Vec::new() };
        sets.fold(first.to_vec(), |common, set| both(&common, set))
    }
}

/// What is in both.
fn both(one: &[Stretch], other: &[Stretch]) -> Vec<Stretch> {
    let (mut a, mut b, mut common) = (0, 0, Vec::new());
    while let (Some(x), Some(y)) = (one.get(a), other.get(b)) {
        let shared = Stretch { start: x.start.max(y.start), end: x.end.min(y.end) };
        if shared.start < shared.end {
            common.push(shared);
        }
        if x.end < y.end { a += 1 } else { b += 1 }
    }
    common
}

/// How many gaps there are, and how many seconds they last together.
pub(super) fn gaps(stretches: &[Stretch]) -> (u64, f64) {
    let between = stretches.windows(2).map(|pair| f64::from(pair[1].start.0.saturating_sub(pair[0].end.0)));
    between.fold((0, 0.0), |(count, seconds), gap| (count + 1, seconds + gap))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(chunks: &[(&str, u32, u32)]) -> Coverage {
        let mut coverage = Coverage::default();
        for (set, start, end) in chunks {
            coverage.add(set, (*start, 0), (*end, 0));
        }
        coverage
    }

    fn common(coverage: &Coverage) -> Vec<(u32, u32)> {
        coverage.common(|_| true).iter().map(|stretch| (stretch.start.0, stretch.end.0)).collect()
    }

    #[test]
    fn chunks_that_meet_leave_no_gap() {
        let whole = coverage(&[("a", 10, 20), ("a", 20, 30), ("a", 25, 27), ("a", 30, 40)]);
        assert_eq!(common(&whole), [(10, 40)]);
        assert_eq!(gaps(&whole.common(|_| true)), (0, 0.0));
        let torn = coverage(&[("a", 10, 20), ("a", 25, 30), ("a", 90, 100)]);
        assert_eq!(common(&torn), [(10, 20), (25, 30), (90, 100)]);
        assert_eq!(gaps(&torn.common(|_| true)), (2, 65.0));
    }

    #[test]
    fn a_gap_within_a_second_is_one() {
        let mut torn = Coverage::default();
        torn.add("a", (10, 0), (20, 1));
        torn.add("a", (20, 2), (30, 0));
        assert_eq!(gaps(&torn.common(|_| true)), (1, 0.0));
    }

    /// The example in the comment on `MergeTimelines` in Percona's source.
    #[test]
    fn a_cluster_is_covered_where_all_its_sets_are() {
        let chunks =
            [("a", 1, 4), ("a", 7, 11), ("a", 16, 20), ("b", 3, 12), ("b", 15, 17), ("c", 1, 12), ("c", 16, 18)];
        let cluster = coverage(&chunks);
        assert_eq!(common(&cluster), [(3, 4), (7, 11), (16, 17)]);
        assert_eq!(gaps(&cluster.common(|_| true)), (2, 8.0));
        assert_eq!(
            cluster.sets().map(|(name, _, end)| (name, end.0)).collect::<Vec<_>>(),
            [("a", 20), ("b", 17), ("c", 18)]
        );
    }

    #[test]
    fn a_set_that_is_gone_limits_nothing() {
        let left = coverage(&[("a", 1, 9), ("gone", 1, 4)]);
        assert_eq!(left.common(|name| name != "gone"), [Stretch { start: (1, 0), end: (9, 0) }]);
    }

    #[test]
    fn sets_that_share_nothing_leave_nothing() {
        assert_eq!(common(&coverage(&[("a", 1, 4), ("b", 4, 9)])), []);
        assert_eq!(common(&Coverage::default()), []);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut coverage = Coverage::default();
        for at in 0..5_000 {
            coverage.add("a", (at * 10, 0), (at * 10 + 1, 0));
            coverage.add(&format!("set {at}"), (1, 0), (2, 0));
        }
        coverage.add("a", (3, 0), (4, 0));
        coverage.add("a", (60_000, 0), (50_000, 0));
        assert_eq!(coverage.sets.len(), SETS);
        assert_eq!(coverage.sets["a"].stretches.len(), STRETCHES);
        assert_eq!(coverage.sets().next(), Some(("a", (49_990, 0), (49_991, 0))));
    }
}
