//! The books of one job: which runs there were, each counted once; which go on; what was missed. No I/O and no clock: what
//! happens comes in as [`Event`]s, the same ones after a restart as when they happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::runs::{End, Outcome, Run, Seen};
use super::schedule::Schedule;

/// So many runs that ended are remembered whole, for people.
const REMEMBERED: usize = 32;
/// So many ids of runs that ended are known. Older runs than those are never counted again, whatever their id.
const KNOWN: usize = 4096;
/// So many beginnings are remembered, to tell which due times were kept.
const STARTS: usize = 1024;
/// So many runs may go on at once; the oldest beyond them count as lost.
const OPEN: usize = 64;
/// So many nodes keep their 0 after a run.
const NODES: usize = 64;

/// Something that happened to a job, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The source was read for the first time: what it held had ended before anybody watched, and is not counted.
    Baseline {
        /// When, in unix seconds.
        at: f64,
        /// What had ended.
        runs: Vec<Run>,
    },
    /// A run began, went on or ended.
    Run(Run),
    /// Due times up to a moment were judged.
    Judged {
        /// The moment, in unix seconds.
        until: f64,
        /// How many of them were missed.
        missed: u64,
    },
}

/// A run that has just been counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted(pub Run);

/// The books of one job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Books {
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
    /// Runs that go on, by their ids.
    open: BTreeMap<String, Run>,
    /// The last runs that ended, the newest last.
    recent: VecDeque<Run>,
    /// Ids of runs that ended, with when they did.
    known: BTreeMap<String, f64>,
    /// Whoever ended by then and is not known was forgotten, and is not counted again.
    forgotten_until: Option<f64>,
    /// When runs began, or ended where that is unknown, ascending.
    starts: VecDeque<f64>,
    /// Due times up to here were judged.
    judged_until: Option<f64>,
    /// Where runs were.
    nodes: BTreeSet<String>,
}

impl Books {
    /// Does what the event says; a run that is counted by it is returned.
    pub fn apply(&mut self, event: &Event) -> Option<Counted> {
        match event {
            Event::Baseline { at, runs } => {
                self.watched_since = Some(*at);
                self.judged_until = Some(self.judged_until.unwrap_or(*at));
                for run in runs.iter().filter(|run| run.end.is_some()) {
                    self.enter(run);
                }
                None
            }
            Event::Judged { until, missed } => {
                self.judged_until = Some(*until);
                self.missed += missed;
                None
            }
            Event::Run(run) => self.run(run),
        }
    }

    fn run(&mut self, run: &Run) -> Option<Counted> {
        let is_new = !self.open.contains_key(&run.id);
        if self.is_settled(run) {
            // Somebody gave it up, and it ended after all: it is not counted again, but its result is news.
            let was_lost = self.recent.iter().any(|known| known.id == run.id && is_lost(known));
            if was_lost && run.end.is_some() && !is_lost(run) {
                self.recent.retain(|known| known.id != run.id);
                self.enter(run);
            }
            return None;
        }
        if is_new && self.overlaps(run) {
            self.overlaps += 1;
        }
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

    fn begin(&mut self, run: &Run) {
        if let Some(started) = run.started {
            self.started_at(started);
        }
        self.note_node(run);
        self.open.insert(run.id.clone(), run.clone());
    }

    /// Enters a run that ended into everything but the counts.
    fn enter(&mut self, run: &Run) {
        let Some(end) = run.end else { return };
        if let Some(when) = run.when() {
            self.started_at(when);
        }
        self.note_node(run);
        self.known.insert(run.id.clone(), end.at);
        if self.known.len() > KNOWN {
            let oldest = self.known.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(id, at)| (id.clone(), *at));
            if let Some((id, at)) = oldest {
                self.known.remove(&id);
                self.forgotten_until = Some(self.forgotten_until.map_or(at, |until| until.max(at)));
            }
        }
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
    }

    fn started_at(&mut self, when: f64) {
        self.last_start = Some(self.last_start.map_or(when, |last| last.max(when)));
        let at = self.starts.partition_point(|known| *known < when);
        if self.starts.get(at) != Some(&when) {
            self.starts.insert(at, when);
        }
        if self.starts.len() > STARTS {
            self.starts.pop_front();
        }
    }

    fn note_node(&mut self, run: &Run) {
        if let Some(node) = run.node.as_ref().filter(|node| !node.is_empty())
            && (self.nodes.len() < NODES || self.nodes.contains(node))
        {
            self.nodes.insert(node.clone());
        }
    }

    /// Whether the run was counted, or is older than what is remembered.
    fn is_settled(&self, run: &Run) -> bool {
        let is_old = |end: End| self.forgotten_until.is_some_and(|until| end.at <= until);
        self.known.contains_key(&run.id) || run.end.is_some_and(is_old) && !self.open.contains_key(&run.id)
    }

    /// Whether another run went on as this one began.
    fn overlaps(&self, run: &Run) -> bool {
        let Some(started) = run.started else { return false };
        let spans = |other: &Run| {
            let ended = other.end.map_or(f64::INFINITY, |end| end.at);
            other.id != run.id && other.started.is_some_and(|began| began <= started) && started < ended
        };
        self.open.values().chain(&self.recent).any(spans)
    }

    /// What a reading of the source means for the books. `longest` is after how many seconds a run that does not end counts as
    /// lost.
    pub fn plan(&self, seen: &Seen, now: f64, longest: f64) -> Vec<Event> {
        let mut events = Vec::new();
        if self.watched_since.is_none() {
            let mut ended: Vec<_> =
                seen.runs.iter().filter(|run| run.end.is_some()).cloned().map(Run::trimmed).collect();
            ended.sort_by(|a, b| order(a).total_cmp(&order(b)));
            // More than can be remembered would only be forgotten one by one.
            let surplus = ended.len().saturating_sub(KNOWN);
            events.push(Event::Baseline { at: now, runs: ended.split_off(surplus) });
        }
        let mut news: Vec<_> = seen.runs.iter().filter(|run| self.is_news(run)).cloned().map(Run::trimmed).collect();
        news.sort_by(|a, b| order(a).total_cmp(&order(b)));
        if self.watched_since.is_none() {
            news.retain(|run| run.end.is_none());
        }
        events.extend(news.into_iter().map(Event::Run));
        let is_there = |id: &str| seen.runs.iter().any(|run| run.id == id);
        let vanished = self.open.values().filter(|run| seen.has_all_open && !is_there(&run.id));
        events.extend(vanished.map(|run| lost(run, now)));
        events.extend(self.overdue(now, longest));
        events
    }

    /// Runs that do not end: those that go on for longer than `longest` seconds, and the oldest if there are too many.
    pub fn overdue(&self, now: f64, longest: f64) -> Vec<Event> {
        let mut open: Vec<_> = self.open.values().collect();
        open.sort_by(|a, b| order(a).total_cmp(&order(b)));
        let surplus = open.len().saturating_sub(OPEN);
        let is_overdue = |run: &Run| run.started.is_some_and(|started| now - started > longest);
        open.into_iter()
            .enumerate()
            .filter(|(at, run)| *at < surplus || is_overdue(run))
            .map(|(_, run)| lost(run, now))
            .collect()
    }

    /// Whether the books would not be the same after it.
    pub fn is_news(&self, run: &Run) -> bool {
        if self.is_settled(run) {
            let was_lost = || self.recent.iter().any(|known| known.id == run.id && is_lost(known));
            return run.end.is_some() && !is_lost(run) && was_lost();
        }
        self.open.get(&run.id).is_none_or(|known| known != run)
    }

    /// The verdict on due times that are over. `None` if there are none.
    pub fn judge(&self, schedule: &Schedule, now: f64) -> Option<Event> {
        let from = self.judged_until?;
        if now < from {
            // The clock was ahead when it was judged last. What was due then was not: what is due from now on will be judged.
            return (from - now > schedule.grace).then_some(Event::Judged { until: now, missed: 0 });
        }
        let due = schedule.due(from, now - schedule.grace, self.last_start);
        let last = *due.last()?;
        let missed = due.iter().filter(|due| !self.was_kept(**due, schedule.grace)).count();
        Some(Event::Judged { until: last, missed: missed as u64 })
    }

    /// Whether a run began at a due time, or went on then.
    fn was_kept(&self, due: f64, grace: f64) -> bool {
        // The clocks of two machines differ a little.
        const EARLY: f64 = 60.0;
        let early = EARLY.min(grace);
        let began = self.starts.iter().any(|start| (due - early..=due + grace).contains(start));
        let spans = |run: &Run| {
            let ended = run.end.map_or(f64::INFINITY, |end| end.at);
            run.started.is_some_and(|started| started <= due) && due <= ended
        };
        began || self.open.values().chain(&self.recent).any(spans)
    }

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

    /// Where runs were.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(String::as_str)
    }

    /// Whether a run that ended is known by that id.
    pub fn knows(&self, id: &str) -> bool {
        self.known.contains_key(id)
    }
}

fn is_lost(run: &Run) -> bool {
    run.end.is_some_and(|end| end.outcome == Outcome::Lost)
}

/// Runs are entered in the order in which they began.
fn order(run: &Run) -> f64 {
    run.when().unwrap_or(0.0)
}

/// That a run is given up.
pub fn lost(run: &Run, now: f64) -> Event {
    let end = Some(End { at: now, outcome: Outcome::Lost });
    // How long it took is what nobody knows.
    Event::Run(Run { end, duration: None, started: run.started, ..run.clone() })
}
