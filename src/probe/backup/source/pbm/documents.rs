//! What documents of Percona Backup for MongoDB mean. A field that is missing or of another type is as if it were not there; nothing is
//! refused because of it, except a document that says neither what it is of nor when it began.
//!
//! Source: the types `BackupMeta`, `RestoreMeta`, `LockData`, `AgentStat` and `OplogChunk` of percona-backup-mongodb 2.x.

use bson::raw::{RawBsonRef, RawDocument};

use super::coverage::Time;
use crate::probe::backup::runs::{End, Outcome, Run};
use crate::probe::mongodb::number;
use crate::probe::net::clean;

/// A heartbeat that is older than so many seconds is that of nobody (`StaleFrameSec`).
pub(super) const STALE: f64 = 30.0;
/// Work whose heartbeat is older than so many seconds is given up though its lock is still there: a server may elect a primary, and an
/// agent may be restarted or wait for a full disk, and go on.
pub(super) const GONE: f64 = 300.0;
/// So many nodes, replica sets and conditions of one document are looked at.
const PARTS: usize = 64;
/// The last second of the year 9999: later times are nobody's.
const LAST: i64 = 253_402_300_799;
/// The statuses that a run goes through; others are shown as `other`, so that phases stay few.
const PHASES: &[&str] = &[
    "init",
    "starting",
    "running",
    "ready",
    "dumpDone",
    "copyReady",
    "copyDone",
    "partlyDone",
    "down",
    "cleanupCluster",
];

/// What a collection's documents are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Backups,
    Restores,
}

/// A backup or a restore.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) run: Run,
    /// When it began, as the document has it.
    pub(super) start: i64,
    /// When somebody who works on it was heard of last, in unix seconds.
    pub(super) heartbeat: Option<f64>,
    /// The replica sets that it has.
    pub(super) sets: Vec<String>,
}

/// Reads a document of `pbmBackups` or `pbmRestores`. `spell` says how a node is written.
pub(super) fn entry(document: &RawDocument, kind: Kind, spell: impl Fn(&str) -> Option<String>) -> Option<Entry> {
    let start = integer(document, "start_ts").filter(|start| (1..=LAST).contains(start))?;
    let name = text(document, "name").unwrap_or_default();
    let id = text(document, "opid").filter(|id| !id.is_empty()).unwrap_or(name);
    if id.is_empty() {
        return None;
    }
    let status = text(document, "status").unwrap_or_default();
    let last = integer(document, "last_transition_ts").filter(|last| (start..=LAST).contains(last)).unwrap_or(start);
    let end = outcome(status, kind).map(|outcome| End { at: seconds(last), outcome });
    let size = |key| integer(document, key).and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
    let mut nodes = nodes(document, spell);
    let run = Run {
        id: clean(id),
        started: Some(seconds(start)),
        end,
        node: if nodes.is_empty() { None } else { Some(nodes.remove(0)) },
        more_nodes: nodes,
        size: size("size"),
        uncompressed: size("size_uncompressed"),
        phases: phases(document, start),
        note: note(document, name),
        ..Run::default()
    };
    let sets = parts(document, "replsets").filter_map(|set| text(set, "name")).map(clean).collect();
    Some(Entry { run, start, heartbeat: timestamp(document, "hb").map(|hb| f64::from(hb.0)), sets })
}

/// How a run ended that has this status; `None` for one that goes on.
fn outcome(status: &str, kind: Kind) -> Option<Outcome> {
    match status {
        "done" => Some(Outcome::Success),
        "error" => Some(Outcome::Failure),
        "canceled" => Some(Outcome::Canceled),
        // Some members of a replica set could not be restored.
        "partlyDone" if kind == Kind::Restores => Some(Outcome::Failure),
        _ => None,
    }
}

/// Where it runs: the node of each replica set, each once.
fn nodes(document: &RawDocument, spell: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut nodes: Vec<String> = Vec::new();
    for set in parts(document, "replsets") {
        let restored = parts(set, "nodes").filter_map(|node| text(node, "name"));
        for node in text(set, "node").into_iter().chain(restored).filter_map(&spell) {
            if nodes.len() < PARTS && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
    }
    nodes
}

/// How long each status lasted, but for the last one.
fn phases(document: &RawDocument, start: i64) -> Vec<(String, f64)> {
    let condition = |part| Some((integer(part, "timestamp")?, text(part, "status")?));
    let mut conditions: Vec<_> = parts(document, "conditions").filter_map(condition).collect();
    conditions.retain(|(at, _)| (start..=LAST).contains(at));
    conditions.sort_by_key(|(at, _)| *at);
    let mut phases: Vec<(String, f64)> = Vec::new();
    for pair in conditions.windows(2) {
        let (status, lasted) = (pair[0].1, seconds(pair[1].0 - pair[0].0));
        let status = if PHASES.contains(&status) { status } else { "other" };
        match phases.iter_mut().find(|(known, _)| known == status) {
            Some((_, sum)) => *sum += lasted,
            None => phases.push((status.to_owned(), lasted)),
        }
    }
    phases
}

/// What a person should know: which backup it is, and what went wrong.
fn note(document: &RawDocument, name: &str) -> String {
    let of_set =
        |set| Some(format!("{}: {}", text(set, "name")?, text(set, "error").filter(|error| !error.is_empty())?));
    let error = text(document, "error").filter(|error| !error.is_empty()).map(str::to_owned);
    let error = error.or_else(|| parts(document, "replsets").find_map(of_set));
    let what = [Some(name), text(document, "type"), text(document, "backup")];
    let what: Vec<_> = what.into_iter().flatten().filter(|text| !text.is_empty()).map(clean).collect();
    match error {
        Some(error) => format!("{}: {}", what.join(", "), clean(&error)),
        None => what.join(", "),
    }
}

/// A lock: somebody works on something.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lock {
    /// What is done: `backup`, `pitr`, `restore` and so on.
    pub(super) what: String,
    /// The replica set.
    pub(super) set: String,
    /// The node that does it.
    pub(super) node: Option<String>,
    /// The operation.
    pub(super) id: String,
    /// In unix seconds.
    pub(super) heartbeat: f64,
}

/// Reads a document of `pbmLock` or `pbmLockOp`.
pub(super) fn lock(document: &RawDocument, spell: impl Fn(&str) -> Option<String>) -> Option<Lock> {
    Some(Lock {
        what: clean(text(document, "type")?),
        set: clean(text(document, "replset").unwrap_or_default()),
        node: text(document, "node").and_then(spell),
        id: clean(text(document, "opid").unwrap_or_default()),
        heartbeat: f64::from(timestamp(document, "hb")?.0),
    })
}

/// Who makes backups at a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Agent {
    /// Its node.
    pub(super) node: String,
    /// Its replica set.
    pub(super) set: String,
    /// What it says it lacks.
    pub(super) lacks: Vec<&'static str>,
    /// In unix seconds.
    pub(super) heartbeat: f64,
}

/// Reads a document of `pbmAgents`.
pub(super) fn agent(document: &RawDocument, spell: impl Fn(&str) -> Option<String>) -> Option<Agent> {
    let is_good = |key: &str| {
        let state = document.get(key).ok().flatten().and_then(RawBsonRef::as_document);
        state.and_then(|state| state.get("ok").ok().flatten()).and_then(RawBsonRef::as_bool).unwrap_or(false)
    };
    // An arbiter holds nothing that could be saved.
    let is_arbiter = document.get("arb").ok().flatten().and_then(RawBsonRef::as_bool).unwrap_or(false);
    let parts = [("pbms", "its own database"), ("nodes", "its node"), ("stors", "the storage")];
    let needs = parts.into_iter().filter(|(key, _)| !(is_arbiter && *key == "stors"));
    Some(Agent {
        node: spell(text(document, "n")?)?,
        set: clean(text(document, "rs").unwrap_or_default()),
        lacks: needs.filter(|(key, _)| !is_good(key)).map(|(_, what)| what).collect(),
        heartbeat: timestamp(document, "hb").map_or(0.0, |hb| f64::from(hb.0)),
    })
}

/// Reads a document of `pbmPITRChunks`: the replica set, and from when to when.
pub(super) fn chunk(document: &RawDocument) -> Option<(&str, Time, Time)> {
    let set = text(document, "rs").filter(|set| set.len() <= 128 && !set.chars().any(char::is_control))?;
    Some((set, timestamp(document, "start_ts")?, timestamp(document, "end_ts")?))
}

/// Whether the document of `pbmConfig` switches point-in-time recovery on.
pub(super) fn is_pitr_enabled(document: &RawDocument) -> bool {
    let pitr = document.get("pitr").ok().flatten().and_then(RawBsonRef::as_document);
    pitr.and_then(|pitr| pitr.get("enabled").ok().flatten()).and_then(RawBsonRef::as_bool).unwrap_or(false)
}

/// What a document of `pbmPITR` says went wrong, for a person.
pub(super) fn pitr_trouble(document: &RawDocument) -> Option<String> {
    let failed = |part: &RawDocument| text(part, "status") == Some("error");
    let sets = parts(document, "replsets").filter(|set| failed(set));
    let sets: Vec<_> = sets.filter_map(|set| text(set, "name")).map(clean).collect();
    let trouble = failed(document) || !sets.is_empty();
    trouble.then(|| format!("point-in-time recovery reports an error {}", sets.join(", ")).trim_end().to_owned())
}

/// What the documents that a pipeline counted amount to: how many, when the oldest ended, and how many bytes they have.
pub(super) fn totals(document: &RawDocument) -> (u64, Option<f64>, Option<u64>) {
    let count = |key| integer(document, key).and_then(|count| u64::try_from(count).ok());
    let oldest = integer(document, "oldest").filter(|oldest| *oldest > 0).map(seconds);
    (count("retained").unwrap_or(0), oldest, count("bytes").filter(|bytes| *bytes > 0))
}

/// A timestamp of BSON.
pub(super) fn timestamp(document: &RawDocument, key: &str) -> Option<Time> {
    let time = document.get(key).ok().flatten().and_then(RawBsonRef::as_timestamp)?;
    Some((time.time, time.increment))
}

fn text<'d>(document: &'d RawDocument, key: &str) -> Option<&'d str> {
    document.get(key).ok().flatten().and_then(RawBsonRef::as_str)
}

/// A number of any type.
fn integer(document: &RawDocument, key: &str) -> Option<i64> {
    document.get(key).ok().flatten().and_then(number)
}

/// The documents of an array, as many as are looked at.
fn parts<'d>(document: &'d RawDocument, key: &str) -> impl Iterator<Item = &'d RawDocument> + use<'d> {
    let array = document.get(key).ok().flatten().and_then(RawBsonRef::as_array);
    array.into_iter().flatten().filter_map(|part| part.ok().and_then(RawBsonRef::as_document)).take(PARTS)
}

#[allow(clippy::cast_precision_loss, reason = "a time in seconds stays far below 2^52")]
fn seconds(time: i64) -> f64 {
    time as f64
}
