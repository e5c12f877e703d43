//! A panic is isolated, counted, and ends in a new probe.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::bench::{Bench, EVENTS, PHASES, SECOND, Script, VALUE, common, failure};
use crate::metrics::testing::Scrape;
use crate::probe::Reason;

fn internal(scrape: &Scrape) -> Option<f64> {
    scrape.get("midwatch_probe_failures_total", "probe=p reason=internal")
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_what_was_open_as_internal_and_disturbs_nobody() {
    let panics = Script::new(|made, _, rec| {
        Box::pin(async move {
            let nth = made.state.fetch_add(1, Ordering::Relaxed);
            rec.set(&VALUE, ["nth of this probe"], f64::from(nth));
            rec.target("done").finish(Ok(()));
            let sibling = async {
                let _open = rec.target("sibling").phases(&PHASES);
                std::future::pending::<()>().await;
            };
            let broken = async {
                let target = rec.target("broken").phases(&PHASES);
                let _open = target.phase("one");
                sleep(SECOND / 10).await;
                assert!(nth == 0, "on purpose");
            };
            tokio::select! { () = sibling => {}, () = broken => {} }
            Err(failure(Reason::Refused))
        })
    });
    let builds = std::sync::Arc::clone(&panics.builds);
    let mut bench = Bench::new();
    bench.apply(&[("p", common(), panics), ("q", common(), Script::idle())]);

    // The first run ends by itself, the second panics, the third is the first of a new probe.
    bench.runs(1).await;
    assert_eq!(builds.load(Ordering::Relaxed), 1);
    let scrape = bench.runs(2).await;
    let verdict = |target: &str| scrape.get("midwatch_probe_success", &format!("probe=p target={target}"));
    assert_eq!(["done", "sibling", "broken"].map(verdict), [Some(1.0), Some(0.0), Some(0.0)]);
    assert_eq!(scrape.get("made_value", "probe=p of=nth"), None);
    assert_eq!(scrape.sum("made_value", ""), 1.0, "what was recorded before the panic shows");
    for target in ["sibling", "broken"] {
        let labels = format!("probe=p target={target} reason=internal");
        assert_eq!(scrape.get("midwatch_probe_failures_total", &labels), Some(1.0));
        assert_eq!(scrape.sum("made_phase_seconds_sum", &format!("target={target} phase=total")), 0.2);
    }
    assert_eq!(scrape.get("made_phase_failures_total", "probe=p target=broken phase=one reason=internal"), Some(1.0));
    assert_eq!(scrape.get("made_phase_seconds_sum", "probe=p target=broken phase=one"), Some(0.2));
    assert_eq!(builds.load(Ordering::Relaxed), 2);

    let scrape = bench.runs(3).await;
    assert_eq!(scrape.sum("made_value", ""), 0.0, "the new probe knows nothing of the broken one's state");
    let scrape = bench.runs(10).await;
    assert_eq!(builds.load(Ordering::Relaxed), 6, "every second run panics");
    let others = scrape.get("midwatch_probe_runs_total", "probe=q").unwrap();
    assert!((9.0..=11.0).contains(&others), "{others} runs of the other probe");
    assert_eq!(scrape.sum("midwatch_probe_failures_total", "probe=q"), 0.0);
    assert_eq!(scrape.sum("midwatch_probe_missed_total", ""), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_future_exists_is_a_panic_of_the_run() {
    let bench = Bench::with(Script::idle().before(|made| {
        assert!(made.state.fetch_add(1, Ordering::Relaxed) < 1, "on purpose");
    }));
    assert_eq!(internal(&bench.runs(6).await), Some(3.0));
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_deadline_drops_the_run_is_isolated_too() {
    let bench = Bench::with(Script::new(|_, _, _| {
        Box::pin(async {
            let _broken = PanicsWhenDropped;
            std::future::pending().await
        })
    }));
    let scrape = bench.runs(3).await;
    assert_eq!(scrape.sum("midwatch_probe_failures_total", ""), 3.0);
    assert_eq!(internal(&scrape), Some(3.0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_serving_is_counted_and_serving_begins_again() {
    for at_once in [true, false] {
        let script = Script::idle().serve(move |made, live| {
            live.record(|rec| rec.add(&EVENTS, ["begun"], 1.0));
            assert!(!at_once, "on purpose");
            made.state.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                sleep(SECOND / 2).await;
                panic!("on purpose");
            })
        });
        let builds = std::sync::Arc::clone(&script.builds);
        let bench = Bench::with(script);
        assert_eq!(internal(&bench.scrape()), Some(0.0));
        let scrape = bench.until(|scrape| internal(scrape) == Some(3.0)).await;
        assert_eq!(scrape.get("made_events_total", "probe=p of=begun"), Some(3.0));
        assert_eq!(builds.load(Ordering::Relaxed), 3);
        let runs = scrape.get("midwatch_probe_runs_total", "probe=p").unwrap();
        bench.runs(20).await;
        assert!(runs > 1.0, "runs went on beside it");
    }
}
