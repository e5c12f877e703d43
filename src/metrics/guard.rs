//! The guards of a run: a target, and a phase of it. One that is dropped unfinished, because the deadline dropped the
//! run or because the probe panicked, records the time spent so far and why. So a run that is cut off leaves the same
//! evidence as one that ends.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::Phases;
use super::recorder::{Run, Value, lock};
use super::trace::{PhaseTrace, TargetTrace};
use crate::failure::{Failure, Reason};

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
    pub(super) fn open(run: &Arc<Mutex<Run>>, name: &str) -> Self {
        let mut entry = lock(run);
        let (nth, index) = (entry.nth, entry.trace.targets.len());
        entry.trace.targets.push(TargetTrace {
            name: name.to_owned(),
            duration: Duration::ZERO,
            verdict: None,
            note: String::new(),
        });
        drop(entry);
        Self { run: Arc::clone(run), nth, index, name: name.into(), started: Instant::now(), phases: None, open: true }
    }

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
