//! The table of faults: what people are told of each, through the shipped rules, a real Prometheus and a real Alertmanager with the
//! shipped example. By platform, and each is healed before the next.

use super::fire::{Expected, Watch, alert};
use super::platform::{Plan, Platform};
use crate::mongodb::starved::{HOGGED, QUIET};

/// What the platform's probes have, and what these have instead: an owner whom the example knows, and no objective, whose windows of
/// days would tell of one fault during the next.
const COMMON: &str = "owner = \"night-shift\"\nslo = { objective = 0.99, latency = \"1500ms\" }\n";

/// The platform's probes with another owner.
fn owned(platform: &Platform, owner: &str) -> String {
    let probes = platform.probes.replace(COMMON, &format!("owner = \"{owner}\"\n"));
    assert!(probes != platform.probes && !probes.contains("slo"), "{probes}");
    probes
}

/// Starts a platform whose probes belong to that owner, and what watches it.
async fn watched(plan: Plan, owner: &str) -> (Platform, Watch) {
    let platform = Platform::start(plan).await;
    let (status, said) = platform.daemon.reload(&owned(&platform, owner)).await;
    assert_eq!(status, 200, "{said}");
    let all_well = |m: &crate::support::Metrics| {
        let all: Vec<_> = m.all("midwatch_probe_run_success", &[]).collect();
        (!all.is_empty() && all.iter().all(|sample| sample.value == 1.0)).then_some(())
    };
    platform.daemon.until("all probes to be well", all_well).await;
    let watch = Watch::start(platform.scraping()).await;
    (platform, watch)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mongodb() {
    let (platform, watch) = watched(Plan { mongodb: true, backups: true, ..Plan::default() }, "databases").await;
    let (set, backups) = (platform.mongodb.as_ref().unwrap(), platform.backups.as_ref().unwrap());
    let hosts = set.hosts();
    watch.nothing_is_told("a replica set that is well").await;

    let down = |host: &str| alert("ProbeDown", "critical", &[("probe", "orders"), ("target", host)]);
    let victim = (set.primary().await.unwrap() + 1) % 3;
    let told = Expected::nothing().told("databases-pager", down(&hosts[victim]));
    let mend = async || {
        set.restart(victim).await.unwrap();
        set.wait_settled().await.unwrap();
    };
    watch.fault("a member killed", told, async || set.kill(victim), mend).await;

    let told = Expected::nothing().told("databases-pager", down(&hosts[victim]));
    watch
        .fault("a member frozen", told, async || set.freeze(victim).unwrap(), async || set.thaw(victim).unwrap())
        .await;

    // Another one takes over within seconds: nobody need be woken.
    let step_down = async || set.step_down().await.unwrap();
    watch.fault("the primary stepped down", Expected::nothing(), step_down, async || {}).await;
}
