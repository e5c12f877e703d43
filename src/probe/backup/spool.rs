//! Records in the spool: what `midwatch backup run` could not tell, or leaves until it has been told.
//!
//! A record is one JSON file, named `<job>.<rid>.json`. It is written by whoever runs the backup, whole or not at all, and removed by
//! whoever has entered it: the daemon that owns the directory, or the writer once a daemon has said that it is on disk. Between
//! entering and removing, a crash is harmless: a run is counted once by its id.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::config::is_node;
use super::told::Told;
use crate::sync::lock;

/// The spool's name in the state directory.
pub const NAME: &str = "spool";
/// The largest record, in bytes.
const LARGEST: u64 = 64 << 10;
/// So many records of a job are taken at once; the others are next.
const MOST: usize = 1000;
/// So many names are looked at.
const NAMES: usize = 100_000;
/// For so long something stays that nobody takes: a record of a job that is not configured, one that was set aside, half of one.
const KEPT: Duration = Duration::from_secs(31 * 86_400);
/// The length of a UUID as text.
const RID: usize = 36;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The job's name.
    pub job: String,
    /// The message.
    pub told: Told,
}

/// A record, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The message.
    pub told: Told,
    /// The file.
    pub file: PathBuf,
    which: Which,
}

/// The device and the number by which the system tells a file from all others, whatever its name.
type Which = (u64, u64);

impl Waiting {
    /// Removes the record, which has been entered; not one that its writer has put in its place since, which tells more. One that cannot be
    /// removed is found again, which changes nothing.
    ///
    /// # Errors
    /// What the system says; none if it is gone.
    pub fn remove(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(about) if (about.dev(), about.ino()) != self.which => Ok(()),
            about => about.and_then(|_| remove(&self.file)),
        }
    }
}

/// Those files that could neither be read nor be set aside and that the log has told of; of all jobs of the process.
#[derive(Default)]
pub struct Stuck(Mutex<BTreeSet<PathBuf>>);

impl Stuck {
    /// Sets files aside that cannot be taken, with the reasons for that, and says so once. Returns what a person should know. Blocks.
    pub fn set_aside(&self, bad: &[(PathBuf, String)]) -> Vec<String> {
        let mut notes = Vec::new();
        for (file, why) in bad {
            let done = set_aside(file);
            let is_new = self.is_new(file, done.is_err());
            let shown = file.display();
            match done {
                Ok(()) => tracing::warn!(file = %shown, "a record in the spool is set aside as .bad: {why}"),
                Err(error) => {
                    if is_new {
                        tracing::warn!(file = %shown, %error, "a record in the spool cannot be set aside as .bad: {why}");
                    }
                    notes.push(format!("a record in the spool can be neither taken nor set aside: {error}"));
                }
            }
        }
        notes
    }

    /// Whether that file is stuck and was not before.
    fn is_new(&self, file: &Path, is_stuck: bool) -> bool {
        let mut known = lock(&self.0);
        if !is_stuck {
            known.remove(file);
        }
        is_stuck && known.len() < MOST && known.insert(file.to_owned())
    }
}

/// What waits for a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Records that can be read, in the order of their names.
    pub waiting: Vec<Waiting>,
    /// Files that cannot, and why.
    pub bad: Vec<(PathBuf, String)>,
}

/// Makes the directory, for the owner of the one it is in and for its group. One that is there is left as it is.
///
/// # Errors
/// What the system says; `NotFound` if the directory it is in is not there.
pub fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o770).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    // By its descriptor: whoever owns the directory that it is in may put a link in its place at any moment.
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let made = OpenOptions::new().read(true).custom_flags(flags).open(dir)?;
    // What the mask has taken away.
    made.set_permissions(Permissions::from_mode(0o770))?;
    if let Some(parent) = dir.parent().and_then(|parent| fs::metadata(parent).ok()) {
        // Root may run a backup before the daemon, another user, was ever started. Nobody else can do this, or need to.
        let _ = fchown(&made, Some(parent.uid()), Some(parent.gid()));
    }
    Ok(())
}

/// Leaves a record, so that it is there after a crash. Returns where.
///
/// # Errors
/// What the system says; then nothing is left.
pub fn leave(dir: &Path, record: &Record) -> io::Result<PathBuf> {
    let file = dir.join(format!("{}.{}.json", record.job, record.told.rid));
    let half = file.with_extension("tmp");
    let text = serde_json::to_vec(record)?;
    let written = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&half).and_then(|mut out| {
        out.write_all(&text)?;
        // Readable whatever the mask: the daemon may be another user. Nobody else gets past the directory.
        out.set_permissions(Permissions::from_mode(0o644))?;
        out.sync_all()?;
        fs::rename(&half, &file)?;
        File::open(dir)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written.map(|()| file)
}

/// What waits for a job. A directory that is not there holds nothing. Blocks.
///
/// # Errors
/// The directory cannot be read.
pub fn look(dir: &Path, job: &str) -> io::Result<Found> {
    let mut files: Vec<_> = names(dir)?.filter(|file| job_of(file) == Some(job)).collect();
    files.sort();
    let mut found = Found::default();
    for file in files.into_iter().take(MOST) {
        match read(&file, job) {
            Ok(Some((told, which))) => found.waiting.push(Waiting { told, file, which }),
            // Taken by somebody else since.
            Ok(None) => {}
            Err(why) => found.bad.push((file, why)),
        }
    }
    Ok(found)
}

/// The jobs that records wait for, and how many for each.
///
/// # Errors
/// The directory cannot be read.
pub fn jobs(dir: &Path) -> io::Result<std::collections::BTreeMap<String, usize>> {
    let mut jobs = std::collections::BTreeMap::new();
    for file in names(dir)? {
        if let Some(job) = job_of(&file) {
            *jobs.entry(job.to_owned()).or_default() += 1;
        }
    }
    Ok(jobs)
}

/// Removes a record that has been entered. One that cannot be removed is found again, which changes nothing.
///
/// # Errors
/// What the system says; none if it is gone.
pub fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Sets a file aside that cannot be taken, so that it is looked at once.
///
/// # Errors
/// What the system says.
fn set_aside(file: &Path) -> io::Result<()> {
    fs::rename(file, file.with_extension("bad"))
}

/// Removes what nobody takes, once it is old; never a record of a job that `is_taken` says somebody takes. Returns how much.
pub fn clear(dir: &Path, now: SystemTime, is_taken: impl Fn(&str) -> bool) -> usize {
    let is_old = |file: &PathBuf| {
        let since = fs::symlink_metadata(file).and_then(|about| about.modified());
        since.is_ok_and(|since| now.duration_since(since).is_ok_and(|age| age > KEPT))
    };
    let ours =
        |file: &PathBuf| file.extension().is_some_and(|kind| ["json", "bad", "tmp"].map(OsStr::new).contains(&kind));
    let Ok(names) = names(dir) else { return 0 };
    let waits = |file: &PathBuf| job_of(file).is_some_and(&is_taken);
    names.filter(ours).filter(|file| !waits(file)).filter(is_old).filter(|file| fs::remove_file(file).is_ok()).count()
}

fn names(dir: &Path) -> io::Result<impl Iterator<Item = PathBuf> + use<>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries?),
    };
    Ok(entries.into_iter().flatten().take(NAMES).filter_map(|entry| Some(entry.ok()?.path())))
}

/// The job of a record by its name; `None` for any other file.
fn job_of(file: &Path) -> Option<&str> {
    let stem = file.file_name()?.to_str()?.strip_suffix(".json")?;
    let (job, rid) = stem.split_at_checked(stem.len().checked_sub(RID + 1)?)?;
    (!job.is_empty() && rid.starts_with('.')).then_some(job)
}

/// A record that may have been written by anybody who can write to the directory. `None` if it is gone.
fn read(file: &Path, job: &str) -> Result<Option<(Told, Which)>, String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let open = match OpenOptions::new().read(true).custom_flags(flags).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let Some(about) = open.metadata().ok().filter(fs::Metadata::is_file) else {
        return Err("it is no regular file".to_owned());
    };
    let mut text = Vec::new();
    open.take(LARGEST + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err("it is larger than 64 KiB".to_owned());
    }
    // The parser's own words could quote the file.
    let Ok(Record { job: of, told }) = serde_json::from_slice(&text) else { return Err("it is no record".to_owned()) };
    let named = file.file_stem().and_then(OsStr::to_str).is_some_and(|stem| stem.ends_with(&told.rid));
    if of != job || told.rid.len() != RID || !named {
        return Err("it does not hold what its name says".to_owned());
    }
    told.node.as_deref().map_or(Ok(()), is_node).map_err(|why| format!("its node {why}"))?;
    Ok(Some((told, (about.dev(), about.ino()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RID_A: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
    const RID_B: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

    fn record(job: &str, rid: &str) -> Record {
        let told = Told { rid: rid.to_owned(), started: Some(1000.25), ended: Some(1010.5), ..Told::default() };
        Record { job: job.to_owned(), told }
    }

    fn spool() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join(NAME);
        make(&dir).unwrap();
        (folder, dir)
    }

    #[test]
    fn what_is_left_is_found_by_its_job_and_by_no_other() {
        let (_folder, dir) = spool();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o770);
        let (one, two) = (record("db.nightly", RID_A), record("nightly", RID_B));
        let file = leave(&dir, &one).unwrap();
        leave(&dir, &two).unwrap();
        let found = look(&dir, "db.nightly").unwrap();
        assert_eq!((found.waiting.len(), &found.bad[..]), (1, &[][..]));
        assert_eq!((&found.waiting[0].told, &found.waiting[0].file), (&one.told, &file));
        assert_eq!(look(&dir, "nightly").unwrap().waiting[0].told, two.told);
        assert_eq!(look(&dir, "db").unwrap(), Found::default());
        assert_eq!(jobs(&dir).unwrap(), [("db.nightly".to_owned(), 1), ("nightly".to_owned(), 1)].into());
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert_eq!(look(&dir, "db.nightly").unwrap(), Found::default());
        // A directory that is not there yet holds nothing.
        assert_eq!(look(&dir.join("none"), "nightly").unwrap(), Found::default());
    }

    #[test]
    fn what_was_put_in_the_place_of_a_record_since_it_was_read_stays() {
        let (_folder, dir) = spool();
        let mut record = record("a", RID_A);
        leave(&dir, &record).unwrap();
        let read = || look(&dir, "a").unwrap().waiting.remove(0);
        let first = read();
        record.told.size = Some(7);
        leave(&dir, &record).unwrap();
        first.remove().unwrap();
        let second = read();
        assert_eq!(second.told.size, Some(7));
        second.remove().unwrap();
        second.remove().unwrap();
        assert_eq!(look(&dir, "a").unwrap(), Found::default());
    }

    #[test]
    fn a_file_that_cannot_be_set_aside_is_told_of_once() {
        let (_folder, dir) = spool();
        let file = dir.join(format!("a.{RID_A}.json"));
        let aside = file.with_extension("bad");
        fs::write(&file, "").unwrap();
        fs::create_dir(&aside).unwrap();
        let stuck = Stuck::default();
        let bad = look(&dir, "a").unwrap().bad;
        for _ in 0..2 {
            assert_eq!(stuck.set_aside(&bad).len(), 1);
            assert_eq!(lock(&stuck.0).iter().collect::<Vec<_>>(), [&file]);
        }
        assert!(!stuck.is_new(&file, true));
        fs::remove_dir(&aside).unwrap();
        assert_eq!(stuck.set_aside(&bad), Vec::<String>::new());
        assert!(aside.is_file() && stuck.is_new(&file, true), "it is news if it happens again");
    }

    #[test]
    fn nothing_half_is_left_where_it_cannot_be_written() {
        let (_folder, dir) = spool();
        let mut large = record("a", RID_A);
        large.job = "a/../../b".to_owned();
        assert!(leave(&dir, &large).is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_record_is_set_aside_and_cleared_once_it_is_old() {
        let (folder, dir) = spool();
        let at = |rid: &str| dir.join(format!("a.{rid}.json"));
        let other = |last: char| format!("{}{last}", &RID_A[..RID - 1]);
        let rids: Vec<_> = "12345678".chars().map(other).collect();
        let mut well = record("a", &rids[0]);
        fs::write(at(&rids[0]), "{\"job\": \"a\", \"told\": {\"rid\": ").unwrap();
        fs::write(at(&rids[1]), vec![b' '; 65 << 10]).unwrap();
        fs::write(folder.path().join("secret"), serde_json::to_vec(&record("a", &rids[2])).unwrap()).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), at(&rids[2])).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at(&rids[3])).status().unwrap().success());
        fs::create_dir(at(&rids[4])).unwrap();
        fs::write(at(&rids[5]), serde_json::to_vec(&record("b", &rids[5])).unwrap()).unwrap();
        fs::write(at(&rids[6]), serde_json::to_vec(&well).unwrap()).unwrap();
        well.told.rid.clone_from(&rids[7]);
        well.told.node = Some("a\nb".to_owned());
        fs::write(at(&rids[7]), serde_json::to_vec(&well).unwrap()).unwrap();
        let found = look(&dir, "a").unwrap();
        assert_eq!((found.waiting.len(), found.bad.len()), (0, 8), "{:?}", found.bad);
        for (file, _) in &found.bad {
            set_aside(file).unwrap();
        }
        assert_eq!(look(&dir, "a").unwrap(), Found::default());
        let now = SystemTime::now();
        let nobody = |_: &str| false;
        assert_eq!(clear(&dir, now, nobody), 0);
        // All but the directory, which nobody needs to remove.
        let later = now + KEPT + Duration::from_secs(60);
        assert_eq!(clear(&dir, later, nobody), 7);
        assert!(folder.path().join("secret").exists());
        // What the daemon will take when it comes to it stays, however long it was down.
        let (mine, other) = (leave(&dir, &record("b", RID_A)).unwrap(), leave(&dir, &record("c", RID_B)).unwrap());
        assert_eq!(clear(&dir, later, |job| job == "b"), 1);
        assert!(mine.exists() && !other.exists());
    }
}
