//! A scrape sees a whole run or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::testing::{Scrape, text};
use crate::metrics::{BucketRule, Counter, Gauge, Gauges, Histogram, Recorder, SeriesSet, Store};

static FIRST: Gauge<1> = Gauge::new("first", "A gauge.", &["of"]);
static SECOND: Gauge<1> = Gauge::new("second", "A gauge.", &["of"]);
static NAMED: Gauge<1> = Gauge::new("named", "A gauge with a label that changes.", &["run"]);
static COUNT: Counter<0> = Counter::new("count_total", "A counter.", &[]);
static VERDICT: Counter<1> = Counter::new("verdict_total", "A counter of the engine.", &["of"]);
static SIZES: Histogram<0> = Histogram::new("sizes", "A histogram.", &[], &[1.0, 2.0]);

/// Records the nth run, from 1: every number is `n`, whichever series it is in.
fn run(rec: &Recorder, verdict: &Recorder, set: &SeriesSet, n: u32) {
    rec.set(&FIRST, ["a"], f64::from(n));
    rec.set(&SECOND, ["b"], f64::from(n));
    rec.set(&NAMED, [&n.to_string()], f64::from(n));
    rec.add(&COUNT, [], 1.0);
    rec.observe(&SIZES, [], 1.0);
    verdict.add(&VERDICT, ["c"], 1.0);
    verdict.set(&FIRST, ["verdict"], f64::from(n));
    rec.commit_with(verdict, set, "main", Gauges::Replace);
}

/// The number that all series agree on; `None` before the first run.
fn agreed(scrape: &Scrape) -> Option<f64> {
    let first = scrape.get("first", "a=0 of=a").or(scrape.get("first", "of=a"))?;
    for sample in scrape.samples.iter().filter(|sample| !sample.labels.contains_key("le")) {
        assert_eq!(sample.value, first, "{sample:?}");
    }
    assert_eq!(scrape.values("named", "run"), [first.to_string()]);
    assert_eq!(scrape.samples.len(), 4 + 2 + 3 + 2);
    Some(first)
}

#[test]
fn readers_see_whole_runs_while_a_writer_commits() {
    const RUNS: u32 = 3_000;
    let store = Store::default();
    let set = SeriesSet::new([], BucketRule::default());
    store.add(&set);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            let (mut last, mut distinct) = (0.0, 0);
            while !done.load(Ordering::Relaxed) {
                let scrape = Scrape::from(&store);
                if let Some(now) = agreed(&scrape) {
                    assert!(now >= last, "a scrape goes back from run {last} to {now}");
                    distinct += u32::from(now > last);
                    last = now;
                }
            }
            distinct
        };
        let readers = [scope.spawn(read), scope.spawn(read), scope.spawn(read)];
        let (rec, verdict) = (Recorder::default(), Recorder::default());
        for n in 1..=RUNS {
            run(&rec, &verdict, &set, n);
            if n % 100 == 0 {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert_eq!(agreed(&Scrape::from(&store)), Some(f64::from(RUNS)));
}

#[test]
fn a_scrape_shows_the_moment_at_which_it_began() {
    let store = Store::default();
    let set = SeriesSet::new([("probe", "p")], BucketRule::default());
    store.add(&set);
    let (rec, verdict) = (Recorder::default(), Recorder::default());
    run(&rec, &verdict, &set, 1);
    let expected = text(store.snapshot());
    let early = store.snapshot();
    run(&rec, &verdict, &set, 2);
    let between = store.snapshot();
    let expected_between = text(store.snapshot());
    set.set_buckets(BucketRule { bounds: Some([7.0].into()), always: None, ..BucketRule::default() });
    run(&rec, &verdict, &set, 3);
    store.remove([&set]);
    drop(set);
    assert_eq!(text(early), expected, "runs, changed buckets and the end of the owner do not show in it");
    assert_eq!(text(between), expected_between);
    assert_ne!(expected, expected_between);
    assert_eq!(text(store.snapshot()), "");
}

#[test]
fn nothing_shows_before_the_commit() {
    let set = SeriesSet::new([], BucketRule::default());
    let rec = Recorder::default();
    rec.set(&FIRST, ["a"], 1.0);
    assert_eq!(text(&*set), "");
    rec.commit(&set, "main", Gauges::Replace);
    assert_eq!(Scrape::from(&*set).get("first", "of=a"), Some(1.0));
    rec.commit(&set, "main", Gauges::Keep);
    assert_eq!(Scrape::from(&*set).get("first", "of=a"), Some(1.0), "and is forgotten by it");
}

#[test]
fn a_set_lives_as_long_as_its_owner() {
    let store = Store::default();
    let (one, two) =
        (SeriesSet::new([("n", "1")], BucketRule::default()), SeriesSet::new([("n", "2")], BucketRule::default()));
    for set in [&one, &two] {
        store.add(set);
        let rec = Recorder::default();
        rec.set(&FIRST, ["a"], 1.0);
        rec.commit(set, "main", Gauges::Replace);
    }
    assert_eq!(Scrape::from(&store).values("first", "n"), ["1", "2"]);
    assert_eq!(store.size(), 2);
    let kept = Arc::clone(&one);
    store.remove([&one]);
    assert_eq!(Scrape::from(&store).values("first", "n"), ["2"]);
    assert_eq!(store.size(), 1);
    drop((two, kept));
    assert_eq!(text(store.snapshot()), "");
    assert_eq!(store.size(), 0);
}
