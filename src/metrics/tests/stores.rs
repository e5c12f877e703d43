//! Made-up stores for the tests of formats, and the one form in which what different formats say is compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::metrics::testing::{Labels, Scrape};
use crate::metrics::{
    BucketRule, Counter, Gauge, Gauges, Histogram, LAN, NativeRule, Recorder, RunId, SeriesSet, Store,
};

pub(super) static GAUGE: Gauge<2> = Gauge::new("b_level", "A gauge.", &["x", "y"]);
pub(super) static COUNTER: Counter<1> = Counter::new("a_things_total", "A counter.", &["x"]);
pub(super) static HISTOGRAM: Histogram<1> = Histogram::new("c_latency_seconds", "A histogram.", &["x"], LAN);
pub(super) static PLAIN: Gauge<0> = Gauge::new("d_plain", "A gauge without labels.", &[]);
pub(super) static BARE: Histogram<0> =
    Histogram::new("e_bare_bytes", "A histogram without labels.", &[], &[1e-5, 0.5, 1.0, 1e6, 1e21]);

/// Label values that differ: what a peer may send, and what hurts a format of lines.
pub(super) fn values(most: usize) -> impl Strategy<Value = Vec<String>> {
    let value = prop_oneof![
        "[a-z0-9:./-]{0,20}",
        "(\"|\\\\|\n|\r|\0|\t|\u{b}|\u{85}|\u{2028}|\u{feff}| |,|=|\\{|\\}|#|x){0,12}",
        ".{0,20}",
    ];
    proptest::collection::hash_set(value, 1..=most).prop_map(|set| set.into_iter().collect())
}

/// The same, with one that is far too long now and then: the parser in Python is slow.
fn any_values() -> impl Strategy<Value = Vec<String>> {
    let long = "(.|\"|\\\\|\n){1,4}".prop_map(|text| text.repeat(10_000 / text.len()));
    let with_long = (long, values(2)).prop_map(|(long, values)| [vec![long], values].concat());
    prop_oneof![5 => values(5).boxed(), 1 => with_long.boxed()]
}

pub(super) fn number() -> impl Strategy<Value = f64> {
    let special = prop::sample::select(vec![
        0.0,
        -0.0,
        1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        1e21,
        1e-7,
        0.1,
        1_752_000_000.123,
    ]);
    prop_oneof![special, any::<f64>(), (-1e6..1e6)]
}

/// What one owner records.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    site: String,
    names: Vec<String>,
    numbers: Vec<f64>,
    seen: Vec<f64>,
    native: Option<NativeRule>,
    named: bool,
}

prop_compose! {
    fn owner()(
        site in any_values(),
        names in any_values(),
        numbers in vec(number(), 5),
        // Bounds of native and of classic buckets are among them, and zeros.
        seen in vec(prop_oneof![0.0..1e3_f64, prop::sample::select(vec![0.0, 0.001, 0.5, 1.0, 1e-60])], 0..20),
        native in prop::sample::select(vec![None, Some(NativeRule::DEFAULT), Some(NativeRule::new(1.1, 3, 0.0))]),
        named in any::<bool>(),
    ) -> Owner {
        Owner { site: site.concat(), names, numbers, seen, native, named }
    }
}

/// A few owners that have everything there is to write: without labels and with odd ones, within runs and outside of them.
pub(super) fn owners() -> impl Strategy<Value = Vec<Owner>> {
    vec(owner(), 0..4)
}

/// A store, and what keeps its sets in it.
pub(super) struct Made {
    pub(super) store: Store,
    _sets: Vec<Arc<SeriesSet>>,
}

impl Made {
    pub(super) fn by(owners: &[Owner]) -> Self {
        let (store, rec, mut sets) = (Store::default(), Recorder::default(), Vec::new());
        for (nth, owner) in owners.iter().enumerate() {
            // The first has no labels of its own. What follows the number may be cut, the number is not.
            let site = format!("{nth} {}", owner.site);
            let identity = (nth > 0).then_some(("site", &*site));
            let set = SeriesSet::new(identity, BucketRule { native: owner.native, ..BucketRule::default() });
            if owner.named {
                rec.begin(RunId::next());
            }
            for (name, number) in owner.names.iter().zip(&owner.numbers) {
                rec.set(&GAUGE, [name, "fixed"], *number);
                rec.add(&COUNTER, [name], number.abs());
                owner.seen.iter().for_each(|value| rec.observe(&HISTOGRAM, [name], *value));
            }
            rec.set(&PLAIN, [], owner.numbers[0]);
            rec.touch(BARE.desc(), &[]);
            owner.seen.iter().for_each(|value| rec.observe(&BARE, [], *value));
            rec.commit(&set, "main", Gauges::Replace);
            store.add(&set);
            sets.push(set);
        }
        Self { store, _sets: sets }
    }
}

/// Every series with the bits of its value, sorted. All that is no number is one, and so are both zeros, because the parser in
/// Python makes whole numbers of them; bounds are compared as numbers, because formats write them differently.
pub(super) type Series = BTreeMap<(String, Labels), u64>;

/// Adds a series, which must not be there already.
pub(super) fn add(series: &mut Series, name: &str, mut labels: Labels, value: f64) {
    if let Some(le) = labels.get_mut("le") {
        *le = le.parse::<f64>().expect("a bound").to_string();
    }
    let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
    let before = series.insert((name.to_owned(), labels), value.to_bits());
    assert_eq!(before, None, "{name} comes twice");
}

/// What our own strict reader finds in a text.
pub(super) fn of_text(text: &str) -> Series {
    let mut series = Series::new();
    for sample in Scrape::parse(text).expect("the exposition is well-formed").samples {
        add(&mut series, &sample.name, sample.labels, sample.value);
    }
    series
}

/// Exemplars by their series, as formats with exemplars say them: the run, the value's bits, the time in milliseconds.
pub(super) type Exemplars = BTreeMap<(String, Labels), (String, u64, i64)>;

/// When series came into being, in milliseconds, by the family's name without suffix.
pub(super) type Created = BTreeMap<(String, Labels), i64>;

pub(super) fn milliseconds(time: f64) -> i64 {
    (time * 1e3).round() as i64
}
