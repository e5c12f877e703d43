//! What a reading of a source, or the time that has passed, means for the books: the events that it amounts to.

use std::collections::HashSet;

use super::{Books, Event, KNOWN, OPEN, REMEMBERED, end_of};
use crate::probe::backup::runs::{CLOCK_SET, End, Outcome, Run, Seen};
use crate::probe::backup::schedule::Schedule;

impl Books {
    /// That the job's runs are learnt from a source of that name from now on. Another source has another history, which is not
    /// counted either, and the runs that the last one told of are not heard of any more.
    pub fn sourced(&self, source: &str, now: f64) -> Vec<Event> {
        let mut events = Vec::new();
        if self.source.as_deref() != Some(source) {
            if self.source.is_some() {
                events.extend(self.open.values().map(|run| lost(run, now)));
            }
            events.push(Event::Source { name: source.to_owned() });
        }
        events
    }

    /// What a reading of the source means, whose runs are [plausible](Run::plausible). `longest` is after how many seconds a run
    /// that does not end counts as lost, if the clock `is_sure`: one that is ahead would have run out for all that go on.
    pub fn plan(&self, seen: &Seen, (now, is_sure): (f64, bool), longest: f64) -> Vec<Event> {
        let mut events = Vec::new();
        let is_first = self.watched_since.is_none();
        if is_first {
            events.push(baseline(seen, now, longest));
        }
        let is_overdue = |run: &Run| run.started.is_some_and(|started| started + longest < now);
        let mut news: Vec<_> = seen.runs.iter().filter(|run| self.is_news(run)).collect();
        news.retain(|run| !is_first || run.end.is_none() && !is_overdue(run));
        // Who was given up for going on too long still does.
        news.retain(|run| run.end.is_some() || !self.knows(&run.id) || !is_overdue(run));
        news.sort_by(|a, b| order(a).total_cmp(&order(b)));
        self.admit(&mut news);
        let over = news.iter().filter(|run| run.end.is_some()).flat_map(|run| ids(run));
        let over: HashSet<&str> = over.filter(|id| self.open.contains_key(*id)).collect();
        let there = seen.runs.iter().map(|run| run.id.as_str());
        let there: HashSet<&str> = there.filter(|id| self.open.contains_key(*id)).collect();
        let is_given_up = |run: &&Run| {
            let has_vanished = seen.has_all_open && !there.contains(run.id.as_str());
            !over.contains(run.id.as_str()) && (has_vanished || is_sure && is_overdue(run))
        };
        events.extend(news.iter().map(|run| Event::Run((*run).clone())));
        events.extend(self.open.values().filter(is_given_up).map(|run| lost(run, now)));
        events
    }

    /// Leaves out runs that go on where too many would: the oldest, until they end.
    fn admit(&self, news: &mut Vec<&Run>) {
        let begins = |run: &Run| run.end.is_none() && !self.open.contains_key(&run.id);
        let room = OPEN.saturating_sub(self.open.len());
        let mut surplus = news.iter().filter(|run| begins(run)).count().saturating_sub(room);
        news.retain(|run| {
            let is_left_out = surplus > 0 && begins(run);
            surplus -= usize::from(is_left_out);
            !is_left_out
        });
    }

    /// Whether the books would not be the same with it.
    pub fn is_news(&self, run: &Run) -> bool {
        match self.open.get(&run.id) {
            Some(known) => *known != self.as_begun(run),
            None => !self.is_settled(run) || self.is_late_news(run),
        }
    }

    /// The verdict on due times that are over. `None` if there are none. `heard` is up to when the source has told of runs.
    pub fn judge(&self, schedule: &Schedule, now: f64, heard: f64) -> Option<Event> {
        if now < CLOCK_SET {
            return None;
        }
        let is_same = self.schedule.as_deref() == Some(&schedule.text());
        let Some(from) = self.judged_until.filter(|from| is_same && *from >= CLOCK_SET) else {
            return Some(Event::Schedule { at: now, text: schedule.text() });
        };
        if now < from {
            // The clock was ahead when it was judged last. What was due then was not: what is due from now on will be judged.
            return (from - now > schedule.grace).then_some(Event::Judged { until: now, missed: 0 });
        }
        let went_on = |at| {
            let is_on = |run: &Run| run.started.is_some_and(|started| started <= at);
            self.open.values().any(is_on) || self.spans.goes_on_at(at)
        };
        let (until, missed) = schedule.judge(from, now.min(heard), &self.spans, &went_on)?;
        Some(Event::Judged { until, missed })
    }

    /// That the clock jumped ahead to `now`: nobody can say what was due meanwhile, and it is not judged.
    pub fn skip(&self, now: f64) -> Option<Event> {
        self.judged_until.filter(|from| *from < now).map(|_| Event::Judged { until: now, missed: 0 })
    }
}

/// What a source held as it was read first. No more than can be remembered: the oldest of them says what else is no news.
fn baseline(seen: &Seen, now: f64, longest: f64) -> Event {
    // What began so long ago had been given up before anybody watched.
    let given_up = |run: &Run| {
        let at = run.started.map(|started| started + longest).filter(|at| run.end.is_none() && *at < now)?;
        Some(Run { end: Some(End { at, outcome: Outcome::Lost }), ..run.clone() })
    };
    let ended = seen.runs.iter().filter_map(|run| given_up(run).or_else(|| run.end.map(|_| run.clone())));
    let mut runs: Vec<_> = ended.collect();
    runs.sort_by(|a, b| end_of(a).total_cmp(&end_of(b)));
    let surplus = runs.len().saturating_sub(KNOWN);
    let mut runs = runs.split_off(surplus);
    let bare = runs.len().saturating_sub(REMEMBERED);
    for run in &mut runs[..bare] {
        run.note.clear();
        run.phases.clear();
    }
    Event::Baseline { at: now, runs }
}

/// By which ids a run may have gone on.
fn ids(run: &Run) -> impl Iterator<Item = &str> {
    [Some(run.id.as_str()), run.opened_as.as_deref()].into_iter().flatten()
}

/// Runs are entered in the order in which they began.
fn order(run: &Run) -> f64 {
    run.when().unwrap_or(0.0)
}

/// That a run is given up.
pub fn lost(run: &Run, now: f64) -> Event {
    let end = Some(End { at: now, outcome: Outcome::Lost });
    // How long it took is what nobody knows.
    Event::Run(Run { end, duration: None, ..run.clone() })
}
