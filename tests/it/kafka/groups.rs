//! Topics and groups that come, change and go; which of them are looked at; several clusters.

use std::io::Write as _;
use std::process::{Command, Stdio};

use lab::kafka::{Cluster, Protocol, Record};

use super::{LAG, QUICK, looked_again, now_ms, probe};
use crate::support::{Metrics, Midwatch, eventually};

/// How many series have a label of that value.
fn series_of(metrics: &Metrics, label: &str, value: &str) -> usize {
    metrics.0.iter().filter(|sample| sample.labels.get(label).is_some_and(|have| have == value)).count()
}

async fn wait_gone(daemon: &Midwatch, label: &str, value: &str) -> Metrics {
    let gone = |metrics: &Metrics| (series_of(metrics, label, value) == 0).then(|| metrics.clone());
    daemon.until(&format!("{value} to be gone"), gone).await
}

fn of_group<'l>(group: &'l str, topic: &'l str) -> [(&'l str, &'l str); 2] {
    [("consumergroup", group), ("topic", topic)]
}

async fn topic(cluster: &Cluster, name: &str, partitions: i32, records: i32) {
    cluster.create_topic(name, partitions, 1, &[]).await.unwrap();
    cluster.produce(name, (0..records).map(|index| Record::new(index % partitions))).await.unwrap();
}

/// No lag that cannot be, in a topic that has at most `most` records in a partition.
fn assert_no_phantom(metrics: &Metrics, topic: &str, most: f64) {
    for family in [LAG, "kafka_consumergroup_lost_records", "kafka_consumergroup_lag_sum"] {
        for sample in metrics.all(family, &[("topic", topic)]) {
            assert!((0.0..=most).contains(&sample.value), "{sample:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_groups_come_and_go() {
    let cluster = Cluster::start(1).await.unwrap();
    topic(&cluster, "again", 2, 200).await;
    topic(&cluster, "at-once", 1, 100).await;
    topic(&cluster, "grows", 2, 20).await;
    for (name, partition, offset) in [("again", 0, 40), ("again", 1, 100), ("at-once", 0, 60), ("grows", 0, 10)] {
        cluster.commit("readers", &[(name, partition, offset)]).await.unwrap();
    }
    cluster.commit("short-lived", &[("grows", 0, 1), ("grows", 1, 1)]).await.unwrap();
    let member = cluster.join("members", &["grows"], Protocol::Classic).unwrap();
    member.wait_consumed(20).await.unwrap();
    cluster.delete_records("at-once", 0, 50).await.unwrap();
    let daemon = Midwatch::start(&probe("shop", &cluster, QUICK)).await;
    let metrics = looked_again(&daemon, "shop").await;
    let lag = |metrics: &Metrics, topic| metrics.get("kafka_consumergroup_lag_sum", &of_group("readers", topic));
    assert_eq!((lag(&metrics, "again"), lag(&metrics, "at-once")), (Some(60.0), Some(40.0)));
    let uncommitted = |metrics: &Metrics, group: &str, topic: &str| {
        metrics.get("kafka_consumergroup_partitions_uncommitted", &of_group(group, topic))
    };
    assert_eq!(uncommitted(&metrics, "readers", "grows"), Some(1.0));
    assert_eq!(uncommitted(&metrics, "short-lived", "grows"), Some(0.0));

    // Deleted and made anew between two looks. Kafka deletes the commits in it on the way.
    cluster.delete_topic("at-once").await.unwrap();
    topic(&cluster, "at-once", 1, 7).await;
    let of = [("topic", "at-once"), ("partition", "0")];
    daemon
        .until("the new topic", |metrics| {
            assert_no_phantom(metrics, "at-once", 100.0);
            let start = metrics.get("kafka_topic_partition_oldest_offset", &of);
            let is_new = metrics.get("kafka_topic_partition_current_offset", &of) == Some(7.0);
            is_new.then(|| assert_no_phantom(metrics, "at-once", 7.0));
            (is_new && start == Some(0.0)).then_some(())
        })
        .await;
    for _ in 0..2 {
        assert_no_phantom(&looked_again(&daemon, "shop").await, "at-once", 7.0);
    }
    cluster.commit("readers", &[("at-once", 0, 3)]).await.unwrap();
    let metrics = looked_again(&daemon, "shop").await;
    assert_eq!(lag(&metrics, "at-once"), Some(4.0));
    let of = [("consumergroup", "readers"), ("topic", "at-once"), ("partition", "0")];
    assert_eq!(metrics.get("kafka_consumergroup_lost_records", &of), None);

    // Deleted, and made anew when nothing is shown of it any more.
    cluster.delete_topic("again").await.unwrap();
    let metrics = wait_gone(&daemon, "topic", "again").await;
    assert_eq!(lag(&metrics, "at-once"), Some(4.0), "the others stay");
    cluster.create_topic("again", 3, 1, &[]).await.unwrap();
    cluster.produce("again", (0..6).map(|index| Record::new(index % 2))).await.unwrap();
    let metrics = looked_again(&daemon, "shop").await;
    assert_no_phantom(&metrics, "again", 3.0);
    assert_eq!(metrics.get("kafka_topic_partitions", &[("topic", "again")]), Some(3.0));
    let grown = |metrics: &Metrics, topic| {
        let of = [("topic", topic), ("direction", "increase")];
        metrics.get("kafka_topic_partition_count_changes_total", &of)
    };
    assert_eq!(grown(&metrics, "again"), Some(0.0), "another topic, which has not changed");

    // Partitions are added.
    assert_eq!(grown(&metrics, "grows"), Some(0.0));
    let before = now_ms();
    cluster.add_partitions("grows", 5).await.unwrap();
    let metrics = daemon
        .until("the new partitions", |metrics| {
            (metrics.get("kafka_topic_partitions", &[("topic", "grows")]) == Some(5.0)).then(|| metrics.clone())
        })
        .await;
    assert_eq!(grown(&metrics, "grows"), Some(1.0));
    let changed = metrics.get("kafka_topic_partitions_last_change_timestamp_seconds", &[("topic", "grows")]);
    #[allow(clippy::cast_precision_loss, reason = "a time in ms has fewer than 53 bits")]
    let range = before as f64 / 1000.0..=now_ms() as f64 / 1000.0;
    assert!(range.contains(&changed.unwrap()), "{changed:?}");
    let metrics = looked_again(&daemon, "shop").await;
    assert_eq!(uncommitted(&metrics, "short-lived", "grows"), Some(3.0));
    assert_eq!(uncommitted(&metrics, "readers", "grows"), Some(4.0));
    assert_eq!(lag(&metrics, "grows"), Some(0.0), "what was never read is no lag");
    cluster.commit("short-lived", &[("grows", 2, 0), ("grows", 3, 0), ("grows", 4, 0)]).await.unwrap();
    for partition in 2..5 {
        // Its producer has yet to hear of them.
        eventually("a record", async || cluster.produce("grows", [Record::new(partition)]).await.ok()).await;
    }
    daemon
        .until("the new partitions to be committed in and owned", |metrics| {
            let unassigned = metrics.get("kafka_consumergroup_partitions_unassigned", &of_group("members", "grows"));
            let clear = uncommitted(metrics, "short-lived", "grows") == Some(0.0)
                && uncommitted(metrics, "members", "grows") == Some(0.0);
            (clear && unassigned == Some(0.0)).then_some(())
        })
        .await;

    // Groups are deleted.
    cluster.delete_group("short-lived").await.unwrap();
    let metrics = wait_gone(&daemon, "consumergroup", "short-lived").await;
    assert!(series_of(&metrics, "consumergroup", "readers") > 0 && series_of(&metrics, "topic", "grows") > 0);
    drop(member);
    daemon
        .until("the member to be gone", |metrics| {
            (metrics.get("kafka_consumergroup_members", &[("consumergroup", "members")]) == Some(0.0)).then_some(())
        })
        .await;
    cluster.delete_group("members").await.unwrap();
    cluster.delete_topic("grows").await.unwrap();
    wait_gone(&daemon, "consumergroup", "members").await;
    wait_gone(&daemon, "topic", "grows").await;
}

/// kafka_exporter's families, and the labels of each.
const KAFKA_EXPORTER: [(&str, &[&str]); 16] = [
    ("kafka_brokers", &[]),
    ("kafka_broker_info", &["id", "address"]),
    ("kafka_topic_partitions", &["topic"]),
    ("kafka_topic_partition_current_offset", &["topic", "partition"]),
    ("kafka_topic_partition_oldest_offset", &["topic", "partition"]),
    ("kafka_topic_partition_leader", &["topic", "partition"]),
    ("kafka_topic_partition_replicas", &["topic", "partition"]),
    ("kafka_topic_partition_in_sync_replica", &["topic", "partition"]),
    ("kafka_topic_partition_leader_is_preferred", &["topic", "partition"]),
    ("kafka_topic_partition_under_replicated_partition", &["topic", "partition"]),
    ("kafka_consumergroup_current_offset", &["consumergroup", "topic", "partition"]),
    ("kafka_consumergroup_lag", &["consumergroup", "topic", "partition"]),
    ("kafka_consumergroup_current_offset_sum", &["consumergroup", "topic"]),
    ("kafka_consumergroup_lag_sum", &["consumergroup", "topic"]),
    ("kafka_consumergroup_members", &["consumergroup"]),
    // As often used with them.
    ("kafka_consumergroup_lag_seconds", &["consumergroup", "topic", "partition"]),
];

/// What promtool says against an exposition.
fn promtool(exposition: &str) -> Vec<String> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is missing; run: make setup");
    child.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    said.lines().map(str::to_owned).collect()
}

/// How many requests of a kind a probe has sent.
fn requests(metrics: &Metrics, probe: &str, api: &str) -> f64 {
    let of = [("probe", probe), ("api", api)];
    metrics.all("kafka_collector_requests_total", &of).map(|sample| sample.value).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_keep_to_their_filters_and_apart() {
    let (cluster, other) = tokio::join!(Cluster::start(1), Cluster::start(1));
    let (cluster, other) = (cluster.unwrap(), other.unwrap());
    for (name, partitions) in [("orders", 3), ("orders-2", 1), ("secret-orders", 1)] {
        topic(&cluster, name, partitions, 10 * partitions).await;
        for group in ["billing", "secret", "secret-2"] {
            cluster.commit(group, &[(name, 0, 4)]).await.unwrap();
        }
    }
    topic(&other, "orders", 1, 100).await;
    other.commit("billing", &[("orders", 0, 1)]).await.unwrap();

    let filtered = "topics = { allow = [\"orders\", \"secret-.*\"] }\ngroups = { deny = [\"secret\"] }";
    let nothing = "topics = { deny = [\".*\"] }\ngroups = { allow = [\"none\"] }";
    let text = [
        probe("open", &cluster, QUICK),
        probe("filtered", &cluster, &format!("{QUICK}{filtered}")),
        probe("nothing", &cluster, &format!("{QUICK}{nothing}")),
        probe("other", &other, QUICK),
    ]
    .concat();
    let daemon = Midwatch::start(&text).await;
    for name in ["filtered", "other", "open"] {
        looked_again(&daemon, name).await;
    }
    let metrics = looked_again(&daemon, "nothing").await;

    // One has no series of the other's.
    let lag = |probe, group, topic| {
        let of = [("probe", probe), ("consumergroup", group), ("topic", topic)];
        metrics.get("kafka_consumergroup_lag_sum", &of)
    };
    assert_eq!((lag("open", "billing", "orders"), lag("other", "billing", "orders")), (Some(6.0), Some(99.0)));
    let of = |probe| [("probe", probe), ("topic", "orders")];
    let partitions = |probe| metrics.get("kafka_topic_partitions", &of(probe));
    assert_eq!((partitions("open"), partitions("other")), (Some(3.0), Some(1.0)));
    assert_eq!(lag("other", "billing", "orders-2"), None);

    // Patterns are for whole names.
    let names = |probe: &str, label: &str| {
        let all = metrics.0.iter().filter(|sample| sample.labels.get("probe").is_some_and(|of| of == probe));
        let mut names: Vec<_> = all.filter_map(|sample| sample.labels.get(label).cloned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    assert_eq!(names("open", "topic"), ["__consumer_offsets", "orders", "orders-2", "secret-orders"]);
    assert_eq!(names("open", "consumergroup"), ["billing", "secret", "secret-2"]);
    assert_eq!(names("filtered", "topic"), ["orders", "secret-orders"]);
    assert_eq!(names("filtered", "consumergroup"), ["billing", "secret-2"]);
    assert!(names("nothing", "topic").is_empty() && names("nothing", "consumergroup").is_empty());

    // What is denied is not asked for.
    for api in ["OffsetFetch", "ListOffsets", "DescribeGroups"] {
        assert!(requests(&metrics, "open", api) > 0.0, "{api}: {:?}", names("open", "api"));
        assert_eq!(requests(&metrics, "nothing", api), 0.0, "{api}");
    }
    for api in ["Metadata", "ListGroups"] {
        assert!(requests(&metrics, "nothing", api) > 0.0, "{api}");
    }

    assert_names_of_kafka_exporter(&metrics);
    let (_, text) = daemon.request("GET", "/metrics").await.unwrap();
    let mut complaints = promtool(&text);
    complaints.sort_unstable();
    let suffix = "non-histogram and non-summary metrics should not have \"_sum\" suffix";
    let sums = ["current_offset", "lag"].map(|what| format!("kafka_consumergroup_{what}_sum {suffix}"));
    assert_eq!(complaints, sums);
}

/// Dashboards and alerts that were written for it find what they ask for.
fn assert_names_of_kafka_exporter(metrics: &Metrics) {
    for (family, labels) in KAFKA_EXPORTER {
        let samples: Vec<_> = metrics.all(family, &[("probe", "open")]).collect();
        assert!(!samples.is_empty(), "{family}");
        for sample in samples {
            assert!(labels.iter().all(|label| sample.labels.contains_key(*label)), "{sample:?}");
            let own = sample.labels.len() - labels.len();
            assert!(own == 2 && sample.labels["type"] == "kafka", "only the identity is added: {sample:?}");
        }
    }
}
