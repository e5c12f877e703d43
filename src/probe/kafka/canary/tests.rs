//! The whole canary against librdkafka's own mock of a cluster.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaRespErr;

use super::KafkaCanary;
use super::config::{Config, Manage};
use crate::metrics::testing::Scrape;
use crate::metrics::{Gauges, Live, Recorder, SeriesSet};
use crate::probe::kafka::access::{Access, Sasl, TokenSource};
use crate::probe::kafka::client::fake::{Fake, Reply};
use crate::probe::{Cycle, Failure, Probe as _, Reason, Shared};
use crate::settings::{Files, HostPort, HttpUrl, Rules, Secret, Section, Source};

type Mock = MockCluster<'static, DefaultProducerContext>;

const SLA: Duration = Duration::from_secs(5);
const TOPIC: &str = "canary";

/// A canary with its series, served as the scheduler does.
struct Bench {
    probe: Arc<KafkaCanary>,
    set: Arc<SeriesSet>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn config(bootstrap: &str) -> Config {
    let bootstrap = bootstrap.split(',').map(|address| address.parse::<HostPort>().unwrap()).collect();
    let access = Access { bootstrap, tls: None, sasl: None };
    Config { access, topic: TOPIC.to_owned(), manage: Manage::None, sla: SLA }
}

fn bench(config: Config) -> Bench {
    let probe = Arc::new(KafkaCanary::new(&Arc::new(config), &Shared::default(), None).unwrap());
    let set = SeriesSet::new([("probe", "p")], Default::default());
    let (served, live) = (Arc::clone(&probe), Live::new(Arc::clone(&set)));
    let serving = tokio::spawn(async move { served.serve(live).await });
    Bench { probe, set, serving }
}

impl Bench {
    async fn run(&self) -> (Result<(), Failure>, Vec<(String, Result<(), Failure>)>) {
        let mut rec = Recorder::default();
        let result = self.probe.run(Cycle::MAIN, &mut rec).await;
        let targets = rec.trace().targets.into_iter().map(|target| (target.name, target.verdict.unwrap())).collect();
        rec.commit(&self.set, "main", Gauges::Replace);
        (result, targets)
    }

    fn scrape(&self) -> Scrape {
        Scrape::from(&*self.set)
    }

    fn sum(&self, name: &str) -> f64 {
        self.scrape().sum(name, "")
    }
}

fn cluster(brokers: i32) -> Mock {
    let mock = MockCluster::new(brokers).unwrap();
    mock.create_topic(TOPIC, brokers, 1).unwrap();
    for partition in 0..brokers {
        mock.partition_leader(TOPIC, partition, Some(partition + 1)).unwrap();
    }
    mock
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broker_is_seen_to_work() {
    let mock = cluster(3);
    let bench = bench(config(&mock.bootstrap_servers()));
    for _ in 0..5 {
        let (result, targets) = bench.run().await;
        result.unwrap();
        let names: Vec<_> = targets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["1", "2", "3"]);
        for (name, verdict) in &targets {
            assert_eq!(*verdict, Ok(()), "broker {name}");
        }
    }
    let scrape = bench.scrape();
    for broker in ["1", "2", "3"] {
        let labels = format!("probe=p broker={broker}");
        for (name, expected) in [
            ("kafka_canary_records_produced_total", 5.0),
            ("kafka_canary_records_consumed_total", 5.0),
            ("kafka_canary_produce_latency_seconds_count", 5.0),
            ("kafka_canary_end_to_end_latency_seconds_count", 5.0),
            ("kafka_canary_connect_latency_seconds_count", 5.0),
            ("kafka_canary_records_lost_total", 0.0),
            ("kafka_canary_records_late_total", 0.0),
            ("kafka_canary_records_duplicated_total", 0.0),
            ("kafka_canary_records_failed_total", 0.0),
            ("kafka_canary_available", 1.0),
        ] {
            assert_eq!(scrape.get(name, &labels), Some(expected), "{name} of {broker}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_canaries_on_one_topic_do_not_count_each_other() {
    let mock = cluster(1);
    let benches = [bench(config(&mock.bootstrap_servers())), bench(config(&mock.bootstrap_servers()))];
    for _ in 0..4 {
        let ((one, _), (two, _)) = tokio::join!(benches[0].run(), benches[1].run());
        assert_eq!((one, two), (Ok(()), Ok(())));
    }
    for bench in &benches {
        assert_eq!(bench.sum("kafka_canary_records_consumed_total"), 4.0);
        assert_eq!(bench.sum("kafka_canary_records_duplicated_total"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_said_to_be_missing() {
    let mock = MockCluster::new(1).unwrap();
    mock.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let bench = bench(config(&mock.bootstrap_servers()));
    let failure = bench.run().await.0.unwrap_err();
    assert_eq!(failure.reason, Reason::Rejected);
    assert!(failure.detail.contains("does not exist"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_bootstrap_is_told_before_the_time_is_over() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = bench(config(&closed.to_string()));
    assert_eq!(bench.run().await.0.unwrap_err().reason, Reason::Refused);
}

/// A secret is read from a file or a variable, and from nowhere else.
fn secret() -> Secret {
    let folder = tempfile::tempdir().unwrap();
    let path: Arc<std::path::Path> = folder.path().join("midwatch.toml").into();
    std::fs::write(folder.path().join("secret"), "hunter2").unwrap();
    let files = Files::new(false);
    let source = Source::new(&path, "secret = { file = \"secret\" }", Rules::Main, &files);
    let table = source.parse().unwrap();
    Section::root(&source, table.get_ref()).required("secret").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_token_server_costs_no_more_than_the_time_of_a_run_and_no_session_stays() {
    // The kernel takes connections; nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string().parse().unwrap();
    let broker = Fake::start(|_| Reply::Silence).await;
    let url = HttpUrl { address, path: "/token".to_owned(), is_https: false };
    let source =
        TokenSource::Oauth { url, client_id: "id".to_owned(), client_secret: secret(), scope: None, tls: None };
    let mut config = config(&broker.address.to_string());
    (config.access.sasl, config.sla) = (Some(Sasl::Bearer(Box::new(source))), Duration::from_secs(1));
    let bench = bench(config);
    let run = tokio::time::timeout(Duration::from_secs(60), bench.run()).await.expect("the run ends");
    let failure = run.0.unwrap_err();
    assert_eq!(failure.reason, Reason::Timeout, "{failure}");
    // librdkafka's threads wait for tokens too: they have to get over it, or clients would never end.
    let books = Arc::downgrade(&bench.probe.session.lock().unwrap().as_ref().unwrap().books);
    drop(bench);
    until("the session to end", async || books.upgrade().is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_fails_its_broker_and_no_other() {
    let mock = cluster(2);
    let bench = bench(config(&mock.bootstrap_servers()));
    bench.run().await.0.unwrap();
    mock.broker_down(2).unwrap();
    let (result, targets) = bench.run().await;
    result.unwrap();
    let verdicts: Vec<_> = targets.iter().map(|(name, verdict)| (name.as_str(), verdict.is_ok())).collect();
    assert_eq!(verdicts, [("1", true), ("2", false)]);
    let scrape = bench.scrape();
    assert_eq!(scrape.get("kafka_canary_available", "probe=p broker=1"), Some(1.0));
    assert_eq!(scrape.get("kafka_canary_available", "probe=p broker=2"), Some(0.0));
    assert_eq!(scrape.sum("kafka_canary_records_lost_total", ""), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_broker_makes_records_late_and_not_lost() {
    let mock = cluster(2);
    let mut config = config(&mock.bootstrap_servers());
    config.sla = Duration::from_secs(1);
    let bench = bench(config);
    until("a good run", async || bench.run().await.1.iter().all(|(_, verdict)| verdict.is_ok())).await;
    mock.broker_round_trip_time(2, Duration::from_secs(3)).unwrap();
    let (result, targets) = bench.run().await;
    result.unwrap();
    assert_eq!(targets[0].1, Ok(()));
    assert_eq!(targets[1].1.as_ref().unwrap_err().reason, Reason::Timeout);
    mock.broker_round_trip_time(2, Duration::ZERO).unwrap();
    let late = |bench: &Bench| bench.scrape().sum("kafka_canary_records_late_total", "broker=2");
    until("a late record", async || late(&bench) >= 1.0).await;
    assert_eq!(bench.sum("kafka_canary_records_lost_total"), 0.0);
    assert_eq!(bench.scrape().sum("kafka_canary_records_late_total", "broker=1"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_probe_goes_on_with_new_clients_and_the_old_ones_end() {
    let mock = cluster(1);
    let mut bench = bench(config(&mock.bootstrap_servers()));
    bench.run().await.0.unwrap();
    let before = Arc::downgrade(&bench.probe.session.lock().unwrap().as_ref().unwrap().books);
    let changed = Config { sla: 2 * SLA, ..config(&mock.bootstrap_servers()) };
    let next = KafkaCanary::new(&Arc::new(changed), &Shared::default(), Some(&bench.probe)).unwrap();
    bench.serving.abort();
    bench.probe = Arc::new(next);
    bench.run().await.0.unwrap();
    assert_eq!(bench.sum("kafka_canary_records_consumed_total"), 2.0);
    // The threads and clients of a session hold its books.
    until("the old session to end", async || before.upgrade().is_none()).await;
    let after = Arc::downgrade(&bench.probe.session.lock().unwrap().as_ref().unwrap().books);
    drop(bench);
    until("the last session to end", async || after.upgrade().is_none()).await;
}

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waiting = tokio::time::timeout(Duration::from_secs(60), async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waiting.await.unwrap_or_else(|_| panic!("waited for {what}"));
}
