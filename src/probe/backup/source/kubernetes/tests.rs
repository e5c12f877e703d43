//! What a made-up API server tells, and what becomes of it.

use std::time::Duration;

use kube::runtime::watcher::Event;
use lab::kubernetes::{ApiServer, Life, cron_job, job, minutes_ago, pod};
use lab::net::{Blackhole, Peer, Refused};
use serde_json::Value;
use tokio::time::Instant;

use super::objects::{CronJob, Job, Kind, Object, Pod};
use super::shelf::{Part, Shelf, Told};
use super::{Choice, Config, Nodes};
use crate::metrics::{Live, SeriesSet};
use crate::probe::backup::Backup;
use crate::probe::backup::config::Config as Keys;
use crate::probe::backup::runs::{Outcome, Run, Seen};
use crate::probe::testing::{Bench, config};
use crate::probe::{Failure, Probe as _, Reason, Shared};
use crate::settings::Files;

const TOKEN: &str = "canary-4711";
const STARTED: &str = "2026-11-21T02:00:00Z";
const ENDED: &str = "2026-11-21T02:20:30Z";
/// The same in unix seconds.
const TIMES: (f64, f64) = (1_795_226_400.0, 1_795_227_630.0);
const RUNNING: Life<'_> = Life::Running { started: STARTED };
const COMPLETE: Life<'_> = Life::Complete { started: STARTED, ended: ENDED };
const FAILED: Life<'_> = Life::Failed { started: STARTED, ended: ENDED, reason: "BackoffLimitExceeded" };

fn object<K: Kind>(value: Value) -> Object<K> {
    serde_json::from_value(value).unwrap()
}

/// A shelf that is told things.
struct Scene {
    config: Config,
    shelf: Shelf,
}

impl Scene {
    /// One whose first list has told nothing.
    fn new() -> Self {
        let nodes = Nodes::Mapped { names: vec![("node-a".into(), "mongo-2:27017".into())], others: true };
        let config = Config {
            namespace: None,
            choice: Choice::CronJob("nightly".into()),
            nodes,
            kubeconfig: None,
            context: None,
        };
        let scene = Self { config, shelf: Shelf::default() };
        scene.shelf.begin(&[Part::Jobs, Part::Pods]);
        scene.list::<Job>([]);
        scene.list::<Pod>([]);
        scene.tell(Event::Apply(object::<CronJob>(cron_job("nightly", "0 2 * * *", Some("Europe/Berlin"), false))));
        scene
    }

    fn tell<K: Told>(&self, event: Event<Object<K>>) {
        self.shelf.tell(&self.config, event);
    }

    fn list<K: Told>(&self, objects: impl IntoIterator<Item = Value>) {
        self.tell::<K>(Event::Init);
        for one in objects {
            self.tell(Event::InitApply(object::<K>(one)));
        }
        self.tell::<K>(Event::InitDone);
    }

    fn job(&self, uid: &str, life: &Life<'_>) {
        self.tell(Event::Apply(object::<Job>(job(uid, uid, Some("nightly"), life))));
    }

    fn seen(&self) -> Seen {
        self.shelf.seen(&self.config).unwrap().unwrap()
    }

    fn run(&self, uid: &str) -> Option<Run> {
        self.seen().runs.into_iter().find(|run| run.id == uid)
    }
}

#[test]
fn a_job_is_a_run_with_its_times_and_its_node() {
    let scene = Scene::new();
    scene.job("a", &Life::Pending);
    assert_eq!(scene.run("a"), None, "not begun");
    scene.job("a", &RUNNING);
    let run = scene.run("a").unwrap();
    assert_eq!((run.started, run.end, run.node), (Some(TIMES.0), None, None));
    scene.tell(Event::Apply(object::<Pod>(pod("a-1", "a", STARTED, None))));
    assert_eq!(scene.run("a").unwrap().node, None, "waits for a place");
    scene.tell(Event::Apply(object::<Pod>(pod("a-1", "a", STARTED, Some("node-a")))));
    assert_eq!(scene.run("a").unwrap().node.as_deref(), Some("mongo-2:27017"));
    // Another attempt elsewhere is the same run; what is told late of the first one changes nothing.
    scene.tell(Event::Apply(object::<Pod>(pod("a-2", "a", ENDED, Some("node-b")))));
    scene.tell(Event::Apply(object::<Pod>(pod("a-1", "a", STARTED, Some("node-a")))));
    scene.job("a", &COMPLETE);
    let run = scene.run("a").unwrap();
    assert_eq!(run.end.map(|end| (end.at, end.outcome)), Some((TIMES.1, Outcome::Success)));
    assert_eq!(run.node.as_deref(), Some("node-b"));
    assert_eq!(scene.seen().runs.len(), 1);

    scene.tell(Event::Apply(object::<Pod>(pod("b-1", "b", STARTED, Some("node-a")))));
    scene.job("b", &FAILED);
    let run = scene.run("b").unwrap();
    assert_eq!(run.end.map(|end| (end.at, end.outcome)), Some((TIMES.1, Outcome::Failure)));
    assert_eq!(run.note, "b: BackoffLimitExceeded: Job has failed");
    assert_eq!(run.node.as_deref(), Some("mongo-2:27017"), "its Pod was told first");
    assert!(scene.seen().has_all_open);
}

#[test]
fn a_run_outlives_its_job() {
    let scene = Scene::new();
    let deleted = |uid: &str, life: &Life<'_>| {
        scene.tell(Event::Delete(object::<Job>(job(uid, uid, Some("nightly"), life))));
        scene.run(uid).and_then(|run| run.end)
    };
    scene.job("done", &COMPLETE);
    assert_eq!(deleted("done", &COMPLETE).unwrap().outcome, Outcome::Success);
    scene.job("quick", &RUNNING);
    assert_eq!(deleted("quick", &COMPLETE).unwrap().outcome, Outcome::Success, "the end came with the deletion");
    scene.job("stopped", &RUNNING);
    assert_eq!(deleted("stopped", &RUNNING).unwrap().outcome, Outcome::Canceled);
    assert_eq!(deleted("never", &Life::Pending), None, "it had not begun");
    scene.job("unseen", &RUNNING);
    // A list that has none of them, after changes were missed.
    scene.list::<Job>([job("new", "new", Some("nightly"), &RUNNING)]);
    let mut left: Vec<_> = scene.seen().runs.into_iter().map(|run| run.id).collect();
    left.sort();
    assert_eq!(left, ["done", "new", "quick", "stopped"], "how `unseen` ended nobody knows: the books give it up");
}

#[test]
fn a_job_that_is_suspended_while_it_runs_goes_on() {
    let scene = Scene::new();
    scene.job("a", &RUNNING);
    // The controller takes away its beginning.
    scene.job("a", &Life::Pending);
    let run = scene.run("a").unwrap();
    assert_eq!((run.started, run.end), (Some(TIMES.0), None));
}

#[test]
fn only_the_jobs_that_were_chosen_are_runs() {
    let others = [job("x-1", "1", Some("weekly"), &RUNNING), job("nightly-2", "2", None, &RUNNING)];
    let mut scene = Scene::new();
    scene.list::<Job>(others.clone());
    assert_eq!(scene.seen().runs, []);
    scene.config.choice = Choice::Named("nightly-*".parse().unwrap());
    scene.list::<Job>(others.clone());
    assert_eq!(scene.seen().runs.len(), 1);
    scene.config.choice = Choice::Selector("app=backup".into());
    scene.list::<Job>(others);
    assert_eq!(scene.seen().runs.len(), 2, "the API server has chosen");
}

#[test]
fn a_cron_job_says_when() {
    let scene = Scene::new();
    let cron = |schedule: &str, zone: Option<&str>, is_suspended: bool| {
        scene.list::<CronJob>([cron_job("nightly", schedule, zone, is_suspended)]);
        scene.seen()
    };
    let seen = cron("0 2 * * *", Some("Europe/Berlin"), false);
    assert_eq!((seen.schedule.unwrap().text(), seen.is_suspended), ("0 2 * * * Europe/Berlin".to_owned(), false));
    assert!(cron("@daily", None, true).is_suspended);
    assert!(cron("@daily", None, true).schedule.is_some());
    let odd = cron("@every 1h", None, false);
    assert!(odd.schedule.is_none() && odd.notes[0].contains("no schedule that midwatch can read"), "{odd:?}");
    assert!(cron("0 2 * * *", Some("Mars/Olympus"), false).schedule.is_none());
    // While a list comes in, what was known holds.
    scene.tell::<CronJob>(Event::Init);
    assert_eq!(scene.seen().notes.len(), 1);
    scene.tell::<CronJob>(Event::InitDone);
    let gone = scene.shelf.seen(&scene.config).unwrap().unwrap_err();
    assert_eq!(gone.reason, Reason::Mismatch, "{gone}");
}

#[test]
fn nothing_is_said_before_the_lists_are_told_and_while_a_watch_fails() {
    let scene = Scene::new();
    scene.shelf.begin(&[Part::Jobs, Part::Pods]);
    scene.list::<Job>([]);
    assert!(scene.shelf.seen(&scene.config).is_none(), "no list of Pods yet");
    scene.list::<Pod>([]);
    assert!(scene.seen().has_all_open);
    scene.shelf.fails(Part::Pods, Failure::new(Reason::Refused, "made up"));
    assert_eq!(scene.shelf.seen(&scene.config).unwrap().unwrap_err().reason, Reason::Refused);
    scene.shelf.is_well(Part::Pods);
    assert!(scene.seen().has_all_open);
}

#[test]
fn many_jobs_are_bounded() {
    let scene = Scene::new();
    scene.job("open", &RUNNING);
    for n in 0..10_000 {
        let ended = format!("2026-11-21T{:02}:{:02}:{:02}Z", n / 3600, n / 60 % 60, n % 60);
        scene.job(&format!("uid-{n}"), &Life::Complete { started: STARTED, ended: &ended });
        scene.tell(Event::Apply(object::<Pod>(pod("p", &format!("uid-{n}"), &ended, Some("node-a")))));
    }
    let seen = scene.seen();
    assert!((4096..=4608).contains(&seen.runs.len()), "{}", seen.runs.len());
    let has = |id: &str| seen.runs.iter().any(|run| run.id == id);
    assert!(has("open") && has("uid-9999") && !has("uid-0"));
}

#[test]
fn what_an_api_server_tells_is_read_whatever_it_is() {
    let (seeds, of_use) = crate::corpus::each("kubernetes_watch", super::fuzz::watch);
    assert!(seeds >= 5 && of_use >= 4, "{seeds} seeds, {of_use} of use");
}

#[tokio::test(start_paused = true)]
async fn requests_come_at_intervals_whatever_becomes_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let link = super::link::Link {
        net: crate::probe::net::Net::default(),
        access: super::Access::of_pod(folder.path()).into(),
        shelf: Shelf::default().into(),
        part: Part::Jobs,
        next: Default::default(),
        files: Default::default(),
    };
    // Otherwise the clock has not been on for as long as a burst takes.
    tokio::time::advance(Duration::from_secs(3600)).await;
    let began = Instant::now();
    for _ in 0..20 {
        link.pace().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "the pages of a list");
    for _ in 0..120 {
        link.pace().await;
    }
    assert!(began.elapsed() >= Duration::from_secs(59), "{:?}", began.elapsed());
}

/// A probe of the made-up server.
fn bench(api: &ApiServer, keys: &str) -> (tempfile::TempDir, Bench<Backup>) {
    bench_of(&api.kubeconfig(TOKEN), keys)
}

fn bench_of(kubeconfig: &str, keys: &str) -> (tempfile::TempDir, Bench<Backup>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kube.yaml"), kubeconfig).unwrap();
    let keys = format!("source = \"kubernetes\"\nkubeconfig = \"kube.yaml\"\n{keys}");
    let bench = Bench::within(folder.path(), &keys, &Shared::default());
    (folder, bench)
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the probe until its series say so, while it watches.
async fn until(bench: &Bench<Backup>, what: &str, check: impl Fn(&Bench<Backup>, &Result<(), Failure>) -> bool) {
    let ends = Instant::now() + PATIENCE;
    loop {
        let result = bench.run(PATIENCE).await;
        if check(bench, &result) {
            return;
        }
        assert!(Instant::now() < ends, "waited for {what}: {result:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Does that while the probe serves.
async fn served(bench: &Bench<Backup>, scenario: impl Future<Output = ()>) {
    let live = Live::new(SeriesSet::new([("probe", "p")], Default::default()));
    tokio::select! {
        () = bench.probe.serve(live) => panic!("it stopped serving"),
        () = scenario => {}
    }
}

fn runs(bench: &Bench<Backup>, outcome: &str) -> f64 {
    bench.sum("midwatch_backup_runs_total", &format!("outcome={outcome}"))
}

#[tokio::test]
async fn jobs_are_counted_while_they_come_and_go() {
    let api = ApiServer::start(TOKEN).await.unwrap();
    // Books give up what has gone on for days, and what ended before anybody watched is no news.
    let (began, over, started, ended) = (minutes_ago(90), minutes_ago(80), minutes_ago(60), minutes_ago(50));
    let complete = Life::Complete { started: &started, ended: &ended };
    api.put("cronjobs", cron_job("nightly", "0 2 * * *", None, false));
    api.put("jobs", job("nightly-0", "0", Some("nightly"), &Life::Complete { started: &began, ended: &over }));
    let (_folder, bench) =
        bench(&api, "cronjob = \"nightly\"\ngrace = \"10m\"\nnodes = { node-a = \"mongo-2:27017\" }");
    // On the heap: it is long.
    let scenario = Box::pin(async {
        until(&bench, "the lists", |_, result| result.is_ok()).await;
        assert_eq!(runs(&bench, "success"), 0.0, "it was over before anybody watched");
        assert_eq!(bench.sum("midwatch_backup_expected_interval_seconds", ""), 86_400.0);
        assert_eq!(bench.sum("midwatch_backup_grace_seconds", ""), 600.0);
        api.put("jobs", job("nightly-1", "1", Some("nightly"), &Life::Running { started: &started }));
        api.put("pods", pod("nightly-1-x", "1", &started, Some("node-a")));
        let running = |bench: &Bench<Backup>| bench.sum("midwatch_backup_running", "node=mongo-2:27017");
        until(&bench, "a run there", |bench, _| running(bench) == 1.0).await;
        api.bookmark();
        api.put("jobs", job("nightly-1", "1", Some("nightly"), &complete));
        api.delete("jobs", "nightly-1");
        until(&bench, "a success", |bench, _| runs(bench, "success") == 1.0).await;
        assert_eq!(running(&bench), 0.0);
        // What happens while a watch is cut off, and is forgotten there before it is renewed.
        api.cut();
        api.put(
            "jobs",
            job(
                "nightly-2",
                "2",
                Some("nightly"),
                &Life::Failed { started: &started, ended: &ended, reason: "BackoffLimitExceeded" },
            ),
        );
        until(&bench, "a failure", |bench, _| runs(bench, "failure") == 1.0).await;
        api.set_up(false);
        until(&bench, "nobody there", |_, result| result.is_err()).await;
        assert_eq!((runs(&bench, "success"), runs(&bench, "failure")), (1.0, 1.0));
        assert_eq!(bench.sum("midwatch_backup_source_up", ""), 0.0);
        api.put("jobs", job("nightly-3", "3", Some("nightly"), &complete));
        api.compact();
        api.set_up(true);
        until(&bench, "another success", |bench, _| runs(bench, "success") == 2.0).await;
        assert_eq!(bench.sum("midwatch_backup_source_up", ""), 1.0);
        api.compact();
        api.gone_by_status(true);
        api.cut();
        api.put("jobs", job("nightly-4", "4", Some("nightly"), &complete));
        until(&bench, "one more after 410 by status", |bench, _| runs(bench, "success") == 3.0).await;
    });
    served(&bench, scenario).await;
    assert!(api.requests().iter().any(|path| path.starts_with("/apis/batch/v1/namespaces/databases/jobs?")));
}

#[tokio::test]
async fn who_looks_first_and_who_serves_watch_together() {
    let api = ApiServer::start(TOKEN).await.unwrap();
    api.put("jobs", job("orders", "uid", None, &Life::Running { started: &minutes_ago(60) }));
    let (_folder, bench) = bench(&api, "jobs = \"orders*\"\nnode = \"mongo-1:27017\"");
    let live = Live::new(SeriesSet::new([("probe", "p")], Default::default()));
    // On the heap: it is long.
    let scenario = Box::pin(async {
        bench.run(PATIENCE).await.unwrap();
        api.put("jobs", job("orders-2", "uid-2", None, &Life::Running { started: &minutes_ago(60) }));
        until(&bench, "both", |bench, _| bench.sum("midwatch_backup_runs_in_progress", "") == 2.0).await;
    });
    tokio::select! {
        // It has asked before the other one does.
        biased;
        () = scenario => {}
        () = bench.probe.serve(live) => panic!("it stopped serving"),
    }
    let requests = api.requests();
    assert_eq!(requests.iter().filter(|path| path.contains("limit=500")).count(), 1, "{requests:?}");
    assert_eq!(requests.iter().filter(|path| path.contains("watch=true")).count(), 1, "{requests:?}");
}

#[tokio::test]
async fn a_single_run_reads_lists_in_pages() {
    let api = ApiServer::start(TOKEN).await.unwrap();
    api.set_page(3);
    for n in 0..10 {
        api.put(
            "jobs",
            job(&format!("orders-{n}"), &format!("uid-{n}"), None, &Life::Running { started: &minutes_ago(60) }),
        );
    }
    let (_folder, bench) = bench(&api, "selector = \"app=backup\"\nnode = \"mongo-1:27017\"");
    bench.run(PATIENCE).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_runs_in_progress", ""), 10.0);
    assert_eq!(bench.sum("midwatch_backup_running", "node=mongo-1:27017"), 1.0);
    let requests = api.requests();
    assert!(requests.iter().all(|path| !path.contains("/pods")), "nobody asked for a node: {requests:?}");
    assert_eq!(requests.iter().filter(|path| path.contains("continue=")).count(), 3, "{requests:?}");
}

#[tokio::test]
async fn what_keeps_us_from_watching_has_its_reason() {
    let api = ApiServer::start(TOKEN).await.unwrap();
    let keys = "jobs = \"orders-*\"";
    let result = async |kubeconfig: &str| bench_of(kubeconfig, keys).1.run(PATIENCE).await.unwrap_err();
    let here = api.kubeconfig(TOKEN);
    let unknown = result(&api.kubeconfig("another")).await;
    assert_eq!(unknown.reason, Reason::Auth, "{unknown}");
    api.forbid("list", "pods", true);
    let forbidden = result(&here).await;
    assert_eq!(forbidden.reason, Reason::Auth, "{forbidden}");
    assert!(forbidden.detail.contains("list pods in namespace databases: the role does not allow it"), "{forbidden}");
    api.forbid("list", "pods", false);
    for garbage in ["", "{}", "{\"items\": [{\"metadata\": 7}], \"metadata\": {}}", "<html>", TOKEN] {
        api.set_garbage(Some(garbage));
        let garbled = result(&here).await;
        assert_eq!(garbled.reason, Reason::Protocol, "{garbage}: {garbled}");
        assert!(!garbled.detail.contains(TOKEN), "{garbled}");
    }
    let elsewhere = |address: &str| here.replace(&api.address().to_string(), address);
    let refused = result(&elsewhere(&Refused::pick().unwrap().address().to_string())).await;
    assert_eq!(refused.reason, Reason::Refused, "{refused}");
    let garbage = Peer::garbage().await.unwrap();
    let garbled = elsewhere(&garbage.address().to_string());
    let odd = result(&garbled).await;
    assert!(matches!(odd.reason, Reason::Protocol | Reason::Closed), "{odd}");
    let no_tls = result(&garbled.replace("http://", "https://")).await;
    assert_eq!(no_tls.reason, Reason::Tls, "{no_tls}");
    let hole = Blackhole::open().await.unwrap();
    let (_folder, bench) = bench_of(&elsewhere(&hole.address().to_string()), keys);
    assert_eq!(bench.run(Duration::from_millis(300)).await.unwrap_err().reason, Reason::Timeout);
    assert_eq!(bench.sum("midwatch_backup_source_up", ""), 0.0);
}

#[test]
fn keys_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kube.yaml"), "current-context: x").unwrap();
    let problems = |keys: &str| {
        let keys = format!("source = \"kubernetes\"\n{keys}");
        config::<Keys>(folder.path(), &keys, &Files::new(false)).err().unwrap_or_default().join("\n")
    };
    assert_eq!(problems("cronjob = \"nightly\"\nnamespace = \"db\"\ngrace = \"5m\""), "");
    for (keys, expected) in [
        ("", "one of `cronjob`, `selector` and `jobs` is needed"),
        ("cronjob = \"a\"\njobs = \"b\"", "only one of"),
        ("cronjob = \"A b\"", "lower case"),
        ("jobs = \"a[\"", "no pattern"),
        ("selector = \"a=\\n\"", "selector of labels"),
        ("jobs = \"a\"\nnodes = { a = 1 }", "expected a table of nodes"),
        ("jobs = \"a\"\nnodes = \"a\"", "expected a table of nodes"),
        ("jobs = \"a\"\ncontext = \"b\"", "needs a `kubeconfig`"),
        ("jobs = \"a\"\nkubeconfig = \"kube.yaml\"", "it has no context `x`"),
        ("jobs = \"a\"\ngrace = \"1h\"", "needs a `schedule`"),
    ] {
        let found = problems(keys);
        assert!(found.contains(expected), "{keys}: {found}");
    }
}
