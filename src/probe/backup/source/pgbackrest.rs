//! A stanza of pgBackRest: `pgbackrest info --output=json`, which takes no lock.
//!
//! The command ends well whatever it finds: what is wrong with a repository is in its answer. That a backup is running is
//! in there too, but not which one, so it is told to people and is no run: its label is known when it has ended. The answer names segments of the
//! write-ahead log, but no times; to which points can be gone back is therefore not known.
//! <https://pgbackrest.org/command.html#command-info>

use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;

use super::child::{Call, Tool};
use super::listed::{self, Few, Listed, Text, seconds};
use super::{Attended, Look, Pace, Paced};
use crate::probe::backup::runs::{End, Outcome, Run, Seen};
use crate::probe::net::clean;
use crate::probe::{Failure, Reason, Shared};
use crate::settings::Section;

/// Its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    tool: Tool,
    stanza: String,
    config_file: Option<PathBuf>,
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let tool = Tool::read(section, "pgbackrest");
        let stanza = section.required("stanza");
        let config_file = section.optional("config_file");
        Some(Self { tool, stanza: stanza?, config_file })
    }

    fn call(&self) -> Call<'_> {
        let fixed =
            ["info", "--output=json", "--log-level-file=off", "--log-level-console=off", "--log-level-stderr=error"];
        let file = self.config_file.iter().map(|path| format!("--config={}", path.display()));
        let stanza = std::iter::once(format!("--stanza={}", self.stanza));
        let arguments = fixed.map(str::to_owned).into_iter().chain(file).chain(stanza).collect();
        Call { arguments, variables: Vec::new(), secrets: Vec::new(), classify, is_warning: |_| false }
    }
}

impl Paced for Config {
    fn pace(&self) -> Option<Pace> {
        Some(self.tool.pace)
    }
}

/// pgBackRest's own numbers of errors: a missing option, of which only the passphrase is a matter of credentials.
fn classify(status: Option<i32>, said: &str) -> Option<Reason> {
    (status == Some(37) && said.contains("cipher-pass")).then_some(Reason::Auth)
}

/// A stanza, as it is printed.
#[derive(Deserialize)]
pub(super) struct Stanza {
    name: Text,
    #[serde(default)]
    backup: Listed<Backup>,
    #[serde(default)]
    archive: Few<Archive>,
    #[serde(default)]
    repo: Few<Repository>,
    status: Status,
}

#[derive(Deserialize)]
struct Archive {
    id: Option<Text>,
    min: Option<Text>,
    max: Option<Text>,
}

#[derive(Deserialize)]
struct Repository {
    key: Option<u64>,
    cipher: Option<Text>,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    code: i64,
    message: Option<Text>,
    #[serde(default)]
    lock: Lock,
}

#[derive(Default, Deserialize)]
struct Lock {
    #[serde(default)]
    backup: BackupLock,
}

#[derive(Default, Deserialize)]
struct BackupLock {
    #[serde(default)]
    held: bool,
}

/// A backup, as it is printed.
#[derive(Deserialize)]
struct Backup {
    label: Text,
    #[serde(rename = "type")]
    kind: Option<Text>,
    timestamp: Times,
    info: Option<Info>,
    /// Whether pages of the database had wrong checksums.
    error: Option<bool>,
}

#[derive(Deserialize)]
struct Times {
    start: i64,
    stop: i64,
}

#[derive(Deserialize)]
struct Info {
    /// What was copied of the database, which `size` is all of.
    delta: Option<u64>,
    repository: Option<Stored>,
}

#[derive(Deserialize)]
struct Stored {
    delta: Option<u64>,
}

impl listed::Backup for Backup {
    fn id(&self) -> &str {
        &self.label.0
    }
}

impl From<Backup> for Run {
    fn from(backup: Backup) -> Self {
        let is_bad = backup.error == Some(true);
        let outcome = if is_bad { Outcome::Failure } else { Outcome::Success };
        let kind = backup.kind.map_or_else(String::new, |kind| clean(&kind.0));
        let bad = if is_bad { "; pages of the database have wrong checksums" } else { "" };
        Self {
            id: backup.label.0,
            started: Some(seconds(backup.timestamp.start)),
            end: Some(End { at: seconds(backup.timestamp.stop), outcome }),
            size: backup.info.as_ref().and_then(|info| info.repository.as_ref()?.delta),
            uncompressed: backup.info.as_ref().and_then(|info| info.delta),
            note: format!("{kind}{bad}"),
            ..Self::default()
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// It is none.
pub(super) fn answer(bytes: &mut dyn Read) -> serde_json::Result<Few<Stanza>> {
    serde_json::from_reader(bytes)
}

impl Stanza {
    /// What it holds.
    ///
    /// # Errors
    /// No repository can be read, or the stanza is in none: whether there are backups is then not known.
    pub(super) fn seen(self) -> Result<Seen, Failure> {
        /// All is well.
        const OK: i64 = 0;
        /// There are no backups yet.
        const EMPTY: i64 = 2;
        /// The repositories' codes differ, also if one is well and another one still empty (pgBackRest, info.c).
        const MIXED: i64 = 4;
        let is_good = |status: &Status| matches!(status.code, OK | EMPTY);
        let repositories = &self.repo.0;
        let bad = repositories.iter().find(|repository| !is_good(&repository.status));
        if let Some(repository) = bad {
            // What is in the other repositories would be the whole truth only if this one was empty.
            return Err(repository.failure());
        }
        let is_told_by_each = self.status.code == MIXED && !repositories.is_empty();
        if !is_good(&self.status) && !is_told_by_each {
            return Err(Failure::new(Reason::Rejected, format!("pgbackrest: {}", self.status.words())));
        }
        let held = self.status.lock.backup.held.then(|| "a backup is running".to_owned());
        let archives = self.archive.0.iter().filter_map(|archive| {
            let (min, max) = (archive.min.as_ref()?, archive.max.as_ref()?);
            let id = archive.id.as_ref().map_or("", |id| &id.0);
            Some(clean(&format!("write-ahead log {id}: {} to {}", min.0, max.0)))
        });
        let notes = held.into_iter().chain(archives).collect();
        Ok(Seen { runs: self.backup.runs, stock: Some(self.backup.stock), notes, ..Seen::default() })
    }
}

impl Repository {
    fn failure(&self) -> Failure {
        let (words, key) = (self.status.words(), self.key.unwrap_or(1));
        let is_encrypted = self.cipher.as_ref().is_some_and(|cipher| cipher.0 != "none");
        // Its content makes no sense, or decrypting it says so itself.
        let makes_no_sense = words.starts_with("[FormatError]") || words.starts_with("[CryptoError]");
        if is_encrypted && makes_no_sense {
            let detail = format!("pgbackrest: repository {key} cannot be decrypted: is the passphrase right?");
            return Failure::new(Reason::Auth, detail);
        }
        let reason = if words.contains("Permission denied") { Reason::Local } else { Reason::Rejected };
        Failure::new(reason, clean(&format!("pgbackrest: repository {key}: {words}")))
    }
}

impl Status {
    fn words(&self) -> String {
        self.message.as_ref().map_or_else(|| format!("status {}", self.code), |message| clean(&message.0))
    }
}

/// Reads it.
pub struct Reader {
    config: Config,
}

impl Reader {
    #[allow(clippy::unnecessary_wraps, reason = "other sources have something to refuse")]
    pub(super) fn new(config: &Config, _job: &str, _shared: &Shared) -> Result<Self, String> {
        Ok(Self { config: config.clone() })
    }

    pub(super) async fn read(&self, look: Look<'_>) -> Result<Seen, Failure> {
        let stanzas = self.config.tool.run(&self.config.call(), look.ends, answer).await?;
        let stanza = stanzas.0.into_iter().find(|stanza| stanza.name.0 == self.config.stanza);
        let missing = || Failure::new(Reason::Protocol, "pgbackrest: the answer is not about the stanza");
        stanza.ok_or_else(missing)?.seen()
    }
}

impl Attended for Reader {
    fn concerns(&self) -> Vec<String> {
        self.config.tool.concerns()
    }
}

#[cfg(test)]
#[path = "tests/pgbackrest.rs"]
mod tests;
