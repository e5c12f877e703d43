//! A Borg repository: `borg list --json` for which archives there are, and once more for those that are new, all without a lock.
//!
//! The plain listing reads nothing but the repository's manifest. When an archive ended is in the archive itself, and how large it
//! is takes a cache of all chunks, which `borg info` builds where there is none; so the former is asked for new archives only, and the latter
//! only if the configuration says so. Borg 1 prints local times without an offset; it is made to think that it is in UTC.
//! <https://borgbackup.readthedocs.io/en/stable/internals/frontends.html>

mod home;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;

use serde::Deserialize;
use tokio::time::Instant;

use self::home::{Home, Wanted};
use super::child::{Call, Tool};
use super::earlier::Earlier;
use super::listed::{Backup, Listed, Moment, Text};
use super::place::{Location, Nodes};
use super::{Attended, Look, Pace, Paced};
use crate::probe::backup::runs::{End, Outcome, Run, Seen};
use crate::probe::{Failure, Reason, Shared, State};
use crate::settings::{Secret, Section};
use crate::sync::lock;

/// Of so many of the newest archives everything is asked.
const DETAILED: usize = 32;
/// So many checkpoints may be among them.
const CHECKPOINTS: usize = 8;

/// Its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    tool: Tool,
    repository: Location,
    passphrase: Option<Secret>,
    cache_dir: Option<PathBuf>,
    archives: Option<String>,
    nodes: Nodes,
    stats: bool,
    accept_unencrypted: bool,
    accept_relocated: bool,
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let tool = Tool::read(section, "borg");
        let repository = section.required("repository");
        let config = Self {
            tool,
            repository: Location::Open(String::new()),
            passphrase: section.optional("passphrase"),
            cache_dir: section.optional("cache_dir"),
            archives: section.optional("archives"),
            nodes: Nodes::read(section),
            stats: section.or("stats", false),
            accept_unencrypted: section.or("accept_unencrypted", false),
            accept_relocated: section.or("accept_relocated", false),
        };
        Some(Self { repository: repository?, ..config })
    }

    /// Whether it says where Borg keeps what it knows of repositories.
    fn names_folders(&self) -> bool {
        const NAMES: [&str; 4] = ["BORG_BASE_DIR", "BORG_CONFIG_DIR", "BORG_SECURITY_DIR", "XDG_CONFIG_HOME"];
        NAMES.iter().any(|name| self.tool.has_variable(name))
    }

    /// A command of Borg that changes nothing, about the archives that are meant. It does not ask anybody: there is nobody to answer.
    /// `home` is where it keeps what it knows of the repository.
    fn call(&self, arguments: &[&str], home: &Home) -> Call<'_> {
        let answer = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let fixed = arguments.iter().chain(&["--json", "--bypass-lock"]).map(|argument| (*argument).to_owned());
        let archives = self.archives.iter().map(|pattern| format!("--glob-archives={pattern}"));
        let folders = [("BORG_CACHE_DIR", Some(&home.cache)), ("BORG_SECURITY_DIR", home.security.as_ref())];
        let folders = folders.into_iter().filter_map(|(name, path)| Some((name, path?.to_string_lossy().into_owned())));
        let answers = [
            ("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", answer(self.accept_unencrypted)),
            ("BORG_RELOCATED_REPO_ACCESS_IS_OK", answer(self.accept_relocated)),
        ];
        let mut call = Call {
            arguments: fixed.chain(archives).collect(),
            variables: folders.chain(answers).collect(),
            secrets: self.passphrase.iter().map(|passphrase| ("BORG_PASSPHRASE", passphrase)).collect(),
            classify,
            // Of all versions, and what version 1.4 may be made to have.
            is_warning: |status| status == 1 || (100..128).contains(&status),
        };
        self.repository.give("BORG_REPO", &mut call);
        call
    }
}

impl Paced for Config {
    fn pace(&self) -> Option<Pace> {
        Some(self.tool.pace)
    }
}

/// Borg's words; before version 1.4 there is one exit status for all errors.
fn classify(_: Option<i32>, said: &str) -> Option<Reason> {
    const WORDS: &[(&str, Reason)] = &[
        ("is incorrect", Reason::Auth),
        ("can not acquire a passphrase", Reason::Auth),
        ("acquire the lock", Reason::Overload),
        ("cache initialization aborted", Reason::Rejected),
        ("repository access aborted", Reason::Rejected),
    ];
    let said = said.to_lowercase();
    WORDS.iter().find(|(words, _)| said.contains(words)).map(|(_, reason)| *reason)
}

/// The answer of `list` and of `info`.
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    archives: Listed<Archive>,
    repository: Repository,
    cache: Option<CacheInfo>,
}

#[derive(Deserialize)]
struct Repository {
    last_modified: Option<Text>,
}

#[derive(Deserialize)]
struct CacheInfo {
    stats: CacheStats,
}

#[derive(Deserialize)]
struct CacheStats {
    unique_csize: Option<u64>,
}

/// An archive, as either command prints it.
#[derive(Deserialize)]
struct Archive {
    id: Text,
    start: Moment,
    end: Option<Moment>,
    duration: Option<f64>,
    hostname: Option<Text>,
    stats: Option<ArchiveStats>,
}

#[derive(Deserialize)]
struct ArchiveStats {
    original_size: Option<u64>,
    deduplicated_size: Option<u64>,
}

impl Backup for Archive {
    fn id(&self) -> &str {
        &self.id.0
    }
}

impl From<Archive> for Run {
    /// Its node is the name of the host, until that is looked up.
    fn from(archive: Archive) -> Self {
        let stats = archive.stats.as_ref();
        Self {
            id: archive.id.0,
            started: archive.end.map(|_| archive.start.0),
            end: Some(End { at: archive.end.unwrap_or(archive.start).0, outcome: Outcome::Success }),
            duration: archive.duration.filter(|seconds| seconds.is_finite() && *seconds >= 0.0),
            node: archive.hostname.map(|host| host.0),
            size: stats.and_then(|stats| stats.deduplicated_size),
            uncompressed: stats.and_then(|stats| stats.original_size),
            ..Self::default()
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// It is none.
pub(super) fn answer(bytes: &mut dyn Read) -> serde_json::Result<Answer> {
    serde_json::from_reader(bytes)
}

/// Reads it.
pub struct Reader {
    config: Config,
    job: String,
    state: State,
    known: Mutex<Known>,
    earlier: Earlier,
}

/// What is known from earlier readings.
#[derive(Clone, Default)]
struct Known {
    /// When the repository was changed last, as it says itself.
    changed: Option<String>,
    /// Archives whose details were asked for.
    archives: BTreeMap<String, Run>,
    /// Those of them whose sizes were asked for in vain, and are to be asked for again.
    sizeless: BTreeSet<String>,
    bytes: Option<u64>,
}

impl Known {
    /// Takes what `info` told.
    fn measured(&mut self, runs: Vec<Run>) {
        for run in runs {
            self.sizeless.remove(&run.id);
            self.archives.insert(run.id.clone(), run);
        }
    }

    /// Takes what `list` told of archives of which nothing was known; of others no more is known by it.
    fn described(&mut self, runs: Vec<Run>, is_sizeless: bool) {
        for run in runs.into_iter().filter(|run| !self.archives.contains_key(&run.id)).collect::<Vec<_>>() {
            if is_sizeless {
                self.sizeless.insert(run.id.clone());
            }
            self.archives.insert(run.id.clone(), run);
        }
    }

    /// Forgets all archives but these.
    fn retain(&mut self, listed: &[Run]) {
        let is_listed: BTreeSet<_> = listed.iter().map(|run| run.id.as_str()).collect();
        self.archives.retain(|id, _| is_listed.contains(id.as_str()));
        self.sizeless.retain(|id| is_listed.contains(id.as_str()));
    }

    /// Whether nothing but its name and its beginning is known of an archive.
    fn is_unknown(&self, run: &Run) -> bool {
        !self.archives.contains_key(&run.id)
    }

    /// Whether more of it can be learnt.
    fn is_lacking(&self, run: &Run) -> bool {
        self.is_unknown(run) || self.sizeless.contains(&run.id)
    }
}

impl Reader {
    #[allow(clippy::unnecessary_wraps, reason = "other sources have something to refuse")]
    pub(super) fn new(config: &Config, job: &str, shared: &Shared) -> Result<Self, String> {
        let (state, earlier) = (shared.state.clone(), Earlier::of(job, shared));
        Ok(Self { config: config.clone(), job: job.to_owned(), state, known: Mutex::default(), earlier })
    }

    /// Where Borg keeps what it keeps: as it is configured, as it is usual, or in a place of our own.
    async fn home(&self) -> Result<Home, Failure> {
        let wanted = Wanted {
            job: self.job.clone(),
            cache_dir: self.config.cache_dir.clone(),
            state_dir: self.state.own_dir(),
            has_place: self.config.names_folders(),
            home: self.config.tool.home(),
        };
        let found = tokio::task::spawn_blocking(move || Home::find(&wanted)).await;
        let found = found.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        found.map_err(|error| Failure::new(Reason::Local, format!("no folder for Borg's cache: {error}")))
    }

    pub(super) async fn read(&self, look: Look<'_>) -> Result<Seen, Failure> {
        let tool = &self.config.tool;
        let home = self.home().await?;
        let list = tool.run(&self.config.call(&["list"], &home), look.ends, answer).await?;
        let (Listed { mut runs, mut stock, .. }, changed) = (list.archives, list.repository.last_modified);
        let mut known = lock(&self.known).clone();
        known.retain(&runs);
        // The newest come first: as far as more can be learnt of one among them, all of them are asked for.
        let new = runs.iter().take(DETAILED).rposition(|run| known.is_lacking(run)).map_or(0, |last| last + 1);
        let changed = changed.map(|changed| changed.0);
        let mut notes = Vec::new();
        if self.config.stats && (new > 0 || known.bytes.is_none() || known.changed != changed) {
            // What is left is for asking the rest, whatever becomes of this.
            let ends = look.ends - look.ends.saturating_duration_since(Instant::now()) / 4;
            match self.measure(&runs[..new], &mut known, (&home, ends)).await {
                Ok(()) => known.changed = changed,
                Err(failure) => notes.push(format!("sizes are not known: {failure}")),
            }
        }
        if runs[..new].iter().any(|run| known.is_unknown(run)) {
            let arguments = ["list", &format!("--last={new}"), "--format={end}{hostname}"];
            let details = tool.run(&self.config.call(&arguments, &home), look.ends, answer).await?;
            known.described(details.archives.runs, !notes.is_empty());
        }
        stock.bytes = match known.bytes {
            None if self.config.stats => self.earlier.bytes().await,
            bytes => bytes,
        };
        // One that came between the two commands is told next time, when it is known how long it took.
        let newest: Vec<_> = runs.iter().take(DETAILED).map(|run| run.id.clone()).collect();
        runs.retain(|run| known.archives.contains_key(&run.id) || !newest.contains(&run.id));
        for run in &mut runs {
            if let Some(detailed) = known.archives.get(&run.id) {
                run.clone_from(detailed);
            }
            self.config.nodes.place(run);
        }
        *lock(&self.known) = known;
        Ok(Seen { runs, stock: Some(stock), notes, ..Seen::default() })
    }

    /// Asks for sizes: of the repository, and of the newest archives, which are to become known.
    async fn measure(&self, newest: &[Run], known: &mut Known, (home, ends): (&Home, Instant)) -> Result<(), Failure> {
        // `info` counts checkpoints as well, which `list` does not show. There are none, as a rule, and each archive costs.
        for checkpoints in [0, CHECKPOINTS] {
            let last = format!("--last={}", newest.len().max(1) + checkpoints);
            let call = self.config.call(&["info", &last], home);
            let details = self.config.tool.run(&call, ends, answer).await?;
            known.measured(details.archives.runs);
            known.bytes = details.cache.and_then(|cache| cache.stats.unique_csize);
            if !newest.iter().any(|run| known.is_lacking(run)) {
                break;
            }
        }
        // What was not told now, although it was asked for, never is.
        known.sizeless.clear();
        Ok(())
    }
}

impl Attended for Reader {
    fn concerns(&self) -> Vec<String> {
        self.config.tool.concerns()
    }
}

#[cfg(test)]
#[path = "tests/borg.rs"]
mod tests;
