//! What happens to the books when the daemon is killed, a disk is full, or a record is torn.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::tell;
use crate::support::{Metrics, Midwatch, Place, eventually, program, request};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const JOBS: [&str; 4] = ["one", "two", "three", "four"];

/// A midwatch that is told of runs of [`JOBS`], with that state directory.
async fn told(place: Place) -> Midwatch {
    let token = place.write("token", TOKEN);
    let job = |job: &&str| {
        format!(
            "[probe.backup.{job}]\nsource = \"push\"\ntoken = {{ file = \"{}\" }}\ninterval = \"1s\"\ntimeout = \"900ms\"\n",
            token.display()
        )
    };
    let jobs: String = JOBS.iter().map(job).collect();
    place.write("midwatch.toml", &place.text(&jobs));
    let midwatch = place.launch("midwatch.toml", &[], Command::new(program()));
    midwatch.wait_ready().await;
    midwatch
}

fn path(job: &str, n: usize, action: &str) -> String {
    format!("/ping/{TOKEN}/{job}{action}?rid=00000000-0000-4000-8000-{n:012x}")
}

/// Runs of a job that were counted with that outcome.
fn count(metrics: &Metrics, job: &str, outcome: &str) -> Option<f64> {
    metrics.get("midwatch_backup_runs_total", &[("probe", job), ("outcome", outcome)])
}

fn journal(state: &Path) -> PathBuf {
    state.join("backups.journal")
}

/// So many records are left in the spool for each job, and so often: with their words more than a megabyte every other time, which is when the
/// journal is written anew.
const RECORDS: usize = 60;
/// See [`RECORDS`].
const ROUNDS: usize = 25;

/// Leaves records of runs as `midwatch backup run` does, each with as many words as are kept.
fn leave(state: &Path, round: usize) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let dir = state.join("spool");
    for (job, n) in JOBS.iter().flat_map(|job| (0..RECORDS).map(move |n| (job, n))) {
        let rid = format!("11111111-0000-4000-8000-{:012x}", round * RECORDS + n);
        let (words, file) = ("x".repeat(2048), dir.join(format!("{job}.{rid}.json")));
        let told =
            serde_json::json!({ "rid": rid, "what": "success", "started": now - 9.0, "ended": now, "note": words });
        let record = serde_json::json!({ "job": job, "told": told });
        fs::write(file.with_extension("tmp"), record.to_string()).unwrap();
        fs::rename(file.with_extension("tmp"), file).unwrap();
    }
}

/// Which file the journal is, and how long.
fn version(state: &Path) -> (u64, u64) {
    fs::metadata(journal(state)).map_or((0, 0), |meta| (meta.ino(), meta.len()))
}

#[tokio::test]
async fn a_daemon_that_is_killed_again_and_again_counts_each_run_once() {
    let mut midwatch = told(Place::new()).await;
    let state = midwatch.place.folder.path().join("state");
    let is_over = Arc::new(AtomicBool::new(false));
    let senders = JOBS.map(|job| {
        let (address, is_over) = (midwatch.address.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut told = 0;
            while !is_over.load(Ordering::Relaxed) {
                for action in ["/start", if told % 3 == 0 { "/fail" } else { "" }] {
                    tell(&address, &path(job, told, action)).await;
                }
                told += 1;
            }
            told
        })
    });
    let (mut file, mut anew) = (None, 0);
    for n in 0..ROUNDS {
        midwatch.wait_ready().await;
        eventually("the spool to be there", async || state.join("spool").is_dir().then_some(())).await;
        // At another moment each time: after some lines, or as it is being written anew, or right after that.
        let before = version(&state);
        leave(&state, n);
        let more = 1 + (n as u64) * 99_973 % 500_000;
        eventually("the journal to grow", async || {
            // It takes a moment to write it anew.
            for _ in 0..40 {
                let now = version(&state);
                if now.0 != before.0 || now.1 >= before.1 + more {
                    return Some(());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            None
        })
        .await;
        midwatch.crash().await;
        let now = version(&state).0;
        anew += usize::from(file.replace(now).is_some_and(|file| file != now));
        if n % 5 == 2 {
            // What is there if it is killed meanwhile.
            let whole = fs::read(journal(&state)).unwrap();
            fs::write(state.join("backups.journal.tmp"), &whole[..whole.len() / 2]).unwrap();
        }
        if n % 5 == 4 {
            // What a machine leaves that loses power while it writes.
            let mut torn = OpenOptions::new().append(true).open(journal(&state)).unwrap();
            let _ = torn.write_all(b"1 00000000 {\"event\":[\"one\",");
        }
    }
    midwatch.wait_ready().await;
    is_over.store(true, Ordering::Relaxed);
    for (job, sender) in JOBS.iter().zip(senders) {
        let told = sender.await.unwrap();
        let failed = told / 3 + usize::from(told % 3 > 0);
        midwatch
            .until("all runs to be shown", |metrics| {
                let shown = ["success", "failure"].map(|outcome| count(metrics, job, outcome).unwrap_or(0.0));
                (shown == [(told - failed + ROUNDS * RECORDS) as f64, failed as f64]).then_some(())
            })
            .await;
        let metrics = midwatch.metrics().await;
        assert_eq!((count(&metrics, job, "lost"), count(&metrics, job, "canceled")), (Some(0.0), Some(0.0)));
        assert_eq!(metrics.get("midwatch_backup_runs_in_progress", &[("probe", job)]), Some(0.0));
    }
    assert_eq!(fs::read_dir(state.join("spool")).unwrap().count(), 0);
    assert!(anew > 1, "the journal was written anew {anew} times");
}

/// A small file system of its own.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&at).output().unwrap();
        assert!(mounted.status.success(), "this test mounts a tmpfs, which takes root: {mounted:?}");
        Self(at)
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").arg("-o").arg(format!("remount,{options}")).arg(&self.0).status().unwrap();
        assert!(done.success());
    }

    /// Leaves no room, until the result is deleted.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
        ballast
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// How often the log has that.
fn times(midwatch: &Midwatch, text: &str) -> usize {
    midwatch.log().matches(text).count()
}

const CANNOT: &str = "the journal of backups cannot be written";
const CAN: &str = "the journal of backups can be written again";

async fn until_writable(midwatch: &Midwatch, is: f64) {
    midwatch
        .until("the state directory to be shown as it is", |metrics| {
            (metrics.get("midwatch_backup_state_writable", &[("probe", "one")])? == is).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_lost() {
    let place = Place::new();
    let small = Small::mount(place.folder.path().join("state"));
    let mut midwatch = told(place).await;
    tell(&midwatch.address, &path("one", 0, "")).await;
    until_writable(&midwatch, 1.0).await;
    let ballast = small.fill();
    // The rest of a page may have room for a few messages; one that is taken is kept.
    let (mut n, mut refused) = (1, 0);
    while refused < 3 {
        match request(&midwatch.address, "POST", &path("one", n, "")).await {
            Some((200, _)) => n += 1,
            Some((503, _)) => refused += 1,
            // Too many at once.
            Some((429, _)) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("{other:?}"),
        }
    }
    until_writable(&midwatch, 0.0).await;
    midwatch.crash().await;
    midwatch.wait_ready().await;
    until_writable(&midwatch, 0.0).await;
    // Once by each process.
    assert_eq!((times(&midwatch, CANNOT), times(&midwatch, CAN)), (2, 0));
    fs::remove_file(ballast).unwrap();
    tell(&midwatch.address, &path("one", n, "")).await;
    until_writable(&midwatch, 1.0).await;
    assert_eq!((times(&midwatch, CANNOT), times(&midwatch, CAN)), (2, 1));
    for _ in 0..2 {
        midwatch.until("all runs", |metrics| (count(metrics, "one", "success")? == n as f64 + 1.0).then_some(())).await;
        midwatch.restart().await;
    }
}

#[tokio::test]
async fn a_read_only_state_directory_is_told_and_nothing_is_lost() {
    let place = Place::new();
    let small = Small::mount(place.folder.path().join("state"));
    let mut midwatch = told(place).await;
    tell(&midwatch.address, &path("one", 0, "")).await;
    midwatch.signal("KILL");
    midwatch.end().await;
    small.remount("ro");
    midwatch.respawn();
    midwatch.wait_ready().await;
    until_writable(&midwatch, 0.0).await;
    // What was there is shown; what is told is refused.
    assert_eq!(count(&midwatch.metrics().await, "one", "success"), Some(1.0));
    eventually("a message to be refused", async || {
        let answer = request(&midwatch.address, "POST", &path("one", 1, "")).await;
        matches!(answer, Some((503, _))).then_some(())
    })
    .await;
    assert_eq!(times(&midwatch, CANNOT), 1);
    small.remount("rw");
    tell(&midwatch.address, &path("one", 1, "")).await;
    until_writable(&midwatch, 1.0).await;
    midwatch.restart().await;
    midwatch.until("both runs", |metrics| (count(metrics, "one", "success")? == 2.0).then_some(())).await;
}
