//! Partitions that are being moved by Kafka's own tool, throttled, frozen and cancelled.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::kafka::driver::consumer::{BaseConsumer, Consumer as _};
use lab::kafka::{Cluster, Move, Record};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::probe;
use crate::support::{Metrics, Midwatch, midwatch};

const TOPIC: &str = "ledger";
/// Records of each partition, and the size of each in bytes.
const RECORDS: i32 = 500;
const SIZE: usize = 100_000;
/// What each broker may receive, in bytes per second.
const THROTTLE: u64 = 4_500_000;
/// Everything often, but with the deadlines that a probe has by default.
const RHYTHM: &str = "interval = \"6s\"\ntimeout = \"5s\"\nrequest_timeout = \"3s\"\ncluster_interval = \"2s\"\n";

const MOVING: &str = "kafka_reassignment_partitions_in_progress";
const LEFT: &str = "kafka_reassignment_partition_remaining_bytes";
const ETA: &str = "kafka_reassignment_eta_seconds";
const STARTED: &str = "kafka_reassignment_partition_started_timestamp_seconds";

/// The replicas of each partition, as brokers tell any client.
fn replicas(client: &BaseConsumer) -> Vec<Vec<i32>> {
    let metadata = client.fetch_metadata(Some(TOPIC), Duration::from_secs(30)).unwrap();
    metadata.topics()[0].partitions().iter().map(|partition| partition.replicas().to_vec()).collect()
}

/// Tells when all partitions are where they should be.
fn arrival(cluster: &Cluster, aim: Vec<Vec<i32>>) -> JoinHandle<Instant> {
    let client: BaseConsumer = cluster.client(None).create().unwrap();
    spawn_blocking(move || {
        loop {
            if replicas(&client) == aim {
                return Instant::now();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

/// A scrape, and when it was.
struct Seen {
    at: Instant,
    metrics: Metrics,
}

impl Seen {
    async fn now(daemon: &Midwatch) -> Self {
        let metrics = daemon.metrics().await;
        Self { at: Instant::now(), metrics }
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.metrics.get(name, &[])
    }

    /// The values of all partitions, by their labels.
    fn partitions(&self, name: &str) -> BTreeMap<BTreeMap<String, String>, f64> {
        self.metrics.all(name, &[]).map(|sample| (sample.labels.clone(), sample.value)).collect()
    }

    fn left(&self) -> f64 {
        self.metrics.all(LEFT, &[]).map(|sample| sample.value).sum()
    }
}

/// Counters of moves: begun, over, given up.
fn counts(metrics: &Metrics) -> [f64; 3] {
    ["started", "completed", "cancelled"]
        .map(|what| metrics.get(&format!("kafka_reassignments_{what}_total"), &[]).expect("counters start at 0"))
}

/// Scrapes of a whole move, until nothing moves any more.
async fn follow(daemon: &Midwatch, mut midway: impl AsyncFnMut(&Seen)) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    loop {
        let seen = Seen::now(daemon).await;
        let is_over = !all.is_empty() && seen.get(MOVING) == Some(0.0);
        if !all.is_empty() || seen.get(MOVING) > Some(0.0) {
            midway(&seen).await;
            all.push(seen);
        }
        if is_over {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A line for each scrape that brought something new, for when a test fails.
fn table(all: &[Seen], end: Instant) -> String {
    let mut lines = vec!["until end, bytes left, eta".to_owned()];
    for pair in all.windows(2).filter(|pair| pair[0].left() != pair[1].left()) {
        let until = end.saturating_duration_since(pair[1].at).as_secs_f64();
        lines.push(format!("{until:6.1} {:12} {:?}", pair[1].left(), pair[1].get(ETA)));
    }
    lines.join("\n")
}

/// The number of seconds that a report says moves are over in.
fn reported_eta(report: &str) -> f64 {
    let eta = report.split("being moved, over in ").nth(1).unwrap_or_else(|| panic!("no ETA: {report}"));
    let mut words = eta.split_whitespace();
    let number: f64 = words.next().unwrap().parse().unwrap();
    match words.next().unwrap().trim_end_matches(',') {
        "s" => number,
        "min" => number * 60.0,
        unit => panic!("{unit}: {report}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_followed_to_its_end_stalls_and_is_cancelled() {
    let cluster = Cluster::start(3).await.unwrap();
    cluster.create_topic_at(TOPIC, &[&[1, 2], &[2, 1], &[1, 2], &[2, 1]], &[]).await.unwrap();
    for _ in 0..RECORDS / 50 {
        let records = (0..4).flat_map(|partition| (0..50).map(move |_| Record::new(partition).size(SIZE)));
        cluster.produce(TOPIC, records).await.unwrap();
    }
    let text = |rest: &str| probe("moves", &cluster, &format!("{RHYTHM}{rest}"));
    let daemon = Midwatch::start(&text("moves_interval = \"2s\"")).await;
    daemon.until("a look at what moves", |m| (m.get(MOVING, &[]) == Some(0.0)).then_some(())).await;
    assert_eq!(counts(&daemon.metrics().await), [0.0; 3]);

    let aim: [&[i32]; 4] = [&[1, 3], &[2, 3], &[1, 3], &[2, 3]];
    let moves: Vec<_> =
        (0..).zip(aim).map(|(partition, replicas)| Move { topic: TOPIC, partition, replicas }).collect();
    cluster.reassign(&moves, Some(THROTTLE)).await.unwrap();
    let end = arrival(&cluster, aim.iter().map(|replicas| replicas.to_vec()).collect());
    let total = 4.0 * f64::from(RECORDS) * SIZE as f64;
    let mut report: Option<JoinHandle<(String, Instant)>> = None;
    let mut reloaded = None;
    let seen = follow(&daemon, async |seen| {
        let left = seen.left();
        if report.is_none() && left > 0.0 && left < 0.8 * total {
            let config = daemon.config().to_str().unwrap().to_owned();
            report = Some(spawn_blocking(move || {
                let output = midwatch(&["probe", "kafka", "moves", "--config", &config]);
                assert!(output.status.success(), "{output:?}");
                (String::from_utf8(output.stdout).unwrap(), Instant::now())
            }));
        }
        // What is known of moves outlives a change of the configuration.
        if reloaded.is_none() && left > 0.0 && left < 0.65 * total {
            let (status, answer) = daemon.reload(&text("moves_interval = \"1500ms\"")).await;
            assert_eq!((status, answer.contains("1 changed")), (200, true), "{answer}");
            reloaded = Some(seen.partitions(STARTED));
        }
    })
    .await;
    let end = end.await.unwrap();
    let table = table(&seen, end);

    let started = reloaded.expect(&table);
    assert_eq!(started.len(), 4);
    for one in &seen {
        for (labels, at) in one.partitions(STARTED) {
            assert_eq!(started.get(&labels), Some(&at), "a move began twice: {labels:?}\n{table}");
        }
    }
    // Bytes and records fall to 0 in every partition.
    for pair in seen.windows(2) {
        for name in [LEFT, "kafka_reassignment_partition_remaining_records", "kafka_reassignment_remaining_bytes"] {
            let before = pair[0].partitions(name);
            for (labels, now) in pair[1].partitions(name) {
                assert!(before.get(&labels).is_none_or(|before| now <= *before), "{name}{labels:?} grew\n{table}");
            }
        }
        let (before, now) = (counts(&pair[0].metrics), counts(&pair[1].metrics));
        assert!((0..3).all(|i| before[i] <= now[i]), "{before:?} {now:?}\n{table}");
    }
    let last = seen.iter().rev().find(|seen| seen.get(MOVING) > Some(0.0)).unwrap();
    assert!(seen[0].left() > 0.6 * total && last.left() < 0.15 * total, "{table}");
    for one in &seen {
        let records = one.partitions("kafka_reassignment_partition_remaining_records");
        for (labels, bytes) in one.partitions(LEFT) {
            // Each was asked at another moment, and a broker fetches a few megabytes at a time.
            let of_bytes = bytes / SIZE as f64;
            let near = records.get(&labels).is_some_and(|records| (records - of_bytes).abs() <= 0.2 * of_bytes + 100.0);
            assert!(near, "{labels:?}: {bytes} bytes, {records:?} records\n{table}");
        }
    }
    // From half-way on the end is known, as well as one can with a look every two seconds.
    let late = seen.iter().filter(|seen| (1.0..0.5 * total).contains(&seen.left())).collect::<Vec<_>>();
    for pair in late.windows(2).filter(|pair| pair[0].left() != pair[1].left()) {
        let truth = end.saturating_duration_since(pair[1].at).as_secs_f64();
        let eta = pair[1].get(ETA).expect(&table);
        assert!((eta - truth).abs() <= 0.25 * truth + 2.0, "{eta} instead of {truth}\n{table}");
    }
    assert!(late.len() > 20, "{table}");
    for one in &seen {
        assert_eq!(one.get("kafka_cluster_under_replicated_partitions"), Some(0.0), "{table}");
        let lacking = one.partitions("kafka_topic_partition_under_replicated_partition");
        assert!(lacking.len() >= 4 && lacking.values().all(|lacking| *lacking == 0.0), "{lacking:?}\n{table}");
    }
    let (report, at) = report.expect(&table).await.unwrap();
    let truth = end.saturating_duration_since(at).as_secs_f64();
    let eta = reported_eta(&report);
    // One look at bursts of a throttled replica tells little more than the order of magnitude.
    assert!((truth / 2.5 - 5.0..=truth * 2.5 + 5.0).contains(&eta), "{eta} instead of {truth}\n{report}");
    assert!(report.contains("[█") && report.contains("4 partitions being moved"), "{report}");
    assert_eq!(counts(&daemon.metrics().await), [4.0, 4.0, 0.0]);
    cluster.finish_moves(&moves, Duration::from_secs(60)).await.unwrap();

    // Back again, so slowly that it would last for minutes.
    let back = [0, 2].map(|partition| Move { topic: TOPIC, partition, replicas: &[1, 2] });
    cluster.reassign(&back, Some(1_000_000)).await.unwrap();
    let stalled = "kafka_reassignment_partition_stalled";
    let all = |m: &Metrics, value: f64| {
        let samples: Vec<_> = m.all(stalled, &[("broker", "2")]).map(|sample| sample.value).collect();
        samples.len() == 2 && samples.iter().all(|sample| *sample == value)
    };
    daemon.until("the way back", |m| (all(m, 0.0) && m.get(ETA, &[]).is_some()).then_some(())).await;
    cluster.freeze(2).unwrap();
    daemon.until("the stall", |m| all(m, 1.0).then_some(())).await;
    let metrics = daemon.metrics().await;
    for name in [ETA, "kafka_reassignment_partition_eta_seconds"] {
        assert_eq!(metrics.all(name, &[]).count(), 0, "{name} of what stands still");
    }
    cluster.thaw(2).unwrap();
    daemon.until("the end of the stall", |m| (all(m, 0.0) && m.get(ETA, &[]).is_some()).then_some(())).await;
    cluster.cancel_moves(&back).await.unwrap();
    daemon.until("the end of the moves", |m| (m.get(MOVING, &[]) == Some(0.0)).then_some(())).await;
    let metrics = daemon.metrics().await;
    assert_eq!(counts(&metrics), [6.0, 4.0, 2.0]);
    assert_eq!(metrics.all(LEFT, &[]).count() + metrics.all(stalled, &[]).count(), 0);
}
