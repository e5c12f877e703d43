//! OpenMetrics text, as a parser reads it that knows nothing of us: that of Prometheus' client for Python.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use lab::openmetrics::{Family, Parser};
use proptest::prelude::*;

use super::protobuf;
use super::stores::{Created, Exemplars, Made, Series, add, milliseconds, of_text, owners};
use crate::catalog;
use crate::metrics::exposition::{Format, Writer};
use crate::metrics::testing::text;
use crate::metrics::{BucketRule, Recorder, SeriesSet, Store, Type};

/// What the parser found.
#[derive(Debug, Default)]
struct Found {
    series: Series,
    exemplars: Exemplars,
    created: Created,
    /// Names and units of the families.
    units: Vec<(String, String)>,
}

impl From<Vec<Family>> for Found {
    fn from(families: Vec<Family>) -> Self {
        let mut found = Self::default();
        for family in families {
            for sample in family.samples {
                if let Some(exemplar) = sample.exemplar {
                    let mut key = Series::new();
                    add(&mut key, &sample.name, sample.labels.clone(), 0.0);
                    let (key, _) = key.pop_first().expect("one");
                    assert_eq!(exemplar.labels.len(), 1);
                    let time = milliseconds(exemplar.time.expect("a time"));
                    let said = (exemplar.labels["run_id"].clone(), exemplar.value.to_bits(), time);
                    found.exemplars.insert(key, said);
                }
                if let Some(name) = sample.name.strip_suffix("_created") {
                    found.created.insert((name.to_owned(), sample.labels), milliseconds(sample.value));
                } else {
                    add(&mut found.series, &sample.name, sample.labels, sample.value);
                }
            }
            found.units.push((family.name, family.unit));
        }
        found
    }
}

fn openmetrics(store: &Store, created: bool) -> String {
    let written = Writer::new(store.snapshot(), Format::OpenMetrics { created }).rest();
    String::from_utf8(written).expect("UTF-8")
}

#[test]
fn all_formats_say_the_same_of_any_store() {
    let (parser, exemplars) = (RefCell::new(Parser::start().unwrap()), Cell::new(0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
    let result = runner.run(&owners(), |owners| {
        let made = Made::by(&owners);
        let wanted = of_text(&text(made.store.snapshot()));
        prop_assert_eq!(wanted.len(), made.store.size());
        let decoded = protobuf::Found::from(&made.store);
        prop_assert_eq!(&decoded.series, &wanted);
        for created in [false, true] {
            let text = openmetrics(&made.store, created);
            let found = parser.borrow_mut().parse(&text);
            let found = found.map_err(|problem| TestCaseError::fail(format!("{problem}:\n{text}")))?;
            let found = Found::from(found);
            prop_assert_eq!(&found.series, &wanted);
            prop_assert_eq!(&found.exemplars, &decoded.exemplars);
            if created {
                prop_assert_eq!(&found.created, &decoded.created);
            } else {
                prop_assert!(found.created.is_empty());
            }
            prop_assert_eq!(&found.units, &decoded.units);
        }
        exemplars.set(exemplars.get() + decoded.exemplars.len());
        Ok(())
    });
    result.unwrap();
    assert!(exemplars.get() > 100, "{exemplars:?}");
}

/// Names and helps are written as they are, so they must be such that no format needs to escape them; and OpenMetrics, which
/// takes a suffix off or puts one on, must not make one name of two.
#[test]
fn the_whole_catalogue_is_well_formed() {
    let (store, set) = (Store::default(), SeriesSet::new([("vantage", "v")], BucketRule::default()));
    store.add(&set);
    let rec = Recorder::default();
    let descs: Vec<_> = catalog::chapters().into_iter().flat_map(|chapter| chapter.metrics).collect();
    let mut names = BTreeSet::new();
    for desc in &descs {
        assert!(!desc.help.contains(['"', '\\', '\n', '\r']), "{}: {}", desc.name, desc.help);
        assert_eq!(desc.kind == Type::Counter, desc.name.ends_with("_total"), "{}", desc.name);
        if names.insert(desc.name) {
            rec.touch(desc, &vec!["v"; desc.labels.len()]);
        }
    }
    rec.describe(&set);
    let families = Parser::start().unwrap().parse(&openmetrics(&store, true)).unwrap();
    assert_eq!(families.len(), names.len());
    for (family, name) in families.iter().zip(&names) {
        let desc = descs.iter().find(|desc| desc.name == *name).expect("listed");
        assert_eq!((&*family.name, &*family.help), (name.strip_suffix("_total").unwrap_or(name), desc.help));
        let unit = ["seconds", "bytes", "ratio"].into_iter().find(|unit| family.name.ends_with(&format!("_{unit}")));
        assert_eq!(family.unit, unit.unwrap_or(""), "{name}");
    }
    let found = Found::from(families);
    assert_eq!(found.series, of_text(&text(store.snapshot())));
}

/// Prometheus writes bounds in its own way whatever a protobuf says; the text that we write should be the same, so that a
/// series does not change its name with the format.
#[test]
fn bounds_are_written_as_prometheus_writes_them() {
    let bounds = [1e-10, 1e-5, 0.00012, 0.0001, 0.001, 0.25, 1.0, 10.0, 604_800.0, 1e6, 1.5e6, 2_592_000.0, 1e10, 1e21];
    let theirs = [
        "1e-10",
        "1e-05",
        "0.00012",
        "0.0001",
        "0.001",
        "0.25",
        "1.0",
        "10.0",
        "604800.0",
        "1e+06",
        "1.5e+06",
        "2.592e+06",
        "1e+10",
        "1e+21",
    ];
    let buckets = crate::metrics::Buckets::of(&bounds, None);
    let ours: Vec<_> = buckets.lines(true).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let theirs: Vec<_> = theirs.iter().chain(&["+Inf"]).map(|le| format!("le=\"{le}\"}} ")).collect();
    assert_eq!(ours, theirs);
}
