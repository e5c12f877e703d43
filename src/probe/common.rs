//! The keys that every probe has, whatever its type.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The keys that every probe has. None of them rebuilds the probe when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// How often the probe runs.
    pub interval: Duration,
    /// How long a run may take; shorter than `interval`.
    pub timeout: Duration,
    /// Who answers for the probe; a label of `midwatch_probe_info`. Empty when nobody was named.
    pub owner: String,
    /// Where its runbook is; a label of `midwatch_probe_info`.
    pub runbook: String,
    /// Free-form team data; further labels of `midwatch_probe_info`.
    pub info: BTreeMap<String, String>,
    /// Labels on every series of the probe: those of `[labels]`, overridden by the probe's own.
    pub labels: BTreeMap<String, String>,
    /// What the probe promises, if anything.
    pub slo: Option<Slo>,
    /// The bounds of the type's own latency histograms in seconds, ascending, without `+Inf`; `None` is each
    /// histogram's default.
    pub buckets: Option<Arc<[f64]>>,
    /// How the verdicts of several targets make that of a run.
    pub require: Require,
}

/// A service level objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// The share of good events, between 0 and 1.
    pub objective: f64,
    /// A success that takes longer is not good.
    pub latency: Option<Duration>,
}

/// How the verdicts of several targets make that of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Require {
    /// Every target must succeed.
    #[default]
    All,
    /// One target must succeed.
    Any,
}
