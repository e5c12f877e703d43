//! Jobs and CronJobs, told by a made-up API server.

use lab::kubernetes::{ApiServer, Life, cron_job, job, minutes_ago, pod};

use crate::support::{Metrics, Midwatch, Place, midwatch, program};

const TOKEN: &str = "canary-4711";
const NODE: &str = "mongo-2:27017";

/// A daemon that watches a CronJob there.
async fn start(api: &ApiServer) -> Midwatch {
    let place = Place::new();
    place.write("kube.yaml", &api.kubeconfig(TOKEN));
    let probe = format!(
        "[probe.backup.orders]\nsource = \"kubernetes\"\nkubeconfig = \"kube.yaml\"\ncronjob = \"orders-backup\"\n\
         nodes = {{ k8s-node-a = \"{NODE}\" }}\ninterval = \"1s\"\ntimeout = \"900ms\"\n"
    );
    place.write("midwatch.toml", &place.text(&probe));
    let midwatch = place.launch("midwatch.toml", &[], std::process::Command::new(program()));
    midwatch.wait_ready().await;
    midwatch
}

fn runs(metrics: &Metrics, outcome: &str) -> Option<f64> {
    metrics.get("midwatch_backup_runs_total", &[("outcome", outcome)])
}

/// Waits until so many runs ended so, and the source can be read.
async fn counted(midwatch: &Midwatch, outcome: &str, count: f64) -> Metrics {
    let is_up = |metrics: &Metrics| metrics.get("midwatch_backup_source_up", &[]) == Some(1.0);
    let what = format!("{count} runs with the outcome {outcome}");
    midwatch
        .until(&what, |metrics| (is_up(metrics) && runs(metrics, outcome) == Some(count)).then(|| metrics.clone()))
        .await
}

/// A Job of the CronJob.
fn put(api: &ApiServer, name: &str, life: &Life<'_>) {
    api.put("jobs", job(name, &format!("uid-of-{name}"), Some("orders-backup"), life));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_counted_once_whatever_becomes_of_it() {
    let api = ApiServer::start(TOKEN).await.unwrap();
    api.put("cronjobs", cron_job("orders-backup", "0 2 * * *", Some("UTC"), false));
    let mut midwatch = start(&api).await;
    let metrics = counted(&midwatch, "success", 0.0).await;
    assert_eq!(metrics.get("midwatch_backup_expected_interval_seconds", &[]), Some(86_400.0), "the CronJob's schedule");

    let (started, ended) = (&*minutes_ago(600), &*minutes_ago(580));
    put(&api, "one", &Life::Running { started });
    api.put("pods", pod("one-x", "uid-of-one", started, Some("k8s-node-a")));
    let running = |metrics: &Metrics| metrics.get("midwatch_backup_running", &[("node", NODE)]);
    midwatch.until("a run at its node", |metrics| (running(metrics) == Some(1.0)).then_some(())).await;
    put(&api, "one", &Life::Complete { started, ended });
    api.delete("jobs", "one");
    let metrics = counted(&midwatch, "success", 1.0).await;
    assert_eq!(
        (running(&metrics), metrics.get("midwatch_backup_last_duration_seconds", &[])),
        (Some(0.0), Some(1200.0))
    );

    let (started, ended) = (&*minutes_ago(540), &*minutes_ago(535));
    put(&api, "two", &Life::Running { started });
    put(&api, "two", &Life::Failed { started, ended, reason: "DeadlineExceeded" });
    counted(&midwatch, "failure", 1.0).await;

    // The Job that is still there is told again, and the one that vanished is not.
    midwatch.restart().await;
    let metrics = counted(&midwatch, "success", 1.0).await;
    assert_eq!((runs(&metrics, "failure"), runs(&metrics, "lost")), (Some(1.0), Some(0.0)));

    // Nobody there for a while: what happens meanwhile is forgotten by the server, but for what it still has.
    put(&api, "stopped", &Life::Running { started: &minutes_ago(480) });
    midwatch
        .until("a run", |metrics| (metrics.get("midwatch_backup_runs_in_progress", &[])? == 1.0).then_some(()))
        .await;
    api.set_up(false);
    let up = |metrics: &Metrics| metrics.get("midwatch_backup_source_up", &[]);
    let down = midwatch.until("the source to be down", |metrics| (up(metrics)? == 0.0).then(|| metrics.clone())).await;
    assert_eq!((runs(&down, "success"), runs(&down, "failure")), (Some(1.0), Some(1.0)));
    assert_eq!(down.get("midwatch_backup_runs_in_progress", &[]), Some(1.0), "frozen");
    let refused = down.get("midwatch_probe_failures_total", &[("probe", "orders"), ("reason", "refused")]);
    assert!(refused > Some(0.0), "{refused:?}");
    put(&api, "three", &Life::Complete { started: &minutes_ago(420), ended: &minutes_ago(390) });
    api.delete("jobs", "stopped");
    api.compact();
    api.set_up(true);
    let metrics = counted(&midwatch, "success", 2.0).await;
    assert_eq!((runs(&metrics, "lost"), runs(&metrics, "failure")), (Some(1.0), Some(1.0)), "nobody saw how it ended");
    assert_eq!(metrics.get("midwatch_backup_runs_in_progress", &[]), Some(0.0));

    put(&api, "four", &Life::Running { started: &minutes_ago(360) });
    midwatch
        .until("a run", |metrics| (metrics.get("midwatch_backup_runs_in_progress", &[])? == 1.0).then_some(()))
        .await;
    api.delete("jobs", "four");
    counted(&midwatch, "canceled", 1.0).await;

    let (_, shown) = midwatch.request("GET", "/config").await.unwrap();
    let (_, runs) = midwatch.request("GET", "/runs").await.unwrap();
    for (what, text) in [("log", midwatch.log()), ("configuration", shown), ("runs", runs)] {
        assert!(!text.contains(TOKEN) && !text.contains("from-the-spec"), "the {what} has a secret: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_lacks_is_said_and_is_not_asked_for_again_and_again() {
    let api = ApiServer::start(TOKEN).await.unwrap();
    api.put("cronjobs", cron_job("orders-backup", "0 2 * * *", None, true));
    api.forbid("watch", "jobs", true);
    let midwatch = start(&api).await;
    let denied =
        |metrics: &Metrics| metrics.get("midwatch_probe_failures_total", &[("probe", "orders"), ("reason", "auth")]);
    midwatch.until("failures", |metrics| (denied(metrics)? >= 3.0).then_some(())).await;
    assert!(
        midwatch.log().contains("watch jobs in namespace databases: the role does not allow it"),
        "{}",
        midwatch.log()
    );
    assert!(!midwatch.log().contains("kube_"), "{}", midwatch.log());
    let asked = api.requests().iter().filter(|path| path.contains("/jobs?")).count();
    assert!(asked <= 30, "{asked} requests");
    api.forbid("watch", "jobs", false);
    midwatch.until("the source", |metrics| (metrics.get("midwatch_backup_source_up", &[])? == 1.0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_look_once() {
    let api = ApiServer::start(TOKEN).await.unwrap();
    api.put("cronjobs", cron_job("orders-backup", "0 2 * * *", None, false));
    put(&api, "one", &Life::Running { started: &minutes_ago(30) });
    let place = Place::new();
    place.write("kube.yaml", &api.kubeconfig(TOKEN));
    let probe = "[probe.backup.orders]\nsource = \"kubernetes\"\nkubeconfig = \"kube.yaml\"\ncronjob = \"orders-backup\"\ntimeout = \"14s\"\n";
    let config = place.write("midwatch.toml", &place.text(probe));
    let look = move || midwatch(&["probe", "backup", "orders", "--config", config.to_str().unwrap()]);
    let output = tokio::task::spawn_blocking(look).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
    assert!(api.requests().iter().any(|path| path.contains("/cronjobs?")), "{:?}", api.requests());
}
