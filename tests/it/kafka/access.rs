//! Who may look, and what is said to those who may not.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::path::Path;

use lab::kafka::{Cluster, Mechanism, Options, Record, Resource, Tls, User};
use lab::net::{Blackhole, Refused};
use lab::ports::Port;

use super::{LAG, looked_again, probe};
use crate::support::{Metrics, Midwatch, midwatch};

const RHYTHM: &str = "interval = \"6s\"\ntimeout = \"5s\"\nrequest_timeout = \"3s\"\ncluster_interval = \"3s\"\n\
                      listeners_interval = \"3s\"\n";
/// Nobody may ever see it.
const CANARY: &str = "canary-5ecr3t-0f-the-t3st";

/// The keys of a login, the password in a file of its own.
fn login(folder: &Path, name: &str, mechanism: Mechanism, password: &str) -> String {
    let file = folder.join(format!("{name}-{}", mechanism.name()));
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let file = file.display();
    format!(
        "sasl.mechanism = \"{}\"\nsasl.username = \"{name}\"\nsasl.password = {{ file = \"{file}\" }}\n",
        mechanism.name()
    )
}

fn ca(file: &Path) -> String {
    format!("tls.ca_file = \"{}\"\n", file.display())
}

fn lag(metrics: &Metrics, name: &str) -> Option<f64> {
    metrics.get(LAG, &[("probe", name), ("consumergroup", "billing"), ("topic", "orders"), ("partition", "0")])
}

/// How often runs of the probe failed for the reason, as a whole.
fn failures(metrics: &Metrics, name: &str) -> Vec<(String, f64)> {
    let of = [("probe", name)];
    let all = metrics.all("midwatch_probe_failures_total", &of);
    let all = all.filter(|sample| !sample.labels.contains_key("target") && sample.value > 0.0);
    all.map(|sample| (sample.labels["reason"].clone(), sample.value)).collect()
}

/// Waits until every one of these probes has shown the lag.
async fn until_all_work(daemon: &Midwatch, names: &[&str]) -> Metrics {
    daemon.until("a lag", |m| names.iter().all(|name| lag(m, name) == Some(7.0)).then(|| m.clone())).await
}

async fn cluster(options: Options) -> Cluster {
    let cluster = Cluster::with(options.brokers(1)).await.unwrap();
    cluster.create_topic("orders", 1, 1, &[("min.insync.replicas", "1")]).await.unwrap();
    cluster.produce("orders", (0..10).map(|_| Record::new(0))).await.unwrap();
    cluster.commit("billing", &[("orders", 0, 3)]).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn every_login_works_and_every_failure_has_its_reason() {
    let cluster = cluster(Options::default().sasl().tls(Tls::Server)).await;
    let (refused, hole) = (Refused::pick().unwrap(), Blackhole::open().await.unwrap());
    let secrets = tempfile::tempdir().unwrap();
    let user = User::midwatch();
    let good = |mechanism| login(secrets.path(), &user.name, mechanism, &user.password);
    let wrong = |mechanism| login(secrets.path(), "somebody", mechanism, CANARY);
    let files = cluster.files();
    let over_tls = |rest: String| {
        probe("", &cluster, &format!("{RHYTHM}{}{rest}", ca(&files.ca))).replacen("[probe.kafka.]", "", 1)
    };
    let named = |name: &str, section: String| format!("[probe.kafka.{name}]{section}");
    let working = [Mechanism::ScramSha256, Mechanism::ScramSha512, Mechanism::Plain];
    let names = ["scram256", "scram512", "plain"];
    let mut text = String::new();
    for (name, mechanism) in names.into_iter().zip(working) {
        text += &named(name, over_tls(good(mechanism)));
        text += &named(&format!("wrong_{name}"), over_tls(wrong(mechanism)));
    }
    let at = |address: String| {
        format!("\nbootstrap = [\"{address}\"]\n{RHYTHM}{}{}\n", ca(&files.ca), good(Mechanism::Plain))
    };
    text += &named("refused", at(refused.address().to_string()));
    text += &named("hole", at(hole.address().to_string()));
    text += &probe("wrong_ca", &cluster, &format!("{RHYTHM}{}{}", ca(&files.wrong_ca), good(Mechanism::Plain)));
    text += &probe("no_tls", &cluster, &format!("{RHYTHM}{}", good(Mechanism::ScramSha256)));
    text += &probe("no_login", &cluster, &format!("{RHYTHM}{}", ca(&files.ca)));
    let daemon = Midwatch::start(&text).await;

    let metrics = until_all_work(&daemon, &names).await;
    for name in names {
        assert_eq!(failures(&metrics, name), [], "{name}\n{}", daemon.log());
    }
    let expected = [
        ("wrong_scram256", "auth"),
        ("wrong_scram512", "auth"),
        ("wrong_plain", "auth"),
        ("wrong_ca", "certificate"),
        ("refused", "refused"),
        ("hole", "timeout"),
        ("no_tls", "protocol"),
        ("no_login", "closed"),
    ];
    let metrics = daemon
        .until("a failure of each", |m| {
            expected.iter().all(|(name, _)| !failures(m, name).is_empty()).then(|| m.clone())
        })
        .await;
    for (name, reason) in expected {
        let failed: Vec<_> = failures(&metrics, name).into_iter().map(|(reason, _)| reason).collect();
        assert_eq!(failed, [reason], "{name}\n{}", daemon.log());
        let longest = metrics.get("midwatch_probe_duration_seconds_sum", &[("probe", name)]).unwrap()
            / metrics.get("midwatch_probe_duration_seconds_count", &[("probe", name)]).unwrap();
        assert!(longest < 5.0, "{name} used up its time: {longest} s");
    }

    // What its ACL forbids is said once and counted, and nothing else is missing.
    let metrics = looked_again(&daemon, "scram256").await;
    let of = |metrics: &Metrics, name: &str, labels: &[(&str, &str)]| {
        metrics.get(name, &[&[("probe", "scram256")], labels].concat())
    };
    let refused_configs = ("kafka_collector_request_errors_total", [("api", "DescribeConfigs")]);
    assert_eq!(of(&metrics, refused_configs.0, &refused_configs.1), Some(1.0));
    let told: Vec<_> = metrics
        .all("kafka_collector_request_errors_total", &[("probe", "scram256")])
        .filter(|s| s.value > 0.0)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    for source in ["offsets", "commits", "metadata", "groups", "reassignments", "configs"] {
        let success = of(&metrics, "kafka_collector_success", &[("source", source)]);
        assert_eq!(success, Some(f64::from(u8::from(source != "configs"))), "{source}");
    }
    for (name, value) in [
        ("kafka_brokers", 1.0),
        ("kafka_cluster_partitions", 1.0 + 6.0),
        ("kafka_cluster_controller", 1.0),
        ("kafka_reassignment_partitions_in_progress", 0.0),
    ] {
        assert_eq!(of(&metrics, name, &[]), Some(value), "{name}");
    }
    assert_eq!(of(&metrics, "kafka_cluster_under_min_isr_partitions", &[]), None);
    let said = |log: &str| {
        let lines = log.lines().filter(|line| line.contains("ACLs forbid") && line.contains("DescribeConfigs"));
        names.map(|name| lines.clone().filter(|line| line.contains(&format!("run{{probe=kafka.{name}}}"))).count())
    };
    assert_eq!(said(&daemon.log()), [1; 3], "{}", daemon.log());
    let config = daemon.config().to_str().unwrap().to_owned();
    let report = midwatch(&["probe", "kafka", "scram256", "--config", &config]);
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(report.contains("forbid DescribeConfigs"), "{report}");

    // Mended: whoever asks for a reload need not wait.
    cluster.allow(&user.name, &["DescribeConfigs"], &[Resource::Topic("*")]).await.unwrap();
    assert_eq!(daemon.post_reload().await.0, 200);
    daemon
        .until("the minimum of replicas in sync", |m| {
            (of(m, "kafka_cluster_under_min_isr_partitions", &[]) == Some(0.0)).then_some(())
        })
        .await;
    let metrics = daemon.metrics().await;
    assert_eq!(of(&metrics, refused_configs.0, &refused_configs.1), Some(1.0));
    assert_eq!(of(&metrics, "kafka_collector_success", &[("source", "configs")]), Some(1.0));
    assert_eq!(said(&daemon.log()), [1; 3], "{}", daemon.log());

    let mut seen = vec![daemon.log(), report];
    for path in ["/config", "/metrics", "/runs", "/runs?probe=wrong_plain", "/runs?probe=wrong_scram256"] {
        seen.push(daemon.request("GET", path).await.unwrap().1);
    }
    for name in ["wrong_plain", "wrong_scram512", "hole"] {
        let output = midwatch(&["probe", "kafka", name, "--config", &config]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        seen.push(format!("{output:?}"));
    }
    seen.push(format!("{:?}", midwatch(&["check", &config])));
    for text in seen {
        assert!(!text.contains(CANARY) && !text.contains(&user.password), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_login_and_the_advertised_name_is_looked_up() {
    let port = Port::pick().unwrap();
    let advertised = format!("localhost:{}", port.number());
    let options = Options::default().tls(Tls::Mutual).ports(&[port.number()]).advertised([advertised.as_str()]);
    let cluster = cluster(options).await;
    let files = cluster.files();
    let with = |identity: &lab::certificates::Identity| {
        format!(
            "{RHYTHM}{}tls.cert_file = \"{}\"\ntls.key_file = \"{}\"\n",
            ca(&files.ca),
            identity.certificate.display(),
            identity.key.display()
        )
    };
    let text = [
        probe("mutual", &cluster, &with(&files.client)),
        probe("stranger", &cluster, &with(&files.stranger)),
        probe("nobody", &cluster, &format!("{RHYTHM}{}", ca(&files.ca))),
    ];
    let daemon = Midwatch::start(&text.concat()).await;
    let metrics = until_all_work(&daemon, &["mutual"]).await;
    assert_eq!(failures(&metrics, "mutual"), []);
    let metrics = daemon
        .until("failures", |m| {
            ["stranger", "nobody"].iter().all(|name| !failures(m, name).is_empty()).then(|| m.clone())
        })
        .await;
    for name in ["stranger", "nobody"] {
        for (reason, _) in failures(&metrics, name) {
            assert!(["tls", "certificate", "closed"].contains(&reason.as_str()), "{name}: {reason}\n{}", daemon.log());
        }
        assert_eq!(lag(&metrics, name), None);
    }
    // Each phase of a new connection, TLS among them.
    for phase in ["resolve", "tcp", "tls", "api_versions", "total"] {
        let labels = [("probe", "mutual"), ("broker", "1"), ("phase", phase)];
        assert!(metrics.get("kafka_broker_connect_duration_seconds_count", &labels) >= Some(1.0), "{phase}");
    }
    // What any other program finds that asks this machine for the name.
    let found: BTreeSet<_> = advertised.to_socket_addrs().unwrap().map(|address| address.ip()).collect();
    let told = metrics.get("kafka_broker_addresses", &[("probe", "mutual"), ("broker", "1")]);
    assert_eq!(told, Some(found.len() as f64), "{found:?}");
    let info = metrics.get("kafka_broker_info", &[("probe", "mutual"), ("id", "1"), ("address", &advertised)]);
    assert_eq!(info, Some(1.0));
}
