//! What the books say.

use super::{Books, Outcome, Run, end_of, is_lost};
use crate::probe::backup::held::Held;

impl Books {
    /// How many runs ended so.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.ended.get(&outcome).copied().unwrap_or(0)
    }

    /// Runs that began while another went on.
    pub fn overlap_count(&self) -> u64 {
        self.overlaps
    }

    /// Due times at which no run began.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Processor time of all runs that ended, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_seconds
    }

    /// The last success.
    pub fn last_success(&self) -> Option<&Run> {
        self.last_success.as_ref()
    }

    /// When the last run ended that was none, in unix seconds.
    pub fn last_failure(&self) -> Option<f64> {
        self.last_failure
    }

    /// When the last run began, in unix seconds.
    pub fn last_start(&self) -> Option<f64> {
        self.last_start
    }

    /// The last run that ended.
    pub fn last_ended(&self) -> Option<&Run> {
        self.last_ended.as_ref()
    }

    /// The runs that go on, by id.
    pub fn open(&self) -> impl ExactSizeIterator<Item = &Run> {
        self.open.values()
    }

    /// The last runs that ended, the newest last.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.recent.iter()
    }

    /// Whether they are the books of what a source of that name told.
    pub fn are_of(&self, source: &str) -> bool {
        self.source.as_deref() == Some(source)
    }

    /// Where runs were.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// When anything happened to the job last, in unix seconds.
    pub fn touched(&self) -> f64 {
        let ended = self.last_ended.as_ref().map(end_of);
        [self.watched_since, self.last_start, self.judged_until, ended].into_iter().flatten().fold(0.0, f64::max)
    }

    /// Whether a run that ended is known by that id.
    pub fn knows(&self, id: &str) -> bool {
        self.known.contains_key(id)
    }

    /// The run by that id, if it was given up and is remembered.
    pub fn given_up(&self, id: &str) -> Option<&Run> {
        self.recent.iter().find(|known| known.id == id && is_lost(known))
    }

    /// What the source held beside runs as it was last written down, and when that was, in unix seconds.
    pub fn held(&self) -> Option<(f64, &Held)> {
        self.held.as_ref().map(|(at, held)| (*at, held))
    }
}
