//! All series of the process: the sets of the engine and of every probe.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Desc;
use super::family::Family;
use super::series::SeriesSet;

/// Knows every set of series that somebody owns. A set whose owner is dropped is gone from the next scrape.
#[derive(Debug, Default)]
pub struct Store {
    sets: Mutex<Vec<Weak<SeriesSet>>>,
}

impl Store {
    /// Shows the set to scrapes for as long as its owner keeps it.
    pub fn add(&self, set: &Arc<SeriesSet>) {
        self.lock().push(Arc::downgrade(set));
    }

    /// Takes the sets out of the next scrape, also while somebody still owns them.
    pub fn remove<'a>(&self, gone: impl IntoIterator<Item = &'a Arc<SeriesSet>>) {
        let gone: HashSet<_> = gone.into_iter().map(Arc::as_ptr).collect();
        if !gone.is_empty() {
            self.lock().retain(|set| !gone.contains(&set.as_ptr()));
        }
    }

    /// What a scrape writes: the values of this moment. Takes no memory but a few words for each family.
    pub fn snapshot(&self) -> Snapshot {
        let mut sets = Vec::new();
        self.lock().retain(|set| {
            let set = set.upgrade();
            sets.extend(set.iter().map(|set| set.snapshot()));
            set.is_some()
        });
        Snapshot::new(sets)
    }

    /// How many series there are.
    pub fn size(&self) -> usize {
        let sets: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        sets.iter().map(|set| set.size()).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<SeriesSet>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of one moment. Holds no lock: runs that commit meanwhile copy what they change.
#[derive(Debug)]
pub struct Snapshot {
    sets: Vec<Arc<Vec<Arc<Family>>>>,
    /// Set and place of the families of one name, name after name.
    metrics: Vec<Vec<(u32, u32)>>,
}

impl Snapshot {
    fn new(sets: Vec<Arc<Vec<Arc<Family>>>>) -> Self {
        // Thousands of sets have the same few names: sorting those is much less work than sorting all families.
        let mut by_name: BTreeMap<&str, Vec<(u32, u32)>> = BTreeMap::new();
        for (set, families) in (0..).zip(&sets) {
            for (at, family) in (0..).zip(families.iter()).filter(|(_, family)| family.rows() > 0) {
                by_name.entry(family.desc.name).or_default().push((set, at));
            }
        }
        let metrics = by_name.into_values().collect();
        Self { sets, metrics }
    }

    /// The metric that is the nth in the order of names.
    pub(super) fn metric(&self, nth: usize) -> Option<Metric<'_>> {
        let families = self.metrics.get(nth)?;
        let &(set, at) = families.first()?;
        Some(Metric { desc: self.sets[set as usize][at as usize].desc, snapshot: self, families })
    }
}

/// All families of one name, from whichever sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric<'s> {
    pub(super) desc: &'static Desc,
    snapshot: &'s Snapshot,
    families: &'s [(u32, u32)],
}

impl<'s> Metric<'s> {
    /// All of them.
    pub(super) fn families(&self) -> impl Iterator<Item = &'s Family> {
        (0..).map_while(|nth| self.family(nth))
    }

    /// The nth family of that name.
    pub(super) fn family(&self, nth: usize) -> Option<&'s Family> {
        let &(set, at) = self.families.get(nth)?;
        Some(&self.snapshot.sets[set as usize][at as usize])
    }
}

impl From<&SeriesSet> for Snapshot {
    fn from(set: &SeriesSet) -> Self {
        Self::new(vec![set.snapshot()])
    }
}
