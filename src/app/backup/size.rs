//! The size of what a backup left.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// So long the exit of the wrapper waits for the size of a large tree.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bytes of a file, or of all files in a directory and those below. Links within it are not followed, and a file with several
/// names counts once. Blocks.
///
/// # Errors
/// What cannot be read; `TimedOut` for a tree that takes longer than 10 seconds.
pub(super) fn size(path: &Path) -> io::Result<u64> {
    let ends = Instant::now() + PATIENCE;
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
        assert_eq!(size(folder.path()).unwrap(), 1230);
        assert_eq!(size(&at("a/link")).unwrap(), 1000);
        assert_eq!(size(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
