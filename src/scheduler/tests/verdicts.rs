//! Every target of every run leaves a verdict, also when the deadline cuts the run off.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::bench::{Bench, Boxed, Made, PHASES, SECOND, Script, VALUE, common, failure};
use crate::metrics::Recorder;
use crate::probe::{Failure, OnFailure, Reason, Require, Slo};

const MS: Duration = Duration::from_millis(1);

/// A probe with a target for each entry: how many milliseconds it takes, and how it ends.
fn targets(entries: &'static [(&'static str, u32, Result<(), Reason>)]) -> Script {
    Script::new(move |_, _, rec| {
        Box::pin(async move {
            let opened: Vec<_> = entries.iter().map(|entry| (rec.target(entry.0), entry)).collect();
            join_all(opened.into_iter().map(|(target, (_, millis, result))| async move {
                sleep(*millis * MS).await;
                target.finish(result.map_err(failure));
            }))
            .await;
            Ok(())
        })
    })
}

fn slo() -> Slo {
    Slo { objective: 0.999, latency: Some(150 * MS) }
}

#[tokio::test(start_paused = true)]
async fn each_target_has_its_verdict() {
    let mut bench = Bench::new();
    let entries = &[("a", 100, Ok(())), ("b", 200, Ok(())), ("c", 300, Err(Reason::Refused))];
    let common = crate::probe::Common { slo: Some(slo()), ..common() };
    bench.apply(&[("p", common, targets(entries).targets(&["a", "b", "c"]))]);

    let before = bench.scrape();
    for target in ["probe=p target=a", "probe=p target=b", "probe=p target=c"] {
        for reason in ["refused", "resolve", "timeout", "internal"] {
            assert_eq!(before.get("midwatch_probe_failures_total", &format!("{target} reason={reason}")), Some(0.0));
        }
        for result in ["good", "slow", "failed"] {
            assert_eq!(before.get("midwatch_probe_slo_events_total", &format!("{target} result={result}")), Some(0.0));
        }
        assert_eq!(before.get("midwatch_probe_success", target), None, "nothing is known before the first run");
    }

    let scrape = bench.runs(2).await;
    let get = |name: &str, labels: &str| scrape.get(&format!("midwatch_probe_{name}"), &format!("probe=p {labels}"));
    assert_eq!(["a", "b", "c"].map(|t| get("success", &format!("target={t}"))), [Some(1.0), Some(1.0), Some(0.0)]);
    assert_eq!(get("run_success", ""), Some(0.0));
    assert_eq!(get("failures_total", "target=c reason=refused"), Some(2.0));
    assert_eq!(scrape.sum("midwatch_probe_failures_total", ""), 2.0);
    for (target, duration, result) in [("a", 0.1, "good"), ("b", 0.2, "slow"), ("c", 0.3, "failed")] {
        assert_eq!(get("last_duration_seconds", &format!("target={target}")), Some(duration));
        assert_eq!(get("duration_seconds_count", &format!("target={target}")), Some(2.0));
        assert_eq!(get("duration_seconds_sum", &format!("target={target}")), Some(2.0 * duration));
        assert_eq!(get("slo_events_total", &format!("target={target} result={result}")), Some(2.0));
        assert_eq!(scrape.sum("midwatch_probe_slo_events_total", &format!("target={target}")), 2.0);
    }
    assert_eq!(scrape.values("midwatch_probe_last_success_timestamp_seconds", "target"), ["a", "b"]);
    assert!(get("last_run_timestamp_seconds", "") > Some(1e9));
    assert_eq!(get("slo_objective_ratio", ""), Some(0.999));
    assert_eq!(get("slo_latency_seconds", ""), Some(0.15));
    assert_eq!(get("interval_seconds", ""), Some(1.0));
    assert_eq!(get("missed_total", ""), Some(0.0));
    assert_eq!(get("info", "owner=me"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn require_says_what_a_run_needs() {
    for (require, good) in [(Require::All, 0.0), (Require::Any, 1.0)] {
        let mut bench = Bench::new();
        let common = crate::probe::Common { require, ..common() };
        bench.apply(&[("p", common, targets(&[("a", 1, Err(Reason::Refused)), ("b", 2, Ok(()))]))]);
        let scrape = bench.runs(1).await;
        assert_eq!(scrape.get("midwatch_probe_run_success", "probe=p"), Some(good));
        assert_eq!(scrape.get("midwatch_probe_success", "probe=p target=a"), Some(0.0));
        assert_eq!(scrape.get("midwatch_probe_success", "probe=p target=b"), Some(1.0));
    }
    for require in [Require::All, Require::Any] {
        let mut bench = Bench::new();
        let common = crate::probe::Common { require, ..common() };
        bench.apply(&[("p", common, targets(&[("a", 1, Err(Reason::Refused)), ("b", 2, Err(Reason::Refused))]))]);
        assert_eq!(bench.runs(1).await.get("midwatch_probe_run_success", "probe=p"), Some(0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_target_has_no_target_label() {
    for script in [targets(&[("", 100, Err(Reason::Refused))]), timed(100 * MS, Err(Reason::Refused))] {
        let scrape = Bench::with(script).runs(1).await;
        assert_eq!(scrape.get("midwatch_probe_success", "probe=p"), Some(0.0));
        assert_eq!(scrape.get("midwatch_probe_failures_total", "probe=p reason=refused"), Some(1.0));
        assert_eq!(scrape.get("midwatch_probe_last_duration_seconds", "probe=p"), Some(0.1));
        assert_eq!(scrape.get("midwatch_probe_duration_seconds_count", "probe=p"), Some(1.0));
        assert_eq!(scrape.sum("midwatch_probe_failures_total", ""), 1.0, "and it is counted once");
        assert_eq!(scrape.sum("midwatch_probe_success", ""), 0.0);
    }
}

fn timed(duration: Duration, result: Result<(), Reason>) -> Script {
    Script::new(move |_, _, _| {
        Box::pin(async move {
            sleep(duration).await;
            result.map_err(failure)
        })
    })
}

/// Good in its first run; every later one fails as a whole, before (`first`) or after its targets have ended.
fn fails_as_a_whole(first: bool) -> Script {
    async fn run(made: &Made, rec: &Recorder, first: bool) -> Result<(), Failure> {
        let bad = made.state.fetch_add(1, Ordering::Relaxed) > 0;
        if bad && first {
            return Err(failure(Reason::Resolve));
        }
        for name in ["a", "b"] {
            rec.target(name).finish(Ok(()));
        }
        if bad { Err(failure(Reason::Resolve)) } else { Ok(()) }
    }
    Script::new(move |made, _, rec| -> Boxed<'_, _> { Box::pin(run(made, rec, first)) })
}

#[tokio::test(start_paused = true)]
async fn a_run_can_fail_before_any_target() {
    let bench = Bench::with(fails_as_a_whole(true).targets(&["a", "b"]));
    let none = bench.scrape().get("midwatch_probe_failures_total", "probe=p reason=resolve");
    assert_eq!(none, Some(0.0), "a run that fails as a whole is a known case, so its counter starts at 0");
    let good = bench.runs(1).await;
    let last = |scrape: &crate::metrics::testing::Scrape, target| {
        scrape.get("midwatch_probe_last_success_timestamp_seconds", &format!("probe=p target={target}")).unwrap()
    };
    assert_eq!(good.values("midwatch_probe_success", "target"), ["a", "b"]);
    assert_eq!(good.get("midwatch_probe_run_success", "probe=p"), Some(1.0));

    let bad = bench.runs(3).await;
    assert_eq!(bad.get("midwatch_probe_success", "probe=p"), Some(0.0));
    assert_eq!(bad.get("midwatch_probe_run_success", "probe=p"), Some(0.0));
    assert_eq!(bad.get("midwatch_probe_failures_total", "probe=p reason=resolve"), Some(2.0));
    assert_eq!(bad.values("midwatch_probe_success", "target"), [""; 0], "nothing is known of the targets");
    for target in ["a", "b"] {
        assert_eq!(last(&bad, target), last(&good, target), "the last success survives runs that fail");
    }
    assert_eq!(bad.get("midwatch_probe_last_success_timestamp_seconds", "probe=p"), None);
}

#[tokio::test(start_paused = true)]
async fn a_run_can_fail_after_its_targets() {
    let bench = Bench::with(fails_as_a_whole(false));
    let bad = bench.runs(2).await;
    assert_eq!(bad.get("midwatch_probe_success", "probe=p"), Some(0.0));
    assert_eq!(bad.get("midwatch_probe_success", "probe=p target=a"), Some(1.0));
    assert_eq!(bad.get("midwatch_probe_run_success", "probe=p"), Some(0.0));
    assert_eq!(bad.get("midwatch_probe_failures_total", "probe=p reason=resolve"), Some(1.0));
    assert_eq!(bad.sum("midwatch_probe_failures_total", ""), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_last_success_survives_failing_runs_and_targets_that_are_gone_do_not() {
    let bench = Bench::with(Script::sync(|made, _, rec| {
        let nth = made.state.fetch_add(1, Ordering::Relaxed);
        rec.target("a").finish(if nth == 0 { Ok(()) } else { Err(failure(Reason::Refused)) });
        if nth < 3 {
            rec.target("gone").finish(Ok(()));
        }
        Ok(())
    }));
    let name = "midwatch_probe_last_success_timestamp_seconds";
    let first = bench.runs(1).await.get(name, "probe=p target=a");
    assert!(first.is_some());
    let third = bench.runs(3).await;
    assert_eq!(third.get(name, "probe=p target=a"), first);
    assert_eq!(third.values(name, "target"), ["a", "gone"]);
    let fourth = bench.runs(4).await;
    assert_eq!(fourth.get(name, "probe=p target=a"), first);
    assert_eq!(fourth.values(name, "target"), ["a"]);
    assert_eq!(fourth.values("midwatch_probe_success", "target"), ["a"]);
}

/// Three phases of the given milliseconds.
async fn three_phases(rec: &Recorder, name: &str, millis: [u32; 3]) {
    let target = rec.target(name).phases(&PHASES);
    for (phase, millis) in ["one", "two", "three"].into_iter().zip(millis) {
        let work = async {
            sleep(millis * MS).await;
            Ok(())
        };
        let _ = target.phase(phase).run(work).await;
    }
    target.finish(Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_destroys_no_evidence() {
    let bench = Bench::with(Script::new(|_, _, rec| {
        Box::pin(async move {
            rec.set(&VALUE, ["before the cut"], 7.0);
            tokio::join!(three_phases(rec, "slow", [100, 9_000, 1]), three_phases(rec, "fast", [10, 20, 30]));
            rec.set(&VALUE, ["after the cut"], 7.0);
            Ok(())
        })
    }));
    let scrape = bench.runs(2).await;
    let phase = |target: &str, phase: &str| {
        let labels = format!("probe=p target={target} phase={phase}");
        ["made_phase_seconds_count", "made_phase_seconds_sum"].map(|name| scrape.get(name, &labels))
    };
    assert_eq!(phase("slow", "one"), [Some(2.0), Some(0.2)]);
    assert_eq!(phase("slow", "two"), [Some(2.0), Some(0.8)], "cut off after 400 ms of it");
    assert_eq!(phase("slow", "three"), [None, None]);
    assert_eq!(phase("slow", "total"), [Some(2.0), Some(1.0)]);
    assert_eq!(phase("fast", "three"), [Some(2.0), Some(0.06)]);
    assert_eq!(phase("fast", "total"), [Some(2.0), Some(0.12)]);
    for (target, phase, count) in
        [("slow", "one", 0.0), ("slow", "two", 2.0), ("slow", "three", 0.0), ("fast", "two", 0.0)]
    {
        let labels = format!("probe=p target={target} phase={phase} reason=timeout");
        assert_eq!(scrape.get("made_phase_failures_total", &labels), Some(count), "{labels}");
    }
    let verdict = |target: &str| scrape.get("midwatch_probe_success", &format!("probe=p target={target}"));
    assert_eq!([verdict("slow"), verdict("fast")], [Some(0.0), Some(1.0)]);
    assert_eq!(scrape.get("midwatch_probe_success", "probe=p"), None, "the cut is counted once, with its target");
    assert_eq!(scrape.get("midwatch_probe_failures_total", "probe=p target=slow reason=timeout"), Some(2.0));
    assert_eq!(scrape.sum("midwatch_probe_failures_total", ""), 2.0);
    assert_eq!(scrape.get("midwatch_probe_last_duration_seconds", "probe=p target=slow"), Some(0.5));
    assert_eq!(scrape.values("made_value", "of"), ["before the cut"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_targets_all_leave_a_verdict_when_half_of_them_are_cut_off() {
    let bench = Bench::with(Script::new(|_, _, rec| {
        Box::pin(async move {
            let names: Vec<_> = (0..100).map(|n| format!("t{n}")).collect();
            let slow = |n| if n % 2 == 0 { 1 } else { 9_000 };
            join_all((0..100).map(|n| three_phases(rec, &names[n], [1, slow(n), 1]))).await;
            Ok(())
        })
    }));
    // A scrape of so many series takes a while to read back, so not every moment is looked at.
    sleep(3 * SECOND).await;
    let scrape = bench.runs(3).await;
    assert_eq!(scrape.values("midwatch_probe_success", "target").len(), 100);
    assert_eq!(scrape.sum("midwatch_probe_success", ""), 50.0);
    assert_eq!(scrape.sum("midwatch_probe_failures_total", "reason=timeout"), 150.0);
    assert_eq!(scrape.sum("midwatch_probe_failures_total", ""), 150.0);
    assert_eq!(scrape.sum("midwatch_probe_duration_seconds_count", ""), 300.0);
    assert_eq!(scrape.sum("made_phase_seconds_count", "phase=total"), 300.0);
    assert_eq!(scrape.sum("made_phase_seconds_count", "phase=two"), 300.0);
    assert_eq!(scrape.sum("made_phase_seconds_count", "phase=three"), 150.0);
    assert_eq!(scrape.sum("made_phase_failures_total", "phase=two"), 150.0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_run_that_had_opened_no_target_is_a_timeout_of_the_run() {
    let bench = Bench::with(timed(9 * SECOND, Ok(())));
    let scrape = bench.runs(2).await;
    assert_eq!(scrape.get("midwatch_probe_success", "probe=p"), Some(0.0));
    assert_eq!(scrape.get("midwatch_probe_failures_total", "probe=p reason=timeout"), Some(2.0));
    assert_eq!(scrape.get("midwatch_probe_last_duration_seconds", "probe=p"), Some(0.5));
}

/// A probe that spawns tasks for its targets: aborting them takes effect only after the run is over.
#[tokio::test(start_paused = true)]
async fn a_target_that_outlives_its_run_is_not_good_and_spoils_no_later_run() {
    let bench = Bench::with(Script::new(|made, _, rec| {
        Box::pin(async move {
            let nth = made.state.fetch_add(1, Ordering::Relaxed);
            if nth == 0 {
                let [target, late] = ["left", "late"].map(|name| rec.target(name).phases(&PHASES));
                rec.target("done").finish(Ok(()));
                tokio::spawn(async move {
                    sleep(3 * SECOND / 2).await;
                    late.note("too late");
                    late.phase("one").done();
                    late.finish(Err(failure(Reason::Refused)));
                    drop(target);
                });
                std::future::pending::<()>().await;
            }
            sleep(SECOND / 4).await;
            rec.target("other").finish(Ok(()));
            Ok(())
        })
    }));
    let first = bench.runs(1).await;
    for target in ["left", "late"] {
        assert_eq!(first.get("midwatch_probe_success", &format!("probe=p target={target}")), Some(0.0));
        let labels = format!("probe=p target={target} reason=timeout");
        assert_eq!(first.get("midwatch_probe_failures_total", &labels), Some(1.0));
    }
    assert_eq!(first.get("midwatch_probe_success", "probe=p target=done"), Some(1.0));
    let later = bench.runs(4).await;
    assert_eq!(later.values("midwatch_probe_success", "target"), ["other"]);
    assert_eq!(later.get("midwatch_probe_run_success", "probe=p"), Some(1.0));
    assert_eq!(later.sum("midwatch_probe_failures_total", ""), 2.0);
    assert_eq!(later.sum("made_phase_seconds_count", "phase=one"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_target_left_open_by_a_run_that_ended_is_a_defect() {
    let bench = Bench::with(Script::sync(|_, _, rec| {
        std::mem::forget(rec.target("a"));
        Ok(())
    }));
    let scrape = bench.runs(1).await;
    assert_eq!(scrape.get("midwatch_probe_success", "probe=p target=a"), Some(0.0));
    assert_eq!(scrape.get("midwatch_probe_failures_total", "probe=p target=a reason=internal"), Some(1.0));
}

#[test]
fn the_default_rule_for_gauges_is_replace() {
    assert_eq!(crate::probe::Cycle::MAIN.on_failure, OnFailure::Replace);
}
