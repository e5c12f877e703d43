//! A few rows of a family: the unit that a run which commits copies while a scrape still reads the old one.

use std::sync::Arc;

use super::histogram::Scales;
use super::recorder::Value;
use super::{Native, RunId, label};

/// How many rows a block has at most. Small, because a commit beside a scrape copies whole blocks; not tiny, because
/// each costs some two hundred bytes.
///
/// In tests they are tiny, so that small sets of series have several.
pub(super) const ROWS: usize = if cfg!(test) { 4 } else { 128 };

/// How much room for text there is at least before a label set is added, in bytes: more than most of them take.
const SLACK: usize = 256;

/// Up to [`ROWS`] rows. Rows keep their places until one before them is removed.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Apart, because values change with every run and label sets hardly ever. Families may [share](Block::share) them.
    labels: Arc<Labels>,
    pub(super) data: Data,
    /// The last exemplar of a counter, or of a histogram's bucket, in the order of their places: the
    /// number of a row, times that of buckets plus that of the bucket for histograms.
    exemplars: Vec<(u32, Exemplar)>,
}

/// Rendered label sets, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
struct Labels {
    text: Vec<u8>,
    /// Where each one ends.
    ends: Vec<u32>,
}

/// The values of a block, row by row.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Gauges(Vec<f64>),
    Counters {
        values: Vec<f64>,
        /// When each row came into being, as Unix time.
        created: Vec<f64>,
    },
    Histograms {
        /// As many numbers a row as there are classic buckets, not cumulated.
        counts: Vec<u64>,
        sums: Vec<f64>,
        /// When each row came into being, as Unix time.
        created: Vec<f64>,
        /// The same observations in native buckets; nothing if the family has none.
        native: Vec<Native>,
    },
}

/// What somebody who sees a number may want to look at: the run that contributed to it last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub(super) run: RunId,
    pub(super) value: f64,
    /// When it was recorded, as Unix time.
    pub(super) time: f64,
}

/// When something is recorded, as Unix time, and in which run, if in any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) time: f64,
    pub(super) run: Option<RunId>,
}

impl Labels {
    fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.text[start as usize..self.ends[row] as usize]
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        // Doubling would waste a third of what label sets take, which is most of what series take.
        if self.text.capacity() - self.text.len() < SLACK {
            self.text.reserve_exact(SLACK + self.text.len() / 4);
        }
        write(&mut self.text);
        // A block of rows with label values of limited length stays far below 4 GiB.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }
}

impl Block {
    /// An empty block. `before` is a full one of the same family, if it has any: label sets of one family are much alike, and
    /// with as much room as those took, text does not move as it grows.
    pub(super) fn new(data: Data, before: Option<&Self>) -> Self {
        let room = before.map_or(0, |before| before.labels.text.len() + 2 * SLACK);
        let labels = Labels { text: Vec::with_capacity(room), ends: Vec::new() };
        Self { labels: Arc::new(labels), data, exemplars: Vec::new() }
    }

    /// Whether there is no room for another row.
    pub(super) fn is_full(&self) -> bool {
        self.len() == ROWS
    }

    /// Takes over the label sets of the other block if they are the same, so that they are kept once.
    pub(super) fn share(&mut self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.labels, &other.labels) || self.labels == other.labels;
        if same {
            self.labels = Arc::clone(&other.labels);
        }
        same
    }

    pub(super) fn len(&self) -> usize {
        self.labels.ends.len()
    }

    /// The rendered label set of a row.
    pub(super) fn labels(&self, row: usize) -> &[u8] {
        self.labels.get(row)
    }

    /// The exemplars of a row that has so many places, with the place within the row.
    pub(super) fn exemplars(&self, row: usize, places: usize) -> &[(u32, Exemplar)] {
        let at = |row: usize| self.exemplars.partition_point(|(place, _)| (*place as usize) < row * places);
        if self.exemplars.is_empty() { &[] } else { &self.exemplars[at(row)..at(row + 1)] }
    }

    /// Adds a row without anything recorded in it; `write` appends its label set.
    pub(super) fn push(&mut self, scales: &Scales, time: f64, write: impl FnOnce(&mut Vec<u8>)) {
        let labels = Arc::make_mut(&mut self.labels);
        labels.push(write);
        let full = labels.ends.len() == ROWS;
        if full {
            labels.text.shrink_to_fit();
        }
        match &mut self.data {
            Data::Gauges(values) => values.push(0.0),
            Data::Counters { values, created: times } => {
                values.push(0.0);
                times.push(time);
            }
            Data::Histograms { counts, sums, created: times, native } => {
                counts.resize(counts.len() + scales.buckets.count(), 0);
                sums.push(0.0);
                times.push(time);
                native.extend(scales.native.as_ref().map(Native::new));
            }
        }
    }

    /// Records in a row.
    pub(super) fn apply(&mut self, row: usize, scales: &Scales, value: Value, context: Context) {
        match (&mut self.data, value) {
            (Data::Gauges(values), Value::Set(new)) => values[row] = new,
            (Data::Gauges(values) | Data::Counters { values, .. }, Value::Add(more)) => {
                values[row] += more;
                if more > 0.0 {
                    self.remember(row, more, context);
                }
            }
            (Data::Counters { values, .. }, Value::Total(total)) => values[row] = values[row].max(total),
            (Data::Histograms { counts, sums, native, .. }, Value::Observe(seen)) => {
                let place = row * scales.places() + scales.buckets.index(seen);
                counts[place] += 1;
                sums[row] += seen;
                if let (Some(rule), Some(native)) = (&scales.native, native.get_mut(row)) {
                    native.observe(rule, seen);
                }
                self.remember(place, seen, context);
            }
            // `Start` only makes sure that the row exists; other pairs cannot be written with the typed metrics.
            _ => {}
        }
    }

    fn remember(&mut self, place: usize, value: f64, context: Context) {
        let (Some(run), Ok(place)) = (context.run, u32::try_from(place)) else { return };
        let exemplar = Exemplar { run, value, time: context.time };
        match self.exemplars.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(at) => self.exemplars[at].1 = exemplar,
            Err(at) => {
                // Most rows have exemplars in a few neighbouring buckets, and there they stay.
                if self.exemplars.len() == self.exemplars.capacity() {
                    self.exemplars.reserve_exact(4 + self.exemplars.len() / 4);
                }
                self.exemplars.insert(at, (place, exemplar));
            }
        }
    }

    /// Removes the rows that are not to be kept; those behind them move up. `places` is how many places for exemplars a
    /// row has.
    pub(super) fn retain(&mut self, keep: &[bool], places: usize) {
        let mut labels = Labels::default();
        for row in (0..self.len()).filter(|row| keep[*row]) {
            labels.push(|text| text.extend_from_slice(self.labels.get(row)));
        }
        labels.text.shrink_to_fit();
        self.labels = Arc::new(labels);
        match &mut self.data {
            Data::Gauges(values) => retain(values, keep, 1),
            Data::Counters { values, created } => {
                retain(values, keep, 1);
                retain(created, keep, 1);
            }
            Data::Histograms { counts, sums, created, native } => {
                retain(counts, keep, places);
                retain(sums, keep, 1);
                retain(created, keep, 1);
                retain(native, keep, 1);
            }
        }
        let kept_before = |row: usize| keep[..row].iter().filter(|keep| **keep).count();
        self.exemplars.retain(|(place, _)| keep[*place as usize / places]);
        for (place, _) in &mut self.exemplars {
            let (row, within) = (*place as usize / places, *place as usize % places);
            *place = u32::try_from(kept_before(row) * places + within).unwrap_or(u32::MAX);
        }
    }

    /// Gives all rows other identity labels instead of those whose rendered length is given.
    pub(super) fn relabel(&mut self, old: usize, identity: &[u8]) {
        let mut labels = Labels::default();
        for row in 0..self.len() {
            let own = &self.labels.get(row)[old..];
            let own = own.strip_prefix(b",").unwrap_or(own);
            labels.push(|text| {
                text.extend_from_slice(identity);
                if !identity.is_empty() && !own.is_empty() {
                    text.push(b',');
                }
                text.extend_from_slice(own);
            });
        }
        labels.text.shrink_to_fit();
        self.labels = Arc::new(labels);
    }

    /// Whether the label set of a row is `identity`, whose length is given, plus these names and values.
    pub(super) fn is(&self, row: usize, identity: usize, names: &[&str], key: &[u8]) -> bool {
        label::is(self.labels.get(row), identity, names, key)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let Labels { text, ends } = &*self.labels;
        let values = match &self.data {
            Data::Gauges(values) => values.capacity(),
            Data::Counters { values, created } => values.capacity() + created.capacity(),
            Data::Histograms { counts, sums, created, native } => {
                counts.capacity() + sums.capacity() + created.capacity() + native.capacity()
            }
        };
        text.capacity() + ends.capacity() + values + self.exemplars.capacity()
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self, scales: &Scales) {
        let rows = self.len();
        assert!(rows <= ROWS);
        assert!(self.exemplars.is_sorted_by(|a, b| a.0 < b.0));
        match &self.data {
            Data::Gauges(values) => assert_eq!(values.len(), rows),
            Data::Counters { values, created } => assert_eq!((values.len(), created.len()), (rows, rows)),
            Data::Histograms { counts, sums, created, native } => {
                assert_eq!((counts.len(), sums.len(), created.len()), (rows * scales.places(), rows, rows));
                assert_eq!(native.len(), if scales.native.is_some() { rows } else { 0 });
            }
        }
    }
}

/// Keeps the groups of `width` values whose row is to be kept.
fn retain<T>(values: &mut Vec<T>, keep: &[bool], width: usize) {
    let mut nth = 0;
    values.retain(|_| {
        nth += 1;
        keep[(nth - 1) / width]
    });
    values.shrink_to_fit();
}
