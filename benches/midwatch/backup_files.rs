//! The backup source `directory`: the first reading of 100 000 files, readings in which nothing has changed, and what is resident.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Outcome;
use super::daemon::Daemon;
use super::report::{Table, mb, ms};

const FILES: u32 = 100_000;
/// So many readings in which nothing changes.
const READINGS: f64 = 20.0;
/// More than this may not be resident because of the files.
const ROOM: f64 = 50e6;
/// They were written an hour after each other, the last one an hour ago.
const APART: Duration = Duration::from_secs(3_600);

/// The first reading and those that follow; a daemon whose directory is empty says what it needs without the files.
pub async fn measure() -> Outcome<()> {
    let (empty, full) = (tempfile::tempdir()?, tempfile::tempdir()?);
    fill(full.path())?;
    let base = {
        let mut daemon = Daemon::start(&section(empty.path())).await?;
        after_runs(&mut daemon, 2.0).await?;
        daemon.memory()?.anonymous
    };
    let mut daemon = Daemon::start(&section(full.path())).await?;
    let first = after_runs(&mut daemon, 1.0).await?;
    let memory = daemon.memory()?.anonymous - base;
    let before = daemon.cpu()?;
    let second = after_runs(&mut daemon, first.0 + READINGS).await?;
    let after = daemon.cpu()?;
    let runs = second.0 - first.0;
    File::create(full.path().join("orders-new.tar.gz"))?;
    let third = after_runs(&mut daemon, second.0 + 1.0).await?;
    let (scrape, _) = daemon.scrape().await?;
    if scrape.sum("midwatch_backup_retained", &[]) != f64::from(FILES) {
        return Err("not all files were found".into());
    }
    let mut table = Table::new("Backups in a directory of 100 000 files, an hour apart");
    table.figure("first reading: time", seconds(first.1 / first.0));
    table.target("memory for it", mb(memory), "< 50 MB", memory < ROOM);
    let (user, system) = ((after.user - before.user) / runs, (after.system - before.system) / runs);
    table.figure("unchanged: time", seconds((second.1 - first.1) / runs));
    table.figure(
        "unchanged: CPU of midwatch, in its own code and in the kernel",
        format!("{}, {}", seconds(user), seconds(system)),
    );
    table.figure(
        "one new file: time of the reading that finds it",
        seconds((third.1 - second.1) / (third.0 - second.0)),
    );
    table.figure("memory after all", mb(daemon.memory()?.anonymous - base));
    table.print();
    Ok(())
}

fn seconds(seconds: f64) -> String {
    ms(Duration::from_secs_f64(seconds.max(0.0)))
}

fn section(path: &Path) -> String {
    format!(
        "[probe.backup.bench]\nsource = \"directory\"\npath = \"{}\"\npattern = \"orders-*.tar.gz\"\ninterval = \"5s\"\ntimeout = \"4s\"\n",
        path.display()
    )
}

/// Waits for so many runs: how many there were, and how many seconds they took.
async fn after_runs(daemon: &mut Daemon, runs: f64) -> Outcome<(f64, f64)> {
    loop {
        let (scrape, _) = daemon.scrape().await?;
        let sum = |name| scrape.sum(name, &[]);
        if sum("midwatch_probe_failures_total") > 0.0 {
            return Err("a reading failed".into());
        }
        let done = sum("midwatch_probe_runs_total");
        if done >= runs {
            return Ok((done, sum("midwatch_probe_duration_seconds_sum")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sparse files of 1 MiB.
fn fill(folder: &Path) -> Outcome<()> {
    let now = SystemTime::now();
    for at in 0..FILES {
        let file = File::create(folder.join(format!("orders-{at:06}.tar.gz")))?;
        file.set_len(1 << 20)?;
        file.set_modified(now - APART * (at + 1))?;
    }
    // As if the last one had not come just now: the directory's own time is then final.
    File::open(folder)?.set_modified(now - Duration::from_secs(60))?;
    Ok(())
}
