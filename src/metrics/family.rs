//! A metric's series within one owner: blocks of rows, and how writers find a row.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock};

use hashbrown::HashTable;

use super::block::{Block, Context, Data, ROWS};
use super::histogram::Scales;
use super::label;
use super::recorder::Value;
use super::{Desc, Type};

/// Hashes keys with a secret of this process: peers decide what label values are, and could make them collide otherwise.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What scrapes see of a metric within one owner.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) desc: &'static Desc,
    pub(super) scales: Scales,
    pub(super) blocks: Vec<Arc<Block>>,
    rows: usize,
}

/// A row by the number of its block and its place in that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row(u32);

impl Row {
    fn new(block: usize, place: usize) -> Self {
        // Families have far less than 2^25 blocks: series are limited to fewer.
        Self(u32::try_from(block * ROWS + place).unwrap_or(u32::MAX))
    }

    pub(super) fn block(self) -> usize {
        self.0 as usize / ROWS
    }

    fn place(self) -> usize {
        self.0 as usize % ROWS
    }
}

impl Family {
    pub(super) fn new(desc: &'static Desc, scales: Scales) -> Self {
        Self { desc, scales, blocks: Vec::new(), rows: 0 }
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// How many series, that is lines of text, a row is.
    pub(super) fn series_per_row(&self) -> usize {
        match self.desc.kind {
            Type::Counter | Type::Gauge => 1,
            Type::Histogram { .. } => self.scales.buckets.count() + 2,
        }
    }

    /// How many series, that is lines of text, this family is.
    pub(super) fn series(&self) -> usize {
        self.rows * self.series_per_row()
    }

    /// Records in a row.
    pub(super) fn apply(&mut self, row: Row, value: Value, context: Context) {
        Arc::make_mut(&mut self.blocks[row.block()]).apply(row.place(), &self.scales, value, context);
    }

    /// Gives all rows other identity labels instead of those whose rendered length is given.
    pub(super) fn relabel(&mut self, old: usize, identity: &[u8]) {
        self.blocks.iter_mut().for_each(|block| Arc::make_mut(block).relabel(old, identity));
    }

    fn block_data(&self) -> Data {
        match self.desc.kind {
            Type::Gauge => Data::Gauges(Vec::new()),
            Type::Counter => Data::Counters { values: Vec::new(), created: Vec::new() },
            Type::Histogram { .. } => {
                Data::Histograms { counts: Vec::new(), sums: Vec::new(), created: Vec::new(), native: Vec::new() }
            }
        }
    }
}

/// How writers find the rows of a family, and what they know of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    table: HashTable<Row>,
    /// Block by block, row by row.
    meta: Vec<Vec<Meta>>,
    /// The blocks that have room.
    roomy: Vec<u32>,
    /// The row behind the one that was found last: runs record in much the same order, so it is often the next to be
    /// looked for, and comparing it costs less than hashing its key and looking up memory that is far away.
    next: Row,
}

/// What writers know of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    hash: u32,
    /// The commit that recorded the row last. Compared with the present one only.
    pub(super) commit: u32,
    /// The cycle that recorded it last, by its number among those of the owner.
    pub(super) cycle: u16,
}

impl Index {
    /// The row of the given key.
    pub(super) fn find(&mut self, family: &Family, identity: &[u8], key: &[u8]) -> Option<(Row, &mut Meta)> {
        let Self { table, meta, next, .. } = self;
        let is = |row: Row| family.blocks[row.block()].is(row.place(), identity.len(), family.desc.labels, key);
        let exists = meta.get(next.block()).is_some_and(|block| next.place() < block.len());
        let row = if exists && is(*next) {
            *next
        } else {
            let hash = hash(key);
            *table.find(spread(hash), |row| meta[row.block()][row.place()].hash == hash && is(*row))?
        };
        let meta = &mut meta[row.block()];
        *next = if row.place() + 1 < meta.len() { Row(row.0 + 1) } else { Row::new(row.block() + 1, 0) };
        Some((row, &mut meta[row.place()]))
    }

    /// Adds a row for a key that has none.
    pub(super) fn insert(
        &mut self,
        family: &mut Family,
        (identity, key): (&[u8], &[u8]),
        (cycle, commit): (u16, u32),
        time: f64,
    ) -> Row {
        let block = match self.roomy.last() {
            Some(block) => *block as usize,
            None => {
                self.roomy.push(u32::try_from(family.blocks.len()).unwrap_or(u32::MAX));
                // It is full: none has room.
                let block = Block::new(family.block_data(), family.blocks.last().map(|block| &**block));
                family.blocks.push(Arc::new(block));
                self.meta.push(Vec::new());
                family.blocks.len() - 1
            }
        };
        let rows = Arc::make_mut(&mut family.blocks[block]);
        rows.push(&family.scales, time, |text| label::render(text, identity, family.desc.labels, key));
        family.rows += 1;
        if rows.len() == ROWS {
            self.roomy.pop();
        }
        let (row, hash) = (Row::new(block, rows.len() - 1), hash(key));
        self.meta[block].push(Meta { hash, commit, cycle });
        let meta = &self.meta;
        self.table.insert_unique(spread(hash), row, |row| spread(meta[row.block()][row.place()].hash));
        row
    }

    /// Whether any row is stale.
    pub(super) fn any(&self, family: &Family, stale: impl Fn(&Block, usize, &Meta) -> bool) -> bool {
        let mut blocks = self.meta.iter().zip(&family.blocks);
        blocks.any(|(meta, block)| meta.iter().enumerate().any(|(place, meta)| stale(block, place, meta)))
    }

    /// Removes the rows of which `stale` says so, given block, place in it, and what is known of the row. Touches nothing
    /// that a scrape may hold unless a row of it goes.
    pub(super) fn remove(&mut self, family: &mut Arc<Family>, stale: impl Fn(&Block, usize, &Meta) -> bool) {
        for block in 0..self.meta.len() {
            let rows = &family.blocks[block];
            let keep: Vec<_> =
                self.meta[block].iter().enumerate().map(|(place, meta)| !stale(rows, place, meta)).collect();
            if keep.iter().all(|keep| *keep) {
                continue;
            }
            let family = Arc::make_mut(family);
            self.unlist(block, &keep);
            let places = family.scales.places();
            Arc::make_mut(&mut family.blocks[block]).retain(&keep, places);
            family.rows -= keep.iter().filter(|keep| !**keep).count();
        }
        if family.rows == 0 && !family.blocks.is_empty() {
            Arc::make_mut(family).blocks = Vec::new();
            *self = Self::default();
        }
    }

    /// Takes the rows of a block that are not kept out of the table, and tells it where the others move.
    fn unlist(&mut self, block: usize, keep: &[bool]) {
        let mut to = 0;
        for (place, keep) in keep.iter().enumerate() {
            let (row, hash) = (Row::new(block, place), spread(self.meta[block][place].hash));
            if !keep {
                if let Ok(entry) = self.table.find_entry(hash, |listed| *listed == row) {
                    entry.remove();
                }
                continue;
            }
            if let Some(listed) = self.table.find_mut(hash, |listed| *listed == row) {
                *listed = Row::new(block, to);
            }
            to += 1;
        }
        if keep.len() == ROWS {
            self.roomy.push(u32::try_from(block).unwrap_or(u32::MAX));
        }
        let mut keep = keep.iter();
        self.meta[block].retain(|_| keep.next() == Some(&true));
        self.meta[block].shrink_to_fit();
        if self.table.capacity() > 4 * self.table.len() + ROWS {
            let meta = &self.meta;
            self.table.shrink_to_fit(|row| spread(meta[row.block()][row.place()].hash));
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.table.capacity() + self.roomy.capacity() + self.meta.iter().map(Vec::capacity).sum::<usize>()
    }

    /// Checks that every row is listed once, where it is, and that blocks with room are known.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self, family: &Family) {
        assert_eq!((self.table.len(), self.meta.len()), (family.rows, family.blocks.len()));
        assert_eq!(family.rows, family.blocks.iter().map(|block| block.len()).sum::<usize>());
        let mut roomy: Vec<_> = self.roomy.clone();
        roomy.sort_unstable();
        let with_room = (0..).zip(&family.blocks).filter(|(_, block)| block.len() < ROWS).map(|(nth, _)| nth);
        assert_eq!(roomy, with_room.collect::<Vec<u32>>());
        for (nth, block) in family.blocks.iter().enumerate() {
            block.assert_consistent(&family.scales);
            assert_eq!(self.meta[nth].len(), block.len());
            for place in 0..block.len() {
                let row = Row::new(nth, place);
                let hash = spread(self.meta[nth][place].hash);
                assert!(self.table.find(hash, |listed| *listed == row).is_some());
            }
        }
    }
}

fn hash(key: &[u8]) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "half of a good hash is a good hash")]
    let hash = HASHER.hash_one(key) as u32;
    hash
}

/// The table takes the bits for its own purposes from both ends of a long hash.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
