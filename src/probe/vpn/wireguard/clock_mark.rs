//! The latest time that a server has seen of us.
//!
//! An initiation carries a time stamp, and a server drops those that are not later than the latest one it has accepted of the
//! same peer (WireGuard's paper, section 5.1). So a clock that is set back makes it deaf for as long. Our stamps never go
//! back within a process, but a new process knows only the clock: what the last one used is kept in the state directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// By how much the clock may be behind the mark before that is said: two machines' worth of rounding.
pub(super) const TOLERANCE: Duration = Duration::from_secs(1);
/// How old a mark may become before it is written again.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);
/// The longest file that is read.
const MAX_LENGTH: u64 = 64;

/// The system's clock, since 1970; `None` if it is set to a time before that.
pub(super) fn now() -> Option<Duration> {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()
}

/// Whether a mark is due to be written: it has aged, or stamps went back because a server forgot what it knew of us.
pub(super) fn is_due(written: Option<Duration>, stamp: Duration) -> bool {
    written.is_none_or(|written| stamp < written || stamp - written >= WRITTEN_EVERY)
}

/// The mark of that name; `None` if there is none that can be read.
pub(super) fn read(state: &Path, name: &str) -> Option<Duration> {
    let mut text = String::new();
    File::open(file(state, name)).ok()?.take(MAX_LENGTH).read_to_string(&mut text).ok()?;
    let (seconds, nanos) = text.trim_end().split_once('.')?;
    let (seconds, nanos) = (seconds.parse().ok()?, nanos.parse().ok().filter(|nanos| *nanos < 1_000_000_000)?);
    Some(Duration::new(seconds, nanos))
}

/// Writes it, whole or not at all.
///
/// # Errors
/// What the system says of the directory.
pub(super) fn write(state: &Path, name: &str, mark: Duration) -> io::Result<()> {
    let target = file(state, name);
    let dir = target.parent().unwrap_or(state);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let temporary = target.with_extension("tmp");
    // Left over from a crash; opened anew below so that its mode is ours.
    let _ = fs::remove_file(&temporary);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    writeln!(out, "{}.{:09}", mark.as_secs(), mark.subsec_nanos())?;
    out.sync_all()?;
    fs::rename(&temporary, &target)?;
    File::open(dir)?.sync_all()
}

fn file(state: &Path, name: &str) -> PathBuf {
    state.join("wireguard").join(format!("{name}.clock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(read(state.path(), "a"), None);
        let mark = Duration::new(1_700_000_000, 7);
        write(state.path(), "a", mark).unwrap();
        write(state.path(), "b", mark * 2).unwrap();
        assert_eq!(read(state.path(), "a"), Some(mark));
        write(state.path(), "a", Duration::new(5, 999_999_999)).unwrap();
        assert_eq!(read(state.path(), "a"), Some(Duration::new(5, 999_999_999)));
    }

    #[test]
    fn what_is_no_mark_is_none() {
        let state = tempfile::tempdir().unwrap();
        write(state.path(), "a", Duration::ZERO).unwrap();
        for text in ["", "5", "5.", ".5", "-1.000000000", "5.1000000000", "x.y", "99999999999999999999999.0", "\u{0}"] {
            fs::write(file(state.path(), "a"), text).unwrap();
            assert_eq!(read(state.path(), "a"), None, "{text}");
        }
        fs::write(file(state.path(), "a"), [b'1'; 10_000]).unwrap();
        assert_eq!(read(state.path(), "a"), None);
    }

    #[test]
    fn a_mark_is_written_once_a_minute_and_when_it_goes_back() {
        let at = Duration::from_secs;
        assert!(is_due(None, at(100)));
        assert!(!is_due(Some(at(100)), at(100)) && !is_due(Some(at(100)), at(159)));
        assert!(is_due(Some(at(100)), at(160)) && is_due(Some(at(100)), at(99)));
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("wireguard"), "a file where the folder should be").unwrap();
        assert!(write(state.path(), "a", Duration::ZERO).is_err());
    }
}
