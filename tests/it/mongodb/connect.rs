//! What a new connection goes through, and what members say they are.

use std::path::Path;
use std::process::Command;

use lab::mongodb::driver::bson::{Bson, doc};
use lab::mongodb::{Options, ReplicaSet, Standalone, Tls, Uninitialised, User};

use super::{CONNECT, FAILURES, after_runs, observed, probe, state, success};
use crate::support::{Metrics, Midwatch, eventually, midwatch};

/// Everything a deployment can have: TLS, users of all kinds, a hidden member and an arbiter.
async fn everything() -> ReplicaSet {
    ReplicaSet::with(Options::default().members(2).hidden().arbiter().auth().tls(Tls::Server)).await.unwrap()
}

fn login(user: &User, folder: &Path, mechanism: &str) -> String {
    let file = folder.join(format!("{}.password", user.name));
    std::fs::write(&file, format!("{}\n", user.password)).unwrap();
    format!(
        "username = \"{}\"\npassword = {{ file = \"{}\" }}\nauth_mechanism = \"{mechanism}\"\n",
        user.name,
        file.display()
    )
}

fn tls(set: &ReplicaSet) -> String {
    format!("tls.ca_file = \"{}\"\n", set.ca_path().display())
}

const RHYTHM: &str = "interval = \"2s\"\ntimeout = \"1900ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn every_phase_of_every_member_is_timed_whatever_the_login() {
    let set = everything().await;
    let secrets = tempfile::tempdir().unwrap();
    let hosts = set.hosts();
    let (hidden, arbiter) = (hosts[2].as_str(), hosts[3].as_str());
    let files = set.files();
    let certificate = format!(
        "tls.cert_file = \"{}\"\ntls.key_file = \"{}\"\nauth_mechanism = \"MONGODB-X509\"\n",
        files.client.certificate.display(),
        files.client.key.display()
    );
    let wrong = User::new("midwatch", "not the password", lab::mongodb::Mechanism::ScramSha256);
    let wrong_folder = secrets.path().join("wrong");
    std::fs::create_dir(&wrong_folder).unwrap();
    let with = |login: &str| format!("{RHYTHM}{}{login}", tls(&set));
    let sha256 = login(&User::midwatch(), secrets.path(), "SCRAM-SHA-256");
    let text = [
        probe("sha256", &hosts, &with(&sha256)),
        probe("sha1", &hosts[..2], &with(&login(&User::legacy(), secrets.path(), "SCRAM-SHA-1"))),
        probe("x509", &hosts[..2], &with(&certificate)),
        probe("nobody", &hosts[..2], &with("discover = false")),
        probe("wrong_password", &hosts[..2], &with(&login(&wrong, &wrong_folder, "SCRAM-SHA-256"))),
        probe("wrong_ca", &hosts[..2], &format!("{RHYTHM}{sha256}tls.ca_file = \"{}\"\n", files.wrong_ca.display())),
        probe("wrong_name", &hosts[..2], &with("discover = false\ntls.server_name = \"db.example.net\"")),
        probe("discovering", &hosts[..1], &with(&sha256)),
    ]
    .concat();
    let daemon = Midwatch::start(&text).await;
    let metrics = after_runs(&daemon, 8, 2.0).await;

    for name in ["sha256", "sha1", "x509", "nobody"] {
        for host in &hosts[..2] {
            assert_eq!(success(&metrics, name, host), Some(1.0), "{name} {host}\n{}", daemon.log());
            for phase in ["resolve", "tcp", "tls", "hello", "command", "total"] {
                assert!(observed(&metrics, name, host, phase) >= 2.0, "{name} {host} {phase}");
            }
            assert_eq!(observed(&metrics, name, host, "auth") >= 2.0, name != "nobody", "{name} {host}");
        }
    }
    assert_eq!(state(&metrics, "sha256", hidden).as_deref(), Some("hidden"));
    assert_eq!(state(&metrics, "sha256", arbiter).as_deref(), Some("arbiter"));
    assert_eq!(success(&metrics, "sha256", arbiter), Some(1.0), "{}", daemon.log());
    assert_eq!(observed(&metrics, "sha256", arbiter, "auth"), 0.0, "an arbiter has no users");
    assert_primary(&metrics, &set).await;

    assert_failures(&metrics, "wrong_password", &hosts[..2], ("auth", "auth"));
    assert_failures(&metrics, "wrong_ca", &hosts[..2], ("tls", "certificate"));
    assert_failures(&metrics, "wrong_name", &hosts[..2], ("tls", "certificate"));
    for (name, host) in [("sha256", &hosts[0]), ("wrong_ca", &hosts[1]), ("wrong_name", &hosts[0])] {
        let labels = [("probe", name), ("member", host.as_str())];
        let expiry = metrics.get("midwatch_mongodb_certificate_expiry_timestamp_seconds", &labels);
        assert_eq!(expiry, Some(expiry_by_openssl(host)), "{name}");
    }

    // Members that others name are found, the hidden one is named by nobody.
    let found: Vec<_> = metrics.all("midwatch_probe_success", &[("probe", "discovering")]).collect();
    let mut found: Vec<_> = found.iter().map(|sample| sample.labels["target"].as_str()).collect();
    found.sort_unstable();
    let mut expected = vec![hosts[0].as_str(), hosts[1].as_str(), arbiter];
    expected.sort_unstable();
    assert_eq!(found, expected);
    for secret in [&wrong.password, &User::midwatch().password] {
        assert!(!daemon.log().contains(secret.as_str()), "a secret in the log:\n{}", daemon.log());
    }

    assert_printed(&daemon, &hosts);
    assert_one_connection_each(&daemon, &set).await;
}

/// What the metrics say of the primary is what the set itself says.
async fn assert_primary(metrics: &Metrics, set: &ReplicaSet) {
    let primary = set.primary().await.unwrap();
    let status = set.command(primary, doc! { "replSetGetStatus": 1 }).await.unwrap();
    let term = match status.get("term") {
        Some(Bson::Int64(term)) => *term,
        other => panic!("no term: {other:?}"),
    };
    let of = [("probe", "sha256")];
    assert_eq!(state(metrics, "sha256", &set.hosts()[primary]).as_deref(), Some("primary"));
    assert_eq!(metrics.get("midwatch_mongodb_primaries", &of), Some(1.0));
    #[allow(clippy::cast_precision_loss, reason = "terms are small")]
    let term = term as f64;
    assert_eq!(metrics.get("midwatch_mongodb_election_term", &of), Some(term));
    assert_eq!(metrics.get("midwatch_mongodb_replica_set", &of), Some(1.0));
    assert_eq!(metrics.get("midwatch_mongodb_primary_changes_total", &of), Some(0.0));
}

/// Every run failed in that phase for that reason, and in no other; what comes after it was not observed.
fn assert_failures(metrics: &Metrics, name: &str, hosts: &[String], (phase, reason): (&str, &str)) {
    for host in hosts {
        let of = [("probe", name), ("member", host.as_str())];
        let failed: Vec<_> = metrics.all(FAILURES, &of).filter(|sample| sample.value > 0.0).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!((failed[0].labels["phase"].as_str(), failed[0].labels["reason"].as_str()), (phase, reason));
        assert_eq!(failed[0].value, observed(metrics, name, host, "total"), "every run failed and was observed");
        assert_eq!(observed(metrics, name, host, "command"), 0.0);
        assert_eq!(success(metrics, name, host), Some(0.0));
        let of = [("probe", name), ("target", host.as_str()), ("reason", reason)];
        assert_eq!(metrics.get("midwatch_probe_failures_total", &of), Some(failed[0].value));
    }
}

/// The expiry of the certificate that a server shows, by another implementation.
fn expiry_by_openssl(host: &str) -> f64 {
    let script = "openssl s_client -connect \"$0\" </dev/null 2>/dev/null | openssl x509 -noout -enddate \
                  | cut -d= -f2 | xargs -0 date +%s -d";
    let output = Command::new("sh").args(["-c", script, host]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("openssl and date read the certificate")
}

/// `midwatch probe` shows each member, its phases and the failure in words.
fn assert_printed(daemon: &Midwatch, hosts: &[String]) {
    let config = daemon.config();
    let run = |name| midwatch(&["probe", "mongodb", name, "--config", config.to_str().unwrap()]);
    let good = run("sha256");
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success(), "{text}{}", String::from_utf8_lossy(&good.stderr));
    for host in hosts {
        assert!(text.contains(&format!("✓ {host}")), "{text}");
    }
    for phase in ["resolve", "tcp", "tls", "hello", "auth", "command", "total", "4 of 4 succeeded"] {
        assert!(text.contains(phase), "{phase}: {text}");
    }
    let bad = run("wrong_password");
    let text = String::from_utf8(bad.stdout).unwrap();
    assert_eq!(bad.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("✗ {}", hosts[0])) && text.contains("the credentials were refused"), "{text}");
}

/// The server counts exactly one connection for each run.
async fn assert_one_connection_each(daemon: &Midwatch, set: &ReplicaSet) {
    const RUNS: i64 = 10;
    daemon.reload("").await;
    eventually("the daemon's connections to end", async || {
        (set.connections_of(0, "midwatch").await.ok()? == 0).then_some(())
    })
    .await;
    let config = daemon.place.folder.path().join("once.toml");
    let text = probe("once", &set.hosts()[..1], &format!("{}discover = false", tls(set)));
    std::fs::write(&config, text).unwrap();
    // Members open connections to each other at their own pace, so a quiet stretch must be found: one of several
    // attempts sees the runs' connections and no others.
    eventually("a stretch in which only the runs connected", async || {
        let idle = created(set).await;
        let before = created(set).await;
        for _ in 0..RUNS {
            assert!(midwatch(&["probe", "mongodb", "once", "--config", config.to_str().unwrap()]).status.success());
        }
        let own = before - idle;
        (created(set).await - before == RUNS + own).then_some(())
    })
    .await;
    // The server takes its time to notice that the last one was closed.
    eventually("no connection to be left", async || {
        (set.connections_of(0, "midwatch").await.unwrap() == 0).then_some(())
    })
    .await;
}

async fn created(set: &ReplicaSet) -> i64 {
    set.connections(0).await.unwrap().total_created
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_replica_set_is_reported_as_what_it_is() {
    let (standalone, uninitialised) = (Standalone::start().await.unwrap(), Uninitialised::start().await.unwrap());
    let text = [
        probe("standalone", &[standalone.host()], RHYTHM),
        probe("uninitialised", &[uninitialised.host()], RHYTHM),
        probe(
            "buckets",
            &[standalone.host()],
            &format!("{RHYTHM}buckets = [0.25, 2.5]\nslo = {{ objective = 0.999, latency = \"25ms\" }}"),
        ),
    ]
    .concat();
    let daemon = Midwatch::start(&text).await;
    let metrics = after_runs(&daemon, 3, 1.0).await;
    for (name, host, expected) in
        [("standalone", standalone.host(), "standalone"), ("uninitialised", uninitialised.host(), "uninitialized")]
    {
        assert_eq!(state(&metrics, name, &host).as_deref(), Some(expected));
        assert_eq!(success(&metrics, name, &host), Some(1.0));
        assert_eq!(metrics.get("midwatch_mongodb_replica_set", &[("probe", name)]), Some(0.0));
        assert_eq!(metrics.get("midwatch_mongodb_primaries", &[("probe", name)]), Some(0.0));
    }
    let host = standalone.host();
    let of = |phase| [("probe", "buckets"), ("member", host.as_str()), ("phase", phase)];
    assert_eq!(metrics.bounds(CONNECT, &of("total")), ["0.025", "0.25", "2.5", "+Inf"], "the objective is among them");
    assert_eq!(metrics.bounds(CONNECT, &[("probe", "standalone"), ("phase", "tcp")]).len(), 37, "lan is the default");
}
