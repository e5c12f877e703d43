//! What is told of a run from outside: over HTTP, or by a record in the spool.

use serde::{Deserialize, Serialize};

use super::books::{Books, Event, lost};
use super::runs::{End, Outcome, Run};

/// A message about a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Told {
    /// Tells the run from others; empty where the sender does not number its runs.
    pub rid: String,
    /// What is told.
    pub what: What,
    /// When the run began, in unix seconds, if the sender knows it better than by when its message came.
    pub started: Option<f64>,
    /// When it ended.
    pub ended: Option<f64>,
    /// How long it took, in seconds, by a monotonic clock.
    pub duration: Option<f64>,
    /// Where it runs.
    pub node: Option<String>,
    /// The size of what was stored, in bytes.
    pub size: Option<u64>,
    /// Processor time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// The most memory that a process had, in bytes.
    pub peak_memory: Option<u64>,
    /// For a person.
    pub note: String,
}

/// What a message tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The run began.
    Start,
    /// The run was a success.
    #[default]
    Success,
    /// The run failed.
    Failure,
    /// Nothing but words.
    Log,
}

impl Told {
    /// What the message means for the books; `now` is when it came, in unix seconds.
    pub fn events(&self, books: &Books, now: f64) -> Vec<Event> {
        // The run without a number that goes on, if there is one: who does not number runs has one at a time.
        let unnumbered = || {
            books
                .open()
                .filter(|run| run.id.starts_with(UNNUMBERED))
                .max_by(|a, b| a.started.unwrap_or(0.0).total_cmp(&b.started.unwrap_or(0.0)))
        };
        let known = if self.rid.is_empty() { unnumbered() } else { books.open().find(|run| run.id == self.rid) };
        let new_id = || if self.rid.is_empty() { format!("{UNNUMBERED}{now}") } else { self.rid.clone() };
        match self.what {
            What::Start => {
                let given_up = known.filter(|_| self.rid.is_empty()).map(|run| lost(run, now));
                let run = Run { id: new_id(), started: Some(self.started.unwrap_or(now)), ..Run::default() };
                given_up.into_iter().chain([Event::Run(self.entered(run))]).collect()
            }
            What::Log => known.map(|run| Event::Run(self.entered(run.clone()))).into_iter().collect(),
            What::Success | What::Failure => {
                let run = known.cloned().unwrap_or_else(|| Run { id: new_id(), ..Run::default() });
                let outcome = if self.what == What::Success { Outcome::Success } else { Outcome::Failure };
                let end = Some(End { at: self.ended.unwrap_or(now), outcome });
                vec![Event::Run(self.entered(Run { end, ..run }))]
            }
        }
    }

    /// The run with all that the message says of it.
    fn entered(&self, mut run: Run) -> Run {
        run.started = self.started.or(run.started);
        run.duration = self.duration.or(run.duration);
        run.node = self.node.clone().or(run.node);
        run.size = self.size.or(run.size);
        run.cpu_seconds = self.cpu_seconds.or(run.cpu_seconds);
        run.peak_memory = self.peak_memory.or(run.peak_memory);
        if !self.note.is_empty() {
            run.note.clone_from(&self.note);
        }
        run.trimmed()
    }
}

/// What the ids of runs begin with whose sender gave none.
const UNNUMBERED: &str = "at ";
