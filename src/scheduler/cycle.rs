//! One rhythm of one probe: when it is due, one run, and what is shown of it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Watch;
use super::verdict::{self, Run};
use crate::failure::{Failure, Reason};
use crate::metrics::{Gauges, Recorder, RunId};
use crate::probe::{AnyProbe, Cycle, OnFailure, ProbeId};

/// A run that recorded so many values takes a millisecond or more to commit: too long for others that are due meanwhile.
const LARGE: usize = 5_000;

/// Runs the cycle at its due times, for ever. Due times count from `origin`, never from the end of a run.
pub(super) async fn repeat(watch: &Watch, cycle: Cycle, origin: Instant) {
    let interval = cycle.interval.unwrap_or(watch.common.interval);
    let mut runner = Runner::new(watch, cycle);
    let first = || match watch.common.interval {
        usual if cycle.is_soon && usual < interval => Instant::now() + phase(&watch.id, cycle, usual),
        _ => first_due(origin + phase(&watch.id, cycle, interval), interval, Instant::now()),
    };
    let mut due = watch.kept.turn.due(cycle.name, interval).unwrap_or_else(first);
    loop {
        watch.kept.turn.set_due(cycle.name, interval, due);
        tokio::time::sleep_until(due).await;
        // A due time that passed while something kept this task from running is missed; the latest one is run late.
        let missed = skip_to_latest(&mut due, interval, Instant::now());
        watch.kept.turn.set_due(cycle.name, interval, due + interval);
        runner.run(due, missed).await;
        due += interval;
    }
}

/// Where in its interval a cycle runs: spread over it, the same after every restart.
pub(super) fn phase(id: &ProbeId, cycle: Cycle, interval: Duration) -> Duration {
    let hash = fnv1a([id.kind, &*id.name, cycle.name]);
    let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos(hash % nanos)
}

/// FNV-1a with 64 bits: short, and by definition the same in every version and on every machine.
fn fnv1a(parts: [&str; 3]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The first due time of the grid through `start` that is not before `now`.
fn first_due(start: Instant, interval: Duration, now: Instant) -> Instant {
    let mut due = start;
    if due < now {
        skip_to_latest(&mut due, interval, now);
        if due < now {
            due += interval;
        }
    }
    due
}

/// Moves `due` to the latest due time that is not after `now`; says how many it skipped.
fn skip_to_latest(due: &mut Instant, interval: Duration, now: Instant) -> u64 {
    let late = now.saturating_duration_since(*due);
    let skipped = late.as_nanos() / interval.as_nanos().max(1);
    let rest = late.as_nanos() % interval.as_nanos().max(1);
    if skipped > 0 {
        *due = now - Duration::from_nanos(u64::try_from(rest).unwrap_or(0));
    }
    u64::try_from(skipped).unwrap_or(u64::MAX)
}

/// What passes from a probe's task to the one that replaces it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Held by the task whose turn it is, from its first to its last moment: a task that was aborted may still run on
    /// another thread when its successor starts, and two of them would run one probe twice and listen on one port.
    pub(super) running: tokio::sync::Mutex<()>,
    /// Each cycle's interval, and its first due time that has neither been run nor counted as missed.
    due: Mutex<HashMap<&'static str, (Duration, Instant)>>,
}

impl Turn {
    /// The due time that the cycle is to go on with; `None` if it has none yet or its interval has changed.
    fn due(&self, cycle: &str, interval: Duration) -> Option<Instant> {
        let (of, due) = *self.due.lock().unwrap_or_else(PoisonError::into_inner).get(cycle)?;
        (of == interval).then_some(due)
    }

    fn set_due(&self, cycle: &'static str, interval: Duration, due: Instant) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert(cycle, (interval, due));
    }
}

/// Counts as missed what a run that is dropped before its end leaves unaccounted for.
struct InFlight<'w> {
    watch: &'w Watch,
    due_times: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.due_times > 0 {
            verdict::count_missed(self.watch, self.due_times);
        }
    }
}

struct Runner<'w> {
    watch: &'w Watch,
    cycle: Cycle,
    rec: Recorder,
    verdict: Recorder,
    delay: Recorder,
}

impl<'w> Runner<'w> {
    fn new(watch: &'w Watch, cycle: Cycle) -> Self {
        let (rec, verdict, delay) = <(Recorder, Recorder, Recorder)>::default();
        Self { watch, cycle, rec, verdict, delay }
    }

    async fn run(&mut self, due: Instant, missed: u64) {
        let started = Instant::now();
        let mut in_flight = InFlight { watch: self.watch, due_times: missed + 1 };
        self.delay.observe(&super::START_DELAY, [self.watch.kind.name], (started - due).as_secs_f64());
        self.delay.commit(&self.watch.engine, "start_delay", Gauges::Keep);
        let probe = Arc::clone(&self.watch.probe.borrow());
        let id = RunId::next();
        self.verdict.begin(id);
        // Whatever is logged within the run says whose it is, at every level that a filter may leave.
        let span = tracing::error_span!("run", probe = %self.watch.id);
        let run = run(&*probe, self.cycle, self.watch.common.timeout, (id, &mut self.rec)).instrument(span).await;
        if run.panicked {
            self.watch.rebuild();
        }
        let outcome = verdict::record(self.watch, &run, missed, &self.verdict);
        let gauges = self.gauges(outcome.failed_in_a_row);
        in_flight.due_times = 0;
        // First of all: what a scrape says of the run may lead a person to it.
        self.watch.kept.history.remember(run, outcome.standing);
        let commit = || self.rec.commit_with(&self.verdict, &self.watch.set, self.cycle.name, gauges);
        if self.rec.recorded() < LARGE { commit() } else { aside(commit) }
    }

    /// What becomes of the gauges of earlier runs.
    fn gauges(&self, failed_in_a_row: u32) -> Gauges {
        match self.cycle.on_failure {
            OnFailure::Keep(runs) if (1..=runs).contains(&failed_in_a_row) => Gauges::Keep,
            OnFailure::Freeze if failed_in_a_row > 0 => Gauges::Keep,
            OnFailure::Replace | OnFailure::Keep(_) | OnFailure::Freeze => Gauges::Replace,
        }
    }
}

/// Does what takes long while another thread takes over what else this worker has to do, where there are threads for that.
fn aside(work: impl FnOnce()) {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

/// One run within its deadline, from start to end. What it recorded is in `rec`, but for the trace.
pub(super) async fn run(
    probe: &dyn AnyProbe,
    cycle: Cycle,
    timeout: Duration,
    (id, rec): (RunId, &mut Recorder),
) -> Run {
    rec.begin(id);
    let timeout = cycle.timeout.unwrap_or(timeout);
    let started = Instant::now();
    rec.ends_at(started + timeout);
    // A probe can panic as its future is made, polled, or dropped.
    let work = async { tokio::time::timeout_at(started + timeout, async { probe.run(cycle, rec).await }).await };
    let (result, panicked) = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(result)) => (result, false),
        Ok(Err(_elapsed)) => (Err(Failure::new(Reason::Timeout, format!("not finished within {timeout:?}"))), false),
        Err(_panic) => (Err(Failure::new(Reason::Internal, "the probe panicked")), true),
    };
    Run { id, cycle, duration: started.elapsed(), result, panicked, trace: rec.trace() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_phase_is_spread_and_fixed() {
        let phase = |name: &str| phase(&ProbeId { kind: "tcp", name: name.into() }, Cycle::MAIN, SECOND);
        assert_eq!(phase("a"), Duration::from_nanos(fnv1a(["tcp", "a", "main"]) % 1_000_000_000));
        let early = (0..1_000).filter(|n| phase(&n.to_string()) < SECOND / 2).count();
        assert!((400..600).contains(&early), "{early} of 1000 phases lie in the first half");
    }

    #[tokio::test(start_paused = true)]
    async fn due_times_lie_on_the_grid_and_skipped_ones_are_counted() {
        let start = Instant::now();
        let mut due = start;
        assert_eq!(skip_to_latest(&mut due, SECOND, start + SECOND * 7 / 2), 3);
        assert_eq!(due, start + 3 * SECOND);
        assert_eq!(skip_to_latest(&mut due, SECOND, start + SECOND * 7 / 2), 0);
        assert_eq!(first_due(start, SECOND, start), start);
        assert_eq!(first_due(start, SECOND, start + SECOND / 2), start + SECOND);
        assert_eq!(first_due(start, SECOND, start + 2 * SECOND), start + 2 * SECOND);
    }
}
