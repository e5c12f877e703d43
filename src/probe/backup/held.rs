//! What a source holds beside runs, as it is written down: a source that cannot be read after a restart leaves its values as they
//! were before.

use serde::{Deserialize, Serialize};

use super::runs::{Pitr, Seen, Stock};
use super::schedule::Schedule;

/// So many agents, and so many replica sets, are written down.
const MOST: usize = 512;
/// What changes all the time is written down again after so many seconds.
const PACE: f64 = 600.0;

/// All of [`Seen`] but its runs and its words for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    stock: Option<Stock>,
    pitr: Option<Pitr>,
    agents: Vec<(String, bool)>,
    /// A cron expression and the name of its time zone.
    schedule: Option<(String, String)>,
    is_suspended: bool,
}

impl Held {
    /// That of a reading.
    pub fn of(seen: &Seen) -> Self {
        let finite = |time: &f64| time.is_finite();
        let stock = seen.stock.map(|stock| Stock { oldest: stock.oldest.filter(finite), ..stock });
        let mut pitr = seen.pitr.clone();
        if let Some(pitr) = &mut pitr {
            pitr.sets.truncate(MOST);
            pitr.sets.iter_mut().for_each(|set| set.lag = set.lag.filter(finite));
            pitr.range = pitr.range.filter(|(from, until)| finite(from) && finite(until));
            pitr.gaps.1 = Some(pitr.gaps.1).filter(finite).unwrap_or(0.0);
        }
        Self {
            stock,
            pitr,
            agents: seen.agents.iter().take(MOST).cloned().collect(),
            schedule: seen.schedule.as_ref().and_then(Schedule::as_told),
            is_suspended: seen.is_suspended,
        }
    }

    /// As a reading.
    pub fn seen(&self) -> Seen {
        Seen {
            stock: self.stock,
            pitr: self.pitr.clone(),
            agents: self.agents.clone(),
            schedule: self.schedule.as_ref().and_then(|(text, zone)| Schedule::told(text, Some(zone))),
            is_suspended: self.is_suspended,
            ..Seen::default()
        }
    }

    /// Whether it is to be written down, `known` having been so many seconds ago.
    pub fn is_due(&self, known: Option<(f64, &Self)>) -> bool {
        let Some((ago, known)) = known else { return *self != Self::default() };
        let is_urgent = (&self.schedule, self.is_suspended) != (&known.schedule, known.is_suspended);
        self != known && (is_urgent || !(0.0..PACE).contains(&ago))
    }
}
