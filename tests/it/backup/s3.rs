//! Buckets of a real S3 server, versitygw, which curl fills.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::s3::{ACCESS_KEY_ID, REGION, S3, SECRET_ACCESS_KEY};

use crate::support::{Metrics, Midwatch, Place, midwatch, program};

/// What must be seen nowhere. The server does not know it.
const CANARY: &str = "canary-of-a-wrong-secret";

/// A job. Later keys replace earlier ones.
fn job(name: &str, server: &S3, keys: &str) -> String {
    let url = server.url();
    let defaults = [
        ("endpoint", format!("\"{url}\"")),
        ("region", format!("\"{REGION}\"")),
        ("bucket", "\"backups\"".to_owned()),
        ("pattern", "\"*\"".to_owned()),
        ("settle", "\"0s\"".to_owned()),
        ("access_key_id", "{ file = \"id\" }".to_owned()),
        ("secret_access_key", "{ file = \"secret\" }".to_owned()),
        ("interval", "\"1s\"".to_owned()),
        ("timeout", "\"900ms\"".to_owned()),
        ("listing_interval", "\"5s\"".to_owned()),
    ];
    let is_replaced = |key: &str| keys.lines().any(|line| line.starts_with(&format!("{key} = ")));
    let defaults = defaults.iter().filter(|(key, _)| !is_replaced(key));
    let defaults: String = defaults.map(|(key, value)| format!("{key} = {value}\n")).collect();
    // Without a value a key is left out.
    let keys: String = keys.lines().filter(|line| !line.ends_with("= ")).map(|line| format!("{line}\n")).collect();
    format!("[probe.backup.{name}]\nsource = \"s3\"\n{defaults}{keys}")
}

async fn start(text: &str) -> Midwatch {
    let place = Place::new();
    for (name, content) in [("id", ACCESS_KEY_ID), ("secret", SECRET_ACCESS_KEY), ("wrong", CANARY)] {
        let path = place.write(name, content);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    place.write("midwatch.toml", &place.text(text));
    let midwatch = place.launch("midwatch.toml", &[], Command::new(program()));
    midwatch.wait_ready().await;
    midwatch
}

fn value(metrics: &Metrics, job: &str, name: &str) -> Option<f64> {
    metrics.get(&format!("midwatch_backup_{name}"), &[("probe", job)])
}

fn successes(metrics: &Metrics, job: &str) -> f64 {
    metrics.get("midwatch_backup_runs_total", &[("probe", job), ("outcome", "success")]).unwrap()
}

/// Waits until the job's last reading ended so.
async fn until_up(midwatch: &Midwatch, job: &str, up: f64) -> Metrics {
    let what = format!("{job} to be {up}");
    midwatch.until(&what, |m| (value(m, job, "source_up") == Some(up)).then(|| m.clone())).await
}

/// Waits for a failure of that kind.
async fn until_failed(midwatch: &Midwatch, job: &str, reason: &str) {
    let labels = [("probe", job), ("reason", reason)];
    let failed = |m: &Metrics| m.get("midwatch_probe_failures_total", &labels).filter(|count| *count > 0.0);
    midwatch.until(&format!("{job} to fail with {reason}"), failed).await;
    assert_eq!(value(&midwatch.metrics().await, job, "retained"), None, "{job} is not known to be empty");
}

const HOUR: Duration = Duration::from_secs(3600);

/// Objects of two jobs, and more than one page of them for a third.
async fn fill(server: &S3) {
    server.make_bucket("backups").await.unwrap();
    for (key, content, age) in [
        ("daily/orders-1.tar.gz.started", "", HOUR * 2),
        ("daily/orders-1.tar.gz", "twelve bytes", HOUR),
        ("daily/orders-2.tar.gz.part", "x", HOUR),
        ("described/a%20b%2B%C3%A4.gz", "four", HOUR),
        ("described/a%20b%2B%C3%A4.gz.json", r#"{"node":"db-1:27017","uncompressed":4000}"#, HOUR),
        ("described/c.gz", "without a manifest", HOUR),
    ] {
        server.put("backups", key, content).await.unwrap();
        server.age("backups", &key.replace("%20", " ").replace("%2B", "+").replace("%C3%A4", "ä"), age).unwrap();
    }
    let many: Vec<_> = (0..2100).map(|at| format!("many/b-{at:04}.gz")).collect();
    server.put_all("backups", &many).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_runs_and_a_server_that_is_down_changes_nothing() {
    let mut server = S3::start().await.unwrap();
    fill(&server).await;
    let daily = "prefix = \"daily/\"\npattern = \"orders-*.tar.gz\"\nstarted = \"{name}.started\"\n";
    let text = [
        job("orders", &server, daily),
        job("many", &server, "prefix = \"many/\"\npattern = \"b-*.gz\"\n"),
        job("described", &server, "prefix = \"described/\"\npattern = \"*.gz\"\nmanifest = \"{name}.json\"\n"),
        job(
            "virtual",
            &server,
            &format!("endpoint = \"http://localhost:{}\"\nstyle = \"virtual_host\"\n{daily}", server.port()),
        ),
    ]
    .concat();
    let midwatch = start(&text).await;
    for job in ["orders", "many", "described", "virtual"] {
        until_up(&midwatch, job, 1.0).await;
    }
    let metrics = midwatch.metrics().await;
    for job in ["orders", "virtual"] {
        assert_eq!(value(&metrics, job, "retained"), Some(1.0), "{job}");
        assert_eq!(value(&metrics, job, "last_size_bytes"), Some(12.0), "{job}");
        let duration = value(&metrics, job, "last_duration_seconds").unwrap();
        assert!((3595.0..3700.0).contains(&duration), "{job}: {duration}");
    }
    assert_eq!(value(&metrics, "many", "retained"), Some(2100.0));
    assert_eq!(value(&metrics, "described", "retained"), Some(1.0));
    assert_eq!(value(&metrics, "described", "last_uncompressed_bytes"), Some(4000.0));
    assert_eq!(successes(&metrics, "orders"), 0.0, "what was there before anybody watched is not counted");

    server.put("backups", "daily/orders-2.tar.gz", "more than twelve bytes").await.unwrap();
    server.delete("backups", "daily/orders-1.tar.gz").await.unwrap();
    server.delete("backups", "daily/orders-1.tar.gz.started").await.unwrap();
    for job in ["orders", "virtual"] {
        let found = |m: &Metrics| (successes(m, job) == 1.0).then(|| m.clone());
        let metrics = midwatch.until("the second backup", found).await;
        assert_eq!(
            (value(&metrics, job, "retained"), value(&metrics, job, "last_size_bytes")),
            (Some(1.0), Some(22.0))
        );
    }

    server.down();
    for job in ["orders", "many", "described", "virtual"] {
        until_up(&midwatch, job, 0.0).await;
    }
    let metrics = midwatch.metrics().await;
    assert_eq!((value(&metrics, "orders", "retained"), value(&metrics, "many", "retained")), (Some(1.0), Some(2100.0)));
    let refused = [("probe", "orders"), ("reason", "refused")];
    assert!(metrics.get("midwatch_probe_failures_total", &refused).unwrap() >= 1.0);

    server.up().await.unwrap();
    for job in ["orders", "many", "described", "virtual"] {
        let metrics = until_up(&midwatch, job, 1.0).await;
        assert_eq!(successes(&metrics, job), f64::from(u8::from(["orders", "virtual"].contains(&job))), "{job}");
    }
    is_nowhere(SECRET_ACCESS_KEY, &midwatch, "orders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_apart_and_no_secret_is_seen() {
    let server = S3::start().await.unwrap();
    server.make_bucket("backups").await.unwrap();
    server.put("backups", "a", "x").await.unwrap();
    let text = [
        "log_level = \"trace\"\n".to_owned(),
        job("secret", &server, "secret_access_key = { file = \"wrong\" }\n"),
        job("id", &server, "access_key_id = { file = \"wrong\" }\n"),
        job("anonymous", &server, "access_key_id = \nsecret_access_key = \n"),
        job("bucket", &server, "bucket = \"nowhere\"\n"),
        job("region", &server, "region = \"us-west-2\"\n"),
    ]
    .concat();
    let midwatch = start(&text).await;
    // This server knows no such user, which S3 would answer with 403 InvalidAccessKeyId.
    until_failed(&midwatch, "id", "rejected").await;
    for (job, reason) in [("secret", "auth"), ("anonymous", "auth"), ("bucket", "rejected"), ("region", "rejected")] {
        until_failed(&midwatch, job, reason).await;
    }
    let log = midwatch.log();
    for words in ["SignatureDoesNotMatch", "AccessDenied", "NoSuchBucket", REGION] {
        assert!(log.contains(words), "{words}:\n{log}");
    }
    for secret in [CANARY, SECRET_ACCESS_KEY, ACCESS_KEY_ID] {
        for job in ["secret", "id"] {
            is_nowhere(secret, &midwatch, job).await;
        }
    }
}

/// Looks for a secret in all that can be seen of a daemon.
async fn is_nowhere(secret: &str, midwatch: &Midwatch, job: &str) {
    let mut seen = midwatch.log();
    for path in ["/metrics", "/config", "/runs", "/"] {
        seen += &midwatch.request("GET", path).await.unwrap().1;
    }
    let config = midwatch.config().display().to_string();
    for arguments in [&["probe", "backup", job, "--config", &config][..], &["check", &config]] {
        let output = self::midwatch(arguments);
        seen += &String::from_utf8_lossy(&output.stdout);
        seen += &String::from_utf8_lossy(&output.stderr);
    }
    assert!(seen.contains(job), "{seen}");
    assert!(!seen.contains(secret), "{secret} is seen:\n{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_authority_is_checked() {
    let (server, other) = (S3::start_tls().await.unwrap(), S3::start_tls().await.unwrap());
    server.make_bucket("backups").await.unwrap();
    server.put("backups", "a", "x").await.unwrap();
    let tls = |ca: &Path| format!("tls = {{ ca_file = \"{}\" }}\n", ca.display());
    let text = [
        job("right", &server, &tls(server.ca().unwrap())),
        job("wrong", &server, &tls(other.ca().unwrap())),
        job("system", &server, ""),
    ]
    .concat();
    let midwatch = start(&text).await;
    let metrics = until_up(&midwatch, "right", 1.0).await;
    assert_eq!(value(&metrics, "right", "retained"), Some(1.0));
    until_failed(&midwatch, "wrong", "certificate").await;
    until_failed(&midwatch, "system", "certificate").await;
}
