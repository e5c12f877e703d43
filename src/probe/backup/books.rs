//! The books of one job: which runs there were, each counted once; which go on; what was missed. No I/O and no clock: what
//! happens comes in as [`Event`]s, the same ones after a restart as when they happened.

mod clock;
mod late;
mod plan;
mod spans;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

pub use self::plan::lost;
pub use self::spans::Spans;
use super::held::Held;
use super::runs::{End, Outcome, Run};

/// So many runs that ended are remembered whole, for people.
const REMEMBERED: usize = 32;
/// So many ids of runs that ended are known, and up to a quarter more. Older runs than those are never counted again, whatever
/// their id.
const KNOWN: usize = 4096;
/// So many runs may go on at once.
pub const OPEN: usize = 64;
/// So many nodes keep their 0 after a run.
const NODES: usize = 64;

/// Something that happened to a job, as the journal keeps it.
#[allow(clippy::large_enum_variant, reason = "almost all of them are runs")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The job's runs are learnt from that source from now on.
    Source {
        /// Its name.
        name: String,
    },
    /// The source was read for the first time: what it held had ended before anybody watched, and is not counted.
    Baseline {
        /// When, in unix seconds.
        at: f64,
        /// What had ended.
        runs: Vec<Run>,
    },
    /// A run began, went on or ended.
    Run(Run),
    /// The job has that schedule from now on. What was due before is not judged by it.
    Schedule {
        /// When, in unix seconds.
        at: f64,
        /// What tells it from others.
        text: String,
    },
    /// Due times up to a moment were judged.
    Judged {
        /// The moment, in unix seconds.
        until: f64,
        /// How many of them were missed.
        missed: u64,
    },
    /// The clock was ahead, and has been set back: what the books have of later times happened by then.
    SetBack {
        /// What it says now, in unix seconds.
        at: f64,
    },
    /// What the source holds beside runs.
    Held {
        /// When, in unix seconds.
        at: f64,
        /// What it is.
        held: Box<Held>,
    },
}

/// A run that has just been counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted(pub Run);

/// The books of one job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Books {
    /// Where runs are learnt from.
    source: Option<String>,
    /// Whether anybody has watched the source yet, and since when.
    watched_since: Option<f64>,
    /// How many runs ended, by outcome.
    ended: BTreeMap<Outcome, u64>,
    overlaps: u64,
    missed: u64,
    cpu_seconds: f64,
    last_success: Option<Run>,
    last_failure: Option<f64>,
    last_start: Option<f64>,
    last_ended: Option<Run>,
    /// Runs that go on, by their ids. Those that are also `known` were given up and counted.
    open: BTreeMap<String, Run>,
    /// The last runs that ended, the newest last.
    recent: VecDeque<Run>,
    /// Ids of runs that ended, with when they did.
    known: BTreeMap<String, f64>,
    /// Whoever ended by then and is not known was forgotten, and is not counted again.
    forgotten_until: Option<f64>,
    /// When runs went on.
    spans: Spans,
    /// Those of the remembered runs that began while another one went on.
    overlapped: BTreeSet<String>,
    /// What was judged by.
    schedule: Option<String>,
    /// Due times up to here were judged.
    judged_until: Option<f64>,
    /// Where runs were, and when one was last.
    nodes: BTreeMap<String, f64>,
    /// What the source held beside runs, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<(f64, Held)>,
}

impl Books {
    /// Does what the event says; a run that is counted by it is returned.
    pub fn apply(&mut self, event: &Event) -> Option<Counted> {
        match event {
            Event::Source { name } => {
                if self.source.as_ref().is_some_and(|known| known != name) {
                    (self.watched_since, self.held) = (None, None);
                }
                self.source = Some(name.clone());
                None
            }
            Event::Baseline { at, runs } => {
                self.watched_since = Some(*at);
                self.baseline(runs);
                None
            }
            Event::Schedule { at, text } => {
                // Read twice, it does not begin anew.
                if self.schedule.as_ref() != Some(text) || self.judged_until.is_none_or(|judged| judged < *at) {
                    self.judged_until = Some(*at);
                    self.schedule = Some(text.clone());
                }
                None
            }
            Event::Judged { until, missed } => {
                // What has been judged is not judged again.
                if self.judged_until.is_none_or(|judged| judged < *until) {
                    self.missed += missed;
                }
                self.judged_until = Some(*until);
                None
            }
            Event::SetBack { at } => {
                self.set_back(*at);
                None
            }
            Event::Held { at, held } => {
                self.held = Some((*at, (**held).clone()));
                None
            }
            Event::Run(run) => match &run.opened_as {
                Some(first) if *first != run.id && !self.known.contains_key(&run.id) => self.renamed(run, first),
                _ => self.run(run),
            },
        }
    }

    /// Events that come first, and those that are planned with the books as they are then.
    pub fn after(&self, first: impl IntoIterator<Item = Event>, plan: impl FnOnce(&Self) -> Vec<Event>) -> Vec<Event> {
        let mut events: Vec<_> = first.into_iter().collect();
        if events.is_empty() {
            return plan(self);
        }
        let mut books = self.clone();
        for event in &events {
            books.apply(event);
        }
        events.extend(plan(&books));
        events
    }

    fn baseline(&mut self, runs: &[Run]) {
        for run in runs.iter().filter(|run| run.end.is_some()) {
            if self.open.contains_key(&run.id) {
                self.run(run);
            } else if !self.known.contains_key(&run.id) {
                self.enter(run);
            }
        }
        // A source may tell only the newest of many: when those go, older ones come to light, which are no news.
        let oldest = runs.iter().filter_map(|run| run.end).map(|end| end.at).min_by(f64::total_cmp);
        self.forgotten_until = self.forgotten_until.into_iter().chain(oldest).max_by(f64::total_cmp);
    }

    fn run(&mut self, run: &Run) -> Option<Counted> {
        if self.is_settled(run) {
            self.late(run);
            return None;
        }
        self.note_overlaps(run);
        let Some(end) = run.end else {
            self.begin(run);
            return None;
        };
        self.open.remove(&run.id);
        *self.ended.entry(end.outcome).or_default() += 1;
        self.cpu_seconds += run.cpu_seconds.unwrap_or(0.0).max(0.0);
        self.enter(run);
        Some(Counted(run.clone()))
    }

    /// Counts the run if another one went on as it began, and others that turn out to have begun while it went on.
    fn note_overlaps(&mut self, run: &Run) {
        let Some(started) = run.started else { return };
        if self.open.get(&run.id).is_some_and(|known| known.started == run.started) {
            return;
        }
        let is_within = |at: f64, other: &Run| other.started.is_some_and(|began| began <= at) && at < end_of(other);
        let others = || self.open.values().chain(&self.recent).filter(|other| other.id != run.id);
        let watched_since = self.watched_since.unwrap_or(0.0);
        let began_within = |other: &&Run| {
            let is_later = other.started.is_some_and(|began| began > started && began < end_of(run));
            is_later && end_of(other) > watched_since
        };
        let itself = others().any(|other| is_within(started, other)).then(|| run.id.clone());
        let others = others().filter(began_within).map(|other| other.id.clone());
        for id in itself.into_iter().chain(others).collect::<Vec<_>>() {
            self.overlaps += u64::from(self.overlapped.insert(id));
        }
    }

    fn begin(&mut self, run: &Run) {
        let run = self.as_begun(run);
        if let Some(started) = run.started {
            self.note_span(started, started);
        }
        self.note_node(&run);
        self.open.insert(run.id.clone(), run);
    }

    /// A run that goes on, with the start that is known of it if this is told without one.
    fn as_begun(&self, run: &Run) -> Run {
        let known = || self.open.get(&run.id).and_then(|known| known.started);
        Run { started: run.started.or_else(known), ..run.clone() }
    }

    /// Enters a run that ended into everything but the counts.
    fn enter(&mut self, run: &Run) {
        let Some(end) = run.end else { return };
        self.note_span(run.started.unwrap_or(end.at), end.at);
        self.note_node(run);
        self.know(&run.id, end.at);
        let is_newer = |than: Option<f64>| than.is_none_or(|than| end.at >= than);
        if end.outcome == Outcome::Success {
            if is_newer(self.last_success.as_ref().and_then(|run| run.end).map(|end| end.at)) {
                self.last_success = Some(run.clone());
            }
        } else if is_newer(self.last_failure) {
            self.last_failure = Some(end.at);
        }
        if is_newer(self.last_ended.as_ref().and_then(|run| run.end).map(|end| end.at)) {
            self.last_ended = Some(run.clone());
        }
        let at = self.recent.partition_point(|known| known.end.is_some_and(|known| known.at <= end.at));
        self.recent.insert(at, run.clone());
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        let (open, recent) = (&self.open, &self.recent);
        self.overlapped.retain(|id| open.contains_key(id) || recent.iter().any(|run| run.id == *id));
    }

    /// A run by that id has ended.
    fn know(&mut self, id: &str, at: f64) {
        self.known.insert(id.to_owned(), at);
        if self.known.len() > KNOWN + KNOWN / 4 {
            self.forget();
        }
    }

    /// Forgets ids until few enough are left, many at once because that takes a while. Whoever ended no later is not counted again.
    fn forget(&mut self) {
        let mut ends: Vec<f64> = self.known.values().copied().collect();
        ends.sort_unstable_by(f64::total_cmp);
        let Some(until) = ends.len().checked_sub(KNOWN + 1).and_then(|at| ends.get(at)).copied() else { return };
        // One that was given up and goes on is counted no second time, however long it does.
        let open = &self.open;
        self.known.retain(|id, at| *at > until || open.contains_key(id));
        self.forgotten_until = Some(self.forgotten_until.map_or(until, |known| known.max(until)));
    }

    fn note_span(&mut self, from: f64, until: f64) {
        self.last_start = Some(self.last_start.map_or(from, |last| last.max(from)));
        self.spans.note(from, until);
    }

    fn note_node(&mut self, run: &Run) {
        let at = run.when().unwrap_or(0.0);
        for node in run.nodes().filter(|node| !node.is_empty()) {
            let last = self.nodes.entry(node.clone()).or_insert(at);
            *last = last.max(at);
        }
        while self.nodes.len() > NODES {
            let oldest = self.nodes.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(node, _)| node.clone());
            self.nodes.retain(|node, _| Some(node) != oldest.as_ref());
        }
    }

    /// Whether the run was counted, or is older than what is remembered.
    fn is_settled(&self, run: &Run) -> bool {
        let is_old = |end: End| self.forgotten_until.is_some_and(|until| end.at <= until);
        self.known.contains_key(&run.id) || run.end.is_some_and(is_old) && !self.open.contains_key(&run.id)
    }
}

fn is_lost(run: &Run) -> bool {
    run.end.is_some_and(|end| end.outcome == Outcome::Lost)
}

/// When it ended; never, if it goes on.
fn end_of(run: &Run) -> f64 {
    run.end.map_or(f64::INFINITY, |end| end.at)
}

#[cfg(test)]
mod tests;
