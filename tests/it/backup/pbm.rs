//! Percona Backup for MongoDB's collections in a real mongod.
//!
//! The documents are made up: they have the fields and types that percona-backup-mongodb 2.x declares for its collections, and were not
//! written by it.

use std::time::{SystemTime, UNIX_EPOCH};

use lab::mongodb::driver::Client;
use lab::mongodb::driver::bson::{Bson, Document, Timestamp, doc};
use lab::mongodb::driver::options::WriteConcern;
use lab::mongodb::{Mechanism, Options, ReplicaSet, Standalone, User};

use crate::mongodb::{after_runs, probe};
use crate::support::{Metrics, Midwatch, eventually, midwatch};

const RUNS: &str = "midwatch_backup_runs_total";
const RUNNING: &str = "midwatch_backup_running";
const SOURCE_UP: &str = "midwatch_backup_source_up";

/// The wall clock in seconds.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// A timestamp as PBM's heartbeats and oplog times are.
fn at(seconds: i64) -> Bson {
    Bson::Timestamp(Timestamp { time: seconds.try_into().unwrap(), increment: 1 })
}

/// A job's section.
pub fn job(name: &str, hosts: &[String], rest: &str) -> String {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let hosts = hosts.join(", ");
    format!(
        "[probe.backup.{name}]\nsource = \"pbm\"\nhosts = [{hosts}]\ninterval = \"1s\"\ntimeout = \"950ms\"\n{rest}\n\n"
    )
}

/// What PBM would write.
pub struct Pbm {
    client: Client,
}

impl Pbm {
    async fn of(set: &ReplicaSet) -> Self {
        Self::by(set, None).await
    }

    /// Writes as that user.
    pub async fn by(set: &ReplicaSet, user: Option<&User>) -> Self {
        Self { client: set.client(set.wait_primary().await.unwrap(), user).unwrap() }
    }

    /// A good backup of an hour ago, point-in-time recovery since, and an agent at each of these nodes.
    pub async fn show_all(&self, nodes: &[String]) {
        let start = now() - 3_600;
        self.insert("pbmBackups", [backup("of before", "done", start, 60)]).await;
        self.insert("pbmConfig", [doc! { "storage": {}, "pitr": { "enabled": true }, "epoch": at(start) }]).await;
        self.insert("pbmPITRChunks", [chunk("lab", start, now() - 30)]).await;
        self.insert("pbmLockOp", [doc! { "type": "pitr", "replset": "lab", "node": &nodes[0], "hb": at(now() + 600) }])
            .await;
        self.insert("pbmAgents", nodes.iter().map(|node| agent(node, "lab", true))).await;
    }

    async fn insert(&self, collection: &str, documents: impl IntoIterator<Item = Document>) {
        self.client.database("admin").collection(collection).insert_many(documents).await.unwrap();
    }

    /// Writes with a query that must find exactly one document.
    async fn update(&self, collection: &str, which: Document, update: Document) {
        let all = self.client.database("admin").collection::<Document>(collection);
        assert_eq!(all.update_one(which, update).await.unwrap().matched_count, 1);
    }

    async fn delete(&self, collection: &str, which: Document) {
        let all = self.client.database("admin").collection::<Document>(collection);
        assert!(all.delete_many(which).await.unwrap().deleted_count > 0);
    }

    /// The lock of a backup at a node, and the backup's document before any node has reported.
    pub async fn begin(&self, opid: &str, node: &str, start: i64) {
        self.insert("pbmBackups", [backup(opid, "starting", start, 0)]).await;
        let lock = doc! { "type": "backup", "replset": "lab", "node": node, "opid": opid, "hb": at(now() + 600) };
        self.insert("pbmLock", [lock]).await;
    }

    /// The backup goes over to another status, `seconds` after its start.
    pub async fn turn(&self, opid: &str, status: &str, (start, seconds): (i64, i64), mut set: Document) {
        set.extend(doc! { "status": status, "last_transition_ts": start + seconds, "hb": at(now() + 600) });
        let condition = doc! { "timestamp": start + seconds, "status": status };
        self.update("pbmBackups", doc! { "opid": opid }, doc! { "$set": set, "$push": { "conditions": condition } })
            .await;
        if matches!(status, "done" | "error" | "canceled") {
            self.delete("pbmLock", doc! { "opid": opid }).await;
        }
    }
}

/// A document of `pbmBackups`. Its storage has a secret, which nobody may see.
fn backup(opid: &str, status: &str, start: i64, seconds: i64) -> Document {
    doc! {
        "type": "logical", "opid": opid, "name": format!("backup {opid}"), "replsets": [], "compression": "s2",
        "store": { "type": "s3", "s3": { "credentials": { "secret-access-key": "hush" } } },
        "size": if status == "done" { 1_000_i64 } else { 0 }, "size_uncompressed": if status == "done" { 4_000_i64 } else { 0 },
        "mongodb_version": "6.0.5", "fcv": "6.0", "start_ts": start, "last_transition_ts": start + seconds,
        "first_write_ts": at(start), "last_write_ts": at(start + seconds), "hb": at(now() + 600), "status": status,
        "conditions": [{ "timestamp": start, "status": "starting" }], "n": [], "pbm_version": "2.9.0", "balancer": "",
    }
}

fn chunk(set: &str, start: i64, end: i64) -> Document {
    doc! {
        "rs": set, "fname": format!("{set}/{start}"), "compression": "s2", "start_ts": at(start), "end_ts": at(end), "size": 7_i64,
    }
}

fn agent(node: &str, set: &str, storage: bool) -> Document {
    let is = |ok: bool| doc! { "ok": ok, "e": "" };
    doc! {
        "n": node, "rs": set, "s": 2, "str": "SECONDARY", "hdn": false, "psv": false, "arb": false, "delay": 0, "v": "2.9.0",
        "mv": "6.0.5", "pbms": is(true), "nodes": is(true), "stors": is(storage), "hb": at(now() + 600), "e": "",
    }
}

fn ended(metrics: &Metrics, job: &str, outcome: &str) -> Option<f64> {
    metrics.get(RUNS, &[("probe", job), ("outcome", outcome)])
}

fn of_job(metrics: &Metrics, name: &str) -> Option<f64> {
    metrics.get(&format!("midwatch_backup_{name}"), &[("probe", "nightly")])
}

/// Waits until the job shows that value.
async fn shows(daemon: &Midwatch, name: &str, labels: &[(&str, &str)], value: f64) -> Metrics {
    let name = format!("midwatch_backup_{name}");
    let what = format!("{name}{labels:?} to be {value}");
    daemon.until(&what, |metrics| (metrics.get(&name, labels) == Some(value)).then(|| metrics.clone())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_followed_on_its_node_and_counted_once() {
    let set = ReplicaSet::start(3).await.unwrap();
    let (pbm, hosts, start) = (Pbm::of(&set).await, set.hosts(), now() - 100);
    // By all members: whichever is asked first knows it.
    let yesterday = [backup("of yesterday", "done", start - 86_400, 60)];
    let all = WriteConcern::nodes(3);
    pbm.client.database("admin").collection("pbmBackups").insert_many(yesterday).write_concern(all).await.unwrap();
    let sections = job("nightly", &hosts, "") + &probe("lab", &hosts, "interval = \"1s\"\ntimeout = \"900ms\"");
    let mut daemon = Midwatch::start(&sections).await;
    let metrics = shows(&daemon, "retained", &[], 1.0).await;
    assert_eq!(ended(&metrics, "nightly", "success"), Some(0.0), "what ended before anybody watched is not counted");
    assert_eq!(of_job(&metrics, "last_success_timestamp_seconds"), Some((start - 86_400 + 60) as f64));

    pbm.begin("tonight", &hosts[1], start).await;
    shows(&daemon, "running", &[("node", &hosts[1])], 1.0).await;
    let has_members = |metrics: &Metrics| metrics.all("midwatch_mongodb_member_state", &[]).count() > 0;
    let metrics = daemon.until("members", |metrics| has_members(metrics).then(|| metrics.clone())).await;
    // The joint of the two probes: the same text.
    let busy = metrics.all(RUNNING, &[]).find(|sample| sample.value == 1.0).unwrap();
    let same = [("member", busy.labels["node"].as_str())];
    assert!(metrics.all("midwatch_mongodb_member_state", &same).count() > 0, "no member is called {same:?}");
    assert_eq!(of_job(&metrics, "running_start_timestamp_seconds"), Some(start as f64));

    let nodes = doc! { "replsets": [{ "name": "lab", "node": &hosts[1], "status": "running" }] };
    pbm.turn("tonight", "running", (start, 10), nodes).await;
    pbm.turn("tonight", "dumpDone", (start, 40), doc! {}).await;
    pbm.turn("tonight", "done", (start, 45), doc! { "size": 2_000_i64, "size_uncompressed": 9_000_i64 }).await;
    let metrics = shows(&daemon, "running", &[("node", &hosts[1])], 0.0).await;
    let one = |name: &str| of_job(&metrics, name);
    assert_eq!(ended(&metrics, "nightly", "success"), Some(1.0));
    assert_eq!((one("last_size_bytes"), one("last_uncompressed_bytes")), (Some(2_000.0), Some(9_000.0)));
    assert_eq!((one("last_duration_seconds"), one("last_run_success")), (Some(45.0), Some(1.0)));
    for (phase, seconds) in [("starting", 10.0), ("running", 30.0), ("dumpDone", 5.0)] {
        let sum = metrics.get("midwatch_backup_phase_duration_seconds_sum", &[("phase", phase)]);
        assert_eq!(sum, Some(seconds), "{phase}");
    }
    shows(&daemon, "stored_bytes", &[], 3_000.0).await;

    daemon.restart().await;
    let metrics = shows(&daemon, "retained", &[], 2.0).await;
    assert_eq!(ended(&metrics, "nightly", "success"), Some(1.0), "counted twice");
    assert_eq!(metrics.get(RUNNING, &[("node", &hosts[1])]), Some(0.0), "the joint is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_has_its_outcome() {
    let set = ReplicaSet::start(1).await.unwrap();
    let (pbm, hosts, start) = (Pbm::of(&set).await, set.hosts(), now() - 100);
    let daemon = Midwatch::start(&job("nightly", &hosts, "")).await;
    shows(&daemon, "source_up", &[], 1.0).await;
    let far = ["db-7.example:27017", "DB-8.example:27017"];
    let replsets: Vec<_> = far.iter().map(|node| doc! { "name": *node, "node": *node }).collect();
    pbm.begin("failed", &hosts[0], start).await;
    pbm.turn("failed", "running", (start, 1), doc! { "replsets": replsets }).await;
    shows(&daemon, "running", &[("node", far[0])], 1.0).await;
    shows(&daemon, "running", &[("node", "db-8.example:27017")], 1.0).await;
    pbm.turn("failed", "error", (start, 2), doc! { "error": "no \u{7} space" }).await;
    let metrics = shows(&daemon, "runs_total", &[("outcome", "failure")], 1.0).await;
    assert_eq!(of_job(&metrics, "last_failure_timestamp_seconds"), Some((start + 2) as f64));
    assert_eq!(metrics.get(RUNNING, &[("node", far[0])]), Some(0.0));

    pbm.begin("stopped", &hosts[0], start + 10).await;
    pbm.turn("stopped", "canceled", (start + 10, 2), doc! {}).await;
    shows(&daemon, "runs_total", &[("outcome", "canceled")], 1.0).await;

    pbm.begin("abandoned", &hosts[0], start + 20).await;
    shows(&daemon, "runs_in_progress", &[], 1.0).await;
    let heard = async |seconds: i64| {
        let hb = at(now() + seconds);
        pbm.update("pbmBackups", doc! { "opid": "abandoned" }, doc! { "$set": { "hb": hb } }).await;
    };
    // Nobody is heard of for a while; then for long, and after all.
    heard(-40).await;
    shows(&daemon, "runs_in_progress", &[], 0.0).await;
    heard(600).await;
    let metrics = shows(&daemon, "runs_in_progress", &[], 1.0).await;
    let lost = |metrics: &Metrics| metrics.get("midwatch_backup_runs_total", &[("outcome", "lost")]);
    assert_eq!(lost(&metrics), Some(0.0));
    heard(-400).await;
    let metrics = shows(&daemon, "runs_total", &[("outcome", "lost")], 1.0).await;
    assert_eq!(of_job(&metrics, "runs_in_progress"), Some(0.0));
    heard(600).await;
    let metrics = shows(&daemon, "runs_in_progress", &[], 1.0).await;
    assert_eq!((lost(&metrics), metrics.get(RUNNING, &[("node", &hosts[0])])), (Some(1.0), Some(1.0)));
    heard(-400).await;
    let metrics = shows(&daemon, "runs_in_progress", &[], 0.0).await;
    assert_eq!(lost(&metrics), Some(1.0));

    pbm.begin("deleted", &hosts[0], start + 30).await;
    shows(&daemon, "runs_in_progress", &[], 1.0).await;
    pbm.delete("pbmBackups", doc! { "opid": "deleted" }).await;
    shows(&daemon, "runs_total", &[("outcome", "lost")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oplog_is_covered_up_to_its_gaps() {
    let set = ReplicaSet::start(1).await.unwrap();
    let (pbm, hosts, t) = (Pbm::of(&set).await, set.hosts(), now() - 10_000);
    let secret = doc! { "type": "s3", "s3": { "credentials": { "secret-access-key": "hush" } } };
    let config = doc! { "storage": secret.clone(), "pitr": { "enabled": true }, "epoch": at(t) };
    let profile = doc! { "name": "other", "profile": true, "storage": secret, "pitr": { "enabled": false } };
    pbm.insert("pbmConfig", [profile, config]).await;
    let chunks = [
        ("a", 0, 600),
        ("a", 600, 1_200),
        ("a", 2_000, 2_600),
        ("a", 2_600, 9_000),
        ("b", 100, 1_500),
        ("b", 1_500, 5_000),
        ("b", 5_100, 9_500),
    ];
    pbm.insert("pbmPITRChunks", chunks.map(|(set, start, end)| chunk(set, t + start, t + end))).await;
    pbm.insert("pbmBackups", [backup("base", "done", t + 300, 60), backup("later", "done", t + 5_200, 60)]).await;
    let slicer = doc! { "type": "pitr", "replset": "a", "node": &hosts[0], "hb": at(now() + 600) };
    pbm.insert("pbmLockOp", [slicer]).await;
    pbm.insert("pbmAgents", [agent(&hosts[0], "a", true), agent("DB-7.example:27017", "b", false)]).await;

    let daemon = Midwatch::start(&job("nightly", &hosts, "")).await;
    let metrics = shows(&daemon, "pitr_enabled", &[], 1.0).await;
    let one = |metrics: &Metrics, name: &str| of_job(metrics, name).map(|value| value - t as f64);
    // Common to both: 100 to 1200, 2000 to 5000, 5100 to 9000.
    assert_eq!((of_job(&metrics, "pitr_gaps"), of_job(&metrics, "pitr_gap_seconds")), (Some(2.0), Some(900.0)));
    assert_eq!(one(&metrics, "pitr_earliest_timestamp_seconds"), Some(5_261.0));
    assert_eq!(one(&metrics, "pitr_latest_timestamp_seconds"), Some(9_000.0));
    let running = |metrics: &Metrics, set| metrics.get("midwatch_backup_pitr_running", &[("rs", set)]);
    assert_eq!((running(&metrics, "a"), running(&metrics, "b")), (Some(1.0), Some(0.0)));
    let lag = |set| metrics.get("midwatch_backup_pitr_lag_seconds", &[("rs", set)]).unwrap();
    assert!((1_000.0..1_100.0).contains(&lag("a")) && (500.0..600.0).contains(&lag("b")), "{} {}", lag("a"), lag("b"));
    let agent_up = |node| metrics.get("midwatch_backup_agent_up", &[("node", node)]);
    assert_eq!((agent_up(&hosts[0]), agent_up("db-7.example:27017")), (Some(1.0), Some(0.0)));

    pbm.insert("pbmPITRChunks", [chunk("a", t + 9_000, t + 9_600)]).await;
    shows(&daemon, "pitr_latest_timestamp_seconds", &[], (t + 9_500) as f64).await;
    pbm.delete("pbmPITRChunks", doc! { "rs": "a", "start_ts": at(t + 2_600) }).await;
    // Common to both are now: 100 to 1200, 2000 to 2600, 9000 to 9500, and no backup is in the last one.
    let metrics = shows(&daemon, "pitr_gap_seconds", &[], 7_200.0).await;
    assert_eq!(
        (one(&metrics, "pitr_earliest_timestamp_seconds"), of_job(&metrics, "pitr_gaps")),
        (Some(361.0), Some(2.0))
    );
    pbm.update("pbmConfig", doc! { "profile": { "$ne": true } }, doc! { "$set": { "pitr.enabled": false } }).await;
    shows(&daemon, "pitr_enabled", &[], 0.0).await;
    pbm.delete("pbmAgents", doc! { "n": &hosts[0] }).await;
    shows(&daemon, "agent_up", &[("node", &hosts[0])], 0.0).await;

    let told = midwatch(&["probe", "backup", "nightly", "--config", daemon.config().to_str().unwrap()]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned() + &daemon.log();
    assert!(!told.contains("hush"), "{told}");
}

/// A complete backup that ended a minute after it began, and is special in some way.
fn special(opid: &str, start: i64, how: Document) -> Document {
    let mut backup = backup(opid, "done", start, 60);
    backup.extend(how);
    backup
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_begins_with_what_pbm_takes_for_it() {
    let server = Standalone::start().await.unwrap();
    let (pbm, t) = (Pbm { client: server.client(None).unwrap() }, now() - 10_000);
    pbm.insert("pbmPITRChunks", [chunk("a", t, t + 9_000)]).await;
    let none = [
        special("external", t + 100, doc! { "type": "external" }),
        special("selective", t + 200, doc! { "nss": ["shop.orders"] }),
        special("selective as well", t + 300, doc! { "nss": ["*.*"] }),
        special("elsewhere", t + 400, doc! { "store": { "type": "filesystem", "profile": true, "name": "far" } }),
        special("failed", t + 500, doc! { "status": "error" }),
        special("before the first chunk", t - 61, doc! {}),
    ];
    pbm.insert("pbmBackups", none).await;
    let daemon = Midwatch::start(&job("nightly", &[server.host()], "")).await;
    let metrics = shows(&daemon, "retained", &[], 5.0).await;
    assert_eq!(of_job(&metrics, "pitr_earliest_timestamp_seconds"), None, "none of them");
    for (kind, start) in [("incremental", 3_000), ("physical", 2_000), ("logical", 1_000)] {
        pbm.insert("pbmBackups", [special(kind, t + start, doc! { "type": kind })]).await;
        shows(&daemon, "pitr_earliest_timestamp_seconds", &[], (t + start + 61) as f64).await;
    }
    // The last write was in the second in which the first chunk begins, and before it.
    let last = Bson::Timestamp(Timestamp { time: t.try_into().unwrap(), increment: 0 });
    pbm.insert("pbmBackups", [special("just so", t - 60, doc! { "last_write_ts": last })]).await;
    shows(&daemon, "pitr_earliest_timestamp_seconds", &[], (t + 1) as f64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_was_removed_limits_nothing() {
    let server = Standalone::start().await.unwrap();
    let (pbm, t) = (Pbm { client: server.client(None).unwrap() }, now() - 10_000);
    let sets = |names: &[&str]| {
        let sets: Vec<_> = names.iter().map(|name| doc! { "name": *name, "node": format!("{name}:1") }).collect();
        doc! { "replsets": sets }
    };
    pbm.insert("pbmPITRChunks", [chunk("a", t, t + 9_000), chunk("gone", t, t + 3_000)]).await;
    pbm.insert("pbmBackups", [special("old", t + 100, sets(&["a", "gone"]))]).await;
    pbm.insert("pbmAgents", [agent("a:1", "a", true), agent("gone:1", "gone", true)]).await;
    let daemon = Midwatch::start(&job("nightly", &[server.host()], "")).await;
    shows(&daemon, "pitr_latest_timestamp_seconds", &[], (t + 3_000) as f64).await;
    // All of its agents are down for long: it is still a part of the deployment, as far as the last backup tells.
    pbm.update("pbmAgents", doc! { "n": "gone:1" }, doc! { "$set": { "hb": at(now() - 2 * 86_400) } }).await;
    let metrics = shows(&daemon, "agent_up", &[("node", "gone:1")], 0.0).await;
    assert_eq!(of_job(&metrics, "pitr_latest_timestamp_seconds"), Some((t + 3_000) as f64));
    pbm.insert("pbmBackups", [special("new", t + 4_000, sets(&["a"]))]).await;
    let metrics = shows(&daemon, "pitr_latest_timestamp_seconds", &[], (t + 9_000) as f64).await;
    // The old backup cannot be restored into what is left.
    assert_eq!(of_job(&metrics, "pitr_earliest_timestamp_seconds"), Some((t + 4_061) as f64));
    let lags: Vec<_> =
        metrics.all("midwatch_backup_pitr_lag_seconds", &[]).map(|lag| lag.labels["rs"].clone()).collect();
    assert_eq!(lags, ["a"]);
}

/// Has the server wait before it answers each query for chunks.
async fn slow_chunks(set: &ReplicaSet, milliseconds: i64) {
    let data = doc! {
        "failCommands": ["find"], "namespace": "admin.pbmPITRChunks", "blockConnection": true, "blockTimeMS": milliseconds,
    };
    let point = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
    set.command(0, point).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reading_has_all_the_time_there_is_and_is_gone_on_with() {
    let options = Options::default().members(1).parameter("enableTestCommands", "1");
    let set = ReplicaSet::with(options).await.unwrap();
    let (pbm, t) = (Pbm::of(&set).await, now() - 12_000 * 10);
    for thousand in 0..12_i64 {
        let of = |at: i64| chunk("a", t + at * 10, t + (at + 1) * 10);
        pbm.insert("pbmPITRChunks", (thousand * 1_000..(thousand + 1) * 1_000).map(of)).await;
    }
    pbm.insert("pbmBackups", [backup("base", "done", t, 60)]).await;
    // Three pieces, for which no reading has the time.
    slow_chunks(&set, 2_200).await;
    let config = job("nightly", &set.hosts(), "").replace("950ms", "5900ms").replace("\"1s\"", "\"6s\"");
    let daemon = Midwatch::start(&config).await;
    let metrics = shows(&daemon, "pitr_latest_timestamp_seconds", &[], (t + 120_000) as f64).await;
    assert_eq!((of_job(&metrics, "pitr_gaps"), metrics.get(SOURCE_UP, &[])), (Some(0.0), Some(1.0)));
    assert!(daemon.log().contains(" of 12000 chunks of the oplog have been read"), "{}", daemon.log());

    // More than half of a reading, over the connection that was kept.
    slow_chunks(&set, 3_400).await;
    let runs = |metrics: &Metrics| metrics.get("midwatch_probe_runs_total", &[("probe", "nightly")]).unwrap();
    let failures = |metrics: &Metrics| -> f64 {
        metrics.all("midwatch_probe_failures_total", &[("probe", "nightly")]).map(|sample| sample.value).sum()
    };
    let before = daemon.metrics().await;
    let until = runs(&before) + 3.0;
    let after = daemon.until("readings", |metrics| (runs(metrics) >= until).then(|| metrics.clone())).await;
    assert_eq!(failures(&after), failures(&before), "{}", daemon.log());
}

/// How many documents the server has handed out since it started.
async fn handed_out(server: &Standalone) -> i64 {
    let status = server.command(doc! { "serverStatus": 1, "metrics": 1 }).await.unwrap();
    status.get_document("metrics").unwrap().get_document("document").unwrap().get_i64("returned").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_backups_are_read_once() {
    let server = Standalone::start().await.unwrap();
    let (pbm, start) = (Pbm { client: server.client(None).unwrap() }, now() - 40_000_000);
    for thousand in 0..10_i64 {
        let of = |at: i64| backup(&format!("{at}"), "done", start + at * 3_600, 60);
        pbm.insert("pbmBackups", (thousand * 1_000..(thousand + 1) * 1_000).map(of)).await;
        let of = |at: i64| chunk("a", start + at * 600, start + (at + 1) * 600);
        pbm.insert("pbmPITRChunks", (thousand * 1_000..(thousand + 1) * 1_000).map(of)).await;
    }
    let config = job("nightly", &[server.host()], "").replace("950ms", "9s").replace("\"1s\"", "\"10s\"");
    let daemon = Midwatch::start(&config).await;
    let metrics = shows(&daemon, "retained", &[], 10_000.0).await;
    assert_eq!(of_job(&metrics, "stored_bytes"), Some(10_000_000.0));
    assert_eq!(of_job(&metrics, "oldest_timestamp_seconds"), Some((start + 60) as f64));
    assert_eq!(of_job(&metrics, "last_start_timestamp_seconds"), Some((start + 9_999 * 3_600) as f64));
    assert_eq!(of_job(&metrics, "pitr_latest_timestamp_seconds"), Some((start + 10_000 * 600) as f64));
    let faster = job("nightly", &[server.host()], "");
    // Another interval is no reason to forget what was read: its source is the same, and its books are.
    daemon.reload(&faster).await;
    let runs = |metrics: &Metrics| metrics.get("midwatch_probe_runs_total", &[("probe", "nightly")]).unwrap_or(0.0);
    let read = async |more: f64| {
        let before = runs(&daemon.metrics().await);
        daemon.until("readings", |metrics| (runs(metrics) >= before + more).then_some(())).await;
        handed_out(&server).await
    };
    read(2.0).await;
    let before = read(1.0).await;
    let after = read(5.0).await;
    // The last backup again and again, and what this test asks itself.
    assert!(after - before < 100, "{} documents", after - before);
    assert_eq!(ended(&daemon.metrics().await, "nightly", "success"), Some(0.0));

    pbm.begin("new", "db:1", now()).await;
    pbm.turn("new", "done", (now(), 1), doc! { "size": 5_i64 }).await;
    let metrics = shows(&daemon, "retained", &[], 10_001.0).await;
    assert_eq!(ended(&metrics, "nightly", "success"), Some(1.0));
    pbm.delete("pbmBackups", doc! { "start_ts": { "$lt": start + 1_000 * 3_600 } }).await;
    let metrics = shows(&daemon, "retained", &[], 9_001.0).await;
    assert_eq!(of_job(&metrics, "oldest_timestamp_seconds"), Some((start + 1_000 * 3_600 + 60) as f64));
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_member_is_there_is_asked() {
    let set = ReplicaSet::start(3).await.unwrap();
    let (hosts, start) = (set.hosts(), now() - 100);
    let pbm = Pbm::of(&set).await;
    pbm.insert("pbmBackups", [backup("first", "done", start, 5)]).await;
    let config = job("nightly", &hosts, "").replace("950ms", "2900ms").replace("\"1s\"", "\"3s\"");
    let daemon = Midwatch::start(&config).await;
    shows(&daemon, "retained", &[], 1.0).await;
    let asked = async || {
        for member in 0..3 {
            if set.connections_of(member, "midwatch").await.is_ok_and(|count| count > 0) {
                return Some(member);
            }
        }
        None
    };
    let victim = eventually("a connection", asked).await;
    assert_eq!(set.connections_of(victim, "midwatch").await.unwrap(), 1, "one connection serves all readings");

    // A member that hangs costs half of a reading, one that is gone nothing.
    set.freeze(victim).unwrap();
    let failures = |metrics: &Metrics| metrics.get("midwatch_probe_success", &[("probe", "nightly")]);
    let runs = |metrics: &Metrics| metrics.get("midwatch_probe_runs_total", &[("probe", "nightly")]).unwrap();
    let before = runs(&daemon.metrics().await);
    let metrics = daemon.until("readings", |metrics| (runs(metrics) >= before + 2.0).then(|| metrics.clone())).await;
    assert_eq!((failures(&metrics), metrics.get(SOURCE_UP, &[])), (Some(1.0), Some(1.0)));
    set.thaw(victim).unwrap();
    set.kill(victim);
    set.wait_primary().await.unwrap();
    Pbm::of(&set).await.insert("pbmBackups", [backup("second", "done", start + 10, 5)]).await;
    shows(&daemon, "runs_total", &[("outcome", "success")], 1.0).await;

    for member in 0..3 {
        set.kill(member);
    }
    let metrics = shows(&daemon, "source_up", &[], 0.0).await;
    assert_eq!((of_job(&metrics, "retained"), ended(&metrics, "nightly", "success")), (Some(2.0), Some(1.0)));
    for member in 0..3 {
        set.restart(member).await.unwrap();
    }
    set.wait_primary().await.unwrap();
    let missed = [backup("third", "done", start + 20, 5), backup("fourth", "error", start + 30, 5)];
    Pbm::of(&set).await.insert("pbmBackups", missed).await;
    let metrics = shows(&daemon, "runs_total", &[("outcome", "failure")], 1.0).await;
    assert_eq!((metrics.get(SOURCE_UP, &[]), ended(&metrics, "nightly", "success")), (Some(1.0), Some(2.0)));
}

/// The role that docs/BACKUPS.md asks for, as the command that makes it.
fn documented_role() -> Document {
    let docs = include_str!("../../../docs/BACKUPS.md");
    let start = docs.find("db.getSiblingDB(\"admin\").runCommand(").expect("the role in docs/BACKUPS.md");
    let command = docs[start..].split_once("runCommand(").unwrap().1.split_once("\n})").unwrap().0;
    serde_json::from_str::<Document>(&format!("{command}\n}}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_the_documented_role_and_no_other() {
    let set = ReplicaSet::with(Options::default().members(1).auth()).await.unwrap();
    let run = async |command| set.command(0, command).await.unwrap();
    run(documented_role()).await;
    run(doc! { "createUser": "watch", "pwd": "secret words", "roles": [] }).await;
    let user = User::new("watch", "secret words", Mechanism::ScramSha256);
    let password = set.folder().join("password");
    std::fs::write(&password, &user.password).unwrap();
    let login = format!("username = \"watch\"\npassword = {{ file = \"{}\" }}", password.display());
    let daemon = Midwatch::start(&job("nightly", &set.hosts(), &login)).await;
    let metrics = after_runs(&daemon, 1, 2.0).await;
    assert_eq!(metrics.get(SOURCE_UP, &[]), Some(0.0));
    assert!(daemon.log().contains("pbmLock: "), "the collection is named: {}", daemon.log());

    run(doc! { "grantRolesToUser": "watch", "roles": ["midwatchBackups"] }).await;
    shows(&daemon, "source_up", &[], 1.0).await;
    assert!(!daemon.log().contains("secret words"));
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_are_restore_tests() {
    let set = ReplicaSet::start(1).await.unwrap();
    let (pbm, start) = (Pbm::of(&set).await, now() - 100);
    let daemon = Midwatch::start(&job("restored", &set.hosts(), "restores = \"nightly\"")).await;
    shows(&daemon, "source_up", &[], 1.0).await;
    let restore = doc! {
        "status": "done", "name": "r", "opid": "r1", "backup": "b", "bcp_chain": ["b"], "start_pitr": 0_i64, "pitr": 0_i64,
        "replsets": [{ "name": "lab", "status": "done", "conditions": [] }], "hb": at(start), "start_ts": start,
        "last_transition_ts": start + 50, "conditions": [{ "timestamp": start, "status": "starting" }], "type": "logical",
    };
    pbm.insert("pbmRestores", [restore]).await;
    pbm.insert("pbmBackups", [backup("no restore", "done", start, 7)]).await;
    let labels = [("probe", "restored"), ("restores", "nightly")];
    let metrics = shows(&daemon, "restore_test_last_success_timestamp_seconds", &labels, (start + 50) as f64).await;
    assert_eq!(metrics.get("midwatch_backup_restore_test_last_duration_seconds", &labels), Some(50.0));
    assert_eq!(metrics.all("midwatch_backup_retained", &[]).count(), 0);
}
