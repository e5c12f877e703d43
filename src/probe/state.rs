//! The state directory, as probes see it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// Where probes keep what must survive a restart. Known once the configuration's `[server]` has been read.
#[derive(Clone, Default)]
pub struct State {
    dir: Arc<Mutex<Option<Arc<Path>>>>,
    /// What probes have in common, by its type.
    common: Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>,
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
        *lock(&self.dir) = dir.map(Arc::from);
    }

    /// Where to read; `None` without a state directory.
    pub fn dir(&self) -> Option<Arc<Path>> {
        lock(&self.dir).clone()
    }

    /// Where to write; `None` without a state directory, and for those that may not.
    pub fn own_dir(&self) -> Option<Arc<Path>> {
        self.dir().filter(|_| self.is_own)
    }

    /// The one value of that type that all probes of the daemon share: the only writer of a file, for example.
    pub fn common<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut common = lock(&self.common);
        let any = common.entry(TypeId::of::<T>()).or_insert_with(|| Arc::<T>::default());
        // Cannot differ: the key is its type.
        Arc::clone(any).downcast().unwrap_or_default()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("dir", &self.dir()).field("is_own", &self.is_own).finish_non_exhaustive()
    }
}
