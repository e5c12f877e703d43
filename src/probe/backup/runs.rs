//! Runs of a job, and what else a source tells: the words that everything here has in common.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::schedule::Schedule;
use crate::label_values::label_values;

label_values! {
    /// How a run ended.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Outcome {
        /// It did what it should.
        Success = "success",
        /// It said that it did not, or left nothing that is complete.
        Failure = "failure",
        /// Somebody stopped it.
        Canceled = "canceled",
        /// It began and never said how it ended.
        Lost = "lost",
    }
}

/// One run of a job: of a backup, or of a restore test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Tells it from all others of the job, also after a restart: an operation id, the uid of a Kubernetes Job, a snapshot id. At
    /// most [`Run::LONGEST`] bytes.
    pub id: String,
    /// The id by which it went on, where it has another one now that it ended: a file's name and time are final only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_as: Option<String>,
    /// When it began, in unix seconds; `None` where the source does not know.
    pub started: Option<f64>,
    /// How it ended; `None` is that it goes on.
    pub end: Option<End>,
    /// Whether nobody has been heard of lately who works on it, though it has not been given up yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_silent: bool,
    /// How long it took, in seconds, where that is known better than by both times.
    pub duration: Option<f64>,
    /// Where it runs, spelled as the MongoDB probe's `member`.
    pub node: Option<String>,
    /// Where else it runs: a backup of a sharded cluster has a node for each shard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more_nodes: Vec<String>,
    /// The size of what was stored, in bytes.
    pub size: Option<u64>,
    /// The size before compression, in bytes.
    pub uncompressed: Option<u64>,
    /// Processor time that its processes used, in seconds.
    pub cpu_seconds: Option<f64>,
    /// The most memory that one of its processes had, in bytes.
    pub peak_memory: Option<u64>,
    /// What it consisted of, and how many seconds each part took.
    pub phases: Vec<(String, f64)>,
    /// What a person should know of it: an error, the last lines of its output.
    pub note: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When, in unix seconds.
    pub at: f64,
    /// In what way.
    pub outcome: Outcome,
}

impl Run {
    /// The longest id, in bytes.
    pub const LONGEST: usize = 256;
    /// The longest note that is kept, in bytes.
    pub const LONGEST_NOTE: usize = 2048;
    /// The most phases that are kept.
    pub const MOST_PHASES: usize = 32;
    /// The most nodes that are kept beside the first.
    pub const MOST_MORE_NODES: usize = 63;

    /// Where it runs, as far as that is known.
    pub fn nodes(&self) -> impl Iterator<Item = &String> {
        self.node.iter().chain(&self.more_nodes)
    }

    /// How many seconds it took; `None` as long as it goes on, where it is not known when it began, and where nobody saw it end.
    pub fn seconds(&self) -> Option<f64> {
        let end = self.end.filter(|end| end.outcome != Outcome::Lost)?;
        self.duration.or_else(|| Some((end.at - self.started?).max(0.0)))
    }

    /// When it began; where that is unknown, when it ended.
    pub fn when(&self) -> Option<f64> {
        self.started.or(self.end.map(|end| end.at))
    }

    /// Cuts what a peer may have made too long.
    pub fn trimmed(mut self) -> Self {
        bound_id(&mut self.id);
        cut(&mut self.note, Self::LONGEST_NOTE);
        if let Some(id) = &mut self.opened_as {
            bound_id(id);
        }
        self.phases.truncate(Self::MOST_PHASES);
        for (name, _) in &mut self.phases {
            cut(name, 64);
        }
        self.more_nodes.truncate(Self::MOST_MORE_NODES);
        for node in self.node.iter_mut().chain(&mut self.more_nodes) {
            cut(node, Self::LONGEST);
        }
        self
    }

    /// Trimmed, and without numbers that cannot be. `now` is in unix seconds: what ended, ended by then.
    pub fn plausible(self, now: f64) -> Self {
        let latest = if now < CLOCK_SET { f64::MAX } else { now };
        let seconds = |seconds: &f64| (0.0..=LONGEST_TIME).contains(seconds);
        let mut run = self.trimmed();
        run.started = run.started.filter(|at| *at > 0.0 && *at <= latest + AHEAD);
        run.duration = run.duration.filter(seconds);
        run.cpu_seconds = run.cpu_seconds.filter(seconds);
        run.phases.retain(|(_, took)| seconds(took));
        if let Some(end) = &mut run.end {
            end.at = if end.at > 0.0 { end.at.min(latest) } else { now };
        }
        run
    }
}

/// A wall clock before this (2020-01-01, in unix seconds) has not been set yet.
pub const CLOCK_SET: f64 = 1_577_836_800.0;
/// The clocks of two machines differ by no more seconds than that.
pub const AHEAD: f64 = 3600.0;
/// More seconds than these nothing takes: a hundred years of processor time.
const LONGEST_TIME: f64 = 100.0 * 365.0 * 86_400.0;

/// Makes an id no longer than [`Run::LONGEST`]. Two long ones that begin alike remain two.
fn bound_id(id: &mut String) {
    if id.len() > Run::LONGEST {
        let digest = Sha256::digest(id.as_bytes());
        let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        cut(id, Run::LONGEST - digest.len() - 1);
        id.push('#');
        id.push_str(&digest);
    }
}

/// Keeps the first bytes of a text, whole characters only.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let at = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(at);
    }
}

/// What a source holds at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Its runs, in any order, those that go on included.
    pub runs: Vec<Run>,
    /// Whether `runs` has every run that goes on: one that went on before and is not among them has been lost.
    pub has_all_open: bool,
    /// The backups that are there; `None` where the source does not know.
    pub stock: Option<Stock>,
    /// Whether it can be gone back to any point in time; `None` where that is no question.
    pub pitr: Option<Pitr>,
    /// The agents that make backups: their nodes, and whether they are well.
    pub agents: Vec<(String, bool)>,
    /// When runs are to be, where the source knows that; the configuration's schedule goes before it.
    pub schedule: Option<Schedule>,
    /// Whether somebody has switched the job off there: no run is missed then.
    pub is_suspended: bool,
    /// What a person should know of the source, beside the runs: a line each.
    pub notes: Vec<String>,
}

/// The backups that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stock {
    /// How many.
    pub retained: u64,
    /// When the oldest was made, in unix seconds.
    pub oldest: Option<f64>,
    /// How much room all of them take, in bytes.
    pub bytes: Option<u64>,
}

/// Point-in-time recovery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pitr {
    /// Whether it is switched on.
    pub enabled: bool,
    /// For each replica set (or its like): whether it runs, and how many seconds the newest restorable point is behind now.
    pub sets: Vec<PitrSet>,
    /// The earliest and latest point to which everything can be restored, in unix seconds.
    pub range: Option<(f64, f64)>,
    /// How many gaps there are within what is kept, and how many seconds they last in all.
    pub gaps: (u64, f64),
}

/// Point-in-time recovery of one replica set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PitrSet {
    /// Its name.
    pub name: String,
    /// Whether somebody keeps slicing its oplog.
    pub running: Option<bool>,
    /// How many seconds the end of its last slice is behind now.
    pub lag: Option<f64>,
}
