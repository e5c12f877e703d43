//! The series of one owner, a probe or the engine: written by whole runs, read by scrapes without waiting.
//!
//! Values are kept copy-on-write. A scrape takes a reference to what is there and renders it at its leisure; a run that
//! commits meanwhile copies only the blocks of rows it changes. So a scrape sees a whole run or none of it, holds no lock
//! while it writes, and costs memory only where it overlaps with a run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::block::{Block, Context};
use super::family::{Family, Index, Meta, Row};
use super::histogram::{Buckets, Scales};
use super::recorder::{Op, Run, Value};
use super::{Counter, Desc, NativeRule, Type, label, unix_time};

/// How many series one owner may have unless it is told otherwise; those beyond are dropped and counted.
pub const MOST_SERIES: usize = 1_000_000;

/// Counts, in the set that it happens to, what did not fit.
pub(crate) static DROPPED: Counter<0> = Counter::new(
    "midwatch_series_dropped_total",
    "Number of values that were not recorded because the probe has as many series as it may have.",
    &[],
);

/// How an owner's histograms count.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketRule {
    /// The bounds of the configurable histograms; `None` is each one's own.
    pub bounds: Option<Arc<[f64]>>,
    /// A bound that is always among them: the latency that the objective names.
    pub always: Option<f64>,
    /// How the owner's native histograms count; `None` is that it has none.
    pub native: Option<NativeRule>,
}

impl Default for BucketRule {
    /// Each histogram's own bounds, and native buckets beside them.
    fn default() -> Self {
        Self { bounds: None, always: None, native: Some(NativeRule::DEFAULT) }
    }
}

impl BucketRule {
    fn of(&self, desc: &Desc) -> Scales {
        let (buckets, native) = match desc.kind {
            Type::Histogram { buckets, configurable: true } => {
                (Buckets::of(self.bounds.as_deref().unwrap_or(buckets), self.always), self.native)
            }
            Type::Histogram { buckets, configurable: false } => (Buckets::of(buckets, None), self.native),
            Type::Counter | Type::Gauge => (Buckets::of(&[], None), None),
        };
        Scales { buckets, native }
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
    identity: Box<[u8]>,
    /// What scrapes see.
    families: Arc<Vec<Arc<Family>>>,
    /// How writers find rows, family by family in the same order as `families`.
    index: Vec<Index>,
    /// The family that was recorded after each of them last time. Runs record in much the same order, so most often it is the
    /// one that is looked for; where it is not, it is looked up.
    next: Vec<usize>,
    buckets: BucketRule,
    /// Counts commits, to tell which gauges one of them recorded.
    commits: u32,
    /// All cycles that ever recorded, by their numbers.
    cycles: Vec<CycleId>,
    series: usize,
    /// How many there may be.
    most: usize,
}

/// Who records, and when.
#[derive(Clone, Copy)]
struct Author {
    cycle: u16,
    commit: u32,
    context: Context,
}

impl SeriesSet {
    /// An empty set whose series all carry the given labels.
    pub fn new<'a>(identity: impl IntoIterator<Item = (&'a str, &'a str)>, buckets: BucketRule) -> Arc<Self> {
        let identity = label::render_identity(identity);
        let state = State { identity, buckets, most: MOST_SERIES, ..State::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Sets how many series there may be. Those that are there stay.
    pub fn limit(&self, most: usize) {
        self.lock().most = most;
    }

    /// Gives all series other identity labels; their values stay.
    pub fn relabel<'a>(&self, identity: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut state = self.lock();
        let State { identity: old, families, .. } = &mut *state;
        let new = label::render_identity(identity);
        if *old == new {
            return;
        }
        for at in 0..families.len() {
            let families = Arc::make_mut(families);
            Arc::make_mut(&mut families[at]).relabel(old.len(), &new);
            // Those before it have the new ones already.
            (0..families[at].blocks.len()).for_each(|block| share_labels(families, at, block));
        }
        *old = new;
    }

    /// Removes the gauges of all cycles but these, and of the verdicts on them: the others will not run again.
    pub fn keep_cycles(&self, kept: &[&'static str]) {
        let mut state = self.lock();
        let gone = |cycle: &CycleId| match cycle {
            CycleId::Run(name) | CycleId::Verdict(name) => !kept.contains(name),
            CycleId::Live | CycleId::Description => false,
        };
        let gone: Vec<_> = state.cycles.iter().map(gone).collect();
        state.remove_gauges(|meta| gone[usize::from(meta.cycle)]);
    }

    /// Changes how histograms count. Those that really change start afresh; nothing else is touched.
    pub fn set_buckets(&self, rule: BucketRule) {
        let mut state = self.lock();
        let State { families, index, buckets, series, .. } = &mut *state;
        *buckets = rule;
        for (family, index) in Arc::make_mut(families).iter_mut().zip(index) {
            let new = buckets.of(family.desc);
            if family.scales != new {
                *series -= family.series();
                *family = Arc::new(Family::new(family.desc, new));
                *index = Index::default();
            }
        }
    }

    /// Adds what the parts recorded, all of it at once: a scrape sees every part or none.
    pub(super) fn commit(&self, parts: &[Part<'_>]) {
        let mut state = self.lock();
        let (commit, time) = (state.commits.wrapping_add(1), unix_time());
        state.commits = commit;
        let mut dropped = 0;
        for part in parts {
            let cycle = state.cycle(part.cycle);
            let author = Author { cycle, commit, context: Context { time, run: part.run.id } };
            let mut at = 0;
            for op in &part.run.ops {
                at = state.family(op.desc, at);
                dropped += state.apply(at, op, part.run.key(op), author);
            }
            if part.gauges == Gauges::Replace || part.run.is_complete {
                state.remove_gauges(|meta| meta.cycle == cycle && meta.commit != commit);
            }
        }
        // Last, because the parts may have recorded something of what is gone.
        for (labels, value) in parts.iter().flat_map(|part| &part.run.forgotten) {
            state.forget(labels, value);
        }
        if dropped > 0 {
            state.count_dropped(dropped, Context { time, run: None });
        }
    }

    /// What is there now, for a scrape.
    pub(super) fn snapshot(&self) -> Arc<Vec<Arc<Family>>> {
        Arc::clone(&self.lock().families)
    }

    /// How many series there are.
    pub fn size(&self) -> usize {
        self.lock().series
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A commit does not panic half-way in a way that a later one could not live with.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The number of a cycle.
    fn cycle(&mut self, id: CycleId) -> u16 {
        let at = self.cycles.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.cycles.push(id);
            self.cycles.len() - 1
        });
        // A probe has a handful of cycles, known when the program is built.
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// Records one value; says how many there was no room for.
    fn apply(&mut self, at: usize, op: &Op, key: &[u8], author: Author) -> usize {
        if op.value != Value::Start {
            let Some(row) = self.row(at, key, author) else { return 1 };
            let family = &mut Arc::make_mut(&mut self.families)[at];
            Arc::make_mut(family).apply(row, op.value, author.context);
            return 0;
        }
        let mut full = Vec::with_capacity(key.len() + 24);
        let dropped = op.desc.known.iter().map(|tuple| {
            full.clear();
            full.extend_from_slice(key);
            label::push_key(&mut full, tuple);
            usize::from(self.row(at, &full, author).is_none())
        });
        dropped.sum()
    }

    /// The position of the metric's family, which is made if it is new. Families stay sorted by name. `last` is where the
    /// one before was: most often it is the same.
    fn family(&mut self, desc: &'static Desc, last: usize) -> usize {
        if self.families.get(last).is_some_and(|family| std::ptr::eq(family.desc, desc)) {
            return last;
        }
        let next = self.next.get(last).copied().unwrap_or(0);
        if self.families.get(next).is_some_and(|family| std::ptr::eq(family.desc, desc)) {
            return next;
        }
        let at = match self.families.binary_search_by(|family| family.desc.name.cmp(desc.name)) {
            Ok(at) => at,
            Err(at) => {
                let family = Family::new(desc, self.buckets.of(desc));
                Arc::make_mut(&mut self.families).insert(at, Arc::new(family));
                self.index.insert(at, Index::default());
                self.next.insert(at, 0);
                at
            }
        };
        if let Some(next) = self.next.get_mut(last) {
            *next = at;
        }
        at
    }

    /// The row of the given key, which is made if it is new. `None` when there are too many.
    fn row(&mut self, at: usize, key: &[u8], author: Author) -> Option<Row> {
        let State { identity, families, index, series, most, .. } = self;
        let (family, index) = (&families[at], &mut index[at]);
        if let Some((row, meta)) = index.find(family, identity, key) {
            meta.cycle = author.cycle;
            meta.commit = author.commit;
            return Some(row);
        }
        let more = family.series_per_row();
        if *series + more > *most {
            return None;
        }
        *series += more;
        let families = Arc::make_mut(families);
        let family = Arc::make_mut(&mut families[at]);
        let row = index.insert(family, (identity, key), (author.cycle, author.commit), author.context.time);
        share_labels(families, at, row.block());
        Some(row)
    }

    /// Counts what was dropped, if the owner has the counter: it is made before anything else.
    fn count_dropped(&mut self, dropped: usize, context: Context) {
        let at = self.family(DROPPED.desc(), 0);
        let State { identity, families, index, .. } = self;
        if let Some((row, _)) = index[at].find(&families[at], identity, &[]) {
            #[allow(clippy::cast_precision_loss, reason = "a count of one run's values stays far below 2^52")]
            let more = Value::Add(dropped as f64);
            Arc::make_mut(&mut Arc::make_mut(families)[at]).apply(row, more, context);
        }
    }

    fn remove_gauges(&mut self, stale: impl Fn(&Meta) -> bool) {
        self.remove(|desc| (desc.kind == Type::Gauge).then_some(|_: &Block, _: usize, meta: &Meta| stale(meta)));
    }

    /// Removes every series, of whatever type, whose label of one of these names has this value.
    fn forget(&mut self, labels: &[&str], value: &str) {
        self.remove(|desc| {
            let name = desc.labels.iter().find(|label| labels.contains(label))?;
            Some(move |block: &Block, row: usize, _: &Meta| label::has(block.labels(row), name, value))
        });
    }

    /// Removes the rows for which the answer for their family, if it has one, is true.
    fn remove<F: Fn(&Block, usize, &Meta) -> bool>(&mut self, stale_in: impl Fn(&Desc) -> Option<F>) {
        let State { families, index, series, .. } = self;
        for (at, index) in index.iter_mut().enumerate() {
            let Some(stale) = stale_in(families[at].desc) else { continue };
            if !index.any(&families[at], &stale) {
                continue;
            }
            let family = &mut Arc::make_mut(families)[at];
            *series -= family.series();
            index.remove(family, stale);
            *series += family.series();
        }
    }
}

/// Metrics of one thing are mostly recorded together and so have the same rows in the same blocks: the label sets of a block
/// that is full are those of another family's, if it has the same ones there.
fn share_labels(families: &mut [Arc<Family>], at: usize, block: usize) {
    if !families[at].blocks[block].is_full() {
        return;
    }
    for other in 0..families.len() {
        let (mine, theirs) = (&families[at], &families[other]);
        if other == at || mine.desc.labels != theirs.desc.labels {
            continue;
        }
        let Some(theirs) = theirs.blocks.get(block).filter(|theirs| theirs.is_full()).map(Arc::clone) else { continue };
        if Arc::make_mut(&mut Arc::make_mut(&mut families[at]).blocks[block]).share(&theirs) {
            return;
        }
    }
}

#[cfg(test)]
impl SeriesSet {
    /// Checks that every row is found and all counts agree.
    pub(super) fn assert_consistent(&self) {
        let state = self.lock();
        assert!(state.families.is_sorted_by(|a, b| a.desc.name < b.desc.name));
        assert_eq!(state.series, state.families.iter().map(|family| family.series()).sum::<usize>());
        assert_eq!(state.families.len(), state.index.len());
        for (family, index) in state.families.iter().zip(&state.index) {
            index.assert_consistent(family);
        }
    }

    /// How many places for rows, labels and values the memory taken has.
    pub(super) fn capacity(&self) -> usize {
        let state = self.lock();
        let indexed = state.index.iter().map(Index::capacity);
        let blocks = state.families.iter().flat_map(|family| &family.blocks);
        indexed.chain(blocks.map(|block| block.capacity())).sum()
    }
}
