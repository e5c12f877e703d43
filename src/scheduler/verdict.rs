//! What the engine says of every run, whatever its type: success, reason, duration, objective; and the log line when
//! that changes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Spec, Watch};
use crate::failure::{Failure, Reason};
use crate::label_values::label_values;
use crate::metrics::trace::{TargetTrace, Trace};
use crate::metrics::{COARSE, Counter, DROPPED, Desc, Gauge, Histogram, Live, Recorder, RunId, SeriesSet};
use crate::probe::{Common, Cycle, Kind, Require, Slo};

// `target` is empty, and so absent, for a probe that has a single target.
static SUCCESS: Gauge<1> =
    Gauge::new("midwatch_probe_success", "Whether the last run succeeded, by target.", &["target"]);
static RUN_SUCCESS: Gauge<0> = Gauge::new(
    "midwatch_probe_run_success",
    "Whether the last run succeeded as a whole, as its require key says: all targets, or any.",
    &[],
);
static RUNS: Counter<0> = Counter::new("midwatch_probe_runs_total", "Number of runs that ended.", &[]);
static FAILURES: Counter<2> = Counter::new(
    "midwatch_probe_failures_total",
    "Number of runs that failed, by target and reason.",
    &["target", "reason"],
);
static DURATION: Histogram<1> = Histogram::new(
    "midwatch_probe_duration_seconds",
    "Duration of runs, failed ones included, by target.",
    &["target"],
    COARSE,
)
.fixed();
static LAST_DURATION: Gauge<1> =
    Gauge::new("midwatch_probe_last_duration_seconds", "Duration of the last run, by target.", &["target"]);
static LAST_RUN: Gauge<0> =
    Gauge::new("midwatch_probe_last_run_timestamp_seconds", "Unix time at which the last run ended.", &[]);
static LAST_SUCCESS: Gauge<1> = Gauge::new(
    "midwatch_probe_last_success_timestamp_seconds",
    "Unix time at which the last successful run ended, by target.",
    &["target"],
);
static MISSED: Counter<0> = Counter::new(
    "midwatch_probe_missed_total",
    "Number of runs that were due and could not start, or that a change of the probe's configuration interrupted.",
    &[],
);
static INTERVAL: Gauge<0> = Gauge::new("midwatch_probe_interval_seconds", "How often the probe runs.", &[]);
static INFO: Gauge<2> = Gauge::new(
    "midwatch_probe_info",
    "Always 1; says who owns the probe and where its runbook is.",
    &["owner", "runbook"],
);
static SLO_OBJECTIVE: Gauge<0> = Gauge::new(
    "midwatch_probe_slo_objective_ratio",
    "The share of good events that the probe's objective promises.",
    &[],
);
static SLO_LATENCY: Gauge<0> =
    Gauge::new("midwatch_probe_slo_latency_seconds", "The latency beyond which a success is not good.", &[]);
static SLO_EVENTS: Counter<2> = Counter::new(
    "midwatch_probe_slo_events_total",
    "Number of runs by target and by what they mean for the objective.",
    &["target", "result"],
)
.known(&[&["good"], &["slow"], &["failed"]]);

/// Every metric that the engine keeps for each probe.
pub const METRICS: &[&Desc] = &[
    SUCCESS.desc(),
    RUN_SUCCESS.desc(),
    RUNS.desc(),
    FAILURES.desc(),
    DURATION.desc(),
    LAST_DURATION.desc(),
    LAST_RUN.desc(),
    LAST_SUCCESS.desc(),
    MISSED.desc(),
    INTERVAL.desc(),
    INFO.desc(),
    SLO_OBJECTIVE.desc(),
    SLO_LATENCY.desc(),
    SLO_EVENTS.desc(),
    DROPPED.desc(),
];

/// Those that begin with a run; the others are [described](describe) before the first one.
pub(crate) const OF_RUNS: &[&Desc] =
    &[SUCCESS.desc(), RUN_SUCCESS.desc(), DURATION.desc(), LAST_DURATION.desc(), LAST_RUN.desc(), LAST_SUCCESS.desc()];

label_values! {
    /// How a target, or the worst target of a run, did before the probe's objective.
    pub enum Standing {
        /// It succeeded, within the objective's latency if there is one.
        Good = "good",
        /// It succeeded, and took longer than the objective allows.
        Slow = "slow",
        /// It failed.
        Failed = "failed",
    }
}

/// A run that ended.
pub struct Run {
    /// What it is called: in the log, in exemplars and on /runs.
    pub id: RunId,
    pub(super) cycle: Cycle,
    /// From its start to its end or its deadline.
    pub duration: Duration,
    /// What the run said of itself; its targets have verdicts of their own.
    pub result: Result<(), Failure>,
    pub(super) panicked: bool,
    /// What happened in it.
    pub trace: Trace,
}

impl Run {
    /// Whether the run succeeded as a whole.
    pub fn succeeded(&self, require: Require) -> bool {
        is_good(&verdicts(self), require)
    }
}

/// What is known of a probe from its earlier runs. Outlives the probe's task: a reload does not forget it.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    targets: HashMap<String, TargetState>,
    cycles: HashMap<&'static str, CycleState>,
}

/// What is known of a cycle.
#[derive(Debug, Default)]
struct CycleState {
    /// What failed in the last run, and why. Empty when nothing did.
    failed: Vec<(String, Reason)>,
    /// How many runs in a row did not succeed as a whole.
    failed_in_a_row: u32,
    /// The targets of the last run that got as far as to open them all.
    targets: Vec<String>,
}

#[derive(Debug, Default)]
struct TargetState {
    last_success: Option<f64>,
}

impl State {
    fn forget(&mut self, gone: &[String]) {
        for target in gone {
            self.targets.remove(target);
            self.cycles.values_mut().for_each(|cycle| cycle.targets.retain(|other| other != target));
        }
    }
}

impl Health {
    /// Forgets all cycles but these: the others will not run again, and one that failed would count as failing for ever.
    pub(super) fn keep_cycles(&self, kept: &[&'static str]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cycles.retain(|name, _| kept.contains(name));
    }
}

/// Records what does not depend on runs, and makes the counters of all targets that the configuration names start at 0:
/// one that begins with its first failure hides it from `increase()`. A probe with several targets can fail as a whole
/// too.
pub(crate) fn describe(spec: &Spec, set: &SeriesSet) {
    let (rec, common) = (Recorder::default(), &spec.common);
    rec.set(&INTERVAL, [], common.interval.as_secs_f64());
    rec.info(&INFO, [&common.owner, &common.runbook], &common.info);
    rec.add(&RUNS, [], 0.0);
    rec.add(&MISSED, [], 0.0);
    rec.add(&DROPPED, [], 0.0);
    for target in std::iter::once(String::new()).chain(spec.probe.expected("target")) {
        start_counters(spec.kind, common, &target, &rec);
    }
    if let Some(slo) = &common.slo {
        rec.set(&SLO_OBJECTIVE, [], slo.objective);
        if let Some(latency) = slo.latency {
            rec.set(&SLO_LATENCY, [], latency.as_secs_f64());
        }
    }
    rec.describe(set);
}

fn start_counters(kind: &Kind, common: &Common, target: &str, rec: &Recorder) {
    for reason in kind.all_reasons() {
        rec.add(&FAILURES, [target, reason.label()], 0.0);
    }
    if common.slo.is_some() {
        rec.start(&SLO_EVENTS, &[target]);
    }
}

/// What a run amounts to.
pub(super) struct Outcome {
    /// How many runs of the cycle in a row, this one included, did not succeed as a whole.
    pub(super) failed_in_a_row: u32,
    /// That of the worst target.
    pub(super) standing: Standing,
}

/// Records the verdicts of a run into `rec` and logs if they differ from those of the run before.
pub(super) fn record(watch: &Watch, run: &Run, missed: u64, rec: &Recorder) -> Outcome {
    let mut state = watch.kept.health.0.lock().unwrap_or_else(PoisonError::into_inner);
    let verdicts = verdicts(run);
    for verdict in &verdicts {
        verdict.record(watch, &mut state, rec);
    }
    let good = is_good(&verdicts, watch.common.require);
    log_change(watch, run, &verdicts, &mut state);
    remember_targets(run, &verdicts, &mut state, rec);
    state.forget(&run.trace.gone);
    let cycle = state.cycles.entry(run.cycle.name).or_default();
    cycle.failed_in_a_row = if good { 0 } else { cycle.failed_in_a_row.saturating_add(1) };
    let failed_in_a_row = cycle.failed_in_a_row;
    let cycles_good = state.cycles.values().all(|cycle| cycle.failed_in_a_row == 0);
    rec.set(&RUN_SUCCESS, [], f64::from(u8::from(cycles_good)));
    rec.set(&LAST_RUN, [], crate::metrics::unix_time());
    rec.add(&RUNS, [], 1.0);
    #[allow(clippy::cast_precision_loss, reason = "a count of missed runs stays far below 2^52")]
    rec.add(&MISSED, [], missed as f64);
    let standings = verdicts.iter().map(|verdict| verdict.standing(watch.common.slo.as_ref()));
    Outcome { failed_in_a_row, standing: standings.max().unwrap_or(Standing::Good) }
}

/// A run that failed as a whole may have left out targets. When they last succeeded is as true as before, and alerts on
/// the age of the last success must not fall silent because of the failure.
fn remember_targets(run: &Run, verdicts: &[Verdict<'_>], state: &mut State, rec: &Recorder) {
    let State { targets, cycles } = state;
    let cycle = cycles.entry(run.cycle.name).or_default();
    let opened = verdicts.iter().map(|verdict| verdict.target);
    if run.result.is_ok() {
        if !cycle.targets.iter().map(String::as_str).eq(opened.clone()) {
            cycle.targets = opened.map(str::to_owned).collect();
        }
        return;
    }
    for target in &cycle.targets {
        let last_success = targets.get(target).and_then(|known| known.last_success);
        if let Some(time) = last_success.filter(|_| !opened.clone().any(|opened| opened == target)) {
            rec.set(&LAST_SUCCESS, [target], time);
        }
    }
    let new: Vec<_> = opened.filter(|opened| !cycle.targets.iter().any(|target| target == opened)).collect();
    cycle.targets.extend(new.into_iter().map(str::to_owned));
}

/// Counts due times that passed without a run that ended.
pub(super) fn count_missed(watch: &Watch, missed: u64) {
    #[allow(clippy::cast_precision_loss, reason = "a count of missed runs stays far below 2^52")]
    Live::new(Arc::clone(&watch.set)).record(|rec| rec.add(&MISSED, [], missed as f64));
}

/// Counts a panic outside of a run.
pub(super) fn count_panic(watch: &Watch) {
    tracing::error!(probe = %watch.id, "the probe panicked while serving");
    Live::new(Arc::clone(&watch.set)).record(|rec| rec.add(&FAILURES, ["", Reason::Internal.label()], 1.0));
}

/// The verdict on a target that a run which ended by itself forgot to close.
static LEFT_OPEN: Failure =
    Failure { reason: Reason::Internal, detail: Cow::Borrowed("the probe left the target without a verdict") };

/// The verdict on one target of a run, or on the run itself when it has no targets or failed besides them.
struct Verdict<'r> {
    target: &'r str,
    duration: Duration,
    result: Result<(), &'r Failure>,
}

fn is_good(verdicts: &[Verdict<'_>], require: Require) -> bool {
    let mut results = verdicts.iter().map(|verdict| verdict.result.is_ok());
    match require {
        Require::All => results.all(|good| good),
        Require::Any => results.any(|good| good),
    }
}

/// How long a target took in a run of that result and duration, and the verdict on it.
pub fn on_target<'r>(
    target: &'r TargetTrace,
    run: &'r Result<(), Failure>,
    duration: Duration,
) -> (Duration, Result<(), &'r Failure>) {
    match (&target.verdict, run) {
        (Some(verdict), _) => (target.duration, verdict.as_ref().copied()),
        // Whoever holds the target outlived the run, and what ended the run ended this target's part in it.
        (None, Err(failure)) => (duration, Err(failure)),
        (None, Ok(())) => (duration, Err(&LEFT_OPEN)),
    }
}

fn verdicts(run: &Run) -> Vec<Verdict<'_>> {
    let mut verdicts: Vec<_> = run
        .trace
        .targets
        .iter()
        .map(|target| {
            let (duration, result) = on_target(target, &run.result, run.duration);
            Verdict { target: &target.name, duration, result }
        })
        .collect();
    let own = match &run.result {
        // A deadline or a panic that ended a target is that target's failure; it is not counted twice.
        Err(failure) => {
            let counted = |verdict: &Verdict<'_>| verdict.result.is_err_and(|other| other.reason == failure.reason);
            !verdicts.iter().any(counted)
        }
        Ok(()) => verdicts.is_empty(),
    };
    if own {
        let result = run.result.as_ref().copied();
        // A single target and the run are one thing: the label is empty for both.
        verdicts.retain(|verdict| !verdict.target.is_empty());
        verdicts.push(Verdict { target: "", duration: run.duration, result });
    }
    verdicts
}

impl Verdict<'_> {
    fn record(&self, watch: &Watch, state: &mut State, rec: &Recorder) {
        let target = self.target;
        if !state.targets.contains_key(target) {
            state.targets.insert(target.to_owned(), TargetState::default());
            start_counters(watch.kind, &watch.common, target, rec);
        }
        let known = state.targets.entry(target.to_owned()).or_default();
        rec.set(&SUCCESS, [target], f64::from(u8::from(self.result.is_ok())));
        rec.set(&LAST_DURATION, [target], self.duration.as_secs_f64());
        rec.observe(&DURATION, [target], self.duration.as_secs_f64());
        match self.result {
            Ok(()) => known.last_success = Some(crate::metrics::unix_time()),
            Err(failure) => rec.add(&FAILURES, [target, failure.reason.label()], 1.0),
        }
        if let Some(time) = known.last_success {
            rec.set(&LAST_SUCCESS, [target], time);
        }
        if let Some(slo) = &watch.common.slo {
            rec.start(&SLO_EVENTS, &[target]);
            rec.add(&SLO_EVENTS, [target, self.standing(Some(slo)).label()], 1.0);
        }
    }

    fn standing(&self, slo: Option<&Slo>) -> Standing {
        match self.result {
            Err(_) => Standing::Failed,
            Ok(()) if slo.and_then(|slo| slo.latency).is_some_and(|latency| self.duration > latency) => Standing::Slow,
            Ok(()) => Standing::Good,
        }
    }
}

/// One line when what fails changes, not one for each failing run.
fn log_change(watch: &Watch, run: &Run, verdicts: &[Verdict<'_>], state: &mut State) {
    let failed: Vec<_> = verdicts.iter().filter_map(|verdict| Some((verdict, verdict.result.err()?))).collect();
    let now: Vec<_> = failed.iter().map(|(verdict, failure)| (verdict.target.to_owned(), failure.reason)).collect();
    let (cycle, run) = (run.cycle.name, run.id);
    let before = &mut state.cycles.entry(cycle).or_default().failed;
    if *before == now {
        return;
    }
    let recovered = now.is_empty();
    *before = now;
    if recovered {
        tracing::info!(probe = %watch.id, cycle, %run, "the probe succeeds again");
    }
    for (verdict, failure) in failed {
        let (target, reason) = (verdict.target, failure.reason.label());
        let detail = &failure.detail;
        tracing::warn!(probe = %watch.id, cycle, %run, target, reason, %detail, "the probe fails");
    }
}
