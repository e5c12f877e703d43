//! Brokers that die, freeze and come back, and a reader that scrapes all the while.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::kafka::{Cluster, Record};
use tokio::task::JoinHandle;

use super::{LAG, QUICK, now_ms, probe, round_began};
use crate::daemon::promtool;
use crate::support::{Metrics, Midwatch, request};

const NAME: &str = "faulty";
/// Rounds that are long enough for one broker to use up its time, and short enough to wait for several of them.
const RHYTHM: &str = "interval = \"4s\"\ntimeout = \"3900ms\"\nrequest_timeout = \"2s\"\ncluster_interval = \"4s\"\n\
                      storage_interval = \"4s\"\nlisteners_interval = \"4s\"\n";
const GROUPS: usize = 8;
/// Replicated, and on one broker per partition: the sum of the lags of a group there.
const ORDERS: (&str, f64) = ("orders", 24.0);
const LONELY: (&str, f64) = ("lonely", 12.0);
/// One partition on each broker, for what changes.
const PULSE: &str = "pulse";

const LAG_SUM: &str = "kafka_consumergroup_lag_sum";
const END: &str = "kafka_topic_partition_current_offset";
const UP: &str = "kafka_collector_broker_up";
const PARTIAL: &str = "kafka_collector_partial";
const ROUND: &str = "kafka_collector_last_success_timestamp_seconds";

/// What promtool has against metrics, but for the two names that are kafka_exporter's.
fn faults_of(text: &str) -> String {
    let said = promtool(text);
    let known = |line: &&str| {
        ["kafka_consumergroup_lag_sum ", "kafka_consumergroup_current_offset_sum "]
            .iter()
            .any(|name| line.contains(name))
    };
    said.lines().filter(|line| !known(line)).collect()
}

/// Scrapes all the time.
struct Reader {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Vec<Metrics>>,
}

impl Reader {
    fn start(daemon: &Midwatch) -> Self {
        let (is_over, address) = (Arc::new(AtomicBool::new(false)), daemon.address.clone());
        let flag = Arc::clone(&is_over);
        let task = tokio::spawn(async move {
            let mut all = Vec::new();
            while !flag.load(Ordering::Relaxed) {
                let (status, text) = request(&address, "GET", "/metrics").await.expect("an answer to a scrape");
                assert_eq!(status, 200);
                let metrics = Metrics::parse(&text);
                let mut seen = HashSet::new();
                for sample in &metrics.0 {
                    let labels = sample.labels.iter().collect::<Vec<_>>();
                    assert!(seen.insert((sample.name.as_str(), labels)), "twice: {sample:?}");
                }
                if all.len() % 20 == 0 {
                    assert_eq!(faults_of(&text), "");
                }
                all.push(metrics);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            all
        });
        Self { is_over, task }
    }

    async fn stop(self) -> Vec<Metrics> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Whether every group has this sum in the topic; `None` is that it is withheld.
fn all_sums(metrics: &Metrics, (topic, sum): (&str, f64), is_there: bool) -> bool {
    let sums: Vec<_> = metrics.all(LAG_SUM, &[("topic", topic)]).map(|sample| sample.value).collect();
    assert!(sums.iter().all(|told| *told == sum), "a sum of a part: {sums:?}");
    sums.len() == if is_there { GROUPS } else { 0 }
}

fn round(metrics: &Metrics) -> Option<f64> {
    metrics.get(ROUND, &[("source", "offsets")])
}

fn up(metrics: &Metrics) -> Vec<Option<f64>> {
    ["1", "2", "3"].iter().map(|broker| metrics.get(UP, &[("broker", broker)])).collect()
}

fn end_of(metrics: &Metrics, partition: i32) -> Option<f64> {
    metrics.get(END, &[("topic", PULSE), ("partition", &partition.to_string())])
}

/// A record more in the partitions of these brokers, and the metrics that show it.
async fn pulse(cluster: &Cluster, daemon: &Midwatch, brokers: &[i32]) -> Metrics {
    cluster.produce(PULSE, brokers.iter().map(|broker| Record::new(broker - 1))).await.unwrap();
    let mut ends = Vec::new();
    for broker in brokers {
        ends.push((broker - 1, cluster.watermarks(PULSE, broker - 1).await.unwrap().1 as f64));
    }
    let fresh = |m: &Metrics| ends.iter().all(|(partition, end)| end_of(m, *partition) == Some(*end));
    daemon.until("fresh offsets", |m| fresh(m).then(|| m.clone())).await
}

/// What has to be seen when `broker` does not answer. The others' partitions and groups are as before.
async fn assert_it_is_missed(cluster: &Cluster, daemon: &Midwatch, broker: i32) {
    let others: Vec<_> = (1..=3).filter(|other| *other != broker).collect();
    let told = |m: &Metrics| (1..=3).all(|id| up(m)[id as usize - 1] == Some(f64::from(u8::from(id != broker))));
    let partial = |m: &Metrics, source: &str| m.get(PARTIAL, &[("source", source)]) == Some(1.0);
    let waiting = daemon.until("the loss of a broker to show", |m| {
        (told(m) && partial(m, "offsets") && all_sums(m, LONELY, false)).then_some(())
    });
    waiting.await;
    // Others lead what can be led, and coordinate all groups: their sums are back, those of what is lost are not.
    let waiting = daemon.until("the others to take over", |m| {
        let coordinators = m.all("kafka_consumergroup_info", &[]).map(|sample| sample.labels["coordinator"].clone());
        let moved = coordinators.collect::<Vec<_>>();
        let is_moved = moved.len() == GROUPS && !moved.contains(&broker.to_string());
        (is_moved && all_sums(m, ORDERS, true) && all_sums(m, LONELY, false)).then(|| m.clone())
    });
    let metrics = waiting.await;
    assert_eq!(metrics.get("kafka_cluster_offline_partitions", &[]), Some(2.0));
    // Fresh where somebody answers, and for a while kept where nobody does.
    pulse(cluster, daemon, &others).await;
    let gone = |m: &Metrics| {
        end_of(m, broker - 1).is_none()
            && m.all("kafka_consumergroup_lag", &[("topic", "lonely"), ("partition", &(broker - 1).to_string())])
                .count()
                == 0
    };
    let is_seen = |m: &Metrics| gone(m) && told(m) && partial(m, "offsets");
    let metrics = daemon.until("values of the broker to go", |m| is_seen(m).then(|| m.clone())).await;
    assert!(others.iter().all(|other| end_of(&metrics, other - 1).is_some()), "{}", daemon.log());
}

/// The broker is back, and its partitions answer: two rounds that begin then are enough.
async fn assert_it_is_back(cluster: &Cluster, daemon: &Midwatch, broker: i32) {
    cluster.watermarks("lonely", broker - 1).await.unwrap();
    let since = now_ms() as f64 / 1000.0;
    let mut rounds = BTreeSet::new();
    let waiting = daemon.until("the broker's return to show", |m| {
        let (began, ended) = (round_began(m, NAME, "offsets")?, round(m)?);
        if began > since {
            rounds.insert(ended.to_bits());
        }
        let is_whole = all_sums(m, LONELY, true) && all_sums(m, ORDERS, true) && up(m) == [Some(1.0); 3];
        is_whole.then_some(())
    });
    waiting.await;
    assert!(rounds.len() <= 2, "{} rounds\n{}", rounds.len(), daemon.log());
    pulse(cluster, daemon, &[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_or_freezes_costs_the_others_nothing() {
    let cluster = Cluster::start(3).await.unwrap();
    cluster.create_topic(ORDERS.0, 6, 3, &[]).await.unwrap();
    for topic in [LONELY.0, PULSE] {
        cluster.create_topic_at(topic, &[&[1], &[2], &[3]], &[]).await.unwrap();
    }
    for (topic, partitions) in [(ORDERS.0, 6), (LONELY.0, 3)] {
        cluster.produce(topic, (0..partitions * 5).map(|i| Record::new(i % partitions))).await.unwrap();
    }
    let commits =
        (0..6).map(|partition| (ORDERS.0, partition, 1)).chain((0..3).map(|partition| (LONELY.0, partition, 1)));
    let commits: Vec<_> = commits.collect();
    for group in 0..GROUPS {
        cluster.commit(&format!("group-{group}"), &commits).await.unwrap();
    }
    let daemon = Midwatch::start(&probe(NAME, &cluster, RHYTHM)).await;
    let is_whole = |m: &Metrics| all_sums(m, ORDERS, true) && all_sums(m, LONELY, true) && up(m) == [Some(1.0); 3];
    daemon.until("all to be well", |m| is_whole(m).then_some(())).await;
    pulse(&cluster, &daemon, &[1, 2, 3]).await;
    let reader = Reader::start(&daemon);

    cluster.kill(2);
    assert_it_is_missed(&cluster, &daemon, 2).await;
    cluster.restart(2).await.unwrap();
    assert_it_is_back(&cluster, &daemon, 2).await;
    let killed = reader.stop().await;

    let reader = Reader::start(&daemon);
    cluster.wait_settled().await.unwrap();
    cluster.freeze(3).unwrap();
    assert_it_is_missed(&cluster, &daemon, 3).await;
    cluster.thaw(3).unwrap();
    cluster.wait_up().await.unwrap();
    assert_it_is_back(&cluster, &daemon, 3).await;
    let frozen = reader.stop().await;

    for (all, partition) in [(&killed, 1), (&frozen, 2)] {
        // Three rounds without an answer show what the broker said before.
        let of_round = |metrics: &&Metrics| metrics.get(PARTIAL, &[("source", "offsets")]) == Some(1.0);
        let kept = all.iter().filter(of_round).filter(|m| end_of(m, partition).is_some());
        let kept: BTreeSet<_> = kept.filter_map(round).map(f64::to_bits).collect();
        // The reader may miss one of them on a busy machine.
        assert!((2..=4).contains(&kept.len()), "{} rounds", kept.len());
        for metrics in all {
            // Sums are whole or not there, which `all_sums` asserts, and no group comes and goes with its coordinator.
            all_sums(metrics, ORDERS, true);
            all_sums(metrics, LONELY, true);
            assert_eq!(metrics.all("kafka_consumergroup_info", &[]).count(), GROUPS);
            assert!(metrics.all("kafka_consumergroup_lag", &[]).all(|sample| sample.value == 4.0));
        }
    }
    // No run was cut off; what hung was one broker's new connection, in the phase in which its process has to answer.
    let metrics = daemon.metrics().await;
    // A busy machine may keep every broker from answering for a moment: such a run fails, but it ends by itself.
    assert!(!daemon.log().contains("not finished within"), "{}", daemon.log());
    let failed = |broker: &str, phase: &str, reason: &str| {
        let labels = [("broker", broker), ("phase", phase), ("reason", reason)];
        metrics.get("kafka_broker_connect_failures_total", &labels).unwrap()
    };
    assert!(failed("3", "api_versions", "timeout") >= 1.0, "{}", daemon.log());
    assert_eq!(failed("1", "api_versions", "timeout"), 0.0);
    for broker in ["1", "2", "3"] {
        assert_eq!(metrics.get("kafka_broker_addresses", &[("broker", broker)]), Some(1.0));
        for phase in ["resolve", "tcp", "api_versions", "total"] {
            let labels = [("broker", broker), ("phase", phase)];
            assert!(
                metrics.get("kafka_broker_connect_duration_seconds_count", &labels) >= Some(2.0),
                "{broker} {phase}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_broker_is_left_nothing_false_stays() {
    let cluster = Cluster::start(1).await.unwrap();
    cluster.create_topic(ORDERS.0, 2, 1, &[]).await.unwrap();
    cluster.produce(ORDERS.0, (0..10).map(|i| Record::new(i % 2))).await.unwrap();
    cluster.commit("group", &[(ORDERS.0, 0, 1), (ORDERS.0, 1, 1)]).await.unwrap();
    let daemon = Midwatch::start(&probe(NAME, &cluster, QUICK)).await;
    // What each cycle shows of the brokers' answers.
    let told = [
        LAG,
        LAG_SUM,
        END,
        "kafka_consumergroup_info",
        "kafka_topic_partition_leader",
        "kafka_brokers",
        "kafka_broker_log_dir_size_bytes",
        "kafka_topic_size_bytes",
    ];
    let has = |m: &Metrics, name: &str| m.all(name, &[]).count() > 0;
    let is_whole = |m: &Metrics| told.iter().all(|name| has(m, name)) && m.get(UP, &[("broker", "1")]) == Some(1.0);
    daemon.until("all to be well", |m| is_whole(m).then_some(())).await;
    let reader = Reader::start(&daemon);
    cluster.kill(1);
    let gone = |m: &Metrics| !told.iter().any(|name| has(m, name));
    let metrics = daemon.until("all values to go", |m| gone(m).then(|| m.clone())).await;
    assert_eq!(metrics.get(UP, &[("broker", "1")]), Some(0.0));
    for source in ["offsets", "commits", "metadata", "log_dirs"] {
        let of = [("source", source)];
        assert_eq!(metrics.get("kafka_collector_success", &of), Some(0.0), "{source}");
        assert_eq!(metrics.get(PARTIAL, &of), Some(1.0), "{source}");
    }
    let all = reader.stop().await;
    let down = |m: &&Metrics| m.get(UP, &[("broker", "1")]) == Some(0.0);
    assert!(all.iter().filter(down).any(|m| has(m, LAG)), "what was told before stays for a while");
    for metrics in &all {
        // A group without news seems to have caught up, or to stand still: sums go at once, and no lag becomes another.
        assert!(!down(&metrics) || !has(metrics, LAG_SUM), "a sum of an outage");
        assert!(metrics.all(LAG, &[]).all(|sample| sample.value == 4.0));
    }
    cluster.restart(1).await.unwrap();
    daemon.until("all to be back", |m| is_whole(m).then_some(())).await;
}
