//! The series of one owner, a probe or the engine: written by whole runs, read by scrapes without waiting.
//!
//! Values are kept copy-on-write. A scrape takes a reference to what is there and renders it at its leisure; a run that
//! commits meanwhile copies only the families it changes. So a scrape sees a whole run or none of it, holds no lock
//! while it writes, and costs memory only where it overlaps with a run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::histogram::Buckets;
use super::label;
use super::recorder::{Op, Run, Value};
use super::{Desc, NativeRule, Type};

/// How many series one owner may have; those beyond are dropped and counted.
const MOST_SERIES: usize = 1_000_000;

/// A metric's series within one owner.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) desc: &'static Desc,
    /// The rendered label set of each row.
    pub(super) labels: Arc<Vec<Box<str>>>,
    pub(super) data: Data,
}

/// The values of a family, row by row.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// Counters and gauges.
    Values(Vec<f64>),
    /// Histograms: `counts` holds `buckets.count()` numbers a row, not cumulated.
    Histogram { buckets: Arc<Buckets>, counts: Vec<u64>, sums: Vec<f64> },
}

impl Family {
    fn new(desc: &'static Desc, buckets: &BucketRule) -> Self {
        let data = match desc.kind {
            Type::Counter | Type::Gauge => Data::Values(Vec::new()),
            Type::Histogram { .. } => {
                Data::Histogram { buckets: buckets.of(desc), counts: Vec::new(), sums: Vec::new() }
            }
        };
        Self { desc, labels: Arc::default(), data }
    }

    /// How many series, that is lines of text, this family is.
    pub(super) fn series(&self) -> usize {
        self.labels.len() * self.data.series_per_row()
    }

    fn push(&mut self, labels: Box<str>) {
        Arc::make_mut(&mut self.labels).push(labels);
        match &mut self.data {
            Data::Values(values) => values.push(0.0),
            Data::Histogram { buckets, counts, sums } => {
                counts.resize(counts.len() + buckets.count(), 0);
                sums.push(0.0);
            }
        }
    }

    fn swap_remove(&mut self, row: usize) {
        Arc::make_mut(&mut self.labels).swap_remove(row);
        match &mut self.data {
            Data::Values(values) => {
                values.swap_remove(row);
            }
            Data::Histogram { buckets, counts, sums } => {
                let (width, last) = (buckets.count(), sums.len() - 1);
                counts.copy_within(last * width.., row * width);
                counts.truncate(last * width);
                sums.swap_remove(row);
            }
        }
    }

    fn apply(&mut self, row: usize, value: Value) {
        match (&mut self.data, value) {
            (Data::Values(values), Value::Set(new)) => values[row] = new,
            (Data::Values(values), Value::Add(more)) => values[row] += more,
            (Data::Histogram { buckets, counts, sums }, Value::Observe(seen)) => {
                counts[row * buckets.count() + buckets.index(seen)] += 1;
                sums[row] += seen;
            }
            // `Start` only makes sure that the row exists; other pairs cannot be written with the typed metrics.
            _ => {}
        }
    }
}

impl Data {
    fn series_per_row(&self) -> usize {
        match self {
            Data::Values(_) => 1,
            Data::Histogram { buckets, .. } => buckets.count() + 2,
        }
    }
}

/// Which bounds an owner's configurable histograms have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketRule {
    /// The configured bounds; `None` is each histogram's own.
    pub bounds: Option<Arc<[f64]>>,
    /// A bound that is always among them: the latency that the objective names.
    pub always: Option<f64>,
    /// How the owner's native histograms count; `None` is that it has none.
    pub native: Option<NativeRule>,
}

impl BucketRule {
    fn of(&self, desc: &Desc) -> Arc<Buckets> {
        match desc.kind {
            Type::Histogram { buckets, configurable: true } => {
                Buckets::of(self.bounds.as_deref().unwrap_or(buckets), self.always)
            }
            Type::Histogram { buckets, configurable: false } => Buckets::of(buckets, None),
            Type::Counter | Type::Gauge => Buckets::of(&[], None),
        }
    }
}

/// What becomes of the gauges that earlier runs of the same cycle recorded and this one did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauges {
    /// They are removed.
    Replace,
    /// They stay.
    Keep,
}

/// Whose gauges are whose: each recorder of an owner replaces its own and no other's. A cycle's name is the probe's
/// choice, so what is not a cycle has no name that one could have too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CycleId {
    /// What the probe recorded in that cycle.
    Run(&'static str),
    /// The engine's verdict on that cycle.
    Verdict(&'static str),
    /// What the probe recorded outside of runs.
    Live,
    /// What does not depend on runs.
    Description,
}

/// What one recorder adds to a commit.
pub(super) struct Part<'a> {
    pub(super) run: &'a Run,
    pub(super) cycle: CycleId,
    pub(super) gauges: Gauges,
}

/// All series of one owner.
#[derive(Debug)]
pub struct SeriesSet {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The rendered identity labels, which come first in every label set.
    identity: Box<str>,
    /// What scrapes see.
    families: Arc<Vec<Arc<Family>>>,
    /// How writers find rows, family by family in the same order as `families`.
    index: Vec<Index>,
    buckets: BucketRule,
    /// Counts commits, to tell which gauges one of them recorded.
    commits: u64,
    series: usize,
    /// How many there may be.
    most: usize,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Index {
    rows: HashMap<Arc<[u8]>, u32>,
    meta: Vec<Meta>,
}

/// What writers know of a row.
#[derive(Debug)]
struct Meta {
    key: Arc<[u8]>,
    cycle: CycleId,
    commit: u64,
}

impl SeriesSet {
    /// An empty set whose series all carry the given labels.
    pub fn new<'a>(identity: impl IntoIterator<Item = (&'a str, &'a str)>, buckets: BucketRule) -> Arc<Self> {
        let identity = render_identity(identity);
        let state = State { identity, buckets, most: MOST_SERIES, ..State::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Gives all series other identity labels; their values stay.
    pub fn relabel<'a>(&self, identity: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut state = self.lock();
        let State { identity: old, families, index, .. } = &mut *state;
        let new = render_identity(identity);
        if *old == new {
            return;
        }
        *old = new;
        for (family, index) in Arc::make_mut(families).iter_mut().zip(index) {
            let names = family.desc.labels;
            let labels = index.meta.iter().map(|meta| label::render(old, names, &meta.key)).collect();
            Arc::make_mut(family).labels = Arc::new(labels);
        }
    }

    /// Removes the gauges of all cycles but these, and of the verdicts on them: the others will not run again.
    pub fn keep_cycles(&self, kept: &[&'static str]) {
        self.lock().remove_gauges(|meta| match meta.cycle {
            CycleId::Run(name) | CycleId::Verdict(name) => !kept.contains(&name),
            CycleId::Live | CycleId::Description => false,
        });
    }

    /// Changes the bounds of the configurable histograms. Those whose bounds really change start afresh; nothing else
    /// is touched.
    pub fn set_buckets(&self, rule: BucketRule) {
        let mut state = self.lock();
        let State { families, index, buckets, series, .. } = &mut *state;
        *buckets = rule;
        for (family, index) in Arc::make_mut(families).iter_mut().zip(index) {
            let Data::Histogram { buckets: old, .. } = &family.data else { continue };
            if *old != buckets.of(family.desc) {
                *series -= family.series();
                *family = Arc::new(Family::new(family.desc, buckets));
                *index = Index::default();
            }
        }
    }

    /// Adds what the parts recorded, all of it at once: a scrape sees every part or none.
    pub(super) fn commit(&self, parts: &[Part<'_>]) {
        let mut state = self.lock();
        state.commits += 1;
        for part in parts {
            for op in &part.run.ops {
                state.apply(op, part.run.key(op), part.cycle);
            }
            if part.gauges == Gauges::Replace {
                let commit = state.commits;
                state.remove_gauges(|meta| meta.cycle == part.cycle && meta.commit != commit);
            }
        }
        // Last, because the parts may have recorded something of what is gone.
        for (labels, value) in parts.iter().flat_map(|part| &part.run.forgotten) {
            state.forget(labels, value);
        }
    }

    /// What is there now, for a scrape.
    pub(super) fn snapshot(&self) -> Arc<Vec<Arc<Family>>> {
        Arc::clone(&self.lock().families)
    }

    /// How many series there are, and how many more were dropped because there were too many.
    pub fn size(&self) -> (usize, u64) {
        let state = self.lock();
        (state.series, state.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A commit does not panic half-way in a way that a later one could not live with.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn render_identity<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Box<str> {
    let mut text = String::new();
    for (name, value) in labels {
        label::push_pair(&mut text, name, value);
    }
    text.into()
}

impl State {
    fn apply(&mut self, op: &Op, key: &[u8], cycle: CycleId) {
        let at = self.family(op.desc);
        if op.value == Value::Start {
            let mut full = Vec::with_capacity(key.len() + 24);
            for tuple in op.desc.known {
                full.clear();
                full.extend_from_slice(key);
                label::push_key(&mut full, tuple);
                self.row(at, &full, cycle);
            }
        } else if let Some(row) = self.row(at, key, cycle) {
            let family = &mut Arc::make_mut(&mut self.families)[at];
            Arc::make_mut(family).apply(row, op.value);
        }
    }

    /// The position of the metric's family, which is made if it is new. Families stay sorted by name.
    fn family(&mut self, desc: &'static Desc) -> usize {
        match self.families.binary_search_by(|family| family.desc.name.cmp(desc.name)) {
            Ok(at) => at,
            Err(at) => {
                let family = Family::new(desc, &self.buckets);
                Arc::make_mut(&mut self.families).insert(at, Arc::new(family));
                self.index.insert(at, Index::default());
                at
            }
        }
    }

    /// The row of the given key, which is made if it is new. `None` when there are too many.
    fn row(&mut self, at: usize, key: &[u8], cycle: CycleId) -> Option<usize> {
        let commit = self.commits;
        let index = &mut self.index[at];
        if let Some(row) = index.rows.get(key) {
            let meta = &mut index.meta[*row as usize];
            meta.cycle = cycle;
            meta.commit = commit;
            return Some(*row as usize);
        }
        let series = self.families[at].data.series_per_row();
        if self.series + series > self.most {
            self.dropped += 1;
            return None;
        }
        self.series += series;
        let family = Arc::make_mut(&mut Arc::make_mut(&mut self.families)[at]);
        let row = family.labels.len();
        family.push(label::render(&self.identity, family.desc.labels, key));
        let key: Arc<[u8]> = key.into();
        index.meta.push(Meta { key: Arc::clone(&key), cycle, commit });
        index.rows.insert(key, u32::try_from(row).ok()?);
        Some(row)
    }

    fn remove_gauges(&mut self, stale: impl Fn(&Meta) -> bool) {
        self.remove(|desc| (desc.kind == Type::Gauge).then_some(&stale));
    }

    /// Removes every series, of whatever type, whose label of one of these names has this value.
    fn forget(&mut self, labels: &[&str], value: &str) {
        self.remove(|desc| {
            let at = desc.labels.iter().position(|label| labels.contains(label))?;
            Some(move |meta: &Meta| label::value(&meta.key, at) == Some(value.as_bytes()))
        });
    }

    /// Removes the rows for which the answer for their family, if it has one, is true.
    fn remove<F: Fn(&Meta) -> bool>(&mut self, stale_in: impl Fn(&Desc) -> Option<F>) {
        let State { families, index, series, .. } = self;
        for (at, index) in index.iter_mut().enumerate() {
            let Some(stale) = stale_in(families[at].desc) else { continue };
            // Usually nothing is stale; then nothing that a scrape may hold is copied.
            let mut row = 0;
            while row < index.meta.len() {
                if !stale(&index.meta[row]) {
                    row += 1;
                    continue;
                }
                let family = Arc::make_mut(&mut Arc::make_mut(families)[at]);
                *series -= family.data.series_per_row();
                family.swap_remove(row);
                let gone = index.meta.swap_remove(row);
                index.rows.remove(&gone.key);
                if let (Some(moved), Ok(to)) = (index.meta.get(row), u32::try_from(row)) {
                    index.rows.insert(Arc::clone(&moved.key), to);
                }
            }
        }
    }
}

#[cfg(test)]
impl SeriesSet {
    /// Sets how many series there may be.
    pub(super) fn limit(&self, most: usize) {
        self.lock().most = most;
    }

    /// Checks that every row is found by its key and all counts agree.
    pub(super) fn assert_consistent(&self) {
        let state = self.lock();
        assert!(state.families.is_sorted_by(|a, b| a.desc.name < b.desc.name));
        assert_eq!(state.series, state.families.iter().map(|family| family.series()).sum::<usize>());
        assert_eq!(state.families.len(), state.index.len());
        for (family, index) in state.families.iter().zip(&state.index) {
            let rows = family.labels.len();
            assert_eq!((index.rows.len(), index.meta.len()), (rows, rows));
            for (row, meta) in index.meta.iter().enumerate() {
                assert_eq!(index.rows[&meta.key] as usize, row);
                assert_eq!(family.labels[row], label::render(&state.identity, family.desc.labels, &meta.key));
            }
            match &family.data {
                Data::Values(values) => assert_eq!(values.len(), rows),
                Data::Histogram { buckets, counts, sums } => {
                    assert_eq!((counts.len(), sums.len()), (rows * buckets.count(), rows));
                }
            }
        }
    }

    /// How many places for rows, keys and values the memory taken has.
    pub(super) fn capacity(&self) -> usize {
        let state = self.lock();
        let indexed = state.index.iter().map(|index| index.rows.capacity() + index.meta.capacity());
        let written = state.families.iter().map(|family| {
            family.labels.capacity()
                + match &family.data {
                    Data::Values(values) => values.capacity(),
                    Data::Histogram { counts, sums, .. } => counts.capacity() + sums.capacity(),
                }
        });
        indexed.chain(written).sum()
    }
}
