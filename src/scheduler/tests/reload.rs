//! A reload disturbs what changed, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::super::Changes;
use super::bench::{Bench, EVENTS, FIXED, SECOND, SIZES, Script, VALUE, common, failure, id};
use crate::metrics::testing::Scrape;
use crate::probe::{Common, Cycle, Reason, Slo};

/// Counts its runs in its state, a counter and two histograms, and says of which generation it is.
fn counting() -> Script {
    Script::sync(|made, _, rec| {
        let nth = made.state.fetch_add(1, Ordering::Relaxed) + 1;
        rec.set(&VALUE, ["nth"], f64::from(nth));
        rec.set(&VALUE, ["generation"], f64::from(made.generation));
        rec.add(&EVENTS, ["run"], 1.0);
        rec.observe(&SIZES, ["run"], 1.5);
        rec.observe(&FIXED, ["run"], 1.5);
        Ok(())
    })
}

fn value(scrape: &Scrape, of: &str) -> Option<f64> {
    scrape.get("made_value", &format!("probe=p of={of}"))
}

fn changes(added: usize, changed: usize, removed: usize, kept: usize) -> Changes {
    Changes { added, changed, removed, kept }
}

#[tokio::test(start_paused = true)]
async fn a_changed_probe_takes_over_state_and_series() {
    let script = counting();
    let mut bench = Bench::with(script.clone());
    bench.runs(3).await;
    assert_eq!(bench.apply(&[("p", common(), script.version(1))]), changes(0, 1, 0, 0));
    let scrape = bench.scrape();
    assert_eq!(value(&scrape, "nth"), Some(3.0), "the last values stay until the new probe has run");
    let scrape = bench.runs(4).await;
    assert_eq!((value(&scrape, "nth"), value(&scrape, "generation")), (Some(4.0), Some(1.0)));
    assert_eq!(scrape.get("made_events_total", "probe=p of=run"), Some(4.0));
    assert_eq!(scrape.get("made_sizes_count", "probe=p of=run"), Some(4.0));
    assert_eq!(scrape.get("midwatch_probe_duration_seconds_count", "probe=p"), Some(4.0));
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_probe_is_not_touched() {
    let (script, other) = (counting(), counting());
    let mut bench = Bench::new();
    let two = [("p", common(), script.clone()), ("q", common(), other.clone())];
    assert_eq!(bench.apply(&two), changes(2, 0, 0, 0));
    bench.runs(2).await;
    let task = |bench: &Bench, name: &str| bench.scheduler.running[&id(name)].task.id();
    let (p, before) = (bench.scheduler.find(&id("p")).unwrap().1, task(&bench, "p"));
    for version in 1..=50 {
        let changed = [("p", common(), script.clone()), ("q", common(), other.version(version))];
        assert_eq!(bench.apply(&changed), changes(0, 1, 0, 1));
        sleep(SECOND / 100).await;
    }
    assert!(Arc::ptr_eq(&p, &bench.scheduler.find(&id("p")).unwrap().1));
    assert_eq!(before, task(&bench, "p"));
    assert_eq!(script.builds.load(Ordering::Relaxed), 1);
    let runs_until = (bench.start.elapsed().as_secs_f64()).floor();
    let runs = bench.scrape().get("midwatch_probe_runs_total", "probe=p").unwrap();
    assert!((runs_until..=runs_until + 1.0).contains(&runs), "{runs} runs in {runs_until} s");
    assert_eq!(bench.apply(&[("p", common(), script)]), changes(0, 0, 1, 1));
    assert_eq!(bench.apply(&[]), changes(0, 0, 1, 0));
    assert_eq!(bench.scheduler.histories().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn common_keys_never_rebuild_a_probe() {
    let script = counting();
    let mut bench = Bench::with(script.clone());
    bench.runs(2).await;
    let probe = bench.scheduler.find(&id("p")).unwrap().1;
    let slo = Some(Slo { objective: 0.9, latency: Some(SECOND) });
    let edits: [fn(&mut Common); 7] = [
        |common| common.owner = "you".into(),
        |common| common.interval = 2 * SECOND,
        |common| common.timeout = SECOND / 5,
        |common| common.buckets = Some([1.0, 5.0].into()),
        |common| common.info = BTreeMap::from([("tier".into(), "gold".into())]),
        |common| common.labels = BTreeMap::from([("site".into(), "north".into())]),
        |common| common.require = crate::probe::Require::Any,
    ];
    let mut now = Common { slo, ..common() };
    for edit in edits {
        edit(&mut now);
        assert_eq!(bench.apply(&[("p", now.clone(), script.clone())]), changes(0, 1, 0, 0));
        assert_eq!(bench.apply(&[("p", now.clone(), script.clone())]), changes(0, 0, 0, 1));
    }
    assert!(Arc::ptr_eq(&probe, &bench.scheduler.find(&id("p")).unwrap().1));
    assert_eq!(script.builds.load(Ordering::Relaxed), 1);
    let info = |scrape: &Scrape| scrape.get("midwatch_probe_info", "probe=p owner=you site=north tier=gold");
    let scrape = bench.until(|scrape| scrape.get("midwatch_probe_runs_total", "probe=p site=north") >= Some(1.0)).await;
    assert_eq!(info(&scrape), Some(1.0));
    assert_eq!(scrape.samples.iter().filter(|sample| sample.name == "midwatch_probe_info").count(), 1);
    assert_eq!(scrape.get("midwatch_probe_interval_seconds", "probe=p site=north"), Some(2.0));
    assert_eq!(scrape.get("made_value", "probe=p site=north of=nth"), Some(3.0), "the probe kept its state");
}

#[tokio::test(start_paused = true)]
async fn a_description_that_no_longer_holds_is_gone() {
    let script = counting();
    let mut bench = Bench::new();
    let slo = Some(Slo { objective: 0.9, latency: Some(SECOND) });
    bench.apply(&[("p", Common { slo, ..common() }, script.clone())]);
    bench.runs(1).await;
    bench.apply(&[("p", Common { owner: "you".into(), ..common() }, script)]);
    let scrape = bench.scrape();
    assert_eq!(scrape.values("midwatch_probe_info", "owner"), ["you"]);
    assert_eq!(scrape.get("midwatch_probe_slo_objective_ratio", "probe=p"), None);
    assert_eq!(scrape.get("midwatch_probe_slo_latency_seconds", "probe=p"), None);
    assert_eq!(scrape.get("midwatch_probe_success", "probe=p"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn changed_labels_start_new_series() {
    let script = counting();
    let mut bench = Bench::with(script.clone());
    bench.runs(3).await;
    let labels = BTreeMap::from([("site".into(), "north".into())]);
    bench.apply(&[("p", Common { labels, ..common() }, script)]);
    let scrape = bench.scrape();
    let ours = |sample: &&crate::metrics::testing::Sample| sample.labels.contains_key("probe");
    assert!(scrape.samples.iter().filter(ours).all(|sample| sample.labels["site"] == "north"));
    assert_eq!(scrape.get("midwatch_probe_runs_total", "probe=p site=north"), Some(0.0));
    let scrape = bench.until(|scrape| scrape.get("made_events_total", "probe=p site=north of=run").is_some()).await;
    assert_eq!(scrape.get("made_events_total", "probe=p site=north of=run"), Some(1.0));
    assert_eq!(scrape.get("midwatch_probe_failures_total", "probe=p site=north reason=refused"), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn a_removed_probe_is_gone_from_the_next_scrape_and_runs_no_more() {
    let started = Arc::<AtomicU32>::default();
    let count = Arc::clone(&started);
    let script = Script::new(move |_, _, rec| {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            rec.set(&VALUE, ["a"], 1.0);
            sleep(SECOND / 4).await;
            Ok(())
        })
    });
    let mut bench = Bench::with(script.clone());
    bench.apply(&[("p", common(), script), ("q", common(), Script::idle())]);
    // While the second run is in flight.
    bench.until(|_| started.load(Ordering::Relaxed) == 2).await;
    assert_eq!(bench.scrape().get("midwatch_probe_runs_total", "probe=p"), Some(1.0));
    bench.apply(&[("q", common(), Script::idle())]);
    let of_p = |scrape: &Scrape| {
        scrape.samples.iter().filter(|sample| sample.labels.get("probe") == Some(&"p".into())).count()
    };
    assert_eq!(of_p(&bench.scrape()), 0);
    sleep(5 * SECOND).await;
    assert_eq!(of_p(&bench.scrape()), 0);
    assert_eq!(started.load(Ordering::Relaxed), 2);
    assert!(bench.scrape().get("midwatch_probe_runs_total", "probe=q") >= Some(4.0));
}

#[tokio::test(start_paused = true)]
async fn changed_buckets_start_that_histogram_afresh_and_nothing_else() {
    let script = counting();
    let mut bench = Bench::with(script.clone());
    bench.runs(3).await;
    let with = |bounds: &[f64]| Common { buckets: Some(bounds.into()), ..common() };
    bench.apply(&[("p", with(&[1.0, 5.0, 9.0]), script.clone())]);
    let scrape = bench.scrape();
    assert_eq!(scrape.get("made_sizes_count", "probe=p of=run"), None);
    for kept in ["made_fixed_count", "made_events_total"] {
        assert_eq!(scrape.get(kept, "probe=p of=run"), Some(3.0));
    }
    assert_eq!(scrape.get("midwatch_probe_duration_seconds_count", "probe=p"), Some(3.0));
    assert_eq!(value(&scrape, "nth"), Some(3.0));
    let scrape = bench.runs(5).await;
    assert_eq!(scrape.values("made_sizes_bucket", "le"), ["+Inf", "1", "5", "9"]);
    assert_eq!(scrape.values("made_fixed_bucket", "le"), ["+Inf", "1", "2"]);
    assert_eq!(scrape.get("made_sizes_count", "probe=p of=run"), Some(2.0));
    assert_eq!(scrape.get("made_fixed_count", "probe=p of=run"), Some(5.0));
    assert_eq!(scrape.values("midwatch_probe_duration_seconds_bucket", "le").len(), 13);

    // The latency of the objective is always among the bounds; one that is there already changes nothing.
    let slo = |millis| Some(Slo { objective: 0.9, latency: Some(Duration::from_millis(millis)) });
    bench.apply(&[("p", Common { slo: slo(5_000), ..with(&[1.0, 5.0, 9.0]) }, script.clone())]);
    assert_eq!(bench.scrape().get("made_sizes_count", "probe=p of=run"), Some(2.0));
    bench.apply(&[("p", Common { slo: slo(1_500), ..with(&[1.0, 5.0, 9.0]) }, script)]);
    let scrape = bench.runs(6).await;
    assert_eq!(scrape.values("made_sizes_bucket", "le"), ["+Inf", "1", "1.5", "5", "9"]);
    assert_eq!(scrape.get("made_sizes_bucket", "probe=p of=run le=1.5"), Some(1.0));
    assert_eq!(scrape.get("made_fixed_count", "probe=p of=run"), Some(6.0));
}

#[tokio::test(start_paused = true)]
async fn what_a_vanished_cycle_left_behind_goes_with_it() {
    let (one, two) = (Cycle::named("one"), Cycle::named("two"));
    let script = Script::sync(|_, cycle, rec| {
        rec.set(&VALUE, [cycle.name], 1.0);
        rec.target(cycle.name).finish(if cycle.name == "two" { Err(failure(Reason::Refused)) } else { Ok(()) });
        Ok(())
    });
    let mut bench = Bench::with(script.clone().cycles(&[one, two]));
    let scrape = bench.runs(4).await;
    assert_eq!(scrape.values("made_value", "of"), ["one", "two"]);
    assert_eq!(scrape.get("midwatch_probe_run_success", "probe=p"), Some(0.0));
    bench.apply(&[("p", common(), script.version(1).cycles(&[one]))]);
    let scrape = bench.scrape();
    assert_eq!(scrape.values("made_value", "of"), ["one"]);
    assert_eq!(scrape.values("midwatch_probe_success", "target"), ["one"]);
    let scrape = bench.runs(6).await;
    assert_eq!(scrape.get("midwatch_probe_run_success", "probe=p"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_rebuilt_after_a_panic_is_the_one_that_goes_on() {
    let script = Script::sync(|made, _, rec| {
        let nth = made.state.fetch_add(1, Ordering::Relaxed);
        rec.set(&VALUE, ["nth"], f64::from(nth));
        assert!(nth < 2, "on purpose");
        Ok(())
    });
    let mut bench = Bench::with(script.clone());
    bench.runs(2).await;
    // Loaded before the panic, applied after it.
    let spec = bench.spec("p", &Common { owner: "you".into(), ..common() }, &script);
    bench.runs(3).await;
    assert_eq!(script.builds.load(Ordering::Relaxed), 2);
    bench.scheduler.apply(vec![spec]);
    assert_eq!(value(&bench.runs(4).await, "nth"), Some(0.0));
}
