//! The store against a model of a few maps, over random histories; its limits; its memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::metrics::testing::{Labels, Scrape};
use crate::metrics::{BucketRule, Counter, DROPPED, Gauge, Gauges, Histogram, NativeRule, Recorder, SeriesSet};

static GAUGES: [Gauge<2>; 2] =
    [Gauge::new("gauge_a", "A gauge.", &["x", "y"]), Gauge::new("gauge_b", "A gauge.", &["x", "y"])];
static COUNTERS: [Counter<2>; 2] = [
    Counter::new("counter_a_total", "A counter.", &["x", "y"]),
    Counter::new("counter_b_total", "A counter.", &["x", "y"]).known(&[&["1"], &["2"]]),
];
static FREE: Histogram<1> = Histogram::new("free", "A histogram.", &["x"], &[1.0, 2.0]);
static FIXED: Histogram<1> = Histogram::new("fixed", "A histogram.", &["x"], &[1.0, 2.0]).fixed();

const CYCLES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Op {
    Set(usize, u8, u8, i8),
    Add(usize, u8, u8, u8),
    Start(u8),
    Observe(bool, u8, u8),
}

#[derive(Clone, Debug)]
enum Step {
    /// A run of the nth cycle; whether it replaces gauges; what it and the engine record.
    Commit(usize, bool, Vec<Op>, Vec<Op>),
    Buckets(Vec<u8>, Option<u8>),
    /// Whether there are native buckets beside the classic ones.
    Native(bool),
    /// A snapshot that is held over some steps, so that commits have to copy.
    Hold,
}

fn op() -> impl Strategy<Value = Op> {
    let (label, value) = (0..5_u8, 0..5_u8);
    prop_oneof![
        5 => (0..2_usize, label.clone(), 0..3_u8, any::<i8>()).prop_map(|(m, x, y, v)| Op::Set(m, x, y, v)),
        2 => (0..2_usize, label.clone(), 0..3_u8, value).prop_map(|(m, x, y, v)| Op::Add(m, x, y, v)),
        1 => label.clone().prop_map(Op::Start),
        2 => (any::<bool>(), label, 0..8_u8).prop_map(|(fixed, x, v)| Op::Observe(fixed, x, v)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let bounds = proptest::collection::btree_set(0..6_u8, 0..4).prop_map(|set: BTreeSet<u8>| set.into_iter().collect());
    prop_oneof![
        12 => (0..3_usize, any::<bool>(), vec(op(), 0..12), vec(op(), 0..3))
            .prop_map(|(cycle, replace, run, engine)| Step::Commit(cycle, replace, run, engine)),
        1 => (bounds, proptest::option::of(0..6_u8)).prop_map(|(bounds, also)| Step::Buckets(bounds, also)),
        1 => any::<bool>().prop_map(Step::Native),
        1 => Just(Step::Hold),
    ]
}

/// A metric by its index, and its labels x and y.
type Series = (usize, u8, u8);
/// A cycle by its index, and whether it is the engine's part of it.
type Owner = (usize, bool);

/// What there should be: the plain, slow way.
#[derive(Default)]
struct Model {
    /// The value, and who recorded it last.
    gauges: BTreeMap<Series, (f64, Owner)>,
    counters: BTreeMap<Series, f64>,
    observed: BTreeMap<(bool, u8), Vec<f64>>,
    bounds: Option<Vec<f64>>,
    classic_only: bool,
}

impl Model {
    fn record(&mut self, owner: Owner, ops: &[Op]) -> BTreeSet<Series> {
        let mut recorded = BTreeSet::new();
        for op in ops {
            match *op {
                Op::Set(metric, x, y, value) => {
                    self.gauges.insert((metric, x, y), (f64::from(value), owner));
                    recorded.insert((metric, x, y));
                }
                Op::Add(metric, x, y, more) => *self.counters.entry((metric, x, y)).or_default() += f64::from(more),
                Op::Start(x) => [1, 2].into_iter().for_each(|y| {
                    self.counters.entry((1, x, y)).or_default();
                }),
                Op::Observe(fixed, x, value) => self.observed.entry((fixed, x)).or_default().push(f64::from(value)),
            }
        }
        recorded
    }

    fn commit(&mut self, cycle: usize, replace: bool, run: &[Op], engine: &[Op]) {
        for (part, replace, ops) in [(false, replace, run), (true, true, engine)] {
            let recorded = self.record((cycle, part), ops);
            if replace {
                self.gauges.retain(|series, (_, owner)| *owner != (cycle, part) || recorded.contains(series));
            }
        }
    }

    fn set_buckets(&mut self, bounds: &[u8], also: Option<u8>) {
        let all: BTreeSet<_> = bounds.iter().copied().chain(also).collect();
        let bounds: Vec<_> = all.into_iter().map(f64::from).collect();
        if self.bounds.as_deref().unwrap_or(&[1.0, 2.0]) != bounds {
            self.observed.retain(|(fixed, _), _| *fixed);
        }
        self.bounds = Some(bounds);
    }

    /// Every histogram is another one then, and starts afresh.
    fn set_native(&mut self, native: bool) {
        if self.classic_only == native {
            self.observed.clear();
        }
        self.classic_only = !native;
    }

    fn samples(&self) -> BTreeMap<(String, Labels), f64> {
        let mut samples = BTreeMap::new();
        let labels = |pairs: &[(&str, String)]| -> Labels {
            let identity = std::iter::once(("probe", "p".to_owned()));
            identity.chain(pairs.iter().cloned()).map(|(name, value)| (name.to_owned(), value)).collect()
        };
        let two = |x: u8, y: u8| labels(&[("x", x.to_string()), ("y", y.to_string())]);
        for ((metric, x, y), (value, _)) in &self.gauges {
            samples.insert((GAUGES[*metric].desc().name.to_owned(), two(*x, *y)), *value);
        }
        for ((metric, x, y), value) in &self.counters {
            samples.insert((COUNTERS[*metric].desc().name.to_owned(), two(*x, *y)), *value);
        }
        for ((fixed, x), seen) in &self.observed {
            let name = if *fixed { "fixed" } else { "free" };
            let default = vec![1.0, 2.0];
            let bounds = if *fixed { &default } else { self.bounds.as_ref().unwrap_or(&default) };
            #[allow(clippy::cast_precision_loss, reason = "a small count")]
            let count = |bound: f64| seen.iter().filter(|value| **value <= bound).count() as f64;
            for bound in bounds {
                let labels = labels(&[("x", x.to_string()), ("le", bound.to_string())]);
                samples.insert((format!("{name}_bucket"), labels), count(*bound));
            }
            let infinite = labels(&[("x", x.to_string()), ("le", "+Inf".into())]);
            samples.insert((format!("{name}_bucket"), infinite), count(f64::INFINITY));
            samples.insert((format!("{name}_count"), labels(&[("x", x.to_string())])), count(f64::INFINITY));
            samples.insert((format!("{name}_sum"), labels(&[("x", x.to_string())])), seen.iter().sum());
        }
        samples
    }
}

fn record(rec: &Recorder, ops: &[Op]) {
    for op in ops {
        match *op {
            Op::Set(metric, x, y, value) => {
                rec.set(&GAUGES[metric], [&x.to_string(), &y.to_string()], f64::from(value));
            }
            Op::Add(metric, x, y, more) => {
                rec.add(&COUNTERS[metric], [&x.to_string(), &y.to_string()], f64::from(more));
            }
            Op::Start(x) => rec.start(&COUNTERS[1], &[&x.to_string()]),
            Op::Observe(true, x, value) => rec.observe(&FIXED, [&x.to_string()], f64::from(value)),
            Op::Observe(false, x, value) => rec.observe(&FREE, [&x.to_string()], f64::from(value)),
        }
    }
}

proptest! {
    // Each case reads some thirty scrapes back.
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn the_store_does_what_the_model_does(steps in vec(step(), 1..60)) {
        let set = SeriesSet::new([("probe", "p")], BucketRule::default());
        let (rec, engine, mut model, mut held) = (Recorder::default(), Recorder::default(), Model::default(), None);
        let mut rule = BucketRule::default();
        for step in steps {
            match step {
                Step::Hold => held = Some(set.snapshot()),
                Step::Buckets(bounds, also) => {
                    model.set_buckets(&bounds, also);
                    let bounds = Some(bounds.iter().copied().map(f64::from).collect());
                    rule = BucketRule { bounds, always: also.map(f64::from), ..rule };
                    set.set_buckets(rule.clone());
                }
                Step::Native(native) => {
                    model.set_native(native);
                    rule.native = native.then_some(NativeRule::DEFAULT);
                    set.set_buckets(rule.clone());
                }
                Step::Commit(cycle, replace, run_ops, engine_ops) => {
                    model.commit(cycle, replace, &run_ops, &engine_ops);
                    record(&rec, &run_ops);
                    record(&engine, &engine_ops);
                    let gauges = if replace { Gauges::Replace } else { Gauges::Keep };
                    rec.commit_with(&engine, &set, CYCLES[cycle], gauges);
                }
            }
            let scrape = Scrape::from(&*set);
            let count = scrape.samples.len();
            let samples: BTreeMap<_, _> =
                scrape.samples.into_iter().map(|sample| ((sample.name, sample.labels), sample.value)).collect();
            prop_assert_eq!(samples, model.samples());
            prop_assert_eq!(set.size(), count);
            set.assert_consistent();
        }
        drop(held);
    }
}

/// A set in which so many series have room beside the counter of those that have none.
fn limited(most: usize) -> Arc<SeriesSet> {
    let (set, rec) = (SeriesSet::new([], BucketRule::default()), Recorder::default());
    rec.add(&DROPPED, [], 0.0);
    rec.describe(&set);
    set.limit(most + 1);
    set
}

/// How many series there are beside that counter, and what it says.
fn sizes(set: &SeriesSet) -> (usize, Option<f64>) {
    let scrape = Scrape::from(set);
    assert_eq!(scrape.samples.len(), set.size());
    (set.size() - 1, scrape.get("midwatch_series_dropped_total", ""))
}

fn set_gauges(rec: &Recorder, values: std::ops::Range<u32>) {
    for value in values {
        rec.set(&GAUGES[0], [&value.to_string(), ""], f64::from(value));
    }
}

#[test]
fn series_beyond_the_limit_are_dropped_and_counted() {
    let (set, rec) = (limited(10), Recorder::default());
    set_gauges(&rec, 0..8);
    rec.observe(&FREE, ["needs five"], 1.0);
    rec.add(&COUNTERS[0], ["", ""], 1.0);
    rec.commit(&set, "main", Gauges::Replace);
    assert_eq!(sizes(&set), (9, Some(1.0)), "a histogram comes whole or not at all");
    set_gauges(&rec, 0..12);
    rec.commit(&set, "main", Gauges::Replace);
    assert_eq!(sizes(&set), (10, Some(4.0)), "what was there goes on, what is new has no room");
    let scrape = Scrape::from(&*set);
    assert_eq!(scrape.get("gauge_a", "x=7"), Some(7.0));
    assert_eq!(scrape.get("gauge_a", "x=11"), None);
    set_gauges(&rec, 0..2);
    rec.observe(&FREE, ["needs five"], 1.0);
    rec.commit(&set, "main", Gauges::Replace);
    set.assert_consistent();
    rec.observe(&FREE, ["needs five"], 1.0);
    rec.commit(&set, "main", Gauges::Keep);
    assert_eq!(sizes(&set), (2 + 1 + 5, Some(5.0)), "room that became free is used");
}

#[test]
fn churn_takes_no_memory() {
    let (set, rec) = (SeriesSet::new([], BucketRule::default()), Recorder::default());
    let churn = |rounds: std::ops::Range<u32>| {
        for round in rounds {
            // Now and then a scrape holds what there is, and commits have to copy it.
            let held = (round % 3 == 0).then(|| set.snapshot());
            set_gauges(&rec, round * 100..round * 100 + 100);
            rec.observe(&FREE, ["a"], 1.0);
            rec.commit(&set, "main", Gauges::Replace);
            drop(held);
        }
    };
    churn(0..50);
    let early = set.capacity();
    churn(50..3_000);
    assert_eq!(set.size(), 100 + 5);
    assert!(set.capacity() <= early * 2, "{} places after much churn, {early} after little", set.capacity());
}

#[test]
fn families_of_the_same_rows_keep_label_sets_once() {
    let (set, rec) = (SeriesSet::new([("site", "a")], BucketRule::default()), Recorder::default());
    let record = |xs: &[u32], cycle| {
        for x in xs.iter().map(u32::to_string) {
            GAUGES.iter().for_each(|gauge| rec.set(gauge, [&x, ""], 1.0));
            rec.add(&COUNTERS[0], [&x, ""], 1.0);
        }
        rec.commit(&set, cycle, Gauges::Replace);
        set.assert_consistent();
    };
    let places = |block: usize| {
        let texts =
            set.snapshot().iter().map(|family| family.blocks[block].labels(0).as_ptr()).collect::<BTreeSet<_>>();
        texts.len()
    };
    record(&[0, 1, 2, 3, 4, 5, 6, 7, 8], "main");
    assert_eq!((places(0), places(1)), (1, 1), "blocks that are full");
    assert_eq!(places(2), 3, "and one that others may yet differ from");
    set.relabel([("site", "b")]);
    set.assert_consistent();
    assert_eq!((places(0), places(1)), (1, 1), "also with another identity");
    // One goes, and what comes next takes its place.
    record(&[0, 1, 2, 3, 4, 5, 7, 8], "main");
    record(&[0, 1, 2, 3, 4, 5, 7, 8, 9], "main");
    assert_eq!((places(0), places(1)), (1, 2), "the counter has what the gauges have not");
    let scrape = Scrape::from(&*set);
    assert_eq!((scrape.get("gauge_a", "site=b x=6"), scrape.get("counter_a_total", "site=b x=6")), (None, Some(1.0)));
    assert_eq!(scrape.get("gauge_b", "site=b x=9"), Some(1.0));
}
