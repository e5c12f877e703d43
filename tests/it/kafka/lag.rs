//! Lag against what Kafka's own tool says.

use std::collections::BTreeMap;

use lab::kafka::{Cluster, GroupOffset, Member, Options, Protocol, Record, Version};

use super::{LAG, QUICK, looked_again, probe};
use crate::support::{Metrics, Midwatch, Sample, eventually};

type Rows = BTreeMap<(String, String, i32), GroupOffset>;

/// The values of a family, by group, topic and partition.
fn by_partition(metrics: &Metrics, family: &str) -> BTreeMap<(String, String, i32), f64> {
    let key = |sample: &Sample| {
        let label = |name: &str| sample.labels[name].clone();
        (label("consumergroup"), label("topic"), label("partition").parse().unwrap())
    };
    metrics.all(family, &[]).map(|sample| (key(sample), sample.value)).collect()
}

#[allow(clippy::cast_precision_loss, reason = "offsets of tests are small")]
fn value(offset: i64) -> f64 {
    offset as f64
}

/// Waits until Kafka's tool says so of all groups.
async fn tool_says(what: &str, cluster: &Cluster, check: impl Fn(&Rows) -> bool) -> Rows {
    eventually(what, async || cluster.describe_groups().await.ok().filter(|rows| check(rows))).await
}

/// The same of what the tool says twice.
async fn at_rest(cluster: &Cluster, check: impl Fn(&Rows) -> bool) -> Rows {
    let mut before = Rows::new();
    eventually("all groups to be at rest", async || {
        let rows = cluster.describe_groups().await.ok().filter(|rows| check(rows))?;
        let is_same = rows == before;
        before.clone_from(&rows);
        is_same.then_some(rows)
    })
    .await
}

/// What the tool says of every partition of every group is what the metrics say, and nothing else is in them.
fn assert_same(metrics: &Metrics, rows: &Rows) {
    let (lags, offsets) = (by_partition(metrics, LAG), by_partition(metrics, "kafka_consumergroup_current_offset"));
    let lost = by_partition(metrics, "kafka_consumergroup_lost_records");
    // The tool counts records that nobody can read any more.
    let whole: BTreeMap<_, _> =
        lags.iter().map(|(key, lag)| (key.clone(), lag + lost.get(key).unwrap_or(&0.0))).collect();
    let of_tool = |field: fn(&GroupOffset) -> Option<i64>| -> BTreeMap<_, _> {
        rows.iter().filter_map(|(key, row)| Some((key.clone(), value(field(row)?)))).collect()
    };
    assert_eq!(whole, of_tool(|row| row.lag));
    assert_eq!(offsets, of_tool(|row| row.committed));

    let mut sums: BTreeMap<(String, String), f64> = BTreeMap::new();
    for ((group, topic, _), lag) in lags {
        *sums.entry((group, topic)).or_default() += lag;
    }
    for ((group, topic), sum) in sums {
        let of = [("consumergroup", group.as_str()), ("topic", topic.as_str())];
        assert_eq!(metrics.get("kafka_consumergroup_lag_sum", &of), Some(sum), "{group} {topic}");
    }
}

/// The state of which the gauge is 1; all others are 0.
fn state(metrics: &Metrics, group: &str) -> String {
    let of = [("consumergroup", group)];
    let all: Vec<_> = metrics.all("kafka_consumergroup_state", &of).collect();
    let on: Vec<_> = all.iter().filter(|sample| sample.value == 1.0).collect();
    assert!(on.len() == 1 && all.iter().map(|sample| sample.value).sum::<f64>() == 1.0, "not one-hot: {all:?}");
    on[0].labels["state"].clone()
}

fn assert_group(metrics: &Metrics, group: &str, kind: &str, members: f64, state_is: &str) {
    let of = [("consumergroup", group), ("group_type", kind)];
    assert_eq!(metrics.get("kafka_consumergroup_info", &of), Some(1.0), "{group}");
    assert_eq!(metrics.get("kafka_consumergroup_members", &of[..1]), Some(members), "{group}");
    assert_eq!(state(metrics, group), state_is, "{group}");
}

/// Records in every partition, more in those with a higher number.
async fn fill(cluster: &Cluster, topic: &str, partitions: i32, share: i32) {
    let records =
        (0..partitions).flat_map(|partition| (0..share * (partition + 1)).map(move |_| Record::new(partition)));
    cluster.produce(topic, records).await.unwrap();
}

/// A member of each protocol that has read all there is and stops there.
async fn join(cluster: &Cluster, group: &str, protocol: Protocol, records: u64) -> Member {
    let member = cluster.join(group, &["orders"], protocol).unwrap();
    member.wait_assigned(6).await.unwrap();
    member.wait_consumed(records).await.unwrap();
    member.pause().await.unwrap();
    member
}

/// Groups without members, with members of both protocols, and those whose records were deleted.
async fn lag_is_what_the_tool_says(options: Options) {
    let cluster = Cluster::with(options).await.unwrap();
    let replicas = i32::try_from(cluster.ids().len()).unwrap();
    cluster.create_topic("orders", 6, replicas, &[]).await.unwrap();
    cluster.create_topic("audit", 3, replicas, &[]).await.unwrap();
    fill(&cluster, "orders", 6, 10).await;
    fill(&cluster, "audit", 3, 20).await;
    let orders: Vec<_> = (0..6).map(|partition| ("orders", partition, i64::from(partition) * 7)).collect();
    cluster.commit("billing", &[orders.as_slice(), &[("audit", 1, 40)]].concat()).await.unwrap();
    cluster.commit("deleted", &[("audit", 0, 2), ("audit", 2, 10)]).await.unwrap();
    cluster.delete_records("audit", 0, 5).await.unwrap();

    let daemon = Midwatch::start(&probe("shop", &cluster, QUICK)).await;
    let classic = join(&cluster, "classic", Protocol::Classic, 210).await;
    // It has nothing to read, and so nothing to commit.
    cluster.create_topic("empty", 2, replicas, &[]).await.unwrap();
    let waiting = cluster.join("waiting", &["empty"], Protocol::Classic).unwrap();
    waiting.wait_assigned(2).await.unwrap();
    let caught_up = |group: &'static str| {
        move |rows: &Rows| {
            let own = || rows.iter().filter(|(key, _)| key.0 == group).map(|(_, row)| row);
            own().count() == 6 && own().all(|row| row.lag == Some(0) && row.member.is_some())
        }
    };
    if cluster.version() == Version::Current {
        let consumer = join(&cluster, "consumer", Protocol::Consumer, 210).await;
        fill(&cluster, "orders", 6, 3).await;
        let behind = |rows: &Rows| {
            ["classic", "consumer"].iter().all(|group| {
                // A member that was shut out for a moment has read some of them before it was paused again.
                rows.iter().filter(|(key, _)| key.0 == *group).map(|(_, row)| row.lag.unwrap_or(0)).sum::<i64>() >= 30
            })
        };
        let rows = at_rest(&cluster, behind).await;
        let metrics = looked_again(&daemon, "shop").await;
        assert_same(&metrics, &rows);
        assert_group(&metrics, "consumer", "consumer", 1.0, "Stable");
        drop(consumer);
    } else {
        // A preview there, which Kafka's own consumer speaks. It cannot be told to stop.
        let consumer = cluster.join_java("consumer", "orders", Protocol::Consumer).unwrap();
        let rows = tool_says("the group to catch up", &cluster, caught_up("consumer")).await;
        let metrics = looked_again(&daemon, "shop").await;
        assert_same(&metrics, &rows);
        assert_group(&metrics, "consumer", "consumer", 1.0, "Stable");
        drop(consumer);
        fill(&cluster, "orders", 6, 3).await;
    }
    let metrics = looked_again(&daemon, "shop").await;
    assert_group(&metrics, "classic", "classic", 1.0, "Stable");
    for group in ["classic", "consumer"] {
        let of = [("consumergroup", group), ("topic", "orders")];
        assert_eq!(metrics.get("kafka_consumergroup_partitions_uncommitted", &of), Some(0.0), "{group}");
    }
    let of = [("consumergroup", "waiting"), ("topic", "empty")];
    let waits =
        ["uncommitted", "unassigned"].map(|what| metrics.get(&format!("kafka_consumergroup_partitions_{what}"), &of));
    assert_eq!((waits, metrics.get("kafka_consumergroup_lag_sum", &of)), ([Some(2.0), Some(0.0)], None));
    let of = |topic| [("consumergroup", "billing"), ("topic", topic)];
    assert_group(&metrics, "billing", "classic", 0.0, "Empty");
    assert_eq!(metrics.get("kafka_consumergroup_partitions_uncommitted", &of("orders")), Some(0.0));
    assert_eq!(metrics.get("kafka_consumergroup_partitions_uncommitted", &of("audit")), Some(2.0));
    let of = [("consumergroup", "deleted"), ("topic", "audit"), ("partition", "0")];
    assert_eq!((metrics.get(LAG, &of), metrics.get("kafka_consumergroup_lost_records", &of)), (Some(15.0), Some(3.0)));

    drop((classic, waiting));
    daemon
        .until("the members to be gone", |metrics| {
            let left = |group| metrics.get("kafka_consumergroup_members", &[("consumergroup", group)]) == Some(0.0);
            (left("classic") && left("consumer")).then_some(())
        })
        .await;
    let rows =
        tool_says("groups without members", &cluster, |rows| rows.values().all(|row| row.member.is_none())).await;
    let metrics = looked_again(&daemon, "shop").await;
    assert_same(&metrics, &rows);
    assert_group(&metrics, "classic", "classic", 0.0, "Empty");
    assert_group(&metrics, "consumer", "consumer", 0.0, "Empty");
    assert!(by_partition(&metrics, LAG).iter().any(|((group, ..), lag)| group == "consumer" && *lag > 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_what_kafka_s_own_tool_says() {
    lag_is_what_the_tool_says(Options::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_what_the_tool_of_kafka_3_9_says() {
    lag_is_what_the_tool_says(Options::default().brokers(1).version(Version::V3_9)).await;
}
