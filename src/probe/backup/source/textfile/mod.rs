//! A `.prom` file that a script leaves, for the node exporter or for midwatch alone.

mod exposition;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::file::{self, Alone};
use super::selection::is_time;
use super::{Attended, Look, Paced};
use crate::label_values::label_values;
use crate::probe::backup::config::is_node;
use crate::probe::backup::runs::{End, Outcome, Run, Seen};
use crate::probe::net::{clean, clean_lines};
use crate::probe::{Failure, Reason, Shared};
use crate::settings::{Invalid, Item, Section, Value, is_label_name};

/// The largest file that is read, in bytes.
const LARGEST: usize = 1 << 20;
/// So many files may match.
const FILES: usize = 100;
/// So many runs are told.
const RUNS: usize = 200;
/// A file that changed less than so many seconds ago may be half of what it is going to be.
const YOUNG: f64 = 2.0;
/// The label that says where a run was.
const NODE: &str = "node";

label_values! {
    /// What a metric tells of a run. The label is the key that renames it.
    pub enum Told {
        /// When it began, in unix seconds.
        Start = "start",
        /// When it ended.
        End = "end",
        /// Whether it was a success.
        Success = "success",
        /// The size of what was stored, in bytes.
        Size = "size",
        /// The same before compression.
        Uncompressed = "uncompressed",
        /// How long it took, in seconds.
        Duration = "duration",
    }
}

impl Told {
    /// The metric's name, unless the configuration has another one.
    fn metric(self) -> &'static str {
        match self {
            Self::Start => "backup_start_timestamp_seconds",
            Self::End => "backup_end_timestamp_seconds",
            Self::Success => "backup_success",
            Self::Size => "backup_size_bytes",
            Self::Uncompressed => "backup_uncompressed_bytes",
            Self::Duration => "backup_duration_seconds",
        }
    }
}

/// Its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A file, or a pattern of files.
    path: PathBuf,
    /// The names of the metrics, as [`Told::ALL`] has them.
    metrics: Vec<String>,
    /// Labels that a sample must have.
    select: Select,
}

/// Labels that a sample must have, with their values.
#[derive(Clone, Debug, Default, PartialEq)]
struct Select(BTreeMap<String, String>);

impl Value for Select {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let expected = "a table of labels such as { job = \"orders\" }";
        let Some(table) = item.toml().as_table() else { return Err(item.expected(expected)) };
        let label = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let name = name.get_ref().as_ref();
            is_label_name(name).then(|| Some((name.to_owned(), value.get_ref().as_str()?.to_owned()))).flatten()
        };
        let labels: Option<_> = table.iter().map(label).collect();
        labels.map(Self).ok_or_else(|| Invalid::new(format!("expected {expected}")))
    }
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let path = section.required::<PathBuf>("path");
        if let Some(Err(error)) = path.as_ref().map(|path| glob::Pattern::new(&path.to_string_lossy())) {
            section.problem(Some("path"), format!("`path`: not a pattern: {}", error.msg));
        }
        let mut metrics: Vec<_> = Told::ALL.iter().map(|told| told.metric().to_owned()).collect();
        section.section("metrics", |section| {
            for (metric, told) in metrics.iter_mut().zip(Told::ALL) {
                if let Some(name) = section.optional::<String>(told.label()) {
                    *metric = name;
                }
            }
            Some(())
        });
        let select = section.optional::<Select>("select").unwrap_or_default();
        Some(Self { path: path?, metrics, select })
    }
}

impl Paced for Config {}

/// Reads it.
pub struct Reader {
    config: Arc<Config>,
    memory: Alone<Memory>,
}

/// What is remembered from one reading to the next.
#[derive(Default)]
struct Memory {
    last: Option<Seen>,
    /// Whether the last reading was put off because a file was young: one that is always young is read all the same.
    was_put_off: bool,
    /// For each run that was seen to begin, by its first id, when it ended first: another end is that of another run.
    ended: BTreeMap<String, f64>,
}

impl Reader {
    pub(super) fn new(config: &Config, _job: &str, _shared: &Shared) -> Result<Self, String> {
        Ok(Self { config: Arc::new(config.clone()), memory: Alone::default() })
    }

    pub(super) async fn read(&self, look: Look<'_>) -> Result<Seen, Failure> {
        let (config, now) = (Arc::clone(&self.config), look.now);
        self.memory.work(move |memory| memory.read(&config, now)).await
    }
}

impl Attended for Reader {}

impl Memory {
    fn read(&mut self, config: &Config, now: f64) -> Result<Seen, Failure> {
        let files = config.files()?;
        let is_young = files.iter().any(|file| is_young(file, now));
        self.was_put_off = is_young && !self.was_put_off && self.last.is_some();
        if let Some(last) = self.last.as_ref().filter(|_| self.was_put_off) {
            return Ok(last.clone());
        }
        let mut seen = config.seen(&files)?;
        let known = std::mem::take(&mut self.ended);
        for run in &mut seen.runs {
            let (Some(first), Some(end)) = (&run.opened_as, run.end) else { continue };
            let ended = known.get(first).copied().unwrap_or(end.at);
            self.ended.insert(first.clone(), ended);
            if ended != end.at {
                run.opened_as = None;
            }
        }
        self.last = Some(seen.clone());
        Ok(seen)
    }
}

impl Config {
    /// What a file is called: its path below the folders that the pattern names.
    fn name(&self, file: &Path) -> String {
        let is_fixed = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let folder: PathBuf = folder.components().take_while(is_fixed).collect();
        // All of it, however long it is: it is part of ids.
        clean_lines(&file.strip_prefix(folder).unwrap_or(file).to_string_lossy()).replace('\n', " ")
    }

    /// The files that match, in the order of their names.
    fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        let pattern = self.path.to_string_lossy();
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::default() };
        let paths = glob::glob_with(&pattern, options).map_err(|error| Failure::new(Reason::Internal, error.msg))?;
        let files: Result<Vec<_>, _> = paths.take(FILES + 1).collect();
        let files = files
            .map_err(|error| Failure::new(Reason::Local, format!("a folder cannot be read: {}", error.error())))?;
        match files.len() {
            0 => Err(Failure::new(Reason::Rejected, "there is no such file")),
            1..=FILES => Ok(files),
            _ => Err(Failure::new(Reason::Local, format!("more than {FILES} files match"))),
        }
    }

    fn seen(&self, files: &[PathBuf]) -> Result<Seen, Failure> {
        let mut runs = Vec::new();
        for path in files {
            let name = self.name(path);
            let failure = |reason, problem: String| Failure::new(reason, format!("{}{problem}", clean(&name)));
            let bytes = file::read(path, LARGEST);
            let bytes = bytes.map_err(|error| failure(Reason::Local, format!(" cannot be read: {error}")))?;
            let told = self.told(&bytes).map_err(|problem| failure(Reason::Protocol, format!(": {problem}")))?;
            for (node, values) in told {
                runs.extend(values.runs(&name, node));
            }
            if runs.len() > RUNS {
                return Err(Failure::new(
                    Reason::Protocol,
                    format!("there are more than {RUNS} runs; `select` chooses some"),
                ));
            }
        }
        Ok(Seen { runs, has_all_open: true, ..Seen::default() })
    }

    /// What a file tells, by node.
    fn told(&self, bytes: &[u8]) -> Result<BTreeMap<String, Values>, String> {
        let mut told: BTreeMap<String, Values> = BTreeMap::new();
        let mut twice = None;
        exposition::read(bytes, |sample| {
            let Some(at) = self.metrics.iter().position(|metric| metric == sample.name) else { return };
            let has = |(name, value): (&String, &String)| sample.labels.iter().any(|(n, v)| n == name && v == value);
            if !self.select.0.iter().all(has) || told.len() > RUNS {
                return;
            }
            let node = sample.labels.iter().find(|(name, _)| *name == NODE).map(|(_, value)| value.clone());
            let values = told.entry(node.unwrap_or_default()).or_default();
            if values.0[at].replace(sample.value).is_some() {
                twice = Some(at);
            }
        })?;
        if let Some(at) = twice {
            let key = Told::ALL[at].label();
            return Err(format!(
                "more than one series says `{key}` of the same node; `select` chooses one by its labels"
            ));
        }
        for (node, values) in &told {
            if !node.is_empty() {
                is_node(node).map_err(|problem| format!("the label `{NODE}` {problem}"))?;
            }
            let bad =
                [Told::Start, Told::End].into_iter().find(|told| values.get(*told).is_some_and(|at| !is_time(at)));
            if let Some(bad) = bad {
                return Err(format!("`{}` is no time in unix seconds", bad.label()));
            }
        }
        Ok(told)
    }
}

/// What a file tells of a node's run.
#[derive(Default)]
struct Values([Option<f64>; Told::ALL.len()]);

impl Values {
    /// 0 and what is no number say that there is nothing to say.
    fn get(&self, told: Told) -> Option<f64> {
        self.0[told as usize].filter(|value| *value > 0.0)
    }

    fn runs(&self, file: &str, node: String) -> Vec<Run> {
        let name = if node.is_empty() { file.to_owned() } else { format!("{file} {node}") };
        let node = Some(node).filter(|node| !node.is_empty());
        let (start, end) = (self.get(Told::Start), self.get(Told::End));
        let since = |start: f64| format!("{name} since {start:.3}");
        let ended = end.map(|at| {
            let began = start.filter(|start| *start <= at);
            let is_good = self.0[Told::Success as usize].is_none_or(|success| success == 1.0);
            let outcome = if is_good { Outcome::Success } else { Outcome::Failure };
            Run {
                id: format!("{name} at {at:.3}"),
                opened_as: began.map(since),
                started: began,
                end: Some(End { at, outcome }),
                duration: self.get(Told::Duration).filter(|seconds| seconds.is_finite()),
                node: node.clone(),
                size: self.bytes(Told::Size),
                uncompressed: self.bytes(Told::Uncompressed),
                ..Run::default()
            }
        });
        let open = start.filter(|start| end.is_none_or(|end| *start > end));
        let open =
            open.map(|start| Run { id: since(start), started: Some(start), node: node.clone(), ..Run::default() });
        ended.into_iter().chain(open).collect()
    }

    fn bytes(&self, told: Told) -> Option<u64> {
        let bytes = self.0[told as usize]?;
        // Beyond that a number is no number of bytes any more.
        (0.0..9e18).contains(&bytes).then_some(bytes as u64)
    }
}

fn is_young(path: &Path, now: f64) -> bool {
    let modified = path.metadata().and_then(|metadata| metadata.modified()).ok();
    let modified = modified.and_then(|modified| modified.duration_since(SystemTime::UNIX_EPOCH).ok());
    modified.is_some_and(|modified| (0.0..YOUNG).contains(&(now - modified.as_secs_f64())))
}

/// Reads a file as those of scripts are read. Whether it tells anything.
pub fn fuzz(bytes: &[u8]) -> bool {
    let metrics = Told::ALL.iter().map(|told| told.metric().to_owned()).collect();
    let config = Config { path: PathBuf::new(), metrics, select: Select::default() };
    config.told(bytes).is_ok_and(|told| !told.is_empty())
}

#[cfg(test)]
mod tests;
