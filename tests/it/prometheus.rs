//! What real Prometheus servers make of what midwatch writes: one that asks for native histograms, and so for protobuf, and one
//! that does not, and so reads OpenMetrics.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lab::http::encode;
use lab::net::Refused;
use lab::openmetrics::Parser;
use lab::prometheus::{Options, Prometheus};
use midwatch::http::{Landing, Reload, RunsQuery, Server, Site};
use midwatch::metrics::{
    BucketRule, Counter, Gauges, Histogram, LAN, NativeRule, Recorder, RunId, SeriesSet, Snapshot, Store,
};
use serde_json::Value;

use crate::mongodb::probe;
use crate::support::{Midwatch, eventually, request_as};

static LATENCY: Histogram<0> = Histogram::new("known_latency_seconds", "Known values.", &[], LAN);
static CLASSIC: Histogram<0> =
    Histogram::new("classic_latency_seconds", "Known values.", &[], &[1e-5, 0.01, 0.25, 1.0, 10.0, 1e6]);
static EVENTS: Counter<0> = Counter::new("known_events_total", "How many values there are.", &[]);

/// Serves a made-up load, so that what Prometheus computes can be compared with what was recorded. Server, store and writers
/// are those of the daemon.
struct MadeUp(Store);

impl Site for MadeUp {
    fn scrape(&self) -> Snapshot {
        self.0.snapshot()
    }

    fn openmetrics_created(&self) -> bool {
        false
    }

    fn scraped(&self, _: Duration) {}

    fn config(&self) -> Bytes {
        Bytes::new()
    }

    async fn reload(&self) -> Reload {
        Reload { ok: false, text: String::new() }
    }

    fn runs(&self, _: &RunsQuery) -> Result<String, String> {
        Err(String::new())
    }

    fn landing(&self) -> Landing {
        Landing { version: "0".into(), probes: 0, share: None }
    }
}

/// Marsaglia's generator: the same values at every run. From 0 to below 1.
fn random() -> impl Iterator<Item = f64> {
    let mut state = 3_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    })
}

/// Latencies in seconds: three quarters around 0.4 ms, the others spread evenly over three decades from 1 ms to 1 s.
fn latencies() -> Vec<f64> {
    let mut random = random();
    let mut next = || random.next().unwrap();
    (0..20_000)
        .map(|nth| if nth % 4 > 0 { 0.0002 + 0.0004 * next() * next() } else { 10_f64.powf(-3.0 * next()) })
        .collect()
}

async fn both(target: &str) -> [Prometheus; 2] {
    let options = || Options::new([target], Duration::from_millis(500)).exemplars();
    let classic = Prometheus::with(options()).await.unwrap();
    [classic, Prometheus::with(options().native_histograms()).await.unwrap()]
}

async fn value(prometheus: &Prometheus, promql: &str) -> f64 {
    let found = prometheus.query(promql).await.unwrap();
    assert_eq!(found.len(), 1, "{promql}: {found:?}");
    found[0].value
}

/// The bounds of a histogram's classic buckets as Prometheus writes them.
async fn bounds(prometheus: &Prometheus, name: &str) -> BTreeSet<String> {
    let found = prometheus.query(&format!("{name}_bucket")).await.unwrap();
    found.into_iter().map(|sample| sample.labels["le"].clone()).collect()
}

/// The exemplars of a series: labels and values.
async fn exemplars(prometheus: &Prometheus, promql: &str) -> Vec<(BTreeMap<String, String>, f64)> {
    let data = prometheus.api(&format!("/api/v1/query_exemplars?query={}", encode(promql))).await.unwrap();
    let all = data.as_array().unwrap().iter().flat_map(|series| series["exemplars"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|exemplar| {
        let labels = exemplar["labels"].as_object().unwrap().iter();
        (labels.map(|(name, value)| (name.clone(), text(value))).collect(), text(&exemplar["value"]).parse().unwrap())
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn quantiles_of_a_known_load_are_as_exact_as_buckets_allow() {
    let store = Store::default();
    let both_kinds = SeriesSet::new([("probe", "known")], BucketRule::default());
    let one_kind = SeriesSet::new([("probe", "known")], BucketRule { native: None, ..BucketRule::default() });
    let (rec, run, mut values) = (Recorder::default(), RunId::next(), latencies());
    rec.begin(run);
    for value in &values {
        rec.observe(&LATENCY, [], *value);
        rec.add(&EVENTS, [], 1.0);
    }
    rec.commit(&both_kinds, "main", Gauges::Replace);
    values.iter().for_each(|value| rec.observe(&CLASSIC, [], *value));
    rec.commit(&one_kind, "main", Gauges::Replace);
    store.add(&both_kinds);
    store.add(&one_kind);
    values.sort_by(f64::total_cmp);

    let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await.unwrap();
    let target = server.local_addr().unwrap().to_string();
    let serving = tokio::spawn(server.run(Arc::new(MadeUp(store)), std::future::pending(), Duration::ZERO));
    let [classic, native] = both(&target).await;
    for prometheus in [&classic, &native] {
        prometheus.wait_for("known_events_total").await.unwrap();
        assert_eq!(value(prometheus, "known_events_total").await, values.len() as f64);
        assert_eq!(exemplars(prometheus, "known_events_total").await, [(of(run), 1.0)]);
    }

    for q in [0.1, 0.5, 0.9, 0.99] {
        // The value at the rank that Prometheus looks for. What it answers is in the same bucket, somewhere.
        let exact = values[(q * values.len() as f64).ceil() as usize - 1];
        let above = LAN.partition_point(|bound| *bound < exact);
        let estimate = value(&classic, &format!("histogram_quantile({q}, known_latency_seconds_bucket)")).await;
        let width = LAN[above] - if above == 0 { 0.0 } else { LAN[above - 1] };
        assert!((estimate - exact).abs() <= width, "{q}: {estimate} for {exact} within {width}");
        // A bucket ends at 2^(1/8) times its beginning, a factor of 1.0905.
        let estimate = value(&native, &format!("histogram_quantile({q}, known_latency_seconds)")).await;
        let off = (estimate / exact).log2().abs();
        assert!(off <= 0.125 + 1e-9, "{q}: {estimate} for {exact}, off by 2^{off}");
    }

    the_native_histogram_is_whole(&native, &values).await;
    // 2.42 drops the classic series of what has native buckets too, those of everything else stay; and it writes their bounds
    // in its own way, which is ours in OpenMetrics.
    assert_eq!(bounds(&native, "known_latency_seconds").await, BTreeSet::new());
    assert_eq!(native.query("known_latency_seconds_count").await.unwrap(), []);
    assert_eq!(classic.query("known_latency_seconds").await.unwrap(), []);
    assert_eq!(bounds(&classic, "known_latency_seconds").await.len(), LAN.len() + 1);
    let written = ["+Inf", "0.01", "0.25", "1.0", "10.0", "1e+06", "1e-05"].map(str::to_owned);
    for prometheus in [&classic, &native] {
        assert_eq!(bounds(prometheus, "classic_latency_seconds").await, BTreeSet::from(written.clone()));
        let share =
            value(prometheus, "classic_latency_seconds_bucket{le=\"0.01\"} / ignoring(le) known_events_total").await;
        assert_eq!(share, values.iter().filter(|value| **value <= 0.01).count() as f64 / values.len() as f64);
    }

    let of_buckets = exemplars(&classic, "known_latency_seconds_bucket").await;
    let filled: BTreeSet<_> = values.iter().map(|value| LAN.partition_point(|bound| bound < value)).collect();
    assert_eq!(of_buckets.len(), filled.len(), "one for each bucket that counted something");
    let of_native = exemplars(&native, "known_latency_seconds").await;
    assert!(!of_native.is_empty());
    for (labels, value) in of_buckets.into_iter().chain(of_native) {
        assert_eq!(labels, of(run));
        assert!(values.contains(&value), "{value}");
    }
    serving.abort();
}

/// The labels of an exemplar.
fn of(run: RunId) -> BTreeMap<String, String> {
    BTreeMap::from([("run_id".to_owned(), run.to_string())])
}

/// Every bucket has as many values as lie within it, and all are of the schema that the factor asks for.
async fn the_native_histogram_is_whole(prometheus: &Prometheus, values: &[f64]) {
    let answer = prometheus.query_json("known_latency_seconds").await.unwrap();
    let histogram = &answer[0]["histogram"][1];
    let number = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
    assert_eq!(number(&histogram["count"]), values.len() as f64);
    assert!((number(&histogram["sum"]) / values.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    let buckets = histogram["buckets"].as_array().unwrap();
    assert!(buckets.len() > 50, "{}", buckets.len());
    for bucket in buckets {
        assert_eq!(bucket[0], 0, "open below, closed above: {bucket}");
        let (lower, upper, count) = (number(&bucket[1]), number(&bucket[2]), number(&bucket[3]));
        assert!((upper / lower / 0.125_f64.exp2() - 1.0).abs() < 1e-12, "{bucket}");
        let inside = values.iter().filter(|value| lower < **value && **value <= upper).count();
        assert_eq!(inside as f64, count, "{bucket}");
    }
    assert_eq!(NativeRule::FACTOR, 1.1, "or the schema is another one");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_kinds_of_prometheus_watch_one_daemon() {
    let refused = Refused::pick().unwrap();
    let rest =
        "interval = \"200ms\"\nslo = { objective = 0.99, latency = \"25ms\" }\nowner = \"a \\\\ \\\"b\\\" \\n c\"";
    let daemon = Midwatch::start(&probe("down", &[refused.address().to_string()], rest)).await;
    let [classic, native] = both(&daemon.address).await;
    let failures = "sum by (run_id) (midwatch_probe_failures_total{reason=\"refused\"}) > 0";
    for prometheus in [&classic, &native] {
        prometheus.wait_for(failures).await.unwrap();
        let info = prometheus.query("midwatch_probe_info").await.unwrap();
        assert_eq!(info[0].labels["owner"], "a \\ \"b\" \n c");
        // What an exemplar names is a run that the daemon knows.
        let found = eventually("an exemplar", async || {
            exemplars(prometheus, "midwatch_probe_failures_total").await.pop().map(|(labels, _)| labels)
        })
        .await;
        let run = daemon.request("GET", &format!("/runs?probe=down&id={}", found["run_id"])).await.unwrap();
        assert!(run.0 == 200 && run.1.contains(&found["run_id"]), "{run:?}");
    }
    native.wait_for("histogram_count(midwatch_probe_duration_seconds) > 0").await.unwrap();
    assert_eq!(bounds(&native, "midwatch_probe_duration_seconds").await, BTreeSet::new());
    let coarse = bounds(&classic, "midwatch_probe_duration_seconds").await;
    assert!(coarse.contains("1.0") && coarse.len() == 13, "{coarse:?}");

    // The daemon's whole exposition, to a reader that is not ours: all series that there are in text.
    let openmetrics = request_as(&daemon.address, "GET", "/metrics", "Accept: application/openmetrics-text\r\n").await;
    let families = Parser::start().unwrap().parse(&openmetrics.unwrap().1).unwrap();
    let theirs: BTreeSet<_> = families
        .iter()
        .flat_map(|family| &family.samples)
        .map(|sample| {
            let labels = sample.labels.iter();
            let labels: BTreeMap<_, _> = labels.map(|(name, value)| (name.clone(), bound(name, value))).collect();
            (sample.name.clone(), labels)
        })
        .collect();
    let text = daemon.request("GET", "/metrics").await.unwrap().1;
    let ours: BTreeSet<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
        .collect();
    assert_eq!(theirs.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), ours);
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(theirs.len(), lines);
}

/// A label's value; a bound as a number.
fn bound(name: &str, value: &str) -> String {
    if name == "le" { value.parse::<f64>().unwrap().to_string() } else { value.to_owned() }
}

/// What promtool says against a file: nothing if it is good.
fn promtool(arguments: &[&str], text: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let output = Command::new("promtool").args(arguments).arg(file.path()).output();
    let output = output.expect("promtool is missing; run: make setup");
    if output.status.success() { String::new() } else { String::from_utf8(output.stderr).unwrap() }
}

/// The code blocks of the page that have the given language, with the line above each.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<(&'p str, &'p str)> {
    let opening = format!("\n```{language}\n");
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(&opening) {
        let (code, after) = after.split_once("```\n").expect("a closed block");
        blocks.push((before.rsplit('\n').next().unwrap(), code));
        rest = after;
    }
    blocks
}

/// Whatever version of promtool there is: it knows all keys, or all but those of which the page says so.
#[test]
fn the_configurations_of_the_documentation_are_good() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PROMETHEUS.md")).unwrap();
    let check = |text: &str| promtool(&["check", "config", "--syntax-only"], text);
    let mut checked = 0;
    for (above, code) in blocks(&page, "yaml") {
        let comment = above.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        let new: Vec<_> = match comment.map(|comment| comment.strip_prefix("not known to 2.42: ")) {
            None => Vec::new(),
            Some(Some(keys)) => keys.split(", ").collect(),
            Some(None) => continue,
        };
        let said = check(code);
        let unknown: Vec<_> = said.lines().filter(|line| line.trim_start().starts_with("line ")).collect();
        assert!(said.is_empty() || unknown.len() == new.len(), "{code}\n{said}");
        for line in unknown {
            assert!(new.iter().any(|key| line.contains(&format!("field {key} not found"))), "{line}");
        }
        let old: String = code
            .split_inclusive('\n')
            .filter(|line| !new.iter().any(|key| line.trim_start().starts_with(key)))
            .collect();
        assert_eq!(check(&old), "", "{old}");
        checked += 1;
    }
    assert_eq!(checked, 5);
}

#[test]
fn the_queries_of_the_documentation_are_queries_of_metrics_that_there_are() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PROMETHEUS.md")).unwrap();
    let chapters = midwatch::catalog::chapters();
    let names: BTreeSet<_> = chapters.iter().flat_map(|chapter| &chapter.metrics).map(|desc| desc.name).collect();
    let queries = blocks(&page, "promql");
    assert!(queries.len() > 4);
    for (_, query) in queries {
        let indented = query.replace('\n', "\n          ");
        let rules = format!(
            "groups:\n  - name: docs\n    rules:\n      - record: a:b\n        expr: |\n          {}\n",
            indented.trim_end()
        );
        assert_eq!(promtool(&["check", "rules"], &rules), "", "{rules}");
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("midwatch_")) {
            assert!(names.contains(name.strip_suffix("_bucket").unwrap_or(name)), "{name}");
        }
    }
}
