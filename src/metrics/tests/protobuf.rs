//! The protobuf format, decoded by types that a generator made of its definition, and its native histograms against those of
//! the Prometheus project's own library.

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as data;
use prometheus_client::metrics::histogram::{Histogram as Theirs, NativeHistogramConfig};
use prometheus_client::registry::Registry;
use prost::Message as _;

use super::stores::{Created, Exemplars, GAUGE, HISTOGRAM, Series, add, of_text};
use crate::metrics::exposition::{Format, PIECE, Writer};
use crate::metrics::testing::{Labels, text};
use crate::metrics::{BucketRule, Gauges, NativeRule, Recorder, RunId, SeriesSet, Snapshot, Store};

/// What the messages say, in the terms of the text formats.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) series: Series,
    pub(super) exemplars: Exemplars,
    pub(super) created: Created,
    /// Names, without `_total`, and units of the families.
    pub(super) units: Vec<(String, String)>,
}

fn decode(mut bytes: &[u8]) -> Vec<data::MetricFamily> {
    let mut families = Vec::new();
    while !bytes.is_empty() {
        families.push(data::MetricFamily::decode_length_delimited(&mut bytes).expect("a message"));
    }
    families
}

impl From<&Store> for Found {
    fn from(store: &Store) -> Self {
        let mut found = Self::default();
        for family in decode(&Writer::new(store.snapshot(), Format::Protobuf).rest()) {
            let base = family.name.strip_suffix("_total").unwrap_or(&family.name).to_owned();
            for metric in &family.metric {
                found.metric(&family, metric, &base);
            }
            assert!(!family.help.is_empty());
            found.units.push((base, family.unit));
        }
        found
    }
}

impl Found {
    fn metric(&mut self, family: &data::MetricFamily, metric: &data::Metric, base: &str) {
        let labels: Labels = metric.label.iter().map(|pair| (pair.name.clone(), pair.value.clone())).collect();
        assert_eq!(labels.len(), metric.label.len(), "no label twice");
        let name = &*family.name;
        let mut created = None;
        match family.r#type() {
            data::MetricType::Gauge => self.add(name, labels, metric.gauge.as_ref().expect("a gauge").value, None),
            data::MetricType::Counter => {
                let counter = metric.counter.as_ref().expect("a counter");
                created = Some((labels.clone(), counter.start_timestamp));
                self.add(name, labels, counter.value, counter.exemplar.as_ref());
            }
            data::MetricType::Histogram => {
                let histogram = metric.histogram.as_ref().expect("a histogram");
                created = Some((labels.clone(), histogram.start_timestamp));
                for bucket in &histogram.bucket {
                    let bound = ("le".to_owned(), bucket.upper_bound.to_string());
                    let labels = labels.clone().into_iter().chain([bound]).collect();
                    let count = bucket.cumulative_count as f64;
                    self.add(&format!("{name}_bucket"), labels, count, bucket.exemplar.as_ref());
                }
                self.add(&format!("{name}_sum"), labels.clone(), histogram.sample_sum, None);
                self.add(&format!("{name}_count"), labels, histogram.sample_count as f64, None);
            }
            other => panic!("{other:?}"),
        }
        if let Some((labels, time)) = created {
            self.created.insert((base.to_owned(), labels), milliseconds(time.expect("a time of creation")));
        }
    }

    fn add(&mut self, name: &str, labels: Labels, value: f64, exemplar: Option<&data::Exemplar>) {
        add(&mut self.series, name, labels.clone(), value);
        if let Some(exemplar) = exemplar {
            let [pair] = &*exemplar.label else { panic!("{exemplar:?}") };
            assert_eq!(pair.name, "run_id");
            let time = milliseconds(exemplar.timestamp.expect("a time"));
            self.exemplars.insert((name.to_owned(), labels), (pair.value.clone(), exemplar.value.to_bits(), time));
        }
    }
}

fn milliseconds(time: prost_types::Timestamp) -> i64 {
    assert!((0..1_000_000_000).contains(&time.nanos));
    time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000
}

/// Our histogram as it arrives, and the library's, after the same observations.
fn both(factor: f64, most: u16, threshold: f64, seen: impl Iterator<Item = f64>) -> [data::Histogram; 2] {
    // What the library calls 0 is its default; a negative threshold is its name for none.
    let config = NativeHistogramConfig::new(factor).max_buckets(most.into());
    let theirs = Theirs::new_native(config.zero_threshold(if threshold == 0.0 { -1.0 } else { threshold }));
    let mut registry = Registry::default();
    registry.register("h", "h", theirs.clone());
    let native = Some(NativeRule::new(factor, most, threshold));
    let set = SeriesSet::new([("probe", "p")], BucketRule { native, ..BucketRule::default() });
    let rec = Recorder::default();
    rec.touch(HISTOGRAM.desc(), &["x"]);
    for value in seen {
        rec.observe(&HISTOGRAM, ["x"], value);
        theirs.observe(value);
    }
    rec.commit(&set, "main", Gauges::Keep);
    let families = decode(&Writer::new(Snapshot::from(&*set), Format::Protobuf).rest());
    let ours = families[0].metric[0].histogram.clone();
    let theirs = prometheus_client::encoding::prometheus_protobuf::encode(&registry).expect("encoded");
    [ours, theirs[0].metric[0].histogram.clone()].map(|histogram| {
        let mut histogram = histogram.expect("a histogram");
        // Theirs has no classic buckets, and came into being at another time.
        histogram.bucket.clear();
        histogram.start_timestamp = None;
        histogram
    })
}

/// Marsaglia's generator: the same values at every run, spread evenly over nine decades from a nanosecond to a second.
fn nine_decades() -> impl Iterator<Item = f64> {
    let mut state = 7_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        10_f64.powf(-9.0 * (state >> 11) as f64 / (1_u64 << 53) as f64)
    })
}

#[test]
fn native_histograms_arrive_as_those_of_the_library() {
    for (factor, most, threshold) in
        [(1.1, 160, NativeRule::ZERO_THRESHOLD), (1.1, 1000, 0.0), (1.02, 40, 1e-6), (1.5, 160, 1e-3), (2.0, 10, 0.0)]
    {
        let values = nine_decades().take(100_000).chain([0.0, -0.0, -0.25, 1e9, 1e-300]);
        let [ours, theirs] = both(factor, most, threshold, values);
        assert_eq!(ours.sample_count, 100_005);
        assert!(ours.positive_span.len() > 1 && ours.positive_delta.len() > 5, "{ours:?}");
        assert_eq!(ours.negative_delta.len(), if threshold >= 0.25 { 0 } else { 1 });
        assert_eq!(ours, theirs, "factor {factor}, {most} buckets, zero up to {threshold}");
    }
}

#[test]
fn few_observations_and_gaps_arrive_as_those_of_the_library() {
    for values in [&[][..], &[0.0], &[1.0], &[-1.0], &[1.0, 1.1, 1.3, 1.7, 2.0, 900.0], &[f64::MAX, 5e-324]] {
        for threshold in [0.0, NativeRule::ZERO_THRESHOLD, 1.5] {
            let [ours, theirs] = both(1.1, 160, threshold, values.iter().copied());
            assert_eq!(ours, theirs, "{values:?}, zero up to {threshold}");
        }
    }
    let [empty, _] = both(1.1, 160, 0.0, std::iter::empty());
    assert_eq!(empty.positive_span, [data::BucketSpan { offset: 0, length: 0 }], "or it would be no native one");
}

#[test]
fn without_native_buckets_it_is_a_classic_histogram() {
    let (set, rec) = (SeriesSet::new([], BucketRule { native: None, ..BucketRule::default() }), Recorder::default());
    rec.observe(&HISTOGRAM, ["x"], 0.25);
    rec.commit(&set, "main", Gauges::Keep);
    let families = decode(&Writer::new(Snapshot::from(&*set), Format::Protobuf).rest());
    let histogram = families[0].metric[0].histogram.as_ref().unwrap();
    assert!(histogram.positive_span.is_empty() && histogram.zero_threshold == 0.0 && histogram.zero_count == 0);
    assert_eq!(histogram.bucket.last().unwrap().cumulative_count, 1);
}

/// Lengths come before what they measure, so a family that is written in many pieces shows whether they were right.
#[test]
fn families_of_many_owners_are_whole_also_in_pieces() {
    let (store, rec, mut sets) = (Store::default(), Recorder::default(), Vec::new());
    for probe in ["a", "b", "\"c\\\n\""] {
        let set = SeriesSet::new([("probe", probe)], BucketRule::default());
        rec.begin(RunId::next());
        for nth in 0..1_500 {
            let name = format!("value \"{nth}\"");
            rec.set(&GAUGE, [&name, "\\"], f64::from(nth));
            rec.observe(&HISTOGRAM, [&name], f64::from(nth) * 1e-4);
        }
        rec.commit(&set, "main", Gauges::Replace);
        store.add(&set);
        sets.push(set);
    }
    let mut writer = Writer::new(store.snapshot(), Format::Protobuf);
    let mut pieces = Vec::new();
    loop {
        let mut piece = Vec::new();
        if !writer.write(&mut piece) {
            break;
        }
        assert!(piece.len() < PIECE + 10_000);
        pieces.push(piece);
    }
    assert!(pieces.len() > 5, "{} pieces", pieces.len());
    let whole = pieces.concat();
    assert_eq!(whole, Writer::new(store.snapshot(), Format::Protobuf).rest());
    let families = decode(&whole);
    let rows: Vec<_> = families.iter().map(|family| (&*family.name, family.metric.len())).collect();
    assert_eq!(rows, [("b_level", 4_500), ("c_latency_seconds", 4_500)]);
    assert_eq!(Found::from(&store).series, of_text(&text(store.snapshot())));
}
