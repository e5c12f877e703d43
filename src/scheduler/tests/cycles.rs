//! Each cycle owns its series and says what becomes of them when it fails.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::bench::{Bench, EVENTS, SECOND, SIZES, Script, VALUE, common, failure};
use crate::metrics::testing::Scrape;
use crate::probe::{Cycle, OnFailure, Reason};

/// What a scrape shows of the gauge, as `of` and value.
fn shown(scrape: &Scrape) -> Vec<(&str, f64)> {
    let mut shown: Vec<_> = scrape
        .samples
        .iter()
        .filter(|sample| sample.name == "made_value")
        .map(|sample| (sample.labels["of"].as_str(), sample.value))
        .collect();
    shown.sort_by(|a, b| a.partial_cmp(b).unwrap());
    shown
}

/// A probe whose nth run (from 0) records what it is told and then succeeds or fails.
fn plan(rule: OnFailure, runs: &'static [(&'static [(&'static str, f64)], bool)]) -> Script {
    Script::sync(move |made, _, rec| {
        let nth = made.state.fetch_add(1, Ordering::Relaxed) as usize;
        let (record, good) = runs[nth.min(runs.len() - 1)];
        for (of, value) in record {
            rec.set(&VALUE, [of], *value);
        }
        rec.add(&EVENTS, ["run"], 1.0);
        rec.observe(&SIZES, ["run"], 1.0);
        if good { Ok(()) } else { Err(failure(Reason::Refused)) }
    })
    .cycles(&[Cycle::MAIN.on_failure(rule)])
}

#[tokio::test(start_paused = true)]
async fn gauges_of_a_good_run_replace_those_of_the_run_before() {
    for rule in [OnFailure::Replace, OnFailure::Keep(2), OnFailure::Freeze] {
        let runs = &[(&[("a", 1.0), ("b", 1.0)] as &[_], true), (&[("b", 2.0), ("c", 2.0)], true)];
        let bench = Bench::with(plan(rule, runs));
        assert_eq!(shown(&bench.runs(1).await), [("a", 1.0), ("b", 1.0)]);
        assert_eq!(shown(&bench.runs(2).await), [("b", 2.0), ("c", 2.0)]);
        let scrape = bench.runs(5).await;
        assert_eq!(shown(&scrape), [("b", 2.0), ("c", 2.0)]);
        assert_eq!(scrape.get("made_events_total", "probe=p of=run"), Some(5.0), "counters accumulate");
        assert_eq!(scrape.get("made_sizes_count", "probe=p of=run"), Some(5.0), "and histograms do");
    }
}

#[tokio::test(start_paused = true)]
async fn replace_keep_and_freeze() {
    let good = (&[("a", 1.0), ("b", 1.0)] as &[_], true);
    let bad = (&[("b", 2.0)] as &[_], false);
    let back = (&[("c", 3.0)] as &[_], true);
    let runs: &[_] = Box::leak(Box::new([good, bad, bad, bad, bad, back]));
    let kept = vec![("a", 1.0), ("b", 2.0)];
    let replaced = vec![("b", 2.0)];
    for (rule, until) in [
        (OnFailure::Replace, 0),
        (OnFailure::Keep(0), 0),
        (OnFailure::Keep(1), 1),
        (OnFailure::Keep(3), 3),
        (OnFailure::Keep(4), 4),
        (OnFailure::Freeze, u32::MAX),
    ] {
        let bench = Bench::with(plan(rule, runs));
        assert_eq!(shown(&bench.runs(1).await), [("a", 1.0), ("b", 1.0)]);
        for failed in 1..=4 {
            let expected = if failed <= until { &kept } else { &replaced };
            assert_eq!(shown(&bench.runs(1 + failed).await), *expected, "{rule:?} after {failed} failed runs");
        }
        assert_eq!(shown(&bench.runs(6).await), [("c", 3.0)], "{rule:?}: the source is back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_run_between_failures_starts_the_count_anew() {
    let good = (&[("a", 1.0)] as &[_], true);
    let bad = (&[] as &[_], false);
    let runs: &[_] = Box::leak(Box::new([good, bad, bad, good, bad, bad, bad]));
    let bench = Bench::with(plan(OnFailure::Keep(2), runs));
    for (run, there) in [(1, true), (2, true), (3, true), (4, true), (5, true), (6, true), (7, false)] {
        assert_eq!(!shown(&bench.runs(run).await).is_empty(), there, "after run {run}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_count_of_failures_survives_a_reload() {
    let runs: &[_] = Box::leak(Box::new([(&[("a", 1.0)] as &[_], true), (&[] as &[_], false)]));
    let script = plan(OnFailure::Keep(2), runs);
    let mut bench = Bench::with(script.clone());
    assert_eq!(shown(&bench.runs(3).await), [("a", 1.0)]);
    bench.apply(&[("p", crate::probe::Common { owner: "you".into(), ..common() }, script)]);
    assert_eq!(shown(&bench.scrape()), [("a", 1.0)]);
    assert_eq!(shown(&bench.runs(4).await), []);
}

const FAST: Cycle = Cycle::named("fast").every(SECOND);
const SLOW: Cycle = Cycle::named("slow").every(Duration::from_secs(10)).on_failure(OnFailure::Freeze);
const THIRD: Cycle = Cycle::named("third").every(Duration::from_secs(4)).on_failure(OnFailure::Keep(1));

#[tokio::test(start_paused = true)]
async fn three_rhythms_each_own_their_gauges() {
    // Each cycle records how often it ran, under its own name and under one that changes with every run.
    static RUNS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
    let bench = Bench::with(
        Script::sync(|_, cycle, rec| {
            let at = [FAST, SLOW, THIRD].iter().position(|known| known.name == cycle.name).unwrap();
            let nth = RUNS[at].fetch_add(1, Ordering::Relaxed) + 1;
            rec.set(&VALUE, [cycle.name], f64::from(nth));
            rec.set(&VALUE, [&format!("{}-{nth}", cycle.name)], 0.0);
            rec.add(&EVENTS, [cycle.name], 1.0);
            rec.target(cycle.name).finish(Ok(()));
            Ok(())
        })
        .cycles(&[FAST, SLOW, THIRD]),
    );
    let names = [FAST, SLOW, THIRD].map(|cycle| cycle.name);
    for _ in 0..400 {
        sleep(Duration::from_millis(101)).await;
        let (scrape, runs) = (bench.scrape(), RUNS.each_ref().map(|runs| runs.load(Ordering::Relaxed)));
        let mut expected = Vec::new();
        for (name, nth) in names.into_iter().zip(runs).filter(|(_, nth)| *nth > 0) {
            expected.extend([(name.to_owned(), f64::from(nth)), (format!("{name}-{nth}"), 0.0)]);
            assert_eq!(scrape.get("made_events_total", &format!("probe=p of={name}")), Some(f64::from(nth)));
            assert_eq!(scrape.get("midwatch_probe_success", &format!("probe=p target={name}")), Some(1.0));
        }
        expected.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(shown(&scrape), expected.iter().map(|(of, v)| (of.as_str(), *v)).collect::<Vec<_>>());
    }
    assert_eq!(RUNS.each_ref().map(|runs| runs.load(Ordering::Relaxed)), [40, 4, 10]);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_one_cycle_touches_no_gauge_of_another() {
    let bench = Bench::with(
        Script::sync(|made, cycle, rec| {
            let nth = made.state.fetch_add(u32::from(cycle.name == "third"), Ordering::Relaxed);
            match cycle.name {
                "third" if nth > 0 => return Err(failure(Reason::Refused)),
                name => rec.set(&VALUE, [name], 1.0),
            }
            Ok(())
        })
        .cycles(&[FAST, THIRD]),
    );
    let both = bench.until(|scrape| shown(scrape).len() == 2).await;
    assert_eq!(shown(&both), [("fast", 1.0), ("third", 1.0)]);
    let failures = |scrape: &Scrape| scrape.get("midwatch_probe_failures_total", "probe=p reason=refused");
    let once = bench.until(|scrape| failures(scrape) == Some(1.0)).await;
    assert_eq!(shown(&once), [("fast", 1.0), ("third", 1.0)], "kept for one failed run");
    let twice = bench.until(|scrape| failures(scrape) == Some(2.0)).await;
    assert_eq!(shown(&twice), [("fast", 1.0)]);
    sleep(SECOND * 3 / 2).await;
    let scrape = bench.scrape();
    assert_eq!(scrape.get("midwatch_probe_run_success", "probe=p"), Some(0.0), "a good cycle hides no bad one");
}

#[tokio::test(start_paused = true)]
async fn the_names_of_cycles_do_not_collide_with_the_engine() {
    let names = ["description", "live", "main", "start_delay"].map(Cycle::named);
    let bench = Bench::with(
        Script::sync(|_, cycle, rec| {
            rec.set(&VALUE, [cycle.name], 1.0);
            Ok(())
        })
        .serve(|_, live| {
            live.record(|rec| rec.set(&VALUE, ["served"], 1.0));
            Box::pin(std::future::pending())
        })
        .cycles(&names),
    );
    let scrape = bench.runs(12).await;
    assert_eq!(scrape.get("midwatch_probe_interval_seconds", "probe=p"), Some(1.0));
    assert_eq!(scrape.get("midwatch_probe_info", "probe=p owner=me"), Some(1.0));
    assert_eq!(scrape.values("made_value", "of"), ["description", "live", "main", "served", "start_delay"]);
}
