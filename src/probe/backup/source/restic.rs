//! A restic repository: `restic snapshots --json`, without a lock.
//!
//! Since restic 0.17 a snapshot says when its backup began and ended, and how much it stored; from older versions only one moment
//! is known, which is when it began. It then counts as the end, and how long the backup took is unknown.
//! <https://restic.readthedocs.io/en/stable/075_scripting.html>

use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;

use serde::Deserialize;
use tokio::time::Instant;

use super::child::{Call, Tool};
use super::earlier::Earlier;
use super::listed::{Backup, Listed, Moment, Text};
use super::place::{Location, Nodes};
use super::{Attended, Look, Pace, Paced};
use crate::probe::backup::runs::{End, Outcome, Run, Seen};
use crate::probe::{Failure, Reason, Shared};
use crate::settings::{Secret, Section};
use crate::sync::lock;

/// Its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    tool: Tool,
    repository: Location,
    password: Option<Secret>,
    cache_dir: Option<PathBuf>,
    hosts: Vec<String>,
    tags: Vec<String>,
    paths: Vec<String>,
    nodes: Nodes,
    stats: bool,
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let tool = Tool::read(section, "restic");
        let repository = section.required("repository");
        let password = section.optional("password");
        if !section.has("password") && !tool.has_variable("RESTIC_PASSWORD") {
            section.problem(None, "missing field `password`");
        }
        let cache_dir = section.optional("cache_dir");
        let hosts = section.or("hosts", Vec::new());
        let tags = section.or("tags", Vec::new());
        let paths = section.or("paths", Vec::new());
        let (nodes, stats) = (Nodes::read(section), section.or("stats", false));
        Some(Self { tool, repository: repository?, password, cache_dir, hosts, tags, paths, nodes, stats })
    }

    /// A command of restic that changes nothing, about the snapshots that are meant.
    fn call(&self, arguments: &[&str]) -> Call<'_> {
        let filters = [("--host", &self.hosts), ("--tag", &self.tags), ("--path", &self.paths)];
        let filters =
            filters.into_iter().flat_map(|(key, values)| values.iter().map(move |value| format!("{key}={value}")));
        let fixed = arguments.iter().chain(&["--json", "--no-lock"]).map(|argument| (*argument).to_owned());
        let cache = self.cache_dir.iter().map(|path| ("RESTIC_CACHE_DIR", path.to_string_lossy().into_owned()));
        let mut call = Call {
            arguments: fixed.chain(filters).collect(),
            variables: cache.collect(),
            secrets: self.password.iter().map(|password| ("RESTIC_PASSWORD", password)).collect(),
            classify,
            is_warning: |_| false,
        };
        self.repository.give("RESTIC_REPOSITORY", &mut call);
        call
    }
}

impl Paced for Config {
    fn pace(&self) -> Option<Pace> {
        Some(self.tool.pace)
    }
}

/// The exit statuses that restic has since 0.17, and the words of older versions.
fn classify(status: Option<i32>, said: &str) -> Option<Reason> {
    let has = |words: &str| said.contains(words);
    match status {
        Some(10) => Some(Reason::Rejected),
        Some(11) => Some(Reason::Overload),
        Some(12) => Some(Reason::Auth),
        _ if has("wrong password or no key found") || has("an empty password is not a password") => Some(Reason::Auth),
        _ if has("unable to create lock") || has("already locked") => Some(Reason::Overload),
        _ => None,
    }
}

/// A snapshot, as restic prints it.
#[derive(Deserialize)]
pub(super) struct Snapshot {
    id: Text,
    /// The id that it had before it was tagged, rewritten or copied: the backup is still the same one.
    original: Option<Text>,
    time: Moment,
    hostname: Option<Text>,
    summary: Option<Summary>,
}

#[derive(Deserialize)]
struct Summary {
    backup_start: Option<Moment>,
    backup_end: Option<Moment>,
    data_added: Option<u64>,
    data_added_packed: Option<u64>,
    total_bytes_processed: Option<u64>,
}

impl Backup for Snapshot {
    fn id(&self) -> &str {
        &self.id.0
    }
}

impl From<Snapshot> for Run {
    /// Its node is the name of the host, until that is looked up.
    fn from(snapshot: Snapshot) -> Self {
        let summary = snapshot.summary.as_ref();
        let end = summary.and_then(|summary| summary.backup_end);
        Self {
            id: snapshot.original.unwrap_or(snapshot.id).0,
            started: summary.filter(|_| end.is_some()).and_then(|summary| summary.backup_start).map(|at| at.0),
            end: Some(End { at: end.unwrap_or(snapshot.time).0, outcome: Outcome::Success }),
            node: snapshot.hostname.map(|host| host.0),
            size: summary.and_then(|summary| summary.data_added_packed.or(summary.data_added)),
            uncompressed: summary.and_then(|summary| summary.total_bytes_processed),
            ..Self::default()
        }
    }
}

/// `restic stats --mode raw-data`, of which only one number is of interest.
#[derive(Deserialize)]
pub(super) struct Stats {
    total_size: u64,
}

/// Reads the answer of `snapshots`.
///
/// # Errors
/// It is none.
pub(super) fn snapshots(bytes: &mut dyn Read) -> serde_json::Result<Listed<Snapshot>> {
    serde_json::from_reader(bytes)
}

/// Reads the answer of `stats`: how many bytes the repository has.
///
/// # Errors
/// It is none.
pub(super) fn stats(bytes: &mut dyn Read) -> serde_json::Result<u64> {
    serde_json::from_reader(bytes).map(|stats: Stats| stats.total_size)
}

/// Reads it.
pub struct Reader {
    config: Config,
    /// Which snapshots there were when the size was asked for last, and what it was.
    size: Mutex<Option<(u64, u64)>>,
    earlier: Earlier,
}

impl Reader {
    #[allow(clippy::unnecessary_wraps, reason = "other sources have something to refuse")]
    pub(super) fn new(config: &Config, job: &str, shared: &Shared) -> Result<Self, String> {
        Ok(Self { config: config.clone(), size: Mutex::default(), earlier: Earlier::of(job, shared) })
    }

    pub(super) async fn read(&self, look: Look<'_>) -> Result<Seen, Failure> {
        let Config { tool, nodes, .. } = &self.config;
        let listed = tool.run(&self.config.call(&["snapshots"]), look.ends, snapshots).await?;
        let Listed { mut runs, mut stock, fingerprint, .. } = listed;
        let mut notes = Vec::new();
        stock.bytes = None;
        if self.config.stats {
            // What is left is for telling the runs, whatever becomes of this.
            let ends = look.ends - look.ends.saturating_duration_since(Instant::now()) / 10;
            if let Err(failure) = self.measure(fingerprint, ends).await {
                notes.push(format!("the size of the repository is not known: {failure}"));
            }
            let known = lock(&self.size).map(|(_, bytes)| bytes);
            stock.bytes = if known.is_some() { known } else { self.earlier.bytes().await };
        }
        for run in &mut runs {
            nodes.place(run);
        }
        Ok(Seen { runs, stock: Some(stock), notes, ..Seen::default() })
    }

    /// Asks how much room the snapshots take. That is expensive, so it is only asked when they are not the same as before.
    async fn measure(&self, which: u64, ends: Instant) -> Result<(), Failure> {
        if lock(&self.size).is_some_and(|(known, _)| known == which) {
            return Ok(());
        }
        let bytes = self.config.tool.run(&self.config.call(&["stats", "--mode=raw-data"]), ends, stats).await?;
        *lock(&self.size) = Some((which, bytes));
        Ok(())
    }
}

impl Attended for Reader {
    fn concerns(&self) -> Vec<String> {
        self.config.tool.concerns()
    }
}

#[cfg(test)]
#[path = "tests/restic.rs"]
mod tests;
