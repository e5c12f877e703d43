//! Takes records from the spool into the books.

use std::time::{Duration, SystemTime};

use super::clerk::Clerk;
use super::spool::{self, Stuck};
use crate::failure::{Failure, Reason};

/// So long after the start nothing is removed from the spool.
const SETTLED: Duration = Duration::from_secs(3600);

/// Enters the records that wait for the job, and removes each when it is on disk. Only the process that owns the state directory does;
/// for any other they are there to be seen. Returns what a person should know. Blocks.
///
/// # Errors
/// `local` if the spool cannot be read, or the journal cannot be written: the records stay.
pub(super) fn collect(clerk: &Clerk) -> Result<Vec<String>, Failure> {
    let Some(dir) = clerk.state.dir().map(|dir| dir.join(spool::NAME)) else { return Ok(Vec::new()) };
    let is_own = clerk.state.own_dir().is_some();
    if is_own {
        // Without a spool there is nothing in it; whoever wants to leave something says that it cannot be.
        let _ = spool::make(&dir);
    }
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::new(Reason::Local, format!("{what}: {error}"));
    let found = spool::look(&dir, clerk.job()).map_err(|error| failed("the spool cannot be read", &error))?;
    if !is_own {
        return Ok(waiting(found.waiting.len(), found.bad.len()));
    }
    let mut notes = clerk.state.common::<Stuck>().set_aside(&found.bad);
    for record in found.waiting {
        clerk.enter(&record.told).map_err(|error| failed("the state directory cannot be written", &error))?;
        if let Err(error) = record.remove() {
            notes.push(format!("a record in the spool has been entered, but cannot be removed: {error}"));
        }
    }
    // By then all jobs that are configured have been asked for.
    if clerk.ledger.age() >= SETTLED {
        match spool::clear(&dir, SystemTime::now(), |job| clerk.ledger.uses(job)) {
            0 => {}
            old => tracing::warn!("{old} files in the spool that nobody took for 31 days have been removed"),
        }
    }
    notes.sort();
    notes.dedup();
    Ok(notes)
}

fn waiting(good: usize, bad: usize) -> Vec<String> {
    let say = |count: usize, what: &str| (count > 0).then(|| format!("records in the spool {what}: {count}"));
    say(good, "that the daemon has not taken yet").into_iter().chain(say(bad, "that cannot be read")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::spool::{Record, leave, make};
    use super::super::told::{Told, What};
    use super::super::{Backup, Config, now};
    use crate::metrics::SeriesSet;
    use crate::probe::testing::{Bench, config};
    use crate::probe::{Probe as _, Shared, State};
    use crate::settings::Files;

    const RID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn bench(folder: &Path, state: State) -> Bench<Backup> {
        state.set_dir(Some(folder));
        let keys = "source = \"exec\"\nnode = \"db1:27017\"";
        let config = Config { job: "nightly".to_owned(), ..config(folder, keys, &Files::new(false)).unwrap() };
        let probe = Backup::new(&Arc::new(config), &Shared { state, ..Shared::default() }, None).unwrap();
        Bench { probe, set: SeriesSet::new([("probe", "nightly")], Default::default()) }
    }

    fn record(folder: &Path, what: What) -> PathBuf {
        let dir = folder.join("spool");
        make(&dir).unwrap();
        let told = Told {
            rid: RID.to_owned(),
            what,
            started: Some(now() - 90.0),
            ended: Some(now() - 30.0),
            ..Told::default()
        };
        leave(&dir, &Record { job: "nightly".to_owned(), told }).unwrap()
    }

    async fn run(bench: &Bench<Backup>) {
        bench.run(Duration::from_secs(60)).await.unwrap();
    }

    #[tokio::test]
    async fn a_record_counts_once_however_often_it_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = bench(folder.path(), State::of_daemon());
        let file = record(folder.path(), What::Success);
        run(&daemon).await;
        assert!(!file.exists());
        let count = |bench: &Bench<Backup>| bench.sum("midwatch_backup_runs_total", "outcome=success");
        assert_eq!((count(&daemon), daemon.sum("midwatch_backup_last_duration_seconds", "").round()), (1.0, 60.0));
        assert_eq!(daemon.sum("midwatch_backup_running", "node=db1:27017"), 0.0);
        // The daemon died after it was entered, and before it was removed.
        drop(daemon);
        record(folder.path(), What::Success);
        let again = bench(folder.path(), State::of_daemon());
        run(&again).await;
        assert_eq!(count(&again), 1.0);
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn who_does_not_own_the_directory_only_looks() {
        let folder = tempfile::tempdir().unwrap();
        let file = record(folder.path(), What::Failure);
        let beside = bench(folder.path(), State::default());
        run(&beside).await;
        assert!(file.exists());
        assert_eq!(beside.sum("midwatch_backup_runs_total", ""), 0.0);
        assert!(beside.probe.story().contains("records in the spool that the daemon has not taken yet: 1"));
    }
}
