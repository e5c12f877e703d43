//! One rhythm of one probe: when it is due, one run, and what is shown of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::Watch;
use super::verdict::{self, Run};
use crate::failure::{Failure, Reason};
use crate::metrics::{Gauges, Recorder};
use crate::probe::{AnyProbe, Cycle, OnFailure, ProbeId};

/// Runs the cycle at its due times, for ever. Due times count from `origin`, never from the end of a run.
pub(super) async fn repeat(watch: &Watch, cycle: Cycle, origin: Instant) {
    let interval = cycle.interval.unwrap_or(watch.common.interval);
    let mut runner = Runner::new(watch, cycle);
    let mut due = first_due(origin + phase(&watch.id, cycle, interval), interval, Instant::now());
    loop {
        tokio::time::sleep_until(due).await;
        // A due time that passed while something kept this task from running is missed; the latest one is run late.
        let missed = skip_to_latest(&mut due, interval, Instant::now());
        runner.run(due, missed).await;
        due += interval;
    }
}

/// Where in its interval a cycle runs: spread over it, the same after every restart.
fn phase(id: &ProbeId, cycle: Cycle, interval: Duration) -> Duration {
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

struct Runner<'w> {
    watch: &'w Watch,
    cycle: Cycle,
    rec: Recorder,
    verdict: Recorder,
    delay: Recorder,
    failed_in_a_row: u32,
}

impl<'w> Runner<'w> {
    fn new(watch: &'w Watch, cycle: Cycle) -> Self {
        let (rec, verdict, delay) = <(Recorder, Recorder, Recorder)>::default();
        Self { watch, cycle, rec, verdict, delay, failed_in_a_row: 0 }
    }

    async fn run(&mut self, due: Instant, missed: u64) {
        let started = Instant::now();
        self.delay.observe(&super::START_DELAY, [self.watch.kind.name], (started - due).as_secs_f64());
        self.delay.commit(&self.watch.engine, "start_delay", Gauges::Keep);
        let probe = Arc::clone(&self.watch.probe.borrow());
        let run = run(&*probe, self.cycle, self.watch.common.timeout, &mut self.rec).await;
        if run.panicked {
            self.watch.rebuild();
        }
        let good = verdict::record(self.watch, &run, missed, &self.verdict);
        let gauges = self.gauges(good);
        self.rec.commit_with(&self.verdict, &self.watch.set, self.cycle.name, gauges);
    }

    /// What becomes of the gauges of earlier runs.
    fn gauges(&mut self, good: bool) -> Gauges {
        self.failed_in_a_row = if good { 0 } else { self.failed_in_a_row.saturating_add(1) };
        match self.cycle.on_failure {
            _ if good => Gauges::Replace,
            OnFailure::Replace => Gauges::Replace,
            OnFailure::Keep(runs) if self.failed_in_a_row > runs => Gauges::Replace,
            OnFailure::Keep(_) | OnFailure::Freeze => Gauges::Keep,
        }
    }
}

/// One run within its deadline, from start to end. What it recorded is in `rec`, but for the trace.
pub(super) async fn run(probe: &dyn AnyProbe, cycle: Cycle, timeout: Duration, rec: &mut Recorder) -> Run {
    let started = Instant::now();
    let work = AssertUnwindSafe(probe.run(cycle, rec)).catch_unwind();
    let (result, panicked) = match tokio::time::timeout_at(started + timeout, work).await {
        Ok(Ok(result)) => (result, false),
        Ok(Err(_panic)) => (Err(Failure::new(Reason::Internal, "the probe panicked")), true),
        Err(_elapsed) => (Err(Failure::new(Reason::Timeout, format!("not finished within {timeout:?}"))), false),
    };
    Run { cycle, duration: started.elapsed(), result, panicked, trace: rec.trace() }
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
