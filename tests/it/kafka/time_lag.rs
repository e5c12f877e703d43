//! Lag in seconds against the timestamps that were produced.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use lab::kafka::driver::consumer::{BaseConsumer, Consumer as _};
use lab::kafka::driver::{Message as _, Offset, TopicPartitionList};
use lab::kafka::{Cluster, Options, Record};
use tokio::time::sleep;

use super::{LAG, LAG_SECONDS, QUICK, looked_again, now_ms, probe};
use crate::support::{Metrics, Midwatch, eventually};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// The timestamps of a topic's records, by offset.
type Times = BTreeMap<i64, i64>;

/// Topics of one partition, and the timestamps of their records.
struct Truth {
    cluster: Cluster,
    times: Mutex<BTreeMap<String, Times>>,
}

impl Truth {
    async fn create(&self, topic: &str, settings: &[(&str, &str)]) {
        let retained = [settings, &[("retention.ms", "-1")]].concat();
        self.cluster.create_topic(topic, 1, 1, &retained).await.unwrap();
    }

    fn note(&self, topic: &str, places: &[(i32, i64)], times: &[i64]) {
        let mut all = self.times.lock().unwrap();
        all.entry(topic.to_owned())
            .or_default()
            .extend(places.iter().map(|(_, offset)| *offset).zip(times.iter().copied()));
    }

    /// Produces records with these timestamps, and says where they are.
    async fn produce(&self, topic: &str, times: &[i64]) -> Vec<i64> {
        let records: Vec<_> = times.iter().map(|at| Record::new(0).timestamp(*at)).collect();
        let places = self.cluster.produce(topic, records).await.unwrap();
        self.note(topic, &places, times);
        places.into_iter().map(|(_, offset)| offset).collect()
    }

    /// A topic with these records and groups that committed these offsets: they are called by topic and offset.
    async fn topic(&self, topic: &str, times: &[i64], commits: &[i64]) {
        self.create(topic, &[]).await;
        self.produce(topic, times).await;
        for offset in commits {
            self.cluster.commit(&format!("{topic}-{offset}"), &[(topic, 0, *offset)]).await.unwrap();
        }
    }

    /// The timestamp of the first record at or after an offset.
    fn at(&self, topic: &str, offset: i64) -> Option<i64> {
        self.times.lock().unwrap()[topic].range(offset..).next().map(|(_, at)| *at)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a time in ms has fewer than 53 bits")]
fn seconds_between(earlier: i64, later: i64) -> f64 {
    (later - earlier) as f64 / 1000.0
}

/// What is shown of a group.
#[derive(Debug)]
#[allow(dead_code, reason = "what else there is to know of it when a test fails")]
struct Shown {
    committed: i64,
    records: f64,
    seconds: Option<f64>,
    /// What the seconds should be, at the moment that they were worked out.
    truth: f64,
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a time in ms has fewer than 53 bits")]
fn shown(truth: &Truth, metrics: &Metrics, topic: &str, group: &str) -> Shown {
    let worked_out = metrics.get("kafka_collector_last_success_timestamp_seconds", &[("source", "time_lag")]).unwrap();
    let of = [("consumergroup", group), ("topic", topic), ("partition", "0")];
    let get = |family| metrics.get(family, &of);
    let committed = get("kafka_consumergroup_current_offset").unwrap_or_else(|| panic!("no commit of {group}")) as i64;
    let first = committed + get("kafka_consumergroup_lost_records").unwrap_or(0.0) as i64;
    let records = get(LAG).unwrap_or_else(|| panic!("no lag of {group}"));
    let at = truth.at(topic, first).filter(|_| records > 0.0);
    let truth = at.map_or(0.0, |at| worked_out - at as f64 / 1000.0);
    Shown { committed, records, seconds: get(LAG_SECONDS), truth }
}

impl Shown {
    fn is_right(&self) -> bool {
        self.seconds.is_some_and(|seconds| (seconds - self.truth).abs() <= 1.0)
    }
}

/// Produces records of one timestamp, and commits some way behind them.
async fn produce_and_commit(truth: &Truth, topic: &str, records: usize, behind: i64) {
    let last = *truth.produce(topic, &vec![now_ms(); records]).await.last().unwrap();
    truth.cluster.commit(topic, &[(topic, 0, (last - behind).max(0))]).await.unwrap();
}

/// A compacted topic whose records up to the last ones are of few keys, and the offset of a record that was removed.
async fn compacted(truth: &Truth, start: i64) -> i64 {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "1000"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.compaction.lag.ms", "0"),
    ];
    truth.create("compacted", &settings).await;
    let times: Vec<_> = (0..600).map(|index| start + index * 5 * SECOND).collect();
    let records = (0..).zip(&times).map(|(index, at)| {
        // Every fifth one stays.
        let key = if index % 5 == 0 { format!("own-{index}") } else { "same".to_owned() };
        Record::new(0).key(key).timestamp(*at)
    });
    let places = truth.cluster.produce("compacted", records).await.unwrap();
    truth.note("compacted", &places, &times);
    let removed = 203;
    truth.cluster.commit("compacted", &[("compacted", 0, removed)]).await.unwrap();
    removed
}

/// The offset and timestamp of the first record that a consumer gets from an offset on.
fn first_read(cluster: &Cluster, topic: &str, offset: i64) -> Option<(i64, i64)> {
    let consumer: BaseConsumer = cluster.client(None).set("group.id", "reader").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    consumer.assign(&list).unwrap();
    let message = consumer.poll(Duration::from_secs(10))?.ok()?;
    Some((message.offset(), message.timestamp().to_millis()?))
}

/// Waits until the record at that offset is gone, and forgets the times of those that are gone up to the next one.
async fn wait_compacted(truth: &Truth, removed: i64) {
    let (offset, at) = eventually("records to be removed", async || {
        // A segment is closed only when another record comes.
        let last = truth.cluster.produce("compacted", [Record::new(0).key("tick").timestamp(now_ms())]).await.ok()?;
        truth.note("compacted", &last, &[now_ms()]);
        sleep(Duration::from_millis(500)).await;
        first_read(&truth.cluster, "compacted", removed).filter(|(offset, _)| *offset > removed)
    })
    .await;
    let mut times = truth.times.lock().unwrap();
    let times = times.get_mut("compacted").unwrap();
    assert_eq!(times[&offset], at, "what is read is what was produced");
    times.retain(|known, _| *known < removed || *known >= offset);
}

/// Ages of an hour and more, in an order that is not that of the offsets.
fn out_of_order(now: i64) -> Vec<i64> {
    (0..500).map(|index| now - HOUR + (index * 7919 % 3000) * SECOND).collect()
}

/// Compares what is shown with the truth in several rounds; the first ones may leave something out.
async fn assert_ages(truth: &Truth, daemon: &Midwatch, disorder: &[i64]) {
    let settled: Vec<(&str, String)> = [
        ("bursts", vec![0, 250, 499, 500, 501, 700, 1499, 1500]),
        ("idle", vec![0, 1, 1800, 3599]),
        ("hours", vec![1, 100, 1500, 2000, 2998]),
        ("gap", vec![1, 2, 20]),
        ("deleted", vec![40, 80]),
        ("open", vec![2, 3]),
    ]
    .into_iter()
    .flat_map(|(topic, offsets)| offsets.into_iter().map(move |offset| (topic, format!("{topic}-{offset}"))))
    .chain(["compacted", "steady", "waves"].map(|topic| (topic, topic.to_owned())))
    .collect();

    for round in 1..=5 {
        let metrics = looked_again(daemon, "shop").await;
        let all: Vec<_> = settled.iter().map(|(topic, group)| (group, shown(truth, &metrics, topic, group))).collect();
        let wrong: Vec<_> = all.iter().filter(|(_, shown)| !shown.is_right()).collect();
        assert!(round == 1 || wrong.is_empty(), "{wrong:#?}\n{}", daemon.log());
        for offset in [0, 17, 250, 499] {
            let shown = shown(truth, &metrics, "disorder", &format!("disorder-{offset}"));
            // The newest record that is not behind it hides those after it.
            let hidden = disorder[..=usize::try_from(offset).unwrap()].iter().max().unwrap();
            let bound = shown.truth - seconds_between(disorder[usize::try_from(offset).unwrap()], *hidden);
            assert!(round == 1 || shown.seconds.is_some_and(|seconds| seconds >= bound - 1.0), "{bound}: {shown:?}");
            assert!(shown.seconds.is_none_or(|seconds| seconds <= shown.truth + 1.0), "no lower bound: {shown:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_in_seconds_is_the_age_of_the_first_unread_record() {
    let options = Options::default().brokers(1).property("log.cleaner.min.compaction.lag.ms", "0");
    let truth = Truth { cluster: Cluster::with(options).await.unwrap(), times: Mutex::default() };
    let now = now_ms();
    let removed = compacted(&truth, now - 2 * HOUR).await;

    // Three bursts of one millisecond each.
    let bursts: Vec<_> = [10, 5, 1].iter().flat_map(|minutes| vec![now - minutes * MINUTE; 500]).collect();
    truth.topic("bursts", &bursts, &[0, 250, 499, 500, 501, 700, 1499, 1500]).await;
    // A record a second, and none for an hour.
    let idle: Vec<_> = (0..3600).map(|second| now - 2 * HOUR + second * SECOND).collect();
    truth.topic("idle", &idle, &[0, 1, 1800, 3599]).await;
    // From 30 hours ago until now, at an uneven pace.
    let uneven: Vec<_> = (0..3000i64).map(|index| now - 30 * HOUR + index * index * 12).collect();
    truth.topic("hours", &uneven, &[1, 100, 1500, 2000, 2998]).await;
    let one_long_ago: Vec<_> =
        [vec![now - 20 * HOUR; 2], (0..50).map(|index| now - MINUTE + index * SECOND).collect()].concat();
    truth.topic("gap", &one_long_ago, &[1, 2, 20]).await;
    truth.topic("deleted", &uneven[..200], &[40, 80]).await;
    truth.cluster.delete_records("deleted", 0, 60).await.unwrap();
    let disorder = out_of_order(now);
    truth.topic("disorder", &disorder, &[0, 17, 250, 499]).await;
    // Its first records are behind it, the others wait for its end.
    truth.topic("open", &[now - 3 * MINUTE, now - 3 * MINUTE + 1], &[2, 3]).await;
    let times: Vec<_> = (0..20).map(|index| now - 2 * MINUTE + index * SECOND).collect();
    let records = times.iter().map(|at| Record::new(0).timestamp(*at));
    let transaction = truth.cluster.transaction("left-open", "open", records).await.unwrap();
    truth.note("open", &transaction.places, &times);

    let live = [("steady", 300, 1, 10), ("waves", 1500, 200, 300)];
    for (topic, _, records, behind) in live {
        truth.create(topic, &[]).await;
        produce_and_commit(&truth, topic, records, behind).await;
    }
    wait_compacted(&truth, removed).await;
    let daemon = Midwatch::start(&probe("shop", &truth.cluster, QUICK)).await;
    let [steady, waves] = live.map(|(topic, pause, records, behind)| {
        let truth = &truth;
        async move {
            loop {
                sleep(Duration::from_millis(pause)).await;
                produce_and_commit(truth, topic, records, behind).await;
            }
        }
    });
    tokio::select! {
        () = assert_ages(&truth, &daemon, &disorder) => {}
        () = async { tokio::join!(steady, waves); } => {}
    }

    let metrics = daemon.metrics().await;
    let lost = |offset: i64| {
        let group = format!("deleted-{offset}");
        metrics.get("kafka_consumergroup_lost_records", &[("consumergroup", group.as_str())])
    };
    assert_eq!((lost(40), lost(80)), (Some(20.0), None));
    let of = [("consumergroup", "open-2")];
    assert_eq!(metrics.get(LAG, &of), Some(20.0), "records of an open transaction count");
    let of = [("consumergroup", "bursts-1500")];
    assert_eq!((metrics.get(LAG, &of), metrics.get(LAG_SECONDS, &of)), (Some(0.0), Some(0.0)));
    transaction.abort().await.unwrap();
}
