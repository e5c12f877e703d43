//! What a listing comes to.

use sha2::{Digest, Sha256};

use super::Manifest;
use crate::probe::backup::runs::{End, Outcome, Run, Seen, Stock};
use crate::probe::net::clean;

/// So many of the newest backups are told as runs.
const NEWEST: usize = 200;
/// So many backups may be in the making; of more, the ones that began last are told.
const OPEN: usize = 64;
/// Names longer than this are shortened in ids, in bytes.
const LONGEST_NAME: usize = 200;

/// What a listing comes to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    stock: Stock,
    /// The newest of those that ended, in no order, and up to as many again that are too old.
    newest: Vec<Ranked>,
    open: Vec<Opening>,
    /// How many match and are not complete.
    pub(super) incomplete: u64,
    /// Until then the judgement is the same as long as no file changes, in unix seconds.
    pub(super) holds_until: Forever,
}

/// A moment that may never come.
#[derive(Clone, Copy, Debug)]
pub struct Forever(f64);

impl Default for Forever {
    fn default() -> Self {
        Self(f64::INFINITY)
    }
}

impl Forever {
    /// The earlier one.
    pub(super) fn min(self, moment: f64) -> Self {
        Self(self.0.min(moment))
    }
}

/// A backup that ended, as far as its files tell.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    pub(super) name: String,
    /// When it was complete.
    pub(super) at: f64,
    /// When its newest file was written; `None` if there is only a manifest.
    pub(super) modified: Option<f64>,
    pub(super) size: Option<u64>,
    pub(super) started: Option<f64>,
    pub(super) opened_as: Option<String>,
    /// Whether the run is known to go on by that id.
    pub(super) was_open: bool,
    pub(super) manifest: Option<(f64, u64)>,
}

/// A backup that is being made.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) id: String,
    pub(super) started: Option<f64>,
}

/// A manifest that is to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The backup's name; the manifest's is that of [`Rules::manifest_of`](super::Rules::manifest_of).
    pub name: String,
    /// When it was written, in unix seconds.
    pub modified: f64,
    /// Its size, in bytes.
    pub size: u64,
}

impl Opening {
    /// The id of a run whose beginning is known.
    pub(super) fn since(name: &str, started: f64) -> String {
        format!("{} since {started:.3}", short(name))
    }

    /// The id of a run that was seen to go on.
    pub(super) fn seen(name: &str, now: f64) -> String {
        format!("{} seen {now:.3}", short(name))
    }

    /// Whether it is an id of a run that goes on for the backup.
    pub(super) fn is_of(id: &str, name: &str) -> bool {
        let rest = id.strip_prefix(short(name).as_str());
        let at = rest.and_then(|rest| rest.strip_prefix(" since ").or_else(|| rest.strip_prefix(" seen ")));
        at.is_some_and(|at| at.parse::<f64>().is_ok())
    }
}

impl Found {
    pub(super) fn count(&mut self, stock: Stock) {
        self.stock.retained += stock.retained;
        self.stock.oldest = self.stock.oldest.into_iter().chain(stock.oldest).min_by(f64::total_cmp);
        self.stock.bytes = Some(self.stock.bytes.unwrap_or(0).saturating_add(stock.bytes.unwrap_or(0)));
    }

    pub(super) fn rank(&mut self, ranked: Ranked) {
        self.newest.push(ranked);
        if self.newest.len() >= 2 * NEWEST {
            self.cut();
        }
    }

    pub(super) fn open(&mut self, opening: Opening) {
        self.open.push(opening);
        if self.open.len() > OPEN {
            let began = |open: &Opening| open.started.unwrap_or(f64::INFINITY);
            let oldest = (0..self.open.len()).min_by(|a, b| began(&self.open[*a]).total_cmp(&began(&self.open[*b])));
            oldest.map(|oldest| self.open.swap_remove(oldest));
        }
    }

    fn cut(&mut self) {
        self.newest.sort_by(|a, b| b.at.total_cmp(&a.at));
        self.newest.truncate(NEWEST);
    }

    /// Whether nothing of it is being made, and time alone does not change it.
    pub(super) fn rests(&self, now: f64) -> bool {
        self.open.is_empty() && now < self.holds_until.0
    }

    /// Until when it is the same as long as no file changes, in unix seconds.
    pub fn holds_until(&self) -> f64 {
        self.holds_until.0
    }

    /// The manifests that [`Found::into_seen`] asks for.
    pub fn manifests(&mut self) -> Vec<Wanted> {
        self.cut();
        self.newest.iter().filter_map(Ranked::wanted).collect()
    }

    /// What the source holds. `manifest` gives what was read of a manifest; `None` is that it was not read in time, which
    /// leaves the run for the next reading.
    pub fn into_seen(mut self, manifest: impl Fn(&Wanted) -> Option<Result<Manifest, String>>) -> Seen {
        self.cut();
        let mut notes = Vec::new();
        if self.incomplete > 0 {
            notes.push(format!("{} that match the pattern are not complete", self.incomplete));
        }
        let mut stock = Stock { bytes: Some(self.stock.bytes.unwrap_or(0)), ..self.stock };
        let mut runs = Vec::new();
        for ranked in self.newest {
            let manifest = match ranked.wanted().map(|wanted| manifest(&wanted)) {
                None => Manifest::default(),
                Some(Some(Ok(manifest))) => manifest,
                Some(None) => {
                    runs.extend(ranked.still_open());
                    continue;
                }
                Some(Some(Err(problem))) => {
                    notes.push(format!("the manifest of {} cannot be read: {problem}", clean(&ranked.name)));
                    ranked.leave(&mut stock);
                    runs.extend(ranked.still_open());
                    continue;
                }
            };
            if manifest.outcome.is_some_and(|outcome| outcome != Outcome::Success) {
                ranked.leave(&mut stock);
            }
            runs.extend(ranked.into_run(manifest));
        }
        let open = self.open.into_iter();
        runs.extend(open.map(|open| Run { id: open.id, started: open.started, ..Run::default() }));
        notes.truncate(16);
        Seen { runs, has_all_open: true, stock: Some(stock), notes, ..Seen::default() }
    }
}

impl Ranked {
    fn wanted(&self) -> Option<Wanted> {
        self.manifest.map(|(modified, size)| Wanted { name: self.name.clone(), modified, size })
    }

    /// It is no backup that one could restore.
    fn leave(&self, stock: &mut Stock) {
        if let Some(size) = self.size {
            stock.retained = stock.retained.saturating_sub(1);
            stock.bytes = stock.bytes.map(|bytes| bytes.saturating_sub(size));
        }
    }

    /// The run as long as its manifest cannot be read: it goes on, if it did.
    fn still_open(self) -> Option<Run> {
        let id = self.opened_as.filter(|_| self.was_open)?;
        Some(Run { id, started: self.started, ..Run::default() })
    }

    fn into_run(self, manifest: Manifest) -> Option<Run> {
        let outcome = manifest.outcome.unwrap_or(Outcome::Success);
        let at = manifest.ended.unwrap_or(self.at);
        // What a run that failed left may be deleted before its manifest is: its id must not depend on it.
        let told = if outcome == Outcome::Success { self.modified? } else { at };
        Some(Run {
            id: format!("{} at {told:.3}", short(&self.name)),
            opened_as: self.opened_as,
            started: manifest.started.or(self.started).filter(|started| *started <= at),
            end: Some(End { at, outcome }),
            node: manifest.node,
            size: manifest.size.or(self.size),
            uncompressed: manifest.uncompressed,
            ..Run::default()
        })
    }
}

/// The name as ids have it: of one that is long, or cannot be shown, its beginning, and a hash of the whole.
fn short(name: &str) -> String {
    if name.len() <= LONGEST_NAME && clean(name) == name {
        return name.to_owned();
    }
    let at = (0..=name.len().min(LONGEST_NAME - 20)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    let hash = Sha256::digest(name.as_bytes());
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    clean(&format!("{}~{hash}", &name[..at]))
}
