//! When probes run: at due times counted from the start, every one of which is run or counted as missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::bench::{Bench, SECOND, Script, common, id};
use crate::probe::{Common, Cycle};
use crate::scheduler::cycle::phase;

const MS: Duration = Duration::from_millis(1);

/// When the runs of a probe started, since the bench did.
#[derive(Clone, Default)]
struct Starts(Arc<Mutex<Vec<Instant>>>);

impl Starts {
    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Notes when it starts, and takes the given time. Panics if a run begins while another goes on.
fn noting(starts: &Starts, takes: Duration) -> Script {
    let (starts, busy) = (starts.clone(), Arc::new(tokio::sync::Mutex::new(())));
    Script::new(move |_, _, _| {
        starts.0.lock().unwrap().push(Instant::now());
        let busy = Arc::clone(&busy);
        Box::pin(async move {
            let _busy = busy.try_lock().expect("one run at a time");
            sleep(takes).await;
            Ok(())
        })
    })
}

fn due(bench: &Bench, name: &str, interval: Duration, nth: u32) -> Instant {
    bench.start + phase(&id(name), Cycle::MAIN, interval) + nth * interval
}

/// Whether the run started when it was due, within what tokio's timers can tell apart.
#[track_caller]
fn assert_on_time(started: Instant, due: Instant) {
    assert!(started >= due && started - due <= MS, "due {due:?}, started {started:?}");
}

fn ended(bench: &Bench) -> f64 {
    bench.scrape().get("midwatch_probe_runs_total", "probe=p").unwrap()
}

fn missed(bench: &Bench) -> f64 {
    bench.scrape().get("midwatch_probe_missed_total", "probe=p").unwrap()
}

#[tokio::test(start_paused = true)]
async fn due_times_count_from_the_start_however_long_runs_take() {
    for takes in [Duration::ZERO, 7 * MS, 499 * MS] {
        let starts = Starts::default();
        let bench = Bench::with(noting(&starts, takes));
        sleep(100 * SECOND).await;
        let starts = starts.take();
        assert_eq!(starts.len(), 100);
        for (nth, started) in (0..).zip(starts) {
            assert_on_time(started, due(&bench, "p", SECOND, nth));
        }
        assert_eq!(missed(&bench), 0.0);
        let delays = bench.scrape().get("midwatch_probe_start_delay_seconds_count", "type=made");
        assert_eq!(delays, Some(100.0));
    }
}

#[tokio::test(start_paused = true)]
async fn every_due_run_is_run_or_missed() {
    let starts = Starts::default();
    let bench = Bench::with(noting(&starts, Duration::ZERO));
    let mut nth = 0;
    for stall in [0, 1, 2, 5, 17, 0, 100] {
        let started = starts.0.lock().unwrap().len();
        bench.until(|_| starts.0.lock().unwrap().len() > started).await;
        // Nothing runs for so many intervals and a half.
        advance(stall * SECOND + SECOND / 2).await;
        nth += stall;
    }
    sleep(2 * SECOND).await;
    let starts = starts.take();
    let last = due(&bench, "p", SECOND, 0);
    let passed = 1 + (Instant::now() - last).as_secs();
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    let passed = passed as f64;
    assert_eq!(ended(&bench) + missed(&bench), passed, "{nth} intervals stalled");
    assert!(missed(&bench) >= 100.0);
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    let ran = starts.len() as f64;
    assert_eq!(ended(&bench), ran);
}

#[tokio::test(start_paused = true)]
async fn a_run_longer_than_its_interval_makes_the_next_ones_missed() {
    let starts = Starts::default();
    let mut bench = Bench::new();
    let cycle = Cycle::MAIN.every(100 * MS);
    bench.apply(&[("p", common(), noting(&starts, 250 * MS).cycles(&[cycle]))]);
    sleep(10 * SECOND).await;
    let starts = starts.take();
    for pair in starts.windows(2) {
        assert!(pair[1] - pair[0] >= 250 * MS, "one run at a time");
    }
    let begun = 1.0 + ((Instant::now() - bench.start - phase(&id("p"), cycle, 100 * MS)).as_secs_f64() / 0.1).floor();
    let open = begun - ended(&bench) - missed(&bench);
    assert!((0.0..=4.0).contains(&open), "{open} due times are unaccounted for, and one run is under way");
    assert!(missed(&bench) >= 55.0);
}

#[tokio::test(start_paused = true)]
async fn phases_are_spread_and_the_same_in_every_process() {
    let phases: Vec<_> = (0..1_000).map(|n| phase(&id(&format!("db-{n}")), Cycle::MAIN, SECOND)).collect();
    for tenth in 0..10 {
        let count = phases.iter().filter(|phase| phase.as_millis() / 100 == tenth).count();
        assert!((60..=140).contains(&count), "{count} of 1000 phases lie in tenth {tenth}");
    }
    // Computed by hand once, with another program: FNV-1a of "made\xffp\xffmain\xff", modulo 10^9.
    assert_eq!(phase(&id("p"), Cycle::MAIN, SECOND), Duration::from_nanos(PHASE_OF_P));
    assert_ne!(phase(&id("p"), Cycle::MAIN, SECOND), phase(&id("p"), Cycle::named("other"), SECOND));
}

const PHASE_OF_P: u64 = 288207686;

#[tokio::test(start_paused = true)]
async fn a_thousand_probes_run_when_they_are_due() {
    let starts: Arc<Mutex<HashMap<String, Vec<Instant>>>> = Arc::default();
    let names: Vec<_> = (0..1_000).map(|n| format!("db-{n}")).collect();
    let mut bench = Bench::new();
    let probes: Vec<_> = names
        .iter()
        .map(|name| {
            let (starts, key) = (Arc::clone(&starts), name.clone());
            let script = Script::sync(move |_, _, _| {
                starts.lock().unwrap().entry(key.clone()).or_default().push(Instant::now());
                Ok(())
            });
            (name.as_str(), common(), script)
        })
        .collect();
    bench.apply(&probes);
    sleep(5 * SECOND).await;
    let starts = starts.lock().unwrap();
    for name in &names {
        // The last may be due at the very end, within what timers can tell apart.
        let passed = |now| (0..9).take_while(|nth| due(&bench, name, SECOND, *nth) <= now).count();
        let (least, most) = (passed(Instant::now() - MS), passed(Instant::now()));
        assert!((least..=most).contains(&starts[name].len()), "{name}: {:?}", starts[name]);
        for (nth, started) in (0..).zip(&starts[name]) {
            assert_on_time(*started, due(&bench, name, SECOND, nth));
        }
    }
    assert_eq!(bench.scrape().sum("midwatch_probe_missed_total", ""), 0.0);
    let delays = bench.scrape().get("midwatch_probe_start_delay_seconds_count", "type=made").unwrap();
    assert!((4_990.0..=5_000.0).contains(&delays), "{delays}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_interval_makes_another_grid_from_the_same_start() {
    let starts = Starts::default();
    let script = noting(&starts, Duration::ZERO);
    let mut bench = Bench::with(script.clone());
    sleep(3 * SECOND + 300 * MS).await;
    starts.take();
    let slower = Common { interval: 7 * SECOND, ..common() };
    bench.apply(&[("p", slower, script)]);
    sleep(70 * SECOND).await;
    let starts = starts.take();
    assert_eq!(starts.len(), 10);
    for started in starts {
        let since = started - due(&bench, "p", 7 * SECOND, 0);
        assert!(since.as_millis() % 7_000 <= 1, "{since:?} after the first due time");
    }
    assert_eq!(missed(&bench), 0.0);
}

/// Reloads at every moment of an interval, also while a run is due or in flight.
#[tokio::test(start_paused = true)]
async fn reloads_lose_no_due_run() {
    let starts = Starts::default();
    let script = noting(&starts, 200 * MS);
    let mut bench = Bench::with(script.clone());
    for nth in 0..200_u32 {
        sleep(97 * MS).await;
        let owner = Common { owner: nth.to_string(), ..common() };
        bench.apply(&[("p", owner, script.version(nth / 2))]);
    }
    sleep(3 * SECOND).await;
    let passed = 1 + (Instant::now() - due(&bench, "p", SECOND, 0)).as_secs();
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    let passed = passed as f64;
    let (ended, missed) = (ended(&bench), missed(&bench));
    assert!(ended + missed == passed || ended + missed == passed - 1.0, "{ended} + {missed} of {passed}");
    assert!(missed >= 15.0, "runs that were interrupted did not end");
    for started in starts.take() {
        assert!((started - due(&bench, "p", SECOND, 0)).as_millis() % 1_000 <= 1, "still on the grid");
    }
}

/// A stall during which a run becomes due, then a reload before the runtime gets to it.
#[tokio::test(start_paused = true)]
async fn a_reload_between_due_and_start_loses_no_run() {
    let starts = Starts::default();
    let script = noting(&starts, Duration::ZERO);
    let mut bench = Bench::with(script.clone());
    bench.runs(1).await;
    let before = ended(&bench);
    // Time passes without any task being polled: `advance` yields only after it.
    let mut moved = Box::pin(advance(5 * SECOND));
    let _ = futures_util::poll!(&mut moved);
    let labels = BTreeMap::new();
    bench.apply(&[("p", Common { owner: "you".into(), labels, ..common() }, script)]);
    moved.await;
    sleep(500 * MS).await;
    assert_eq!(ended(&bench) + missed(&bench) - before, 5.0);
}
