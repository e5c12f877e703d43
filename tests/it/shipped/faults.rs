//! The table of faults: what people are told of each, through the shipped rules, a real Prometheus and a real Alertmanager with the
//! shipped example. By platform, and each is healed before the next.

use std::process::Command;
use std::time::Duration;

use lab::kafka::{Move, Record};
use lab::mongodb::Standalone;
use lab::prometheus::Options;
use lab::vpn::{WireguardServer, available};

use super::fire::{Expected, Watch, alert};
use super::platform::{KEEPS_UP, LAGS, Plan, Platform, TOPIC};
use super::relay::Relay;
use crate::backup::tell;
use crate::mongodb::probe;
use crate::mongodb::starved::{HOGGED, QUIET};
use crate::support::{Metrics, Midwatch, Place, program};
use crate::vpn;

/// What the platform's probes have, and what these have instead: an owner whom the example knows, and no objective, whose windows of
/// days would tell of one fault during the next.
const COMMON: &str = "owner = \"night-shift\"\nslo = { objective = 0.99, latency = \"1500ms\" }\n";

/// The topic of which a partition is moved.
const MOVED: &str = "ledger";
/// The token of the job that is told over HTTP.
const TOKEN: &str = "a-token-of-these-tests-only";

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
    let all_well = |m: &Metrics| {
        let all: Vec<_> = m.all("midwatch_probe_run_success", &[]).collect();
        (!all.is_empty() && all.iter().all(|sample| sample.value == 1.0)).then_some(())
    };
    let w =
        tokio::time::timeout(Duration::from_secs(40), platform.daemon.until("all probes to be well", all_well)).await;
    if w.is_err() {
        println!(
            "{:#?}",
            platform
                .daemon
                .metrics()
                .await
                .0
                .iter()
                .filter(|s| s.name.contains("success") || s.name.contains("failures_total") && s.value > 0.0)
                .collect::<Vec<_>>()
        );
        println!("{}", platform.daemon.log());
        panic!()
    }
    let watch = Watch::start(platform.scraping()).await;
    (platform, watch)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mongodb() {
    let (platform, watch) = watched(Plan { mongodb: true, backups: true, ..Plan::default() }, "databases").await;
    let (set, backups) = (platform.mongodb.as_ref().unwrap(), platform.backups.as_ref().unwrap());
    let hosts = set.hosts();
    watch.calm("a replica set that is well").await;

    // Another one takes over within seconds: nobody need be woken.
    let step_down = async || {
        set.step_down().await.unwrap();
        set.wait_settled().await.unwrap();
    };
    watch.fault("the primary stepped down", Expected::nothing(), step_down, async || {}).await;

    let victim = (set.primary().await.unwrap() + 1) % 3;
    let down = [("type", "mongodb"), ("probe", "orders"), ("target", hosts[victim].as_str())];
    let told = || Expected::nothing().told("databases-pager", alert("ProbeDown", "critical", &down));
    let mend = async || {
        set.restart(victim).await.unwrap();
        set.wait_settled().await.unwrap();
    };
    watch.fault("a member killed", told(), async || set.kill(victim), mend).await;
    let thaw = async || set.thaw(victim).unwrap();
    watch.fault("a member frozen", told(), async || set.freeze(victim).unwrap(), thaw).await;

    // The night: a backup of a standby takes the member's processor.
    let victim = hosts.iter().position(|host| *host == backups.node).unwrap();
    while set.wait_settled().await.unwrap() == victim {
        set.step_down().await.unwrap();
    }
    for member in 0..3 {
        set.pin(member, if member == victim { HOGGED } else { QUIET }).unwrap();
    }
    lab::process::pin(platform.daemon.child.id().unwrap(), QUIET).unwrap();
    watch.calm("members on processors of their own").await;
    let stop = platform.daemon.place.folder.path().join("stop");
    let data = set.data(victim);
    let pack = format!("tar -c -C {} . 2>/dev/null | gzip -9 >/dev/null", data.display());
    let script = format!(
        "taskset -cp {HOGGED} $$ >/dev/null; for n in 1 2 3 4 5 6 7 8; do while [ ! -e {} ]; do {pack}; done & done; wait",
        stop.display()
    );
    let slow = [("type", "mongodb"), ("probe", "orders"), ("member", backups.node.as_str()), ("phase", "hello")];
    let during = [&slow[..], &[("backup", "dump")]].concat();
    let told = Expected::nothing()
        .told("databases", alert("MongoSlowDuringBackup", "warning", &during))
        .inhibited(alert("MongoConnectionSlow", "warning", &slow));
    let mut dump = tokio::process::Command::from(backups.dump(&platform.daemon, &script));
    let mut dump = dump.kill_on_drop(true).spawn().unwrap();
    let end = async || {
        std::fs::write(&stop, "").unwrap();
        assert!(dump.wait().await.unwrap().success());
    };
    watch.fault("a backup on a starving node", told, async || {}, end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_kafka() {
    let (platform, watch) = watched(Plan { kafka: true, ..Plan::default() }, "streaming").await;
    let streams = platform.kafka.as_ref().unwrap();
    let (cluster, member) = (&streams.cluster, streams.member.as_ref().unwrap());
    cluster.delete_group(LAGS).await.unwrap();
    watch.nothing_is_told("a cluster that is well").await;

    let of_group = [("type", "kafka"), ("probe", "streams"), ("consumergroup", KEEPS_UP), ("topic", TOPIC)];
    let told = Expected::nothing()
        .told("streaming-pager", alert("KafkaConsumerGroupStalled", "critical", &of_group))
        .inhibited(alert("KafkaConsumerGroupLagSeconds", "warning", &of_group));
    let stop = async || member.pause().await.unwrap();
    watch.fault("a consumer stopped", told, stop, async || member.resume()).await;

    // Nothing more arrives than what is let through, which is next to nothing.
    cluster.create_topic_at(MOVED, &[&[1, 2]], &[]).await.unwrap();
    for _ in 0..6 {
        cluster.produce(MOVED, (0..50).map(|_| Record::new(0).size(100_000))).await.unwrap();
    }
    let moves = [Move { topic: MOVED, partition: 0, replicas: &[1, 3] }];
    let stalled = [("type", "kafka"), ("probe", "streams"), ("topic", MOVED), ("partition", "0"), ("broker", "3")];
    let told = Expected::nothing().told("streaming", alert("KafkaReassignmentStalled", "warning", &stalled));
    let start = async || cluster.reassign(&moves, Some(1)).await.unwrap();
    let cancel = async || cluster.cancel_moves(&moves).await.unwrap();
    watch.fault("a reassignment stalled", told, start, cancel).await;

    // The canary, which writes through every broker as clients do, misses it as well.
    let broker = [("type", "kafka"), ("probe", "streams"), ("broker", "2")];
    let canary = [("type", "kafka_canary"), ("probe", "streams"), ("target", "2")];
    let lacking = [("type", "kafka"), ("probe", "streams")];
    let told = Expected::nothing()
        .told("streaming-pager", alert("KafkaBrokerDown", "critical", &broker))
        .told("streaming-pager", alert("ProbeDown", "critical", &canary))
        .inhibited(alert("KafkaUnderReplicated", "warning", &lacking));
    let mend = async || cluster.restart(2).await.unwrap();
    watch.fault("a broker killed", told, async || cluster.kill(2), mend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_vpns() {
    if !available().unwrap() {
        return;
    }
    let (platform, watch) = watched(Plan { vpn: true, ..Plan::default() }, "network").await;
    let tunnel = platform.vpn.as_ref().unwrap();
    // As the example calls them: a gateway, and what lies behind it, which is WireGuard within WireGuard.
    let (outer, inner) =
        ["10.88.0.3/32", "10.88.0.4/32"].map(|allowed| tunnel.server.add_peer(allowed, false).unwrap()).into();
    let client = WireguardServer::connect(&tunnel.network, &tunnel.server, &outer, "10.88.0.3/24").await.unwrap();
    let relay = Relay::udp(&tunnel.network.client, (WireguardServer::INSIDE, WireguardServer::PORT).into()).await;
    let behind = "owner = \"network\"\ninterval = \"5s\"\ntimeout = \"4500ms\"\nattempts = 2\n";
    let behind = vpn::wireguard_at("warehouse", &relay.address(), tunnel.server.public_key(), &inner, behind);
    let probes = owned(&platform, "network").replace("[probe.vpn.office]", "[probe.vpn.gateway]") + &behind;
    platform.daemon.reload(&probes).await;
    let up = |m: &Metrics| {
        ["gateway", "warehouse"].iter().all(|probe| m.get("midwatch_vpn_up", &[("probe", probe)]) == Some(1.0))
    };
    platform.daemon.until("the gateway and what is behind it", |m| up(m).then_some(())).await;
    let (gateway, warehouse) = (tunnel.addresses()[0].clone(), relay.address());
    watch.nothing_is_told("a tunnel that is well").await;

    let server = |name, probe| {
        let label = if name == "ProbeDown" { "target" } else { "server" };
        let address = if probe == "gateway" { &gateway } else { &warehouse };
        alert(name, "critical", &[("type", "vpn"), ("probe", probe), (label, address)])
    };
    // What is not told because the gateway explains it.
    let behind = |told: Expected| {
        told.inhibited(server("ProbeDown", "gateway"))
            .inhibited(server("VpnDown", "warehouse"))
            .inhibited(server("ProbeDown", "warehouse"))
    };
    let told = behind(Expected::nothing().told("network-pager", server("VpnDown", "gateway")));
    let freeze = async || tunnel.server.freeze().unwrap();
    watch.fault("a tunnel down", told, freeze, async || tunnel.server.thaw().unwrap()).await;

    let lossy = [("type", "vpn"), ("probe", "gateway"), ("server", gateway.as_str()), ("stage", "inside")];
    let told = behind(Expected::nothing().told("network-pager", server("VpnHandshakeOnly", "gateway")))
        .inhibited(alert("VpnLossy", "warning", &lossy));
    let rule = format!("iifname \"{}\" drop", tunnel.server.interface());
    let drop_all = async || tunnel.network.server.rules(&rule).unwrap();
    watch.fault("a data plane down", told, drop_all, async || tunnel.network.server.rules("").unwrap()).await;
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_backups() {
    let place = Place::new();
    place.write("token", TOKEN);
    let job = "[probe.backup.nightly]\nsource = \"push\"\ntoken = { file = \"token\" }\nschedule = \"60s\"\n\
               grace = \"1s\"\ninterval = \"1s\"\ntimeout = \"900ms\"\nowner = \"databases\"\n";
    place.write("midwatch.toml", &place.text(job));
    let daemon = place.launch("midwatch.toml", &[], Command::new(program()));
    daemon.wait_ready().await;
    let ping = async |event: &str| tell(&daemon.address, &format!("/ping/{TOKEN}/nightly{event}")).await;
    let run = async || {
        ping("/start").await;
        ping("").await;
    };
    run().await;
    let watch = Watch::start(Options::new([daemon.address.as_str()], Duration::from_secs(1)).job("midwatch")).await;
    watch.nothing_is_told("a backup that is well").await;

    let nightly = [("type", "backup"), ("probe", "nightly")];
    let told = Expected::nothing().told("databases-pager", alert("BackupFailed", "critical", &nightly));
    watch.fault("a backup failed", told, async || ping("/fail").await, run).await;

    let told = Expected::nothing()
        .told("databases", alert("BackupMissedRun", "warning", &nightly))
        .told("databases-pager", alert("BackupMissing", "critical", &nightly))
        .inhibited(alert("BackupMissedRun", "warning", &nightly));
    watch.last_fault("a backup missed", told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_midwatch() {
    let server = Standalone::start().await.unwrap();
    let probes = probe("orders", &[server.host()], "interval = \"1s\"\ntimeout = \"900ms\"\ndiscover = false\n");
    let first = Midwatch::start(&probes).await;
    // Replicas share a file. What it says of addresses holds from the next start on, so that each has its own.
    let place = Place::new();
    let shared = place.text(&probes);
    let load = async |text: &str| {
        std::fs::write(first.config(), text).unwrap();
        first.post_reload().await.0
    };
    assert_eq!(load(&shared).await, 200);
    let mut second = place.launch(first.config().to_str().unwrap(), &[], Command::new(program()));
    second.wait_ready().await;
    let both = [first.address.as_str(), second.address.as_str()];
    let watch = Watch::start(Options::new(both, Duration::from_secs(1)).job("midwatch")).await;
    watch.nothing_is_told("two replicas that are well").await;

    let bad = |address: &str| alert("ConfigReloadFailed", "warning", &[("instance", address)]);
    let told = Expected::nothing().told("operators", bad(&first.address)).told("operators", bad(&second.address));
    let spoil = async || assert_ne!(load(&format!("{shared}nonsense = 1\n")).await, 200);
    let mend = async || assert_eq!(load(&shared).await, 200);
    watch.fault("a bad configuration", told, spoil, mend).await;

    let gone = |address: &str| alert("MidwatchInstanceDown", "warning", &[("instance", address)]);
    let (here, there) = (first.address.clone(), second.address.clone());
    let told = Expected::nothing().told("operators", gone(&there));
    let daemon = std::cell::RefCell::new(&mut second);
    let kill = async || {
        let mut daemon = daemon.borrow_mut();
        daemon.signal("KILL");
        daemon.end().await;
    };
    let respawn = async || daemon.borrow_mut().respawn();
    watch.fault("a replica of midwatch gone", told, kill, respawn).await;

    let told = Expected::nothing()
        .told("operators-pager", alert("MidwatchDown", "critical", &[]))
        .inhibited(gone(&here))
        .inhibited(gone(&there));
    for midwatch in [&first, &second] {
        midwatch.signal("STOP");
    }
    watch.last_fault("all of midwatch gone", told).await;
}
