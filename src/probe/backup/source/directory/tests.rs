use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::probe::backup::Backup;
use crate::probe::testing::{self, Bench};
use crate::settings::{Files, Settings};

const TIME: Duration = Duration::from_secs(30);
const RUNS: &str = "midwatch_backup_runs_total";

struct Keys(Config);

impl Settings for Keys {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Config::read(section).map(Self)
    }
}

fn config(path: &Path, keys: &str) -> Config {
    let keys = format!("path = '{}'\n{keys}", path.display());
    testing::config::<Keys>(Path::new("/"), &keys, &Files::new(false)).unwrap().0
}

fn bench(path: &Path, keys: &str) -> Bench<Backup> {
    Bench::new(&format!("source = 'directory'\npath = '{}'\n{keys}", path.display()))
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Makes a file look as if it had been written so many seconds ago.
fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(then).unwrap();
}

/// A file of so many bytes that was written so many seconds ago. The folders on the way are made.
fn file(root: &Path, name: &str, bytes: usize, seconds: u64) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, vec![b' '; bytes]).unwrap();
    age(&path, seconds);
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Reads once more; how many files and folders were looked at.
fn looks(config: &Config, tree: &mut Folder, now: f64) -> (usize, bool) {
    let mut walk = Walk::new(&config.rules, &config.path, now, far());
    walk.refresh(tree).unwrap();
    (walk.looks, walk.changed)
}

#[tokio::test]
async fn what_comes_goes_and_is_overwritten_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    file(root, "orders-1.gz", 10, 90_000);
    file(root, "orders-2.gz", 20, 5_000);
    file(root, "orders-3.gz.part", 20, 4_000);
    file(root, "readme", 7, 5_000);
    let bench = bench(root, "pattern = 'orders-*.gz'");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(RUNS, ""), 0.0, "they were there before");
    assert_eq!(bench.sum("midwatch_backup_retained", ""), 2.0);
    assert_eq!(bench.sum("midwatch_backup_stored_bytes", ""), 30.0);
    assert_eq!(bench.sum("midwatch_backup_last_size_bytes", ""), 20.0);

    // Renamed into place, and the oldest one deleted.
    fs::rename(root.join("orders-3.gz.part"), root.join("orders-3.gz")).unwrap();
    fs::remove_file(root.join("orders-1.gz")).unwrap();
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(RUNS, "outcome=success"), 1.0);
    assert_eq!(bench.sum("midwatch_backup_retained", ""), 2.0);
    assert_eq!(bench.sum("midwatch_backup_stored_bytes", ""), 40.0);

    // Overwritten in place: the directory's own time stays the same.
    file(root, "orders-2.gz", 50, 1_000);
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(RUNS, "outcome=success"), 2.0);
    assert_eq!(bench.sum("midwatch_backup_last_size_bytes", ""), 50.0);
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(RUNS, ""), 2.0);

    // All gone: that is a reading.
    fs::remove_file(root.join("orders-2.gz")).unwrap();
    fs::remove_file(root.join("orders-3.gz")).unwrap();
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_source_up", ""), 1.0);
    assert_eq!(bench.sum("midwatch_backup_retained", ""), 0.0);
    assert_eq!(bench.sum("midwatch_backup_last_size_bytes", ""), 50.0);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let bench = bench(root, "pattern = 'o-*'\nnode = 'db:1'");
    bench.run(TIME).await.unwrap();
    file(root, "o-1", 10, 3);
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_running", "node=db:1"), 0.0, "nobody has seen it grow");
    file(root, "o-1", 20, 2);
    for _ in 0..2 {
        bench.run(TIME).await.unwrap();
        assert_eq!(bench.sum("midwatch_backup_running", "node=db:1"), 1.0);
    }
    age(&root.join("o-1"), 130);
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_running", "node=db:1"), 0.0);
    assert_eq!((bench.sum(RUNS, "outcome=success"), bench.sum(RUNS, "")), (1.0, 1.0));

    // A partial one that is taken away instead of completed is lost.
    file(root, "o-2.part", 20, 2);
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_runs_in_progress", ""), 1.0);
    fs::remove_file(root.join("o-2.part")).unwrap();
    bench.run(TIME).await.unwrap();
    assert_eq!((bench.sum(RUNS, "outcome=lost"), bench.sum(RUNS, "")), (1.0, 2.0));
}

#[tokio::test]
async fn markers_and_manifests_tell_how_long_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let keys = "pattern = 'o-*'\ncomplete = '{name}/_SUCCESS'\nstarted = '{name}.started'\nmanifest = '{name}.json'";
    let bench = bench(root, keys);
    bench.run(TIME).await.unwrap();
    file(root, "o-1.started", 0, 1_000);
    file(root, "o-1/a", 10, 900);
    bench.run(TIME).await.unwrap();
    let started = bench.sum("midwatch_backup_running_start_timestamp_seconds", "");
    assert!((now() - started - 1_000.0).abs() < 60.0, "{started}");
    file(root, "o-1/deep/b", 5, 800);
    file(root, "o-1/_SUCCESS", 0, 700);
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(RUNS, ""), 0.0, "without its manifest it is not complete");
    fs::write(root.join("o-1.json"), "{\"uncompressed\": 150, \"node\": \"db:1\"").unwrap();
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(RUNS, ""), 0.0, "nor with one that is torn");
    fs::write(root.join("o-1.json"), "{\"uncompressed\": 150, \"node\": \"db:1\"}").unwrap();
    for _ in 0..2 {
        bench.run(TIME).await.unwrap();
        assert_eq!((bench.sum(RUNS, "outcome=success"), bench.sum(RUNS, "")), (1.0, 1.0));
    }
    let seconds = bench.sum("midwatch_backup_last_duration_seconds", "");
    assert!((seconds - 300.0).abs() < 60.0, "{seconds}");
    assert_eq!(bench.sum("midwatch_backup_last_size_bytes", ""), 15.0);
    assert_eq!(bench.sum("midwatch_backup_last_uncompressed_bytes", ""), 150.0);
    assert_eq!(bench.sum("midwatch_backup_running", "node=db:1"), 0.0);
}

#[tokio::test]
async fn a_manifest_that_is_a_pipe_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let bench = bench(root, "pattern = 'o-*'\nmanifest = '{name}.json'");
    file(root, "o-1", 1, 1_000);
    fifo(&root.join("o-1.json"));
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_retained", ""), 0.0);
}

fn fifo(path: &Path) {
    let done = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(done.success());
}

#[tokio::test]
async fn symbolic_links_are_no_backups_and_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (root, other) = (folder.path().join("root"), folder.path().join("other"));
    file(&root, "day/o-1", 10, 5_000);
    file(&other, "o-2", 10, 5_000);
    symlink("o-1", root.join("day/o-latest")).unwrap();
    symlink(&other, root.join("elsewhere")).unwrap();
    symlink(&root, root.join("day/o-loop")).unwrap();
    let link = folder.path().join("link");
    symlink(&root, &link).unwrap();
    let bench = bench(&link, "pattern = '*/o-*'");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_retained", ""), 1.0);
}

#[tokio::test]
async fn what_cannot_be_read_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("backups");
    let bench = bench(&root, "pattern = 'o-*'\nmust_contain = '.mounted'");
    assert_eq!(bench.run(TIME).await.unwrap_err().reason, Reason::Rejected, "there is no directory");
    file(&root, "o-1", 10, 5_000);
    let failure = bench.run(TIME).await.unwrap_err();
    assert!(failure.reason == Reason::Rejected && failure.detail.contains("must_contain"), "{failure}");
    file(&root, ".mounted", 0, 0);
    bench.run(TIME).await.unwrap();
    // Its file system is gone, and the mount point is empty.
    let away = folder.path().join("away");
    fs::rename(&root, &away).unwrap();
    fs::create_dir(&root).unwrap();
    assert!(bench.run(TIME).await.is_err());
    assert_eq!(bench.sum("midwatch_backup_source_up", ""), 0.0);
    assert_eq!(bench.sum("midwatch_backup_retained", ""), 1.0);
    fs::remove_dir(&root).unwrap();
    fs::write(&root, "").unwrap();
    assert_eq!(bench.run(TIME).await.unwrap_err().reason, Reason::Rejected, "it is a file");
    fs::remove_file(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(RUNS, ""), 0.0);
}

#[test]
fn a_large_directory_is_looked_at_once() {
    const FILES: usize = 1_500;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for at in 0..FILES {
        file(root, &format!("o-{at}"), 1, 200_000);
    }
    file(root, "o-new", 1, 3_000);
    age(root, 10);
    let config = config(root, "pattern = 'o-*'");
    let mut tree = Folder::default();
    assert_eq!(looks(&config, &mut tree, now()), (FILES + 1, true));
    // Only what changed today.
    assert_eq!(looks(&config, &mut tree, now()), (1, false));
    file(root, "o-newer", 1, 3_000);
    assert_eq!(looks(&config, &mut tree, now()), (2, true));
    // A directory that has just changed may change again within the same tick of its clock.
    assert_eq!(looks(&config, &mut tree, now()), (2, true));
    age(root, 10);
    looks(&config, &mut tree, now());
    assert_eq!(looks(&config, &mut tree, now()), (2, false));
    fs::remove_file(root.join("o-7")).unwrap();
    age(root, 9);
    assert_eq!(looks(&config, &mut tree, now()), (2, true));
    // Ten minutes later everything is looked at again.
    assert_eq!(looks(&config, &mut tree, now() + 601.0), (FILES + 1, false));
}

#[test]
fn a_reading_that_is_cut_off_goes_on_where_it_was() {
    const FILES: usize = 1_500;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for at in 0..FILES {
        file(root, &format!("o-{at}"), 1, 200_000);
    }
    age(root, 10);
    let config = config(root, "pattern = 'o-*'");
    let mut tree = Folder::default();
    let mut late = Walk::new(&config.rules, &config.path, now(), Instant::now());
    let failure = late.refresh(&mut tree).unwrap_err();
    assert!(failure.reason == Reason::Timeout && failure.detail.starts_with("0 files"), "{failure}");
    // As it is when time is over between the listing and the last look.
    assert_eq!(looks(&config, &mut tree, now()).0, FILES);
    tree.forget_half();
    assert_eq!(looks(&config, &mut tree, now()), (FILES / 2, true));
}

#[test]
fn an_unreadable_folder_is_a_failure_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    file(root, "a/o-1", 1, 200_000);
    fs::set_permissions(root.join("a"), Permissions::from_mode(0o0)).unwrap();
    let config = config(root, "pattern = '*/o-*'");
    let done = Walk::new(&config.rules, &config.path, now(), far()).refresh(&mut Folder::default());
    let is_root = fs::read_dir(root.join("a")).is_ok();
    fs::set_permissions(root.join("a"), Permissions::from_mode(0o755)).unwrap();
    // Nothing is unreadable to root.
    assert_eq!(done.map_err(|failure| failure.reason), if is_root { Ok(()) } else { Err(Reason::Local) });
}

#[test]
fn bad_keys_are_refused() {
    for (keys, problem) in [
        ("pattern = '*'", "missing field `path`"),
        ("path = '/x'", "missing field `pattern`"),
        ("path = '/x'\npattern = '*'\nmust_contain = 'a/b'", "must be the name"),
    ] {
        let problems = testing::config::<Keys>(Path::new("/"), keys, &Files::new(false)).err().unwrap();
        assert!(problems.len() == 1 && problems[0].contains(problem), "{keys}: {problems:?}");
    }
}
