//! The size of what a backup left.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// So long the exit of the wrapper waits for all sizes together.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The size of all that the backup left; `None` if that is nothing, if any of it is not there, or if it takes too long to add up. A file
/// system that hangs is not waited for any longer.
pub(super) async fn of_all(paths: Vec<PathBuf>) -> Option<u64> {
    if paths.is_empty() {
        return None;
    }
    let ends = Instant::now() + PATIENCE;
    let sum = move || {
        let sizes = paths.iter().map(|path| {
            size(path, ends).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        });
        sizes.sum()
    };
    until(ends, sum).await.map_err(|error| tracing::warn!("the size of the backup is not known: {error}")).ok()
}

/// What `work` finds by then, on a thread of its own, because it may never end.
async fn until(ends: Instant, work: impl FnOnce() -> io::Result<u64> + Send + 'static) -> io::Result<u64> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("size".to_owned()).spawn(move || tell.send(work()))?;
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout_at(ends, told).await.map_err(late)?.unwrap_or_else(|_| Err(io::Error::other("it was given up")))
}

/// The bytes of a file, or of all files in a directory and those below. Links within it are not followed, and a file with several
/// names counts once. Blocks.
///
/// # Errors
/// What cannot be read; `TimedOut` if it takes longer than `ends`.
fn size(path: &Path, ends: Instant) -> io::Result<u64> {
    let about = fs::metadata(path)?;
    let mut names = HashSet::new();
    let mut bytes = own(&about, &mut names);
    let mut left: Vec<PathBuf> = about.is_dir().then(|| path.to_owned()).into_iter().collect();
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder)? {
            if Instant::now() >= ends {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "too many files"));
            }
            let entry = entry?;
            match entry.metadata() {
                Ok(about) if about.is_dir() => left.push(entry.path()),
                Ok(about) => bytes = bytes.saturating_add(own(&about, &mut names)),
                // Gone since: a temporary file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

/// The bytes of one file, unless it was counted by another name.
fn own(about: &Metadata, names: &mut HashSet<(u64, u64)>) -> u64 {
    let is_new = about.nlink() < 2 || names.insert((about.dev(), about.ino()));
    if about.is_file() && is_new { about.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_as_large_as_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("one"), [0; 1000]).unwrap();
        fs::write(at("a/two"), [0; 200]).unwrap();
        fs::write(at("a/b/three"), [0; 30]).unwrap();
        fs::hard_link(at("a/two"), at("a/b/two again")).unwrap();
        std::os::unix::fs::symlink(at("one"), at("a/link")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("a/loop")).unwrap();
        let ends = Instant::now() + PATIENCE;
        assert_eq!(size(folder.path(), ends).unwrap(), 1230);
        assert_eq!(size(&at("a/link"), ends).unwrap(), 1000);
        assert_eq!(size(&at("none"), ends).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(size(folder.path(), Instant::now()).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn sizes_are_added_up_if_all_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("one"), [0; 1000]).unwrap();
        fs::write(at("two"), [0; 200]).unwrap();
        assert_eq!(of_all(vec![at("one"), at("two")]).await, Some(1200));
        assert_eq!(of_all(vec![at("one"), at("none")]).await, None);
        assert_eq!(of_all(Vec::new()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_is_not_waited_for() {
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let stuck = until(Instant::now() + PATIENCE, move || hangs.recv().map(|()| 1).map_err(io::Error::other)).await;
        assert_eq!(stuck.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(release);
    }
}
