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

/// A bracket this narrow is not narrowed further, in ms.
const NARROW: i64 = 1000;
/// A bracket may be shown when it is at most this share of the age.
const TOLERANCE: f64 = 0.02;
/// How far a record's timestamp may lie ahead of our clock before it counts as wrong, in ms: clocks of producers differ.
const SKEW: i64 = 60_000;
/// Half the width of the bracket that two questions around a guess aim at, in ms. Twice this is less than [`NARROW`].
const MARGIN: i64 = 450;
/// The most facts that are kept of a partition, of 32 bytes each; eight times as many if very many groups need them.
const MOST_FACTS: usize = 64;
/// The most looks at the end of the log that are kept of a partition whose timestamps are of no use, of 16 bytes each.
const MOST_LOOKS: usize = 64;
/// Ages in seconds to begin with, when nothing is known: close together over a day, as most logs and most lags are.
const LADDER: [i64; 15] = [1, 10, 60, 300, 1200, 3600, 7200, 14400, 21600, 32400, 43200, 57600, 72000, 86400, 259_200];

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

#[derive(Debug, Default)]
struct Known {
    /// Ascending in offset, in `asked` and in the timestamps.
    facts: Vec<Fact>,
    /// Kept only once timestamps turned out to be of no use. Ascending.
    looks: Option<Vec<Look>>,
    /// Counts answers, to forget the oldest first.
    answers: u32,
    /// How many groups the facts are kept for, as told last.
    groups: usize,
}

/// All records below `offset` have timestamps < `asked`. With a timestamp, the record at `offset` has it.
#[derive(Debug, Clone, Copy)]
struct Fact {
    offset: i64,
    timestamp: Option<i64>,
    asked: i64,
    /// The number of the answer.
    answer: u32,
}

/// The end of the log was `end` at the wall time `at`, and had not been before, as far as we looked.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// −1: no look yet.
    end: i64,
    at: i64,
}

impl Default for Look {
    fn default() -> Self {
        Self { end: -1, at: 0 }
    }
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

    /// What to ask when there is no lower bound.
    fn opening(&self, first: i64, top: i64, now: i64, most: usize) -> Vec<i64> {
        let timeless = |known: &Known| known.facts.iter().any(|fact| fact.timestamp.is_none() && fact.asked <= 0);
        if self.known.as_deref().is_some_and(timeless) {
            return vec![0];
        }
        // It arrived since the last look but one: a little before that look is a good lower bound, if clocks agree.
        if most == 1 && self.known.is_none() && self.before.end >= 0 && self.before.end <= first {
            return vec![self.before.at.saturating_sub(NARROW).clamp(0, top)];
        }
        let mut asks = vec![0];
        let steps =
            LADDER.iter().map(|age| now.saturating_sub(age.saturating_mul(1000))).filter(|ask| (1..=top).contains(ask));
        let steps: Vec<i64> = steps.collect();
        let rungs = most.saturating_sub(1).min(steps.len());
        asks.extend((0..rungs).map(|rung| steps[rung * steps.len() / rungs]));
        asks
    }

    /// What to ask to narrow the bracket: above `low`, at most `top`.
    fn narrowing(&self, target: Target, low: i64, top: i64, most: usize) -> Vec<i64> {
        let (below, above) = self.around(target.first());
        let Some(below) = below else { return Vec::new() };
        // All that is left to find out is whether there are records between the lower bound and the answer.
        if top - low <= NARROW {
            return vec![low + 1];
        }
        let guess = self.guess(target, below, above, top);
        let Some(known) = &self.known else { return Vec::new() };
        let (stuck, middle) = (known.crawls(target.first()), low + (top - low) / 2);
        let likely = if stuck { guess } else { one(guess, low, top) };
        // A group that keeps up went past all that is known: there a guess is good. Now and then, the middle, in case it is not.
        if most == 1 || above.is_none() && !stuck {
            let bisect = stuck || known.answers % if above.is_some() { 4 } else { 16 } == 1;
            return vec![if bisect { middle } else { likely }];
        }
        let most = most.min(4 + usize::try_from((top - low) / (4 * NARROW)).unwrap_or(0));
        let mut asks = Vec::with_capacity(most);
        let mut push = |ask: i64| {
            let ask = ask.clamp(low + 1, top);
            if asks.len() < most && !asks.contains(&ask) {
                asks.push(ask);
            }
        };
        push(likely);
        push(middle);
        // Around the guess, and around where the pace of the records before leads to.
        for around in [guess, known.pace(target.first(), top).unwrap_or(guess)] {
            [around, around.saturating_sub(MARGIN), around.saturating_add(MARGIN)].into_iter().for_each(&mut push);
        }
        let near = (top - low) / 32;
        [guess.saturating_sub(near), guess.saturating_add(near), low + 1].into_iter().for_each(&mut push);
        // A burst, then silence: its end is near the lower bound. Otherwise equal shares.
        let steps = most.saturating_sub(10).div_ceil(2).max(1) as i64;
        let (width, base) = ((top - low) as f64, (2 * MARGIN) as f64);
        for step in 0..steps {
            push(low.saturating_add((base * (width / base).powf(step as f64 / steps as f64)) as i64));
            push(low.saturating_add((width * (step + 1) as f64 / (steps + 1) as f64) as i64));
        }
        asks
    }

    /// The timestamp to ask for if records were spread evenly between what is known on both sides.
    fn guess(&self, target: Target, below: Fact, above: Option<Fact>, top: i64) -> i64 {
        let first = target.first();
        if let Some(above) = above {
            return line(below, above.offset as f64, above.timestamp.unwrap_or(above.asked), first, top);
        }
        // Our own looks at the end are close to the truth while records are produced steadily. The next record is half a step away.
        let (mut from, mut to) = (below, Look { end: target.end, at: top });
        for look in [self.before, self.last] {
            let within = look.at > from.timestamp.unwrap_or(i64::MIN) && look.at <= to.at;
            if within && look.end > first && look.end <= to.end {
                to = look;
            } else if within && look.end <= first && look.end > from.offset {
                from = Fact { offset: look.end, timestamp: Some(look.at), ..from };
            }
        }
        line(from, to.end as f64 - 0.5, to.at, first, top)
    }
}

impl Known {
    /// The index of the first fact at or above `first`.
    fn above(&self, first: i64) -> usize {
        self.facts.partition_point(|fact| fact.offset < first)
    }

    /// The question for `first` if records go on as between the last two known before it.
    fn pace(&self, first: i64, top: i64) -> Option<i64> {
        let mut below = self.facts[..self.above(first)].iter().rev().filter(|fact| fact.timestamp.is_some());
        let (later, earlier) = (below.next()?, below.next()?);
        Some(line(*earlier, later.offset as f64, later.timestamp?, first, top))
    }

    /// Whether the last two answers on one side of `first` are close together: guesses do not get any further.
    fn crawls(&self, first: i64) -> bool {
        let above = self.above(first);
        let close = |one: Option<&Fact>, other: Option<&Fact>| {
            one.zip(other).is_some_and(|(one, other)| other.asked.saturating_sub(one.asked) < 2 * NARROW)
        };
        let upwards = above >= 2 && close(self.facts.get(above - 2), self.facts.get(above - 1));
        upwards || close(self.facts.get(above), self.facts.get(above + 1))
    }

    fn insert(&mut self, mut new: Fact) {
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

/// The widest bracket up to `high` that may be shown, in ms.
fn tolerated(high: i64, now: i64) -> i64 {
    NARROW.max((now.saturating_sub(high) as f64 * TOLERANCE) as i64)
}

/// The question for `first` on a straight line from a record to (`offset`, `at`): half a record earlier, so that the answer is
/// `first` itself if the line is right.
fn line(from: Fact, offset: f64, at: i64, first: i64, top: i64) -> i64 {
    let low = from.timestamp.unwrap_or(from.asked);
    let share = (first as f64 - from.offset as f64 - 0.4) / (offset - from.offset as f64).max(1.0);
    let ask = low.saturating_add((at.saturating_sub(low) as f64 * share) as i64);
    ask.max(low.saturating_add(1)).min(top)
}

/// The one question to ask. Next to an end of the bracket, the guess says that the other end is far off: it asks where the
/// answer makes the bracket narrow.
fn one(guess: i64, low: i64, top: i64) -> i64 {
    if guess - low <= 3 * MARGIN / 2 {
        low + NARROW - 50
    } else if top - guess <= 3 * MARGIN / 2 {
        top - NARROW + 50
    } else {
        guess
    }
}

/// Drops the looks that matter least: those whose neighbours are close together, compared with their age.
fn thin_out(looks: &mut Vec<Look>) {
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

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
