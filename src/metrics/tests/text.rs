//! The text exposition, against the `prometheus` crate's writer, a strict reader, and promtool.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use prometheus::TextEncoder;
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use proptest::collection::vec;
use proptest::prelude::*;

use super::stores::{BARE, COUNTER, GAUGE, HISTOGRAM, PLAIN, number, values};
use crate::metrics::exposition::{Format, PIECE, Writer};
use crate::metrics::testing::{Scrape, text};
use crate::metrics::{BucketRule, Buckets, COARSE, Desc, Gauges, LAN, Recorder, RunId, SeriesSet, Store};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn oracle_labels(pairs: Pairs<'_>) -> Vec<LabelPair> {
    let kept = pairs.iter().filter(|(_, value)| !value.is_empty());
    kept.map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    })
    .collect()
}

fn oracle_family(desc: &Desc, kind: MetricType, metrics: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.name.to_owned());
    family.set_help(desc.help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn oracle_gauge(pairs: Pairs<'_>, value: f64) -> proto::Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    let mut metric = proto::Metric::from_label(oracle_labels(pairs));
    metric.set_gauge(gauge);
    metric
}

fn oracle_counter(pairs: Pairs<'_>, value: f64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    let mut metric = proto::Metric::from_label(oracle_labels(pairs));
    metric.set_counter(counter);
    metric
}

fn oracle_histogram(pairs: Pairs<'_>, bounds: &[f64], seen: &[f64]) -> proto::Metric {
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(seen.len() as u64);
    histogram.set_sample_sum(seen.iter().sum());
    let bucket = |bound: &f64| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(seen.iter().filter(|value| *value <= bound).count() as u64);
        bucket
    };
    histogram.set_bucket(bounds.iter().map(bucket).collect());
    let mut metric = proto::Metric::from_label(oracle_labels(pairs));
    metric.set_histogram(histogram);
    metric
}

/// The `prometheus` crate writes infinities as Rust does, and not as the format's documentation does.
fn oracle_text(families: &[MetricFamily]) -> String {
    let text = TextEncoder::new().encode_to_string(families).unwrap();
    let mut ours = String::new();
    for line in text.lines() {
        let line = line.strip_suffix(" inf").map_or_else(|| line.to_owned(), |start| format!("{start} +Inf"));
        let line = line.strip_suffix(" -inf").map_or(line.clone(), |start| format!("{start} -Inf"));
        writeln!(ours, "{line}").unwrap();
    }
    ours
}

proptest! {
    #[test]
    fn the_text_is_byte_for_byte_that_of_the_prometheus_crate(
        names in values(5),
        numbers in vec(number(), 5),
        seen in vec(0.0..1e9_f64, 0..20),
        identity in values(1),
    ) {
        let (site, rec) = (&*identity[0], Recorder::default());
        let set = SeriesSet::new([("site", site)], BucketRule::default());
        // Exemplars and units are not for this format.
        rec.begin(RunId::next());
        let (mut counters, mut gauges, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
        for (name, number) in names.iter().zip(&numbers) {
            rec.set(&GAUGE, [name, "fixed"], *number);
            gauges.push(oracle_gauge(&[("site", site), ("x", name), ("y", "fixed")], *number));
            let count = if number.is_finite() { number.abs() } else { 0.0 };
            rec.add(&COUNTER, [name], count);
            counters.push(oracle_counter(&[("site", site), ("x", name)], count));
            for value in &seen {
                rec.observe(&HISTOGRAM, [name], *value);
                rec.observe(&BARE, [], *value);
            }
            if !seen.is_empty() {
                histograms.push(oracle_histogram(&[("site", site), ("x", name)], LAN, &seen));
            }
        }
        rec.set(&PLAIN, [], numbers[0]);
        rec.commit(&set, "main", Gauges::Replace);
        let mut families = vec![
            oracle_family(COUNTER.desc(), MetricType::COUNTER, counters),
            oracle_family(GAUGE.desc(), MetricType::GAUGE, gauges),
        ];
        if !seen.is_empty() {
            families.push(oracle_family(HISTOGRAM.desc(), MetricType::HISTOGRAM, histograms));
        }
        let plain = oracle_gauge(&[("site", site)], numbers[0]);
        families.push(oracle_family(PLAIN.desc(), MetricType::GAUGE, vec![plain]));
        if !seen.is_empty() {
            let all: Vec<_> = names.iter().zip(&numbers).flat_map(|_| &seen).copied().collect();
            let bare = oracle_histogram(&[("site", site)], &[1e-5, 0.5, 1.0, 1e6, 1e21], &all);
            families.push(oracle_family(BARE.desc(), MetricType::HISTOGRAM, vec![bare]));
        }
        prop_assert_eq!(text(&*set), oracle_text(&families));
    }

    #[test]
    fn a_strict_reader_reads_every_label_value_back(names in values(20), long in ".{1,4}") {
        let (set, rec) = (SeriesSet::new([("probe", &*names[0])], BucketRule::default()), Recorder::default());
        let long = [long.repeat(10_000 / long.len()), long.repeat(10_000 / long.len()) + "other end"];
        for name in &names {
            rec.set(&GAUGE, [name, ""], 1.0);
            rec.observe(&HISTOGRAM, [name], 1.0);
        }
        for name in &long {
            rec.set(&GAUGE, [name, "long"], 1.0);
            rec.observe(&HISTOGRAM, [name], 1.0);
        }
        rec.commit(&set, "main", Gauges::Replace);
        let scrape = Scrape::from(&*set);
        let shown = scrape.samples.iter().filter(|sample| sample.name == "b_level" && !sample.labels.contains_key("y"));
        let shown: std::collections::BTreeSet<_> =
            shown.map(|sample| sample.labels.get("x").cloned().unwrap_or_default()).collect();
        prop_assert_eq!(shown, names.iter().cloned().collect());
        // What is cut alike is one series, which Prometheus would refuse to see twice.
        let long: Vec<_> = scrape.samples.iter().filter(|sample| sample.labels.contains_key("y")).collect();
        prop_assert_eq!(long.len(), 1);
        prop_assert!((1_000..=1_024).contains(&long[0].labels["x"].len()));
    }
}

/// A store with three owners: two probes and the engine.
fn three_owners() -> (Store, Vec<std::sync::Arc<SeriesSet>>) {
    let (store, rec) = (Store::default(), Recorder::default());
    let mut sets = Vec::new();
    for identity in [&[("probe", "a")] as &[_], &[("probe", "b"), ("type", "t")], &[]] {
        let set = SeriesSet::new(identity.iter().copied(), BucketRule::default());
        for nth in 0..4_000 {
            rec.set(&GAUGE, [&format!("value \"{nth}\""), "\\"], f64::from(nth));
        }
        for name in ["one", "two"] {
            rec.observe(&HISTOGRAM, [name], 0.02);
            rec.add(&COUNTER, [name], 1.0);
        }
        rec.set(&PLAIN, [], 0.5);
        rec.commit(&set, "main", Gauges::Replace);
        store.add(&set);
        sets.push(set);
    }
    (store, sets)
}

#[test]
fn pieces_make_up_the_whole_and_families_of_all_owners_share_a_header() {
    let (store, _sets) = three_owners();
    let mut writer = Writer::new(store.snapshot(), Format::Text);
    let pieces: Vec<_> = std::iter::from_fn(|| {
        let mut piece = Vec::new();
        writer.write(&mut piece).then_some(piece)
    })
    .collect();
    assert!(pieces.len() > 3, "{} pieces", pieces.len());
    let bounded = |piece: &Vec<u8>| piece.len() < PIECE + 10_000 && piece.ends_with(b"\n");
    assert!(pieces.iter().all(bounded), "whole lines, of bounded size");
    let whole = String::from_utf8(pieces.concat()).unwrap();
    let scrape = Scrape::parse(&whole).unwrap();
    assert_eq!(scrape.families, ["a_things_total", "b_level", "c_latency_seconds", "d_plain"]);
    assert_eq!(scrape.samples.len(), store.size());
    assert_eq!(scrape.get("d_plain", "probe=b type=t"), Some(0.5));
    assert_eq!(scrape.get("d_plain", ""), Some(0.5));
    for line in ["# HELP b_level A gauge.", "# TYPE b_level gauge"] {
        assert_eq!(whole.lines().filter(|ours| *ours == line).count(), 1);
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let (store, mut sets) = three_owners();
    let (odd, rec) = (SeriesSet::new([("odd", "\"\\\n\0\r\u{1f980}")], BucketRule::default()), Recorder::default());
    rec.set(&GAUGE, ["NaN", ""], f64::NAN);
    rec.set(&GAUGE, ["+Inf", ""], f64::INFINITY);
    rec.set(&GAUGE, ["-Inf", ""], f64::NEG_INFINITY);
    rec.set(&GAUGE, ["large", ""], f64::MAX);
    rec.set(&GAUGE, ["small", ""], f64::MIN_POSITIVE);
    rec.commit(&odd, "main", Gauges::Replace);
    store.add(&odd);
    sets.push(odd);
    let missing = "promtool is not on the PATH; `make setup` installs it";
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(missing);
    let mut input = promtool.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let text = Writer::new(store.snapshot(), Format::Text).rest();
        std::io::Write::write_all(&mut input, &text).unwrap();
    });
    let output = promtool.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
    drop(sets);
}

#[test]
fn bounds_are_written_as_numbers_that_people_know() {
    let buckets = Buckets::of(COARSE, None);
    let lines = |canonical| buckets.lines(canonical).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let (plain, canonical): (Vec<_>, Vec<_>) = (lines(false), lines(true));
    let les = ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "10", "+Inf"];
    assert_eq!(plain, les.map(|le| format!("le=\"{le}\"}} ")));
    let les = les.map(|le| if matches!(le, "1" | "10") { format!("{le}.0") } else { le.to_owned() });
    assert_eq!(canonical, les.map(|le| format!("le=\"{le}\"}} ")));
}
