//! What a script writes of a backup beside it: a small JSON object.

use std::collections::HashMap;

use chrono::DateTime;
use serde_json::{Map, Value};

use super::Wanted;
use crate::probe::backup::config::is_node;
use crate::probe::backup::runs::Outcome;

/// The manifests that have been read, so that each is read once.
#[derive(Debug, Default)]
pub struct Manifests(HashMap<String, (Wanted, Result<Manifest, String>)>);

impl Manifests {
    /// Those that are still to be read; what is not wanted any more is forgotten. One that was bad is read again: it may have
    /// been read while it was written.
    pub fn missing(&mut self, wanted: &[Wanted]) -> Vec<Wanted> {
        let mut known = std::mem::take(&mut self.0);
        let mut missing = Vec::new();
        for wanted in wanted {
            match known.remove_entry(&wanted.name) {
                Some((name, read)) if read.0 == *wanted && read.1.is_ok() => drop(self.0.insert(name, read)),
                _ => missing.push(wanted.clone()),
            }
        }
        missing
    }

    /// What was read of one.
    pub fn put(&mut self, wanted: Wanted, read: Result<Manifest, String>) {
        self.0.insert(wanted.name.clone(), (wanted, read));
    }

    /// What was read of one; `None` if it was not.
    pub fn get(&self, wanted: &Wanted) -> Option<Result<Manifest, String>> {
        self.0.get(&wanted.name).filter(|(read, _)| read == wanted).map(|(_, manifest)| manifest.clone())
    }
}

/// What a manifest says. All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// When the backup began, in unix seconds.
    pub started: Option<f64>,
    /// When it ended.
    pub ended: Option<f64>,
    /// Its size as it is stored, in bytes.
    pub size: Option<u64>,
    /// Its size before compression, in bytes.
    pub uncompressed: Option<u64>,
    /// Where it was made.
    pub node: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl Manifest {
    /// The largest that is read, in bytes.
    pub const LARGEST: usize = 64 << 10;

    /// Reads one. Keys that nobody knows are left alone: it may be written for others as well.
    ///
    /// # Errors
    /// What is wrong with it, without any of its text.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > Self::LARGEST {
            return Err("it is larger than 64 KiB".to_owned());
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            format!("it is not JSON, or was cut off: line {}, column {}", error.line(), error.column())
        })?;
        let Value::Object(keys) = value else { return Err("it is no JSON object".to_owned()) };
        let manifest = Self {
            started: key(&keys, "started", "a time", time)?,
            ended: key(&keys, "ended", "a time", time)?,
            size: key(&keys, "size", "a number of bytes", Value::as_u64)?,
            uncompressed: key(&keys, "uncompressed", "a number of bytes", Value::as_u64)?,
            node: key(&keys, "node", "a node", node)?,
            outcome: key(&keys, "outcome", "\"success\", \"failure\" or \"canceled\"", outcome)?,
        };
        match (manifest.started, manifest.ended) {
            (Some(started), Some(ended)) if ended < started => Err("`ended` is before `started`".to_owned()),
            _ => Ok(manifest),
        }
    }
}

fn key<T>(
    keys: &Map<String, Value>,
    key: &str,
    what: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, String> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| format!("`{key}` is not {what}")),
    }
}

/// Unix seconds, or RFC 3339.
fn time(value: &Value) -> Option<f64> {
    let seconds = match value {
        Value::String(text) => DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros() as f64 / 1e6,
        value => value.as_f64()?,
    };
    is_time(seconds).then_some(seconds)
}

/// Whether it is a moment between 1970 and 2100: milliseconds are not.
pub fn is_time(seconds: f64) -> bool {
    (0.0..4_102_444_800.0).contains(&seconds)
}

fn node(value: &Value) -> Option<String> {
    value.as_str().filter(|node| is_node(node).is_ok()).map(str::to_owned)
}

fn outcome(value: &Value) -> Option<Outcome> {
    let told = [Outcome::Success, Outcome::Failure, Outcome::Canceled];
    told.into_iter().find(|outcome| value.as_str() == Some(outcome.label()))
}

/// Whether it is a manifest, whose values are then such as can be shown.
pub fn fuzz(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::read(bytes) else { return false };
    let are_times = manifest.started.into_iter().chain(manifest.ended).all(is_time);
    assert!(are_times && manifest.node.is_none_or(|node| is_node(&node).is_ok()));
    true
}
