//! What a probe records outside of runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::sleep;

use super::bench::{Bench, EVENTS, SECOND, Script, VALUE, common};
use crate::metrics::Live;
use crate::probe::Common;

/// Counts up when made, down when dropped.
struct Alive(Arc<AtomicU32>);

impl Alive {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves for ever: counts an event every tenth of a second, under the generation of its probe. Panics if a second
/// one serves at the same time.
fn ticking(alive: &Arc<AtomicU32>) -> Script {
    let alive = Arc::clone(alive);
    Script::idle().serve(move |made, live| {
        let alive = Arc::clone(&alive);
        Box::pin(async move {
            let _alive = Alive::new(&alive);
            assert_eq!(alive.load(Ordering::Relaxed), 1, "one serves at a time");
            loop {
                live.record(|rec| {
                    rec.add(&EVENTS, [&made.generation.to_string()], 1.0);
                    rec.set(&VALUE, ["last"], f64::from(made.generation));
                });
                sleep(SECOND / 10).await;
            }
        })
    })
}

#[tokio::test(start_paused = true)]
async fn records_show_at_once_all_of_them_or_none() {
    let bench = Bench::with(Script::idle().serve(|_, live: Live| {
        Box::pin(async move {
            live.record(|rec| rec.set(&VALUE, ["a"], 1.0));
            sleep(SECOND).await;
            live.record(|rec| {
                rec.set(&VALUE, ["b"], 2.0);
                rec.add(&EVENTS, ["c"], 3.0);
            });
        })
    }));
    tokio::task::yield_now().await;
    let before = bench.scrape();
    assert_eq!((before.get("made_value", "probe=p of=a"), before.sum("made_value", "")), (Some(1.0), 1.0));
    sleep(SECOND + SECOND / 100).await;
    let after = bench.runs(5).await;
    assert_eq!(after.get("made_value", "probe=p of=a"), Some(1.0), "gauges stay, whatever runs do");
    assert_eq!(after.get("made_value", "probe=p of=b"), Some(2.0));
    assert_eq!(after.get("made_events_total", "probe=p of=c"), Some(3.0));
}

#[tokio::test(start_paused = true)]
async fn serving_ends_with_its_probe() {
    let alive = Arc::default();
    let mut bench = Bench::with(ticking(&alive));
    sleep(SECOND).await;
    assert_eq!(alive.load(Ordering::Relaxed), 1);
    bench.apply(&[]);
    assert_eq!(bench.scrape().sum("made_events_total", ""), 0.0, "the series are gone at once");
    tokio::task::yield_now().await;
    assert_eq!(alive.load(Ordering::Relaxed), 0);

    let bench = Bench::with(ticking(&alive));
    sleep(SECOND).await;
    drop(bench);
    tokio::task::yield_now().await;
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

async fn changed_while_serving() {
    let alive = Arc::default();
    let script = ticking(&alive);
    let mut bench = Bench::with(script.clone());
    bench.until(|scrape| scrape.get("made_events_total", "probe=p of=0") > Some(1.0)).await;
    for generation in 1..=20 {
        bench.apply(&[("p", common(), script.version(generation))]);
        let labels = format!("probe=p of={generation}");
        let scrape = bench.until(|scrape| scrape.get("made_events_total", &labels) > Some(0.0)).await;
        assert_eq!(alive.load(Ordering::Relaxed), 1);
        assert_eq!(scrape.get("made_value", "probe=p of=last"), Some(f64::from(generation)));
        assert_eq!(scrape.sum("midwatch_probe_failures_total", ""), 0.0);
    }
    // A common key does not build a new probe; what it serves goes on, with the same one.
    let owner = Common { owner: "you".into(), ..common() };
    bench.apply(&[("p", owner, script.version(20))]);
    sleep(SECOND / 20).await;
    let before = bench.scrape().get("made_events_total", "probe=p of=20");
    let after = bench.until(|scrape| scrape.get("made_events_total", "probe=p of=20") > before).await;
    assert_eq!(after.sum("midwatch_probe_failures_total", ""), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_changed_probe_serves_once_the_old_one_has_stopped() {
    changed_while_serving().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_changed_probe_serves_once_the_old_one_has_stopped_on_several_threads() {
    changed_while_serving().await;
}

#[tokio::test(start_paused = true)]
async fn serving_that_ended_is_not_begun_again() {
    let begun = Arc::<AtomicU32>::default();
    let count = Arc::clone(&begun);
    let bench = Bench::with(Script::idle().serve(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }));
    bench.runs(5).await;
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}
