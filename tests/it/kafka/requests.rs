//! How often the collector asks, counted by the side that is asked: a FAKE cluster of twelve brokers, 10 000 partitions and 1 000
//! groups with 50 000 commits. No real cluster of that size fits into a test, and a fake cannot be wrong about what arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::kafka::fake::{Counts, FakeCluster, Question, Shape};
use lab::until;

use super::QUICK;
use crate::support::{Metrics, Midwatch, Place, Sample, midwatch};

/// How many brokers there are.
const B: usize = 12;
const PARTITIONS: usize = 10_000;
const GROUPS: usize = 1_000;
/// So long that a slow machine changes nothing.
const PATIENT: &str = "interval = \"60s\"\ntimeout = \"55s\"\nrequest_timeout = \"50s\"";
/// OffsetFetch on the wire, and the last version of it that takes one group only.
const ONE_GROUP_A_REQUEST: (i16, i16) = (9, 7);

fn section(fake: &FakeCluster, rest: &str) -> String {
    format!("[probe.kafka.fake]\nbootstrap = [\"{}\"]\n{rest}\n", fake.addresses()[0])
}

/// Runs every cycle once, one after the other, and says what was asked.
fn one_full_cycle(shape: Shape, rest: &str) -> Counts {
    let fake = FakeCluster::start(shape).unwrap();
    let place = Place::new();
    let config = place.write("midwatch.toml", &place.text(&section(&fake, &format!("{PATIENT}\n{rest}"))));
    let output = midwatch(&["probe", "kafka", "fake", "--config", config.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    fake.take_counts()
}

/// Everything but what is counted apart: settings, once in ten minutes; the controller, once a minute; questions by time; and
/// the first request of every connection.
fn planned(counts: &Counts) -> usize {
    let apart = [Question::DescribeConfigs, Question::DescribeQuorum, Question::ByTime, Question::ApiVersions];
    counts.iter().filter(|(question, _)| !apart.contains(question)).map(|(_, asked)| asked.requests).sum()
}

fn requests(counts: &Counts, question: Question) -> usize {
    counts.get(&question).map_or(0, |asked| asked.requests)
}

/// What every broker is asked in a full cycle, once each.
const EVERY_BROKER: [Question; 6] = [
    Question::ListGroups,
    Question::DescribeGroups,
    Question::Starts,
    Question::OffsetFetch,
    Question::Ends,
    Question::DescribeLogDirs,
];

#[test]
fn a_full_cycle_asks_each_broker_six_times_and_the_cluster_twice() {
    let counts = one_full_cycle(Shape::default(), "");
    for question in EVERY_BROKER {
        assert_eq!((counts[&question].requests, counts[&question].most), (B, 1), "{question:?}: {counts:#?}");
    }
    for question in [Question::Metadata, Question::ListPartitionReassignments, Question::DescribeQuorum] {
        assert_eq!(requests(&counts, question), 1, "{question:?}: {counts:#?}");
    }
    assert_eq!(planned(&counts), 2 + 6 * B, "{counts:#?}");
    // All of it, and in no other way than by these requests.
    assert_eq!(counts[&Question::OffsetFetch].things, GROUPS);
    assert_eq!(counts[&Question::Ends].things, PARTITIONS);
    assert_eq!(counts[&Question::Starts].things, PARTITIONS);
    assert_eq!(counts[&Question::DescribeConfigs].requests, 1);
    // Three rounds about 5 000 partitions, each asked for up to four timestamps while so many ask.
    assert!(counts[&Question::ByTime].things <= 3 * 4 * 5_000, "{counts:#?}");
}

#[test]
fn groups_of_both_protocols_cost_each_broker_one_request_more() {
    let counts = one_full_cycle(Shape { new_protocol_one_in: 5, ..Shape::default() }, "");
    let describing = [Question::DescribeGroups, Question::ConsumerGroupDescribe].map(|question| counts[&question]);
    assert_eq!(describing.map(|asked| (asked.requests, asked.most)), [(B, 1); 2], "{counts:#?}");
    assert_eq!(describing.map(|asked| asked.things), [GROUPS * 4 / 5, GROUPS / 5]);
    assert_eq!(planned(&counts), 2 + 7 * B, "{counts:#?}");
}

#[test]
fn old_brokers_are_asked_for_one_group_at_a_time() {
    let counts = one_full_cycle(Shape { newest: vec![ONE_GROUP_A_REQUEST], ..Shape::default() }, "");
    let commits = counts[&Question::OffsetFetch];
    assert_eq!((commits.requests, commits.most_things), (GROUPS, 1), "{counts:#?}");
    // Nothing else changes.
    assert_eq!(planned(&counts), 2 + 5 * B + GROUPS, "{counts:#?}");
}

#[test]
fn what_filters_keep_out_is_not_asked_for() {
    let all = one_full_cycle(Shape::default(), "");
    // Ten topics, and ten groups but one.
    let filters = "topics = { allow = [\"topic-0000.\"] }\n\
                   groups = { allow = [\"group-0000.\"], deny = [\"group-00003\"] }";
    let some = one_full_cycle(Shape::default(), filters);
    for question in [Question::OffsetFetch, Question::DescribeGroups] {
        // The groups have coordinators of their own here: there is nothing to ask the other brokers.
        assert_eq!((some[&question].requests, some[&question].things), (9, 9), "{question:?}: {some:#?}");
    }
    for question in [Question::Ends, Question::Starts] {
        assert_eq!(some[&question].things, 100, "{question:?}: {some:#?}");
    }
    assert_eq!(some[&Question::DescribeConfigs].things, 10);
    assert_eq!(some[&Question::DescribeLogDirs].things, 10 * B);
    for question in EVERY_BROKER.into_iter().filter(|question| *question != Question::ListGroups) {
        let (less, more) = (some[&question].bytes_out, all[&question].bytes_out);
        assert!(less * 50 < more, "{question:?}: {less} bytes of {more}");
    }
    assert!(planned(&some) < planned(&all), "{some:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_cycle_asks_each_broker_twice_and_is_counted_so() {
    let fake = FakeCluster::start(Shape::default()).unwrap();
    // The other cycles are not due while the test runs.
    let others = ["cluster", "storage", "moves", "listeners"].map(|cycle| format!("{cycle}_interval = \"1h\""));
    let rest = format!("interval = \"6s\"\ntimeout = \"5900ms\"\nrequest_timeout = \"5s\"\n{}", others.join("\n"));
    let daemon = Midwatch::start(&section(&fake, &rest)).await;
    // Between two runs all that was asked is of whole runs: two requests for each broker, and what listed everything at first.
    let whole_runs = async || {
        let before = fake.counts();
        let metrics = daemon.metrics().await;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        let runs = metrics.get("midwatch_probe_runs_total", &[("probe", "fake")]).unwrap_or(0.0) as usize;
        let is_whole = [Question::OffsetFetch, Question::Ends].iter().all(|of| requests(&before, *of) == B * runs)
            && planned(&before) == 2 * B * runs + 1 + 2 * B;
        if runs >= 3 && is_whole { Ok((before, metrics)) } else { Err(format!("{runs} runs, {before:#?}")) }
    };
    let what = "the requests of three runs or more, and no others";
    let (counts, metrics) = until(what, Duration::from_secs(180), whole_runs).await.unwrap();
    let listing = [Question::Metadata, Question::ListGroups, Question::Starts].map(|of| requests(&counts, of));
    assert_eq!(listing, [1, B, B]);
    // The collector's own account is the same.
    let mut own: BTreeMap<String, f64> = BTreeMap::new();
    for sample in metrics.all("kafka_collector_requests_total", &[]) {
        *own.entry(sample.labels["api"].clone()).or_default() += sample.value;
    }
    let offsets: usize =
        [Question::Ends, Question::Starts, Question::ByTime].map(|of| requests(&counts, of)).iter().sum();
    for (api, asked) in [("ListOffsets", offsets), ("OffsetFetch", requests(&counts, Question::OffsetFetch))] {
        assert_eq!(own[api], asked as f64, "{api}: {own:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_other_filters_ends_what_is_outside_and_keeps_what_is_known() {
    let shape = Shape { brokers: 2, topics: 3, partitions: 2, groups: 2, topics_of_group: 3, ..Shape::default() };
    let fake = FakeCluster::start(Shape { is_moving: false, ..shape }).unwrap();
    let daemon = Midwatch::start(&section(&fake, QUICK)).await;
    let progress = "kafka_consumergroup_last_progress_timestamp_seconds";
    let is_of = |sample: &Sample, value: &str| sample.labels.values().any(|label| label == value);
    // Gauges of all cycles, and counters, which no later run ends by itself.
    let is_whole = |m: &Metrics| {
        let topics = m.all("kafka_topic_leader_changes_total", &[]).count() == 3;
        (topics && m.all(progress, &[]).count() == 6 && m.all("kafka_topic_size_bytes", &[]).count() == 3)
            .then(|| m.clone())
    };
    let before = daemon.until("all topics and groups", is_whole).await;
    let filters = "topics = { deny = [\"topic-00001\"] }\ngroups = { allow = [\"group-00000\"] }";
    let (status, text) = daemon.reload(&section(&fake, &format!("{QUICK}\n{filters}"))).await;
    assert_eq!(status, 200, "{text}");
    let outside = |m: &Metrics| {
        let mut samples = m.0.iter().filter(|sample| sample.name.starts_with("kafka_"));
        samples.any(|sample| is_of(sample, "topic-00001") || is_of(sample, "group-00001"))
    };
    let after = daemon.until("what is outside to go", |m| (!outside(m)).then(|| m.clone())).await;
    // Nothing moves on this cluster, so that groups made their last progress when they were first seen: before the reload.
    let kept: Vec<_> = after.all(progress, &[]).collect();
    assert_eq!(kept.len(), 2);
    for sample in kept {
        let labels: Vec<_> = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(before.get(progress, &labels), Some(sample.value), "{labels:?}");
    }
    assert_eq!(after.all("kafka_topic_leader_changes_total", &[]).count(), 2);
    // And back.
    daemon.reload(&section(&fake, QUICK)).await;
    daemon.until("all topics and groups again", is_whole).await;
}
