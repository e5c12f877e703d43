//! Where Borg keeps what it keeps beside a repository: its cache, and what it knows of the repositories that it has seen. It makes both
//! folders for every command, also for those that only read.
//! <https://borgbackup.readthedocs.io/en/stable/usage/general.html#environment-variables>

use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

/// What a [`Home`] is found by.
pub(super) struct Wanted {
    pub(super) job: String,
    /// The cache that the configuration names.
    pub(super) cache_dir: Option<PathBuf>,
    /// Midwatch's state directory, if it may be written to.
    pub(super) state_dir: Option<Arc<Path>>,
    /// Whether the configuration names the place for what Borg knows of repositories.
    pub(super) has_place: bool,
    /// The user's home, where that is otherwise.
    pub(super) home: Option<PathBuf>,
}

/// What Borg knows of repositories, below a home.
const SECURITY: &str = ".config/borg/security";

/// The folders for one reading.
pub(super) struct Home {
    /// Its lock is not the repository's and is not bypassed: in the cache of whoever makes the backups, a listing would make them
    /// fail.
    pub(super) cache: PathBuf,
    /// What it knows of repositories, where its own place for that cannot be used. Keys and all else stay where they are.
    pub(super) security: Option<PathBuf>,
    /// What holds those that are gone after the reading: beside a daemon, or where the state directory is not there or cannot be written.
    _fleeting: Option<TempDir>,
}

impl Home {
    /// Finds folders that can be written to. Blocks.
    ///
    /// # Errors
    /// There are none.
    pub(super) fn find(wanted: &Wanted) -> io::Result<Self> {
        let own = |kind: &str| {
            let folder = wanted.state_dir.as_ref()?.join(kind).join(&wanted.job);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            (made.is_ok() && can_write(&folder)).then_some(folder)
        };
        let mut fleeting = None;
        let mut or_fleeting = |found: Option<PathBuf>, name: &str| match (found, &mut fleeting) {
            (Some(folder), _) => Ok(folder),
            (None, Some(fleeting)) => Ok(TempDir::path(fleeting).join(name)),
            (None, none) => TempDir::with_prefix("midwatch-borg-").map(|folder| none.insert(folder).path().join(name)),
        };
        let cache = or_fleeting(wanted.cache_dir.clone().or_else(|| own("borg")), "cache")?;
        let is_home_good = || wanted.home.as_ref().is_some_and(|home| can_be_made(&home.join(SECURITY)));
        let is_usable = wanted.has_place || is_home_good();
        let security = (!is_usable).then(|| or_fleeting(own("borg-security"), "security")).transpose()?;
        Ok(Self { cache, security, _fleeting: fleeting })
    }
}

/// Whether a folder is there and can be written to, or can be made.
fn can_be_made(folder: &Path) -> bool {
    folder.ancestors().find(|path| path.symlink_metadata().is_ok()).is_some_and(can_write)
}

/// Whether there is room for another file in a folder, and it may be written. Permissions alone do not tell, nor does whether the file
/// system is full.
fn can_write(folder: &Path) -> bool {
    tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(&[0; 4096])).is_ok()
}
