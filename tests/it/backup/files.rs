//! Directories and files that scripts leave.

use std::fs;
use std::path::Path;

use crate::support::{Metrics, Midwatch, Place, program, write_and_rename};

/// Runs a script as a job would be run, in that folder.
async fn sh(folder: &Path, script: &str) {
    let done = tokio::process::Command::new("sh").args(["-euc", script]).current_dir(folder).status().await.unwrap();
    assert!(done.success(), "{script}");
}

/// A midwatch with one job, whose keys may name the folder's `backups`.
async fn start(source: &str, path: &str, keys: &str) -> Midwatch {
    let place = Place::new();
    let backups = place.folder.path().join("backups");
    fs::create_dir(&backups).unwrap();
    // Something to back up.
    fs::create_dir(place.folder.path().join("data")).unwrap();
    fs::write(place.folder.path().join("data/rows"), vec![b'x'; 300_000]).unwrap();
    let text = format!(
        "[probe.backup.orders]\nsource = \"{source}\"\npath = \"{}{path}\"\ninterval = \"1s\"\ntimeout = \"900ms\"\n{keys}",
        backups.display()
    );
    place.write("midwatch.toml", &place.text(&text));
    let midwatch = place.launch("midwatch.toml", &[], std::process::Command::new(program()));
    midwatch.wait_ready().await;
    midwatch.until("a reading", |m| value(m, "source_up")).await;
    midwatch
}

fn value(metrics: &Metrics, name: &str) -> Option<f64> {
    metrics.get(&format!("midwatch_backup_{name}"), &[])
}

fn runs(metrics: &Metrics, outcome: &str) -> f64 {
    metrics.get("midwatch_backup_runs_total", &[("outcome", outcome)]).unwrap()
}

/// Waits for so many successes, and sees that nothing else was counted.
async fn successes(midwatch: &Midwatch, what: &str, count: f64) -> Metrics {
    let metrics = midwatch.until(what, |m| (runs(m, "success") >= count).then(|| m.clone())).await;
    assert_eq!(runs(&metrics, "success"), count, "{what}");
    let others: f64 = ["failure", "canceled", "lost"].iter().map(|outcome| runs(&metrics, outcome)).sum();
    assert_eq!(others, 0.0, "{what}");
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_tar_are_counted_once_however_they_are_written() {
    let keys = "pattern = \"orders-*.tar.gz\"\nsettle = \"5s\"\nnode = \"db-1:27017\"\n";
    let mut midwatch = start("directory", "", keys).await;
    let folder = midwatch.place.folder.path().join("backups");
    let running =
        |m: &Metrics| (m.get("midwatch_backup_running", &[("node", "db-1:27017")]) == Some(1.0)).then_some(());

    // In place, slowly: it is seen to grow until the script says that it may end.
    let slow = "(while [ ! -e ../go ]; do head -c 1000 ../data/rows; sleep 0.05; done) > orders-1.tar.gz; tar -czf orders-1.tar.gz -C ../data .";
    let writer = tokio::spawn({
        let folder = folder.clone();
        async move { sh(&folder, slow).await }
    });
    midwatch.until("a run that goes on", running).await;
    fs::write(midwatch.place.folder.path().join("go"), "").unwrap();
    writer.await.unwrap();
    let metrics = successes(&midwatch, "an archive written in place", 1.0).await;
    let size = fs::metadata(folder.join("orders-1.tar.gz")).unwrap().len() as f64;
    assert_eq!(value(&metrics, "last_size_bytes"), Some(size));
    assert_eq!(value(&metrics, "retained"), Some(1.0));

    // By way of a partial file, which is no backup until it is renamed.
    sh(&folder, "tar -czf orders-2.tar.gz.part -C ../data .").await;
    midwatch.until("the partial one", running).await;
    assert_eq!(value(&midwatch.metrics().await, "retained"), Some(1.0));
    sh(&folder, "mv orders-2.tar.gz.part orders-2.tar.gz").await;
    successes(&midwatch, "an archive renamed into place", 2.0).await;

    // The same name again, by cp; and what is no archive.
    sh(&folder, "cp orders-2.tar.gz orders-1.tar.gz; cp orders-2.tar.gz .hidden; cp orders-2.tar.gz other.tar.gz")
        .await;
    let metrics = successes(&midwatch, "an archive overwritten", 3.0).await;
    assert_eq!(value(&metrics, "retained"), Some(2.0));

    // None of them is counted again after a restart, and the last one is known although it is deleted.
    midwatch.restart().await;
    midwatch.until("a reading", |m| value(m, "source_up").filter(|up| *up == 1.0)).await;
    sh(&folder, "rm orders-*").await;
    let metrics =
        midwatch.until("an empty directory", |m| (value(m, "retained") == Some(0.0)).then(|| m.clone())).await;
    assert_eq!((runs(&metrics, "success"), runs(&metrics, "lost")), (3.0, 0.0));
    assert_eq!(value(&metrics, "last_size_bytes"), Some(size));
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_tell_when_a_folder_is_complete_and_how_long_it_took() {
    let keys = "pattern = \"*/base\"\ncomplete = \"{name}/_SUCCESS\"\nstarted = \"{name}.started\"\nmanifest = \"{name}.json\"\n";
    let midwatch = start("directory", "", keys).await;
    let folder = midwatch.place.folder.path().join("backups");
    sh(&folder, "mkdir monday; touch -d '1 minute ago' monday/base.started; cp -r ../data monday/base").await;
    midwatch.until("a start", |m| value(m, "running_start_timestamp_seconds")).await;
    sh(
        &folder,
        "touch monday/base/_SUCCESS; echo '{\"uncompressed\": 300000, \"node\": \"db-2:27017\"}' > monday/base.json",
    )
    .await;
    let metrics = midwatch.until("its end", |m| (runs(m, "success") == 1.0).then(|| m.clone())).await;
    let seconds = value(&metrics, "last_duration_seconds").unwrap();
    assert!((55.0..180.0).contains(&seconds), "{seconds}");
    assert_eq!(value(&metrics, "last_size_bytes"), Some(300_000.0));
    assert_eq!(value(&metrics, "last_uncompressed_bytes"), Some(300_000.0));
    assert_eq!(metrics.get("midwatch_backup_running", &[("node", "db-2:27017")]), Some(0.0));
    // A run that failed says so by its manifest, and leaves nothing else.
    sh(&folder, "mkdir tuesday; echo '{\"outcome\": \"failure\"}' > tuesday/base.json").await;
    let metrics = midwatch.until("a failure", |m| (runs(m, "failure") == 1.0).then(|| m.clone())).await;
    assert_eq!(value(&metrics, "last_run_success"), Some(0.0));
    assert_eq!(value(&metrics, "retained"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_gone_freezes_its_values() {
    let midwatch = start("directory", "", "pattern = \"*.tar\"\nsettle = \"5s\"\n").await;
    let folder = midwatch.place.folder.path().join("backups");
    sh(&folder, "tar -cf a.tar -C ../data .").await;
    successes(&midwatch, "a first one", 1.0).await;
    sh(&folder, "mv ../backups ../away").await;
    let metrics = midwatch.until("a failure", |m| (value(m, "source_up") == Some(0.0)).then(|| m.clone())).await;
    assert_eq!((value(&metrics, "retained"), runs(&metrics, "success")), (Some(1.0), 1.0));
    let reason = [("reason", "rejected"), ("probe", "orders")];
    assert!(metrics.get("midwatch_probe_failures_total", &reason).unwrap() > 0.0);
    sh(midwatch.place.folder.path(), "cp away/a.tar away/b.tar; mv away backups").await;
    let metrics = successes(&midwatch, "what came in the meantime", 2.0).await;
    assert_eq!(value(&metrics, "source_up"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_leaves_a_prom_file() {
    // Some hours ago: books give up what has gone on for days. The times below have four digits more.
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let lately = (now / 10_000 - 1).to_string();
    let write_and_rename = |path: &Path, text: &str| write_and_rename(path, &text.replace("170000", &lately));
    let place_file = "/orders.prom";
    let midwatch = start("textfile", place_file, "select = { job = \"orders\" }\n").await;
    let folder = midwatch.place.folder.path().join("backups");
    let metrics = midwatch.metrics().await;
    assert_eq!(value(&metrics, "source_up"), Some(0.0), "there is no file yet");
    let path = folder.join("orders.prom");
    let of = "{job=\"orders\",node=\"db-1:27017\"}";
    // As the last run, which nobody watched, left it.
    write_and_rename(&path, &format!("backup_end_timestamp_seconds{of} 1700000000\n"));
    midwatch.until("the last run", |m| value(m, "last_success_timestamp_seconds")).await;
    write_and_rename(
        &path,
        &format!(
            "backup_start_timestamp_seconds{of} 1700003600\nbackup_end_timestamp_seconds{{job=\"users\"}} 1700007200\n"
        ),
    );
    midwatch
        .until("a start", |m| m.get("midwatch_backup_running", &[("node", "db-1:27017")]).filter(|is| *is == 1.0))
        .await;
    let end = format!(
        "backup_start_timestamp_seconds{of} 1700003600\nbackup_end_timestamp_seconds{of} 1700003900\nbackup_success{of} 1\nbackup_size_bytes{of} 1e6\n"
    );
    write_and_rename(&path, &end);
    let metrics = successes(&midwatch, "its end", 1.0).await;
    assert_eq!(value(&metrics, "last_duration_seconds"), Some(300.0));
    assert_eq!(value(&metrics, "last_size_bytes"), Some(1e6));
    // Torn: nothing changes.
    write_and_rename(&path, &end[..end.len() - 3]);
    let metrics = midwatch.until("a failure", |m| (value(m, "source_up") == Some(0.0)).then(|| m.clone())).await;
    assert_eq!(value(&metrics, "last_size_bytes"), Some(1e6));
    write_and_rename(
        &path,
        &end.replace("1700003600", "1700003950").replace("1700003900", "1700004000").replace(
            "_success{job=\"orders\",node=\"db-1:27017\"} 1",
            "_success{job=\"orders\",node=\"db-1:27017\"} 0",
        ),
    );
    midwatch.until("another run", |m| (runs(m, "failure") == 1.0).then_some(())).await;
}
