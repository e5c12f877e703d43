//! Judges backups, one after the other, as their files come by.

use super::found::{Found, Opening, Ranked};
use super::{Entry, Role, Rules};
use crate::probe::backup::runs::Stock;
use crate::probe::{Failure, Reason};

/// The times of two files that were written together may differ by so many seconds: some file systems count in twos.
const COARSE: f64 = 2.0;
/// What has been known to be written may rest for so many times `settle` before it counts as given up.
const STALL: f64 = 10.0;

/// A listing that is being judged.
pub struct Selection<'r> {
    rules: &'r Rules,
    now: f64,
    open: &'r [String],
    /// The backups whose files may still come, each one's name the beginning of the next one's.
    pending: Vec<Candidate>,
    last: String,
    found: Found,
}

/// What has been seen of one backup.
#[derive(Clone, Default)]
struct Candidate {
    name: String,
    data: Option<Files>,
    partial: Option<Files>,
    /// When its markers were written.
    complete: Option<f64>,
    started: Option<f64>,
    /// When its manifest was written, and how many bytes it has.
    manifest: Option<(f64, u64)>,
}

/// One file, or those of a folder.
#[derive(Clone, Copy)]
struct Files {
    size: u64,
    newest: f64,
    grew: bool,
}

/// What has come by so far of a listing that goes on later, when other runs may go on.
#[derive(Clone, Default)]
pub struct Paused {
    pending: Vec<Candidate>,
    last: String,
    found: Found,
}

impl Paused {
    /// Whether what has been judged would be judged the same now, as long as no file changes: nothing of it is being made.
    pub fn rests(&self, now: f64) -> bool {
        self.found.rests(now)
    }
}

impl<'r> Selection<'r> {
    /// Nothing has come by yet. `now` is in unix seconds; `open` has the ids of the job's runs that went on so far.
    pub fn new(rules: &'r Rules, now: f64, open: &'r [String]) -> Self {
        Self { rules, now, open, pending: Vec::new(), last: String::new(), found: Found::default() }
    }

    /// Goes on where another one was paused. `now` is in unix seconds; `open` has the ids of the job's runs that went on so far.
    pub fn go_on(rules: &'r Rules, (now, open): (f64, &'r [String]), paused: Paused) -> Self {
        let Paused { pending, last, found } = paused;
        Self { rules, now, open, pending, last, found }
    }

    /// Pauses it.
    pub fn pause(self) -> Paused {
        let Self { pending, last, found, .. } = self;
        Paused { pending, last, found }
    }

    /// The next file.
    ///
    /// # Errors
    /// Its name is not after the last one's.
    pub fn add(&mut self, entry: Entry<'_>) -> Result<(), Failure> {
        if entry.name < self.last.as_str() {
            return Err(Failure::new(Reason::Protocol, "the listing is not in ascending order of names"));
        }
        entry.name.clone_into(&mut self.last);
        // All files of a backup begin with its name, and so come before the first that does not.
        let is_over = |candidate: &Candidate| !entry.name.starts_with(&candidate.name);
        while self.pending.last().is_some_and(is_over) {
            self.judge_last();
        }
        let Some((of, role)) = self.rules.role(entry.name) else { return Ok(()) };
        let at = self.pending.iter().position(|candidate| candidate.name == of).unwrap_or_else(|| {
            // A marker may come before others' files whose names are longer.
            let at = self.pending.partition_point(|candidate| candidate.name.len() < of.len());
            self.pending.insert(at, Candidate { name: of.to_owned(), ..Candidate::default() });
            at
        });
        self.pending[at].take(entry, role);
        Ok(())
    }

    /// What the listing comes to.
    pub fn finish(mut self) -> Found {
        while !self.pending.is_empty() {
            self.judge_last();
        }
        self.found
    }

    fn judge_last(&mut self) {
        let Some(mut candidate) = self.pending.pop() else { return };
        let ended = self.ended(&candidate);
        let opening = self.opening(&candidate, ended);
        if ended.is_none() && candidate.data.is_some() {
            self.found.incomplete += 1;
            // Only its manifest can say that it failed.
            candidate.data = None;
        }
        let word = candidate.manifest.map(|(written, _)| written).filter(|_| opening.is_none());
        if let Some(at) = ended.or(word) {
            self.rank(candidate, at, opening.as_ref());
        }
        if let Some(opening) = opening {
            self.found.open(opening);
        }
    }

    fn rank(&mut self, candidate: Candidate, at: f64, opening: Option<&Opening>) {
        let began = candidate.started.filter(|started| *started <= at);
        let before = self.went_on(&candidate.name).filter(|id| opening.is_none_or(|open| open.id != *id));
        let opened_as = began.map(|started| Opening::since(&candidate.name, started));
        // Also if the marker was taken away in the end, or there was none but growth.
        let opened_as = match before {
            Some(id) if opened_as.as_ref().is_none_or(|opened| !self.open.contains(opened)) => Some(id.to_owned()),
            _ => opened_as,
        };
        if let Some(data) = candidate.data {
            self.found.count(Stock { retained: 1, oldest: Some(at), bytes: Some(data.size) });
        }
        self.found.rank(Ranked {
            at,
            modified: candidate.data.map(|data| data.newest),
            size: candidate.data.map(|data| data.size),
            started: began,
            was_open: opened_as.as_ref().is_some_and(|id| self.open.contains(id)),
            opened_as,
            manifest: candidate.manifest,
            name: candidate.name,
        });
    }

    /// When it was complete, if it is.
    fn ended(&mut self, candidate: &Candidate) -> Option<f64> {
        let Some(data) = candidate.data else {
            // A run that failed may leave nothing but word of it.
            return candidate.manifest.map(|(written, _)| written);
        };
        let is_after = |written: f64| written + COARSE >= data.newest;
        if self.rules.manifest.is_some() {
            candidate.manifest.filter(|(written, _)| is_after(*written))?;
        }
        if self.rules.complete.is_some() {
            return candidate.complete.filter(|written| is_after(*written)).map(|written| written.max(data.newest));
        }
        if self.rules.manifest.is_some() || self.passed(data.newest + self.rules.settle) {
            return Some(data.newest);
        }
        None
    }

    /// That it is being made, if it is.
    fn opening(&mut self, candidate: &Candidate, ended: Option<f64>) -> Option<Opening> {
        if let Some(started) = candidate.started.filter(|started| ended.is_none_or(|ended| *started > ended)) {
            return Some(Opening { id: Opening::since(&candidate.name, started), started: Some(started) });
        }
        let files = candidate.partial.or(candidate.data.filter(|_| ended.is_none()))?;
        let went_on = self.went_on(&candidate.name).map(str::to_owned);
        let is_known = went_on.is_some();
        // A partial file's name says that it is being written; any other file has to be seen growing.
        if candidate.partial.is_none() && !files.grew && !is_known {
            return None;
        }
        let patience = self.rules.settle * if is_known { STALL } else { 1.0 };
        if self.passed(files.newest + patience) {
            return None;
        }
        let id = went_on.unwrap_or_else(|| Opening::seen(&candidate.name, self.now));
        Some(Opening { id, started: None })
    }

    /// The id by which the backup was known to be in the making.
    fn went_on(&self, name: &str) -> Option<&'r str> {
        self.open.iter().map(String::as_str).find(|id| Opening::is_of(id, name))
    }

    /// Whether the moment has passed; otherwise the judgement holds until then at most.
    fn passed(&mut self, moment: f64) -> bool {
        let passed = self.now >= moment;
        if !passed {
            self.found.holds_until = self.found.holds_until.min(moment);
        }
        passed
    }
}

impl Candidate {
    fn take(&mut self, entry: Entry<'_>, role: Role) {
        match role {
            Role::Data => Files::add(&mut self.data, entry),
            Role::Partial => Files::add(&mut self.partial, entry),
            Role::Complete => self.complete = Some(entry.modified),
            Role::Started => self.started = Some(entry.modified),
            Role::Manifest => self.manifest = Some((entry.modified, entry.size)),
        }
    }
}

impl Files {
    fn add(files: &mut Option<Self>, entry: Entry<'_>) {
        let files = files.get_or_insert(Self { size: 0, newest: entry.modified, grew: false });
        files.size = files.size.saturating_add(entry.size);
        files.newest = files.newest.max(entry.modified);
        files.grew |= entry.grew;
    }
}
