//! Which timestamps are worth asking the broker for.

use super::known::{Fact, Known, Look};
use super::{NARROW, Target, Timeline};

/// Ages in seconds to begin with, when nothing is known: close together over a day, as most logs and most lags are.
const LADDER: [i64; 15] = [1, 10, 60, 300, 1200, 3600, 7200, 14400, 21600, 32400, 43200, 57600, 72000, 86400, 259_200];
/// Half the width of the bracket that two questions around a guess aim at, in ms. Twice this is less than [`NARROW`].
const MARGIN: i64 = 450;

impl Timeline {
    /// What to ask when there is no lower bound.
    pub(super) fn opening(&self, first: i64, top: i64, now: i64, most: usize) -> Vec<i64> {
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
    pub(super) fn narrowing(&self, target: Target, low: i64, top: i64, most: usize) -> Vec<i64> {
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

/// The question for `first` on a straight line from a record to (`offset`, `at`): half a record earlier, so that the answer is
/// `first` itself if the line is right.
pub(super) fn line(from: Fact, offset: f64, at: i64, first: i64, top: i64) -> i64 {
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
