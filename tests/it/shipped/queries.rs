//! Every query of every dashboard, against real Prometheus servers that scrape a real midwatch which watches a real platform.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::http::encode;
use lab::kafka::{Move, Record};
use lab::prometheus::{Options, Prometheus};
use serde_json::Value;

use super::boards::{Board, chosen, list, substitute};
use super::platform::{LAGS, Plan, Platform, TOPIC, rules};
use crate::support::{Metrics, Place, eventually, program};

/// What Grafana makes of `$__rate_interval` when Prometheus scrapes once a second, or nearly: four scrapes, and a run of every probe.
const RATE_INTERVAL: Duration = Duration::from_secs(6);

/// The queries that are empty while all is well: dashboard, panel or annotation, and what has to be for data. Every one of them has data
/// once [`break_things`] has done all of that.
const QUIET: [(&str, &str, &str); 21] = [
    ("backup", "annotation Outages", "a source that cannot be read"),
    ("kafka", "annotation Outages", "a broker that is gone"),
    ("mongodb", "annotation Outages", "a member that is gone"),
    ("overview", "annotation Outages", "a target that is down"),
    ("midwatch", "annotation Outages", "a target that is down"),
    ("slo", "annotation Outages", "a target that is down"),
    ("vpn", "annotation Outages", "a tunnel that is down"),
    ("overview", "Failures by reason", "a run that fails"),
    ("backup", "Last failure", "a backup that failed"),
    ("kafka", "Lost records", "records that are deleted before a group has read them"),
    ("kafka", "Bytes left to move", "a partition that moves"),
    ("kafka", "Rate of moves", "a partition that moves"),
    ("kafka", "Time until all moves are over", "a partition that moves"),
    ("kafka", "Moves", "a partition that moves"),
    ("kafka", "Changes of the number of partitions", "a topic that gets more partitions"),
    ("kafka", "Time since the number changed", "a topic that gets more partitions"),
    ("kafka", "Partitions that cannot be used", "a partition without leader, and one without enough replicas"),
    ("kafka", LEFT_OUT, "more series than a metric may have"),
    ("vpn", "Inside, by reason", "a target inside that does not answer"),
    ("midwatch", "Missed runs by probe", "a midwatch that stands still"),
    ("midwatch", MISSING, "a shard that does not run"),
];
/// Those of them that have data when runs fail, which they also do on a machine that is too busy: they may have some from the start.
const OF_FAILURES: [&str; 4] =
    ["annotation Outages", "Failures by reason", "Missed runs by probe", "Inside, by reason"];
/// The annotation that all dashboards have, and that is empty until the configuration is read anew.
const RELOADS: &str = "annotation Reloads";
/// Those that need a configuration of their own.
const LEFT_OUT: &str = "Values left out";
const MISSING: &str = "Missing shards";

/// A query with its variables' values.
struct Question {
    board: String,
    place: String,
    text: String,
    is_instant: bool,
    is_native: bool,
}

impl Question {
    fn is_quiet(&self) -> bool {
        self.place == RELOADS || QUIET.iter().any(|(board, place, _)| self.board == *board && self.place == *place)
    }

    fn name(&self) -> String {
        format!("{}: {}: {}", self.board, self.place, self.text)
    }
}

/// The Prometheus servers, and when they began.
struct Sources {
    classic: Prometheus,
    /// Stores native histograms, and so no classic ones.
    native: Prometheus,
    began: u64,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Sources {
    /// They scrape the platform's midwatch, and a shard that does not run yet.
    async fn start(platform: &Platform, shard: &Place) -> Self {
        let began = now();
        let options = platform.scraping().target(shard.address());
        let options = rules().into_iter().fold(options, Options::rules);
        let classic = Prometheus::with(options.exemplars()).await.unwrap();
        let native = Prometheus::with(platform.scraping().native_histograms()).await.unwrap();
        Self { classic, native, began }
    }

    /// The values that Grafana offers for a variable, once there are any.
    async fn offered(&self, board: &Board, name: &str, query: &str) -> Vec<String> {
        let arguments = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (series, label) = arguments.and_then(|both| both.rsplit_once(", ")).expect("label_values(series, label)");
        let path = format!("/api/v1/label/{label}/values?match[]={}", encode(series));
        eventually(&format!("values of ${name} of {}: {query}", board.name), async || {
            let found = self.classic.api(&path).await.unwrap();
            let values: Vec<_> = found.as_array()?.iter().map(|value| value.as_str().unwrap().to_owned()).collect();
            (!values.is_empty()).then_some(values)
        })
        .await
    }

    /// All queries of a dashboard with all values chosen of all variables.
    async fn questions(&self, board: &Board) -> Vec<Question> {
        let seconds = |duration: Duration| format!("{}s", duration.as_secs());
        let mut values = BTreeMap::from(
            [("__rate_interval", RATE_INTERVAL), ("__interval", Duration::from_secs(1)), ("__range", RANGE)]
                .map(|(name, duration)| (name.to_owned(), seconds(duration))),
        );
        for (name, query) in board.asked() {
            let offered = self.offered(board, name, &substitute(query, &values)).await;
            values.insert(name.to_owned(), chosen(&offered));
        }
        let question = |query: super::boards::Query<'_>| Question {
            board: board.name.clone(),
            text: substitute(query.text, &values),
            place: query.place,
            is_instant: query.is_instant,
            is_native: query.is_native,
        };
        board.queries().into_iter().map(question).collect()
    }

    /// Whether Prometheus has anything to draw: a value that is a number, or a histogram that counted something.
    async fn has_data(&self, question: &Question) -> bool {
        let (query, end) = (encode(&question.text), now());
        let path = match question.is_instant {
            true => format!("/api/v1/query?query={query}&time={end}"),
            false => format!("/api/v1/query_range?query={query}&start={}&end={end}&step=1", self.began),
        };
        let prometheus = if question.is_native { &self.native } else { &self.classic };
        let answer = prometheus.api(&path).await.unwrap_or_else(|error| panic!("{}: {error}", question.name()));
        list(&answer, "result").iter().any(|series| {
            let values = list(series, "values").iter().chain(series.get("value"));
            let histograms = list(series, "histograms").iter().chain(series.get("histogram"));
            values.map(|pair| &pair[1]).any(|value| value != "NaN")
                || histograms.map(|pair| &pair[1]).any(|histogram| !list(histogram, "buckets").is_empty())
        })
    }

    /// Waits until all of these have had data at some moment.
    async fn until_all_have_data(&self, mut questions: Vec<&Question>) {
        let end = tokio::time::Instant::now() + Duration::from_secs(120);
        while !questions.is_empty() {
            let mut empty = Vec::new();
            for question in questions {
                if !self.has_data(question).await {
                    empty.push(question);
                }
            }
            questions = empty;
            let names: Vec<_> = questions.iter().map(|question| question.name()).collect();
            assert!(tokio::time::Instant::now() < end, "no data:\n{}", names.join("\n"));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// What a person looks at: more than this test takes.
const RANGE: Duration = Duration::from_secs(900);

/// The topic whose partition moves, with enough in it for that to take some seconds.
const MOVED: &str = "ledger";

async fn lay_out_kafka(platform: &Platform) {
    let cluster = &platform.kafka.as_ref().unwrap().cluster;
    cluster.create_topic_at(MOVED, &[&[1, 2]], &[]).await.unwrap();
    for _ in 0..5 {
        cluster.produce(MOVED, (0..40).map(|_| Record::new(0).size(100_000))).await.unwrap();
    }
    // On brokers of its own: one of them will be gone.
    cluster.create_topic_at("lonely", &[&[3]], &[]).await.unwrap();
    cluster.create_topic_at("strict", &[&[1, 3]], &[("min.insync.replicas", "2")]).await.unwrap();
}

/// What happens on a good day: runs of backups of every kind end well, and one goes on.
async fn live_a_day(platform: &Platform, prometheus: &Prometheus) {
    let (backups, daemon) = (platform.backups.as_ref().unwrap(), &platform.daemon);
    for what in ["nightly/start", "nightly", "restored/start", "restored", "nightly/start"] {
        backups.tell(daemon, what).await;
    }
    let mut dump =
        tokio::process::Command::from(backups.dump(daemon, "head -c 1000000 /dev/zero | gzip")).spawn().unwrap();
    assert!(dump.wait().await.unwrap().success());
    // Nothing is known of phases before the first one.
    for opid in ["yesterday", "tonight"] {
        backups.finish(daemon, opid).await;
        let ended = |m: &Metrics| m.get("midwatch_backup_running", &[("probe", "oplog"), ("node", &backups.node)]);
        daemon.until("a backup to end", |m| (ended(m) == Some(0.0)).then_some(())).await;
        let scrapes = "count_over_time(midwatch_backup_phase_duration_seconds_count[15m]) > 2";
        prometheus.wait_for(scrapes).await.unwrap();
    }
}

/// Breaks something of everything.
async fn break_things(platform: &mut Platform, sources: &Sources, questions: &[Question]) {
    let streams = platform.kafka.as_ref().unwrap();
    let cluster = &streams.cluster;
    let moves = [Move { topic: MOVED, partition: 0, replicas: &[1, 3] }];
    cluster.reassign(&moves, Some(1_000_000)).await.unwrap();
    let moving = ["Bytes left to move", "Rate of moves", "Time until all moves are over", "Moves"];
    let of_moves = |question: &&Question| moving.contains(&question.place.as_str());
    sources.until_all_have_data(questions.iter().filter(of_moves).collect()).await;
    cluster.delete_records(TOPIC, 0, 15).await.unwrap();
    cluster.add_partitions("strict", 30).await.unwrap();
    platform.backups.as_ref().unwrap().tell(&platform.daemon, "nightly/fail").await;

    let changed = "Time since the number changed";
    sources.until_all_have_data(questions.iter().filter(|question| question.place == changed).collect()).await;
    cluster.kill(3);
    platform.mongodb.as_ref().unwrap().kill(2);
    if let Some(tunnel) = &platform.vpn {
        tunnel.network.server.rules("tcp dport 8080 drop").unwrap();
    }
    let folder = platform.daemon.place.folder.path();
    std::fs::rename(folder.join("backups"), folder.join("gone")).unwrap();
    platform.daemon.signal("STOP");
    // More than one due time of most probes.
    tokio::time::sleep(Duration::from_secs(5)).await;
    platform.daemon.signal("CONT");

    let later = [RELOADS, LEFT_OUT, MISSING];
    let before_reload =
        |question: &&Question| question.is_quiet() && !later.contains(&question.place.as_str()) && !of_moves(question);
    sources.until_all_have_data(questions.iter().filter(before_reload).collect()).await;
    let narrow = platform.probes.replace("[probe.kafka.streams]\n", "[probe.kafka.streams]\nseries_per_metric = 20\n");
    assert_ne!(narrow, platform.probes);
    let (status, answer) = platform.daemon.reload(&narrow).await;
    assert_eq!(status, 200, "{answer}");
    let after = |question: &&Question| [RELOADS, LEFT_OUT].contains(&question.place.as_str());
    sources.until_all_have_data(questions.iter().filter(after).collect()).await;
}

/// One of two shards runs, and the other does not.
async fn lose_a_shard(place: Place, sources: &Sources, board: &Board) {
    place.write("midwatch.toml", &place.text(""));
    let shard = place.launch("midwatch.toml", &["--shard", "0/2"], Command::new(program()));
    shard.wait_ready().await;
    sources.classic.wait_for("count(midwatch_shard_expected) == 2").await.unwrap();
    // Now there is one instance more to choose.
    let questions = sources.questions(board).await;
    let missing = questions.iter().filter(|question| question.place == MISSING);
    sources.until_all_have_data(missing.collect()).await;
}

fn is_well(metrics: &Metrics) -> Option<()> {
    let all = metrics.all("midwatch_probe_info", &[]).count();
    let runs = metrics.all("midwatch_probe_run_success", &[]);
    (all > 0 && runs.filter(|sample| sample.value == 1.0).count() == all).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_every_dashboard_returns_data() {
    let mut platform = Platform::start(Plan::ALL).await;
    let boards: Vec<_> =
        Board::all().into_iter().filter(|board| platform.vpn.is_some() || board.name != "vpn").collect();
    lay_out_kafka(&platform).await;
    platform.daemon.until("all probes to be well", is_well).await;
    // What failed while everything started is no fault of the platform, and is forgotten with the old process.
    platform.daemon.restart().await;
    let shard = Place::new();
    let sources = Sources::start(&platform, &shard).await;
    platform.daemon.until("all probes to be well", is_well).await;
    // Counters are seen at 0 first.
    let all = "count(count_over_time(midwatch_probe_run_success[15m]) > 1) == count(midwatch_probe_info)";
    sources.classic.wait_for(all).await.unwrap();
    let mut questions = Vec::new();
    for board in &boards {
        questions.extend(sources.questions(board).await);
    }
    live_a_day(&platform, &sources.classic).await;
    assert!(questions.iter().filter(|question| question.is_native).count() >= 6);
    // A panel may use a query of another one.
    let mut known = BTreeSet::new();
    questions.retain(|question| known.insert((question.place.clone(), question.text.clone(), question.is_native)));

    let (quiet, busy): (Vec<_>, Vec<_>) = questions.iter().partition(|question| question.is_quiet());
    for (board, place, reason) in QUIET {
        let is_there = boards.iter().any(|all| all.name == board);
        let is_asked = quiet.iter().any(|question| question.place == place);
        assert!(is_asked || !is_there, "{board} has no {place}, which needs {reason}");
    }
    sources.until_all_have_data(busy).await;
    for question in quiet.iter().filter(|question| !OF_FAILURES.contains(&question.place.as_str())) {
        assert!(!sources.has_data(question).await, "not empty although all is well: {}", question.name());
    }

    break_things(&mut platform, &sources, &questions).await;
    let of_midwatch = boards.iter().find(|board| board.name == "midwatch").unwrap();
    lose_a_shard(shard, &sources, of_midwatch).await;
    let alerts: Value = sources.classic.api("/api/v1/rules?type=alert").await.unwrap();
    let groups = list(&alerts, "groups");
    let errors = groups.iter().flat_map(|group| list(group, "rules")).filter(|rule| rule["health"] == "err");
    assert_eq!(errors.count(), 0, "{alerts}");
    assert!(groups.len() > 6 && !LAGS.is_empty());
}
