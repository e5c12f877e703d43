//! When the runs of a job went on.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The beginnings and ends of the last runs, ascending by beginning, in unix seconds. Where it is not known when a run began,
/// its end stands for both; where it goes on, its beginning does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spans(VecDeque<(f64, f64)>);

impl Spans {
    /// So many are remembered: more than two days of a run each minute.
    pub const MOST: usize = 4096;

    /// Notes that a run began, or ended that did.
    pub fn note(&mut self, from: f64, until: f64) {
        let at = self.0.partition_point(|(known, _)| *known < from);
        match self.0.get_mut(at) {
            Some(known) if known.0 == from => known.1 = known.1.max(until),
            _ => self.0.insert(at, (from, until)),
        }
        if self.0.len() > Self::MOST {
            self.0.pop_front();
        }
    }

    /// Forgets what began later than that.
    pub fn cut(&mut self, latest: f64) {
        self.0.retain(|(from, _)| *from <= latest);
        for (_, until) in &mut self.0 {
            *until = until.min(latest);
        }
    }

    /// What began earlier is not remembered; `None` if all is.
    pub fn known_since(&self) -> Option<f64> {
        self.0.front().filter(|_| self.0.len() == Self::MOST).map(|(from, _)| *from)
    }

    /// The first beginning for which `is_before` does not hold; it must hold for all before that.
    pub fn first(&self, is_before: impl Fn(f64) -> bool) -> Option<f64> {
        let at = self.0.partition_point(|(from, _)| is_before(*from));
        self.0.get(at).map(|(from, _)| *from)
    }

    /// Whether a run that ended went on then.
    pub fn goes_on_at(&self, at: f64) -> bool {
        self.0.iter().take_while(|(from, _)| *from <= at).any(|(_, until)| at <= *until)
    }
}
