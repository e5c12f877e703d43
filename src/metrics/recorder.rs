//! Records one run: values, verdicts per target, phases. Nothing of it shows before the run is over; then all of it
//! does, whatever ended the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::guard::Target;
use super::series::{CycleId, Gauges, Part, SeriesSet};
use super::trace::Trace;
use super::{Counter, Desc, Gauge, Histogram, RunId, label};

/// For so many entries a recorder keeps its memory between runs. One that records more runs seldom, and what it would
/// keep is more than its series take.
const KEPT_OPS: usize = 4096;

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
    /// Raises a counter to a total.
    Total(f64),
    Observe(f64),
    /// Makes the series of all known tuples exist.
    Start,
}

/// What a run recorded so far. The vectors keep their capacity from run to run, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) ops: Vec<Op>,
    keys: Vec<u8>,
    /// Whether what it did not record is no more, though it failed.
    pub(super) is_complete: bool,
    /// Label names, and the value whose series go.
    pub(super) forgotten: Vec<(&'static [&'static str], String)>,
    pub(super) trace: Trace,
    /// Counts runs, to tell a guard of this run from one that outlived its own.
    pub(super) nth: u64,
    /// What exemplars call the run; what is recorded outside of runs has none.
    pub(super) id: Option<RunId>,
    /// When the run is cut off.
    deadline: Option<Instant>,
    /// How many operations and bytes of keys the last run that recorded anything had.
    last: (usize, usize),
}

impl Run {
    /// The label values of an operation.
    pub(super) fn key(&self, op: &Op) -> &[u8] {
        &self.keys[op.key.0 as usize..op.key.1 as usize]
    }

    pub(super) fn push(&mut self, desc: &'static Desc, values: &[&str], value: Value) {
        if self.ops.is_empty() {
            // Runs of a cycle record much the same. Memory that grows step by step is copied, and leaves holes behind.
            self.ops.reserve_exact(self.last.0 + self.last.0 / 16);
            self.keys.reserve_exact(self.last.1 + self.last.1 / 16);
        }
        let from = self.keys.len();
        label::push_key(&mut self.keys, values);
        // Metrics of one thing are most often recorded one after the other: what is the same again is kept once.
        if let Some(last) = self.ops.last()
            && self.key(last) == &self.keys[from..]
        {
            let key = last.key;
            self.keys.truncate(from);
            self.ops.push(Op { desc, value, key });
            return;
        }
        // A run that records 4 GiB of label values has been stopped by the series limit long before.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.ops.push(Op { desc, value, key: (place(from), place(self.keys.len())) });
    }

    fn clear(&mut self) {
        if !self.ops.is_empty() {
            self.last = (self.ops.len(), self.keys.len());
        }
        self.ops.clear();
        self.keys.clear();
        if self.ops.capacity() > KEPT_OPS {
            // All of it: a part would stay in the middle of what others could use.
            (self.ops, self.keys) = Default::default();
        }
        self.keys.shrink_to(KEPT_OPS * 32);
        self.forgotten.clear();
        self.is_complete = false;
    }
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

    /// Raises a counter to a total that is counted elsewhere, for those whose count outlives the process. A smaller total than the
    /// series has changes nothing: counters only grow.
    pub fn total<const N: usize>(&self, metric: &'static Counter<N>, labels: [&str; N], total: f64) {
        if total >= 0.0 && total.is_finite() {
            self.lock().push(metric.desc(), &labels, Value::Total(total));
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
        self.end(labels, target);
        let mut run = self.lock();
        run.forgotten.push((&["target"], target.to_owned()));
        run.trace.gone.push(target.to_owned());
    }

    /// Says that the run has recorded everything that there is: gauges that it did not record go even if it fails.
    pub fn complete(&self) {
        self.lock().is_complete = true;
    }

    /// Ends all series that have the value in one of these labels, with this run.
    pub fn end(&self, labels: &'static [&'static str], value: &str) {
        self.lock().forgotten.push((labels, value.to_owned()));
    }

    /// Opens a target, which ends in a verdict. `name` becomes the label `target`; it is empty for the only target of a
    /// probe.
    pub fn target(&self, name: &str) -> Target {
        Target::open(&self.run, name)
    }

    /// Names the run: from now on, exemplars of what is recorded lead to it.
    pub fn begin(&self, id: RunId) {
        self.lock().id = Some(id);
    }

    /// Says when the run will be cut off.
    pub fn ends_at(&self, deadline: Instant) {
        self.lock().deadline = Some(deadline);
    }

    /// How much time is left until the run is cut off; none where nobody said.
    pub fn time_left(&self) -> Duration {
        self.lock().deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Ends the run and takes what happened in it. A guard that is still open, because the probe handed it to a task or
    /// kept it, records nothing any more: what it would say belongs to no later run.
    pub fn trace(&self) -> Trace {
        let mut run = self.lock();
        run.nth += 1;
        std::mem::take(&mut run.trace)
    }

    /// How many values were recorded since the last commit.
    pub fn recorded(&self) -> usize {
        self.lock().ops.len()
    }

    /// Shows in `set` everything recorded since the last commit, all at once, and forgets it.
    pub fn commit(&self, set: &SeriesSet, cycle: &'static str, gauges: Gauges) {
        self.commit_as(set, CycleId::Run(cycle), gauges);
    }

    /// Shows in `set` what does not depend on runs, instead of what was shown of that before.
    pub fn describe(&self, set: &SeriesSet) {
        self.commit_as(set, CycleId::Description, Gauges::Replace);
    }

    pub(super) fn commit_as(&self, set: &SeriesSet, cycle: CycleId, gauges: Gauges) {
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
pub(super) fn lock(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}
