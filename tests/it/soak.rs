//! Hours of everything at once, or minutes of it: probes of all kinds of peers, scrapes without end, a reload a second.

use std::time::Duration;

use lab::mongodb::Standalone;
use lab::net::{Peer, Refused};
use tokio::time::{Instant, sleep};

use crate::mongodb::probe;
use crate::support::{Metrics, Midwatch, eventually, write_and_rename};

/// How long it lasts unless `MIDWATCH_SOAK_MINUTES` says otherwise.
const MINUTES: f64 = 2.0;
/// How many probes there are of each sort and peer.
const OF_EACH: usize = 25;

/// One peer of each sort.
struct Peers {
    mongod: Standalone,
    refused: Refused,
    silent: Peer,
    garbage: Peer,
}

impl Peers {
    async fn start() -> Self {
        Self {
            mongod: Standalone::start().await.unwrap(),
            refused: Refused::pick().unwrap(),
            silent: Peer::silent().await.unwrap(),
            garbage: Peer::garbage().await.unwrap(),
        }
    }

    fn addresses(&self) -> [(&'static str, String); 4] {
        [
            ("mongod", self.mongod.host()),
            ("refused", self.refused.address().to_string()),
            ("silent", self.silent.address().to_string()),
            ("garbage", self.garbage.address().to_string()),
        ]
    }

    /// The configuration of a round. Most probes are never touched; others change what does not rebuild them, what
    /// starts their histograms afresh, and what makes their series others; some come and go.
    fn configuration(&self, round: usize) -> String {
        let rhythm = "interval = \"2s\"\ntimeout = \"1500ms\"\n";
        let few = "buckets = [0.001, 0.01, 0.1]\n";
        let mut text = String::new();
        for (peer, address) in self.addresses() {
            for n in 0..OF_EACH {
                let mut add = |sort: &str, rest: &str| {
                    text += &probe(
                        &format!("{sort}-{peer}-{n}"),
                        std::slice::from_ref(&address),
                        &format!("{rhythm}{rest}"),
                    );
                };
                add("steady", few);
                match n % 5 {
                    0 => add("owned", &format!("{few}owner = \"round-{round}\"")),
                    1 => add("bucketed", ["buckets = [0.5]", few, "buckets = [0.1, 1]"][round % 3]),
                    2 => add("labelled", &format!("{few}labels = {{ round = \"{}\" }}", round % 3)),
                    3 => add("rebuilt", &format!("{few}discover = {}", round % 2 == 1)),
                    _ if (round + n).is_multiple_of(3) => add("guest", few),
                    _ => {}
                }
            }
        }
        text
    }
}

fn minutes() -> f64 {
    match std::env::var("MIDWATCH_SOAK_MINUTES") {
        Ok(minutes) => minutes.parse().expect("MIDWATCH_SOAK_MINUTES is a number"),
        Err(_) => MINUTES,
    }
}

fn value(metrics: &Metrics, name: &str) -> f64 {
    metrics.get(name, &[]).unwrap_or_else(|| panic!("no {name}"))
}

fn steady(metrics: &Metrics, name: &str) -> f64 {
    let steady = metrics.all(name, &[]).filter(|sample| sample.labels["probe"].starts_with("steady-"));
    steady.map(|sample| sample.value).sum()
}

/// The number of series when every probe has run a few times and no more series come.
async fn settled(daemon: &Midwatch, probes: usize) -> usize {
    let before = daemon.metrics().await;
    let runs = |metrics: &Metrics, probe: &str| metrics.get("midwatch_probe_runs_total", &[("probe", probe)]);
    daemon
        .until("every probe to have run", |now| {
            let all: Vec<_> = now.all("midwatch_probe_runs_total", &[]).collect();
            let ran =
                all.iter().all(|sample| sample.value >= runs(&before, &sample.labels["probe"]).unwrap_or(0.0) + 3.0);
            (all.len() == probes && ran && value(now, "midwatch_series") == now.0.len() as f64).then_some(now.0.len())
        })
        .await
}

/// Reloads once a second until the time is over. The resident memory, once a second.
async fn churn(daemon: &Midwatch, peers: &Peers, duration: Duration) -> Vec<f64> {
    let end = Instant::now() + duration;
    let (mut memory, mut round) = (Vec::new(), 0);
    let mut last = daemon.metrics().await;
    while Instant::now() < end {
        round += 1;
        write_and_rename(daemon.config(), &daemon.place.text(&peers.configuration(round)));
        match round % 3 {
            0 => assert_eq!(daemon.post_reload().await.0, 200),
            1 => daemon.signal("HUP"),
            // Somebody saved the file.
            _ => {}
        }
        let now = daemon.metrics().await;
        let shrunk = now.shrunk_since(&last);
        let steady = |probe: Option<&String>| probe.is_none_or(|probe| probe.starts_with("steady-"));
        assert!(!shrunk.iter().any(|sample| steady(sample.labels.get("probe"))), "{shrunk:?}");
        memory.push(value(&now, "process_resident_memory_bytes"));
        last = now;
        sleep(Duration::from_secs(1)).await;
    }
    memory
}

/// Scrapes without end, as several Prometheus servers would.
async fn scrape(daemon: &Midwatch) {
    loop {
        let answer = daemon.request("GET", "/metrics").await;
        assert!(matches!(answer, Some((200, _))), "{answer:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few seconds")]
fn mean(values: &[f64]) -> f64 {
    assert!(!values.is_empty());
    values.iter().sum::<f64>() / values.len() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_nothing_grows_while_everything_changes() {
    let peers = Peers::start().await;
    let daemon = Midwatch::start("# nothing yet\n").await;
    daemon.metrics().await;
    let files = daemon.open_files();
    let base = peers.configuration(0);
    let probes = base.matches("[probe.").count();
    assert_eq!(daemon.reload(&base).await.0, 200);
    let series = settled(&daemon, probes).await;

    let start = daemon.metrics().await;
    let memory = tokio::select! {
        memory = churn(&daemon, &peers, Duration::from_secs_f64(minutes() * 60.0)) => memory,
        () = scrape(&daemon) => unreachable!("scrapes do not end"),
    };
    let end = daemon.metrics().await;

    let grown = |name| steady(&end, name) - steady(&start, name);
    let (ran, missed) = (grown("midwatch_probe_runs_total"), grown("midwatch_probe_missed_total"));
    println!("{probes} probes, {series} series, {ran} runs of steady ones, {missed} missed, memory {memory:?}");
    assert!(ran > 0.0 && missed <= ran / 10.0, "{missed} missed of {ran}");
    let part = |from: usize, to: usize| mean(&memory[memory.len() * from / 100..memory.len() * to / 100]);
    let (early, late) = (part(25, 35), part(90, 100));
    assert!(late <= early * 1.2 + 5e6, "{early} bytes, then {late}: {memory:?}");
    assert!(end.all("midwatch_series_dropped_total", &[]).all(|dropped| dropped.value == 0.0));

    // Back to the beginning: as many series, and, with nothing to watch, as many files.
    assert_eq!(daemon.reload(&base).await.0, 200);
    assert_eq!(settled(&daemon, probes).await, series);
    assert_eq!(daemon.reload("# nothing any more\n").await.0, 200);
    eventually("as many open files as at the start", async || (daemon.open_files() <= files).then_some(())).await;
    let left = daemon.metrics().await;
    assert!(left.0.iter().all(|sample| !sample.labels.contains_key("probe")));

    let log = daemon.log();
    let bad: Vec<_> = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panic")).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
