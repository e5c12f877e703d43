//! The canary and real brokers.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use lab::kafka::{Cluster, Options, Tls, User};

use crate::support::{Metrics, Midwatch, Place, midwatch, program};

const NAME: &str = "k";
const TOPIC: &str = "midwatch-canary";

fn of(metrics: &Metrics, name: &str, broker: i32) -> Option<f64> {
    metrics.get(&format!("kafka_canary_{name}"), &[("probe", NAME), ("broker", &broker.to_string())])
}

/// The sum over all brokers.
fn total(metrics: &Metrics, name: &str) -> f64 {
    metrics.all(&format!("kafka_canary_{name}"), &[("probe", NAME)]).map(|sample| sample.value).sum()
}

fn addresses(cluster: &Cluster) -> String {
    cluster.addresses().iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
}

fn section(cluster: &Cluster, rest: &str) -> String {
    format!("[probe.kafka_canary.{NAME}]\nbootstrap = [{}]\n{rest}\n", addresses(cluster))
}

async fn until_available(daemon: &Midwatch, brokers: &[i32]) -> Metrics {
    daemon
        .until("all brokers to be available", |m| {
            brokers.iter().all(|broker| of(m, "available", *broker) == Some(1.0)).then(|| m.clone())
        })
        .await
}

/// Waits until the canary has sent that many more records than `before`.
async fn until_produced(daemon: &Midwatch, before: &Metrics, more: f64) -> Metrics {
    let enough = total(before, "records_produced_total") + more;
    daemon.until("more records", |m| (total(m, "records_produced_total") >= enough).then(|| m.clone())).await
}

/// Three brokers with the time-outs that Kafka has by default, which a freeze of five seconds does not reach.
async fn patient_cluster() -> Cluster {
    let options = Options::default().property("broker.session.timeout.ms", "9000");
    Cluster::with(options.property("replica.lag.time.max.ms", "30000")).await.unwrap()
}

const RHYTHM: &str = "manage = \"create\"\ninterval = \"1s\"\ntimeout = \"950ms\"\nsla = \"900ms\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_makes_records_late_and_a_killed_one_loses_none() {
    let cluster = patient_cluster().await;
    let daemon = Midwatch::start(&section(&cluster, RHYTHM)).await;
    let brokers = cluster.ids();
    let steady = until_available(&daemon, &brokers).await;
    let steady = until_produced(&daemon, &steady, 9.0).await;
    assert_eq!(total(&steady, "records_lost_total"), 0.0);
    assert_eq!(total(&steady, "records_duplicated_total"), 0.0);
    for broker in &brokers {
        assert!(of(&steady, "produce_latency_seconds_count", *broker) > Some(2.0), "{broker}");
        assert!(of(&steady, "end_to_end_latency_seconds_count", *broker) > Some(2.0), "{broker}");
        assert!(of(&steady, "connect_latency_seconds_count", *broker) > Some(2.0), "{broker}");
    }

    let frozen = brokers[1];
    cluster.freeze(frozen).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.thaw(frozen).unwrap();
    let late_before = of(&steady, "records_late_total", frozen).unwrap();
    daemon.until("late records", |m| (of(m, "records_late_total", frozen) > Some(late_before)).then_some(())).await;
    let thawed = until_available(&daemon, &brokers).await;
    assert_eq!(total(&thawed, "records_lost_total"), 0.0, "{}", daemon.log());

    let killed = brokers[2];
    cluster.kill(killed);
    daemon.until("the kill to show", |m| (of(m, "available", killed) == Some(0.0)).then_some(())).await;
    let others: Vec<_> = brokers.iter().copied().filter(|broker| *broker != killed).collect();
    let moved = until_available(&daemon, &others).await;
    assert_eq!(of(&moved, "available", killed), Some(0.0), "a replica that is down");
    cluster.restart(killed).await.unwrap();
    cluster.wait_settled().await.unwrap();
    cluster.elect_preferred().await.unwrap();
    let back = until_available(&daemon, &brokers).await;
    // Half a minute is the grace, after which lost records count.
    let after_grace = until_produced(&daemon, &back, 105.0).await;
    assert_eq!(total(&after_grace, "records_lost_total"), 0.0, "{}", daemon.log());
    let duplicated = total(&after_grace, "records_duplicated_total");
    let mut copies = 0;
    for partition in 0..3 {
        let values = cluster.values(TOPIC, partition).await.unwrap();
        copies += values.len() - values.iter().collect::<HashSet<_>>().len();
    }
    assert_eq!(duplicated, copies as f64, "whatever is counted is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_loses_nothing() {
    let cluster = Cluster::start(1).await.unwrap();
    cluster.create_topic(TOPIC, 1, 1, &[]).await.unwrap();
    let rest = "interval = \"500ms\"\ntimeout = \"450ms\"\nsla = \"400ms\"";
    let daemon = Midwatch::start(&section(&cluster, rest)).await;
    let broker = cluster.ids();
    let before = until_available(&daemon, &broker).await;
    let before = until_produced(&daemon, &before, 10.0).await;
    cluster.delete_topic(TOPIC).await.unwrap();
    daemon
        .until("the missing topic to show", |m| {
            (m.get("midwatch_probe_run_success", &[("probe", NAME)]) == Some(0.0)).then_some(())
        })
        .await;
    cluster.create_topic(TOPIC, 1, 1, &[]).await.unwrap();
    let again = until_available(&daemon, &broker).await;
    let after_grace = until_produced(&daemon, &again, 70.0).await;
    assert!(total(&after_grace, "records_consumed_total") > total(&before, "records_consumed_total"));
    assert_eq!(total(&after_grace, "records_lost_total"), 0.0, "{}", daemon.log());
    assert_eq!(total(&after_grace, "records_duplicated_total"), 0.0);
}

/// The clock is stepped back and forth by an hour; the monotonic clock goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_stepped_moves_no_latency() {
    let cluster = Cluster::start(1).await.unwrap();
    let place = Place::new();
    let rest = format!("{RHYTHM}\nslo = {{ objective = 0.9, latency = \"10s\" }}");
    place.write("midwatch.toml", &place.text(&section(&cluster, &rest)));
    let clock = place.write("clock", "+0\n");
    let mut command = Command::new(program());
    command
        .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_TIMESTAMP_FILE", &clock);
    let daemon = place.launch("midwatch.toml", &[], command);
    daemon.wait_ready().await;
    let broker = cluster.ids();
    let mut metrics = until_available(&daemon, &broker).await;
    let started = metrics.get("midwatch_probe_last_run_timestamp_seconds", &[]).unwrap();
    for step in ["+1h\n", "-1h\n", "+0\n"] {
        std::fs::write(&clock, step).unwrap();
        metrics = until_produced(&daemon, &metrics, 4.0).await;
        let now = metrics.get("midwatch_probe_last_run_timestamp_seconds", &[]).unwrap();
        assert_eq!((now - started).abs() > 3_000.0, step != "+0\n", "the step has no effect");
    }
    for name in ["produce", "end_to_end", "connect"] {
        let sum = total(&metrics, &format!("{name}_latency_seconds_sum"));
        assert!((0.0..60.0).contains(&sum), "{name}: {sum} s");
    }
    assert_eq!(total(&metrics, "records_late_total") + total(&metrics, "records_lost_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_to_get_in_are_told_apart_and_tell_no_secret() {
    let cluster = Cluster::with(Options::default().brokers(1).sasl().tls(Tls::Server)).await.unwrap();
    let place = Place::new();
    let good = User::canary();
    let good_file = place.write("good", &good.password);
    let wrong_file = place.write("wrong", "hunter2-hunter2");
    let files = cluster.files();
    let login = |file: &std::path::Path, mechanism: &str| {
        let (file, name) = (file.display(), &good.name);
        format!("sasl = {{ mechanism = \"{mechanism}\", username = \"{name}\", password = {{ file = \"{file}\" }} }}")
    };
    let common = "manage = \"create\"\ninterval = \"20s\"\ntimeout = \"19s\"\nsla = \"9s\"";
    let tls = |ca: &std::path::Path| format!("tls.ca_file = \"{}\"", ca.display());
    let bootstrap = addresses(&cluster);
    let probes = [
        ("scram", bootstrap.clone(), tls(&files.ca), login(&good_file, "SCRAM-SHA-512")),
        ("plain", bootstrap.clone(), tls(&files.ca), login(&good_file, "PLAIN")),
        ("password", bootstrap.clone(), tls(&files.ca), login(&wrong_file, "SCRAM-SHA-256")),
        ("authority", bootstrap.clone(), tls(&files.wrong_ca), login(&good_file, "SCRAM-SHA-256")),
        ("port", "\"127.0.0.1:1\"".to_owned(), tls(&files.ca), login(&good_file, "SCRAM-SHA-256")),
    ];
    let sections = probes.iter().map(|(name, bootstrap, tls, login)| {
        format!("[probe.kafka_canary.{name}]\nbootstrap = [{bootstrap}]\n{tls}\n{login}\n{common}\n")
    });
    let config = place.write("midwatch.toml", &place.text(&sections.collect::<String>()));
    for (name, expected) in [
        ("scram", None),
        ("plain", None),
        ("password", Some("auth")),
        ("authority", Some("certificate")),
        ("port", Some("refused")),
    ] {
        let output =
            midwatch(&["--log-level", "trace", "probe", "kafka_canary", name, "--config", config.to_str().unwrap()]);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.success(), expected.is_none(), "{name}: {text}");
        assert!(expected.is_none_or(|reason| text.contains(reason)), "{name}: {text}");
        assert!(!text.contains(&good.password) && !text.contains("hunter2"), "{name}: {text}");
    }
}

/// Two full replicas with one configuration use one topic, and tell their records apart.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_one_topic_lose_and_duplicate_nothing() {
    let cluster = Cluster::start(1).await.unwrap();
    cluster.create_topic(TOPIC, 1, 1, &[]).await.unwrap();
    // A record may be missing for half a minute before it counts as lost.
    let text = section(&cluster, "interval = \"500ms\"\ntimeout = \"450ms\"\nsla = \"400ms\"");
    let replicas = [Midwatch::start(&text).await, Midwatch::start(&text).await];
    for replica in &replicas {
        let before = until_available(replica, &cluster.ids()).await;
        let after = until_produced(replica, &before, 70.0).await;
        assert_eq!(total(&after, "records_lost_total"), 0.0, "{}", replica.log());
        assert_eq!(total(&after, "records_duplicated_total"), 0.0, "{}", replica.log());
        let (sent, seen) = (total(&after, "records_produced_total"), total(&after, "records_consumed_total"));
        assert!(seen <= sent && seen > sent - 5.0, "{seen} of {sent}: its own, and none of the other's");
    }
}
