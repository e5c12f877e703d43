//! The state directory, as probes see it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Where probes keep what must survive a restart. Known once the configuration's `[server]` has been read.
#[derive(Clone, Debug, Default)]
pub struct State {
    dir: Arc<Mutex<Option<Arc<Path>>>>,
    /// Whether this process owns the directory.
    is_own: bool,
}

impl State {
    /// That of the daemon, which writes there. All others, such as `midwatch probe` beside it, only read.
    pub fn of_daemon() -> Self {
        Self { is_own: true, ..Self::default() }
    }

    /// Says where it is.
    pub fn set_dir(&self, dir: Option<&Path>) {
        *self.dir.lock().unwrap_or_else(PoisonError::into_inner) = dir.map(Arc::from);
    }

    /// Where to read; `None` without a state directory.
    pub fn dir(&self) -> Option<Arc<Path>> {
        self.dir.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where to write; `None` without a state directory, and for those that may not.
    pub fn own_dir(&self) -> Option<Arc<Path>> {
        self.dir().filter(|_| self.is_own)
    }
}
