//! Records one run: values, verdicts per target, phases. Nothing of it shows before the run is over; then all of it
//! does, whatever ended the run.
//!
//! [`Target`] and [`Phase`] are guards. One that is dropped unfinished, because the deadline dropped the run or because
//! the probe panicked, records the time spent so far and why. So a run that is cut off leaves the same evidence as one
//! that ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::series::{CycleId, Gauges, Part, SeriesSet};
use super::{Counter, Desc, Gauge, Histogram, label};
use crate::failure::{Failure, Reason};

/// One thing recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) desc: &'static Desc,
    pub(super) value: Value,
    key: (u32, u32),
}

/// What is recorded of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Set(f64),
    Add(f64),
    Observe(f64),
    /// Makes the series of all known tuples exist.
    Start,
}

/// What a run recorded so far. The vectors keep their capacity from run to run.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) ops: Vec<Op>,
    keys: Vec<u8>,
    /// Label names, and the value whose series go.
    pub(super) forgotten: Vec<(&'static [&'static str], String)>,
    trace: Trace,
    /// Counts runs, to tell a guard of this run from one that outlived its own.
    nth: u64,
}

impl Run {
    /// The label values of an operation.
    pub(super) fn key(&self, op: &Op) -> &[u8] {
        &self.keys[op.key.0 as usize..op.key.1 as usize]
    }

    fn push(&mut self, desc: &'static Desc, values: &[&str], value: Value) {
        let from = self.keys.len();
        label::push_key(&mut self.keys, values);
        // A run that records 4 GiB of label values has been stopped by the series limit long before.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.ops.push(Op { desc, value, key: (place(from), place(self.keys.len())) });
    }

    fn clear(&mut self) {
        self.ops.clear();
        self.keys.clear();
        self.forgotten.clear();
    }
}

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

/// The metrics that a type's phases are recorded in. Both have the target as first label and the phase as second.
#[derive(Debug)]
pub struct Phases {
    /// How long each phase took, and the phase `total` all of them.
    pub duration: &'static Histogram<2>,
    /// How often a phase failed, by reason.
    pub failures: &'static Counter<3>,
}

/// Records one run of one cycle.
#[derive(Debug, Default)]
pub struct Recorder {
    run: Arc<Mutex<Run>>,
}

impl Recorder {
    /// Sets a gauge.
    pub fn set<const N: usize>(&self, metric: &'static Gauge<N>, labels: [&str; N], value: f64) {
        self.lock().push(metric.desc(), &labels, Value::Set(value));
    }

    /// Adds to a counter, which exists from then on even if that is 0. A negative number is left out: counters only grow.
    pub fn add<const N: usize>(&self, metric: &'static Counter<N>, labels: [&str; N], more: f64) {
        if more >= 0.0 && more.is_finite() {
            self.lock().push(metric.desc(), &labels, Value::Add(more));
        }
    }

    /// Counts an observation, in base units.
    pub fn observe<const N: usize>(&self, metric: &'static Histogram<N>, labels: [&str; N], value: f64) {
        if value.is_finite() {
            self.lock().push(metric.desc(), &labels, Value::Observe(value));
        }
    }

    /// Makes the counters of all [known tuples](Desc::known) start at 0. `leading` are the values of the labels before
    /// those.
    pub fn start<const N: usize>(&self, metric: &'static Counter<N>, leading: &[&str]) {
        self.lock().push(metric.desc(), leading, Value::Start);
    }

    /// Makes a series exist, with nothing recorded in it: for predictions, which know metrics only as descriptions.
    pub(crate) fn touch(&self, desc: &'static Desc, labels: &[&str]) {
        self.lock().push(desc, labels, Value::Add(0.0));
    }

    /// Sets a gauge that is always 1 and carries information in its labels, of which there may be more than the
    /// metric declares.
    pub fn info<const N: usize>(
        &self,
        metric: &'static Gauge<N>,
        labels: [&str; N],
        further: &BTreeMap<String, String>,
    ) {
        let pairs: Vec<_> = further.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let values: Vec<_> = labels.into_iter().chain(pairs.iter().map(String::as_str)).collect();
        self.lock().push(metric.desc(), &values, Value::Set(1.0));
    }

    /// Ends what was recorded of a target that is none any more: all its series go with this run, its verdicts too. `labels`
    /// are the names of the labels that hold it in the probe's own metrics.
    pub fn forget(&self, labels: &'static [&'static str], target: &str) {
        let mut run = self.lock();
        run.forgotten.push((labels, target.to_owned()));
        run.forgotten.push((&["target"], target.to_owned()));
        run.trace.gone.push(target.to_owned());
    }

    /// Opens a target, which ends in a verdict. `name` becomes the label `target`; it is empty for the only target of a
    /// probe.
    pub fn target(&self, name: &str) -> Target {
        let mut run = self.lock();
        let (nth, index) = (run.nth, run.trace.targets.len());
        run.trace.targets.push(TargetTrace {
            name: name.to_owned(),
            duration: Duration::ZERO,
            verdict: None,
            note: String::new(),
        });
        drop(run);
        Target {
            run: Arc::clone(&self.run),
            nth,
            index,
            name: name.into(),
            started: Instant::now(),
            phases: None,
            open: true,
        }
    }

    /// Ends the run and takes what happened in it. A guard that is still open, because the probe handed it to a task or
    /// kept it, records nothing any more: what it would say belongs to no later run.
    pub fn trace(&self) -> Trace {
        let mut run = self.lock();
        run.nth += 1;
        std::mem::take(&mut run.trace)
    }

    /// Shows in `set` everything recorded since the last commit, all at once, and forgets it.
    pub fn commit(&self, set: &SeriesSet, cycle: &'static str, gauges: Gauges) {
        self.commit_as(set, CycleId::Run(cycle), gauges);
    }

    /// Shows in `set` what does not depend on runs, instead of what was shown of that before.
    pub fn describe(&self, set: &SeriesSet) {
        self.commit_as(set, CycleId::Description, Gauges::Replace);
    }

    fn commit_as(&self, set: &SeriesSet, cycle: CycleId, gauges: Gauges) {
        let mut run = self.lock();
        set.commit(&[Part { run: &run, cycle, gauges }]);
        run.clear();
    }

    /// The same, together with what the engine says of the run.
    pub fn commit_with(&self, verdict: &Recorder, set: &SeriesSet, cycle: &'static str, gauges: Gauges) {
        let (mut run, mut verdict) = (self.lock(), verdict.lock());
        set.commit(&[
            Part { run: &run, cycle: CycleId::Run(cycle), gauges },
            Part { run: &verdict, cycle: CycleId::Verdict(cycle), gauges: Gauges::Replace },
        ]);
        run.clear();
        verdict.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        lock(&self.run)
    }
}

/// A panicking probe may have been recording; what it recorded is whole, because each entry is one push.
fn lock(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The verdict on something that was dropped before it ended.
fn cut_off() -> Failure {
    if std::thread::panicking() {
        Failure::new(Reason::Internal, "the probe panicked")
    } else {
        Failure::new(Reason::Timeout, "the deadline passed")
    }
}

/// A target of a run; ends in exactly one verdict, at the latest when it is dropped.
#[derive(Debug)]
pub struct Target {
    run: Arc<Mutex<Run>>,
    nth: u64,
    index: usize,
    name: Box<str>,
    started: Instant,
    phases: Option<&'static Phases>,
    open: bool,
}

impl Target {
    /// Names the metrics that this target's phases are recorded in. The failure counters of the known phases and
    /// reasons start at 0.
    #[must_use]
    pub fn phases(mut self, phases: &'static Phases) -> Self {
        if let Some(mut run) = self.run() {
            run.push(phases.failures.desc(), &[&self.name], Value::Start);
        }
        self.phases = Some(phases);
        self
    }

    /// Begins a phase.
    pub fn phase(&self, name: &'static str) -> Phase<'_> {
        Phase { target: self, name, started: Instant::now(), open: true }
    }

    /// Says what the target turned out to be, for a person.
    pub fn note(&self, note: impl Into<String>) {
        if let Some(mut run) = self.run() {
            run.trace.targets[self.index].note = note.into();
        }
    }

    /// The run that the target belongs to, unless that is over.
    fn run(&self) -> Option<MutexGuard<'_, Run>> {
        Some(lock(&self.run)).filter(|run| run.nth == self.nth)
    }

    /// Gives the verdict.
    pub fn finish(mut self, verdict: Result<(), Failure>) {
        self.close(verdict);
    }

    fn close(&mut self, verdict: Result<(), Failure>) {
        self.open = false;
        let duration = self.started.elapsed();
        let Some(mut run) = self.run() else { return };
        if let Some(phases) = self.phases {
            run.push(phases.duration.desc(), &[&self.name, "total"], Value::Observe(duration.as_secs_f64()));
        }
        let entry = &mut run.trace.targets[self.index];
        entry.duration = duration;
        entry.verdict = Some(verdict);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.open {
            self.close(Err(cut_off()));
        }
    }
}

/// A phase of a target; observes how long it took, at the latest when it is dropped.
#[derive(Debug)]
pub struct Phase<'t> {
    target: &'t Target,
    name: &'static str,
    started: Instant,
    open: bool,
}

impl Phase<'_> {
    /// Runs the phase to its end.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn run<T>(self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let result = work.await;
        match &result {
            Ok(_) => self.done(),
            Err(failure) => self.fail(failure),
        }
        result
    }

    /// Ends the phase well, with the time that this clock measured.
    pub fn done(self) {
        let elapsed = self.started.elapsed();
        self.done_in(elapsed);
    }

    /// Ends the phase well, with the time that a better clock measured.
    pub fn done_in(mut self, duration: Duration) {
        self.close(duration, None);
    }

    /// Ends the phase badly.
    pub fn fail(mut self, failure: &Failure) {
        self.close(self.started.elapsed(), Some(failure.reason));
    }

    fn close(&mut self, duration: Duration, failure: Option<Reason>) {
        self.open = false;
        let Some(mut run) = self.target.run() else { return };
        if let Some(phases) = self.target.phases {
            let name = &*self.target.name;
            run.push(phases.duration.desc(), &[name, self.name], Value::Observe(duration.as_secs_f64()));
            if let Some(reason) = failure {
                run.push(phases.failures.desc(), &[name, self.name, reason.label()], Value::Add(1.0));
            }
        }
        run.trace.phases.push(PhaseTrace { target: self.target.index, name: self.name, duration, failure });
    }
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        if self.open {
            self.close(self.started.elapsed(), Some(cut_off().reason));
        }
    }
}

/// Records outside of runs, for a probe that also listens or watches.
#[derive(Clone, Debug)]
pub struct Live {
    set: Arc<SeriesSet>,
}

impl Live {
    /// For a probe whose series are `set`.
    pub fn new(set: Arc<SeriesSet>) -> Self {
        Self { set }
    }

    /// Shows at once what `record` records, all of it or none. Gauges stay until they are set again.
    pub fn record(&self, record: impl FnOnce(&Recorder)) {
        let recorder = Recorder::default();
        record(&recorder);
        recorder.commit_as(&self.set, CycleId::Live, Gauges::Keep);
    }
}
