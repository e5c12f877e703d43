//! What happened in a run, for people.

use std::time::Duration;

use crate::failure::{Failure, Reason};

/// What happened in a run, in order, for a person: the status page, `midwatch probe`, the log.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// One entry for each target that the run opened.
    pub targets: Vec<TargetTrace>,
    /// The phases of all targets, in the order in which they ended.
    pub phases: Vec<PhaseTrace>,
    /// Targets that are none any more.
    pub gone: Vec<String>,
}

/// The verdict on one target.
#[derive(Clone, Debug)]
pub struct TargetTrace {
    /// The value of the label `target`; empty when the probe has a single target.
    pub name: String,
    /// From opening the target to its verdict.
    pub duration: Duration,
    /// The verdict; `None` while the target is open.
    pub verdict: Option<Result<(), Failure>>,
    /// What the target turned out to be, for a person ("primary").
    pub note: String,
}

/// One phase of one target.
#[derive(Clone, Copy, Debug)]
pub struct PhaseTrace {
    /// The index of the target in [`Trace::targets`].
    pub target: usize,
    /// The value of the label `phase`.
    pub name: &'static str,
    /// How long the phase took, by the best clock there is for it.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Reason>,
}
