//! Native histograms: buckets that grow by a constant factor, of which only those that counted something are kept.
//!
//! Source: Prometheus' specification of native histograms (prometheus.io/docs/specs/native_histograms), standard schemas
//! -4 to 8. Bucket `i` of schema `s` counts the values above `2^((i - 1) / 2^s)` and up to `2^(i / 2^s)`; what is beyond
//! the limits is treated as Prometheus' own libraries do by default.

mod bounds;
#[cfg(test)]
mod tests;

use bounds::BOUNDS;

/// The schema of the coarsest buckets: each ends at 65536 times its beginning.
const COARSEST: i8 = -4;
/// The schema of the finest buckets: 256 of them between a power of two and the next.
const FINEST: i8 = 8;
/// Up to so many empty buckets between two others are written as such; a larger gap begins a new span. As the libraries
/// have it: a span costs about as much as two empty buckets.
const MOST_EMPTY: i32 = 2;
/// The fewest buckets that memory is taken for.
const FEWEST: usize = 4;

/// How a native histogram counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NativeRule {
    schema: i8,
    max_buckets: u16,
    zero_threshold: f64,
}

impl Default for NativeRule {
    /// [`NativeRule::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl NativeRule {
    /// A factor of 1.1, which is eight buckets between a power of two and the next; like the next two, what Prometheus'
    /// own libraries recommend or have as their default.
    pub const FACTOR: f64 = 1.1;
    /// 160 buckets.
    pub const MAX_BUCKETS: u16 = 160;
    /// A zero bucket up to 2^-128.
    pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;
    /// All of these.
    pub const DEFAULT: Self = Self { schema: 3, max_buckets: Self::MAX_BUCKETS, zero_threshold: Self::ZERO_THRESHOLD };

    /// The smallest factor that there are buckets for: 2^(1/256), rounded up.
    pub const MIN_FACTOR: f64 = 1.0028;
    /// The largest factor that there are buckets for.
    pub const MAX_FACTOR: f64 = 65_536.0;

    /// The coarsest buckets whose bounds grow by no more than `factor`, which should be from [`Self::MIN_FACTOR`] to
    /// [`Self::MAX_FACTOR`]; beyond them it is the finest or the coarsest there are.
    ///
    /// With more than `max_buckets` buckets neighbours are joined in pairs, down to the coarsest schema: then there may be
    /// more. Values up to `zero_threshold` away from 0, which must not be negative, are in the zero bucket.
    pub fn new(factor: f64, max_buckets: u16, zero_threshold: f64) -> Self {
        // The cast saturates; a factor that is no number becomes 0, which is a schema too.
        let schema = -(factor.log2().log2().floor() as i8).clamp(-FINEST, -COARSEST);
        Self { schema, max_buckets, zero_threshold }
    }

    /// How far from 0 a value may be and still be in the zero bucket.
    ///
    /// A histogram of the protobuf format whose threshold is 0 and that is empty is only known as a native one by a span
    /// of no buckets, which its writer must add.
    pub fn zero_threshold(&self) -> f64 {
        self.zero_threshold
    }
}

/// What a native histogram has counted. Number and sum of the values are kept elsewhere, since classic buckets have the
/// same.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    positive: Sparse,
    negative: Sparse,
    zero_count: u64,
    schema: i8,
}

impl Native {
    /// An empty histogram, which takes no memory beyond itself.
    pub fn new(rule: &NativeRule) -> Self {
        Self { positive: Sparse::default(), negative: Sparse::default(), zero_count: 0, schema: rule.schema }
    }

    /// Counts a value, which must be finite. The rule must be that of the creation.
    pub fn observe(&mut self, rule: &NativeRule, value: f64) {
        if value.abs() <= rule.zero_threshold {
            self.zero_count += 1;
        } else {
            let side = if value < 0.0 { &mut self.negative } else { &mut self.positive };
            side.count(index(self.schema, value));
        }
        // Once for each value, whatever bucket it was in: the libraries do it like that, and a single new bucket does not
        // take many steps to make room for.
        if self.positive.0.len() + self.negative.0.len() > usize::from(rule.max_buckets) && self.schema > COARSEST {
            self.schema -= 1;
            self.positive.halve();
            self.negative.halve();
        }
    }

    /// The resolution now: at first that of the rule, then less where there were too many buckets.
    pub fn schema(&self) -> i8 {
        self.schema
    }

    /// How many values the zero bucket has counted.
    pub fn zero_count(&self) -> u64 {
        self.zero_count
    }

    /// The buckets of values above 0.
    pub fn positive(&self) -> &Sparse {
        &self.positive
    }

    /// The buckets of values below 0, by their distance from it.
    pub fn negative(&self) -> &Sparse {
        &self.negative
    }
}

/// The buckets on one side of 0 that have counted something, in ascending order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse(Vec<Bucket>);

/// A bucket in twelve bytes: there are thousands of histograms.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(Rust, packed(4))]
struct Bucket {
    index: i32,
    count: u64,
}

impl Sparse {
    /// Runs of buckets that follow each other: how many indexes are between the end of the run before, or 0, and this
    /// one, and how many buckets it has.
    pub fn spans(&self) -> impl Iterator<Item = (i32, u32)> {
        let runs = self.0.chunk_by(|one, next| next.index - one.index - 1 <= MOST_EMPTY);
        runs.scan(0, |end, run| {
            let (first, next) = (run.first()?.index, run.last()?.index + 1);
            Some((first - std::mem::replace(end, next), next.abs_diff(first)))
        })
    }

    /// The counts of all buckets of all spans, empty ones included, each as the difference from the one before.
    pub fn deltas(&self) -> impl Iterator<Item = i64> {
        let mut end = None;
        let counts = self.0.iter().flat_map(move |bucket| {
            let gap = bucket.index - end.unwrap_or(bucket.index);
            end = Some(bucket.index + 1);
            let empty = if gap <= MOST_EMPTY { usize::try_from(gap).unwrap_or(0) } else { 0 };
            std::iter::repeat_n(0, empty).chain([bucket.count])
        });
        // No count comes near what an i64 cannot hold.
        counts.scan(0, |before, count| Some(count.wrapping_sub(std::mem::replace(before, count)).cast_signed()))
    }

    fn count(&mut self, index: i32) {
        match self.0.binary_search_by_key(&index, |bucket| bucket.index) {
            Ok(at) => self.0[at].count += 1,
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(FEWEST.max(self.0.len() / 4));
                }
                self.0.insert(at, Bucket { index, count: 1 });
            }
        }
    }

    /// Joins each bucket of an odd index with the one that follows it, which ends where the bucket of the coarser schema
    /// does.
    fn halve(&mut self) {
        for bucket in &mut self.0 {
            bucket.index = (bucket.index + 1) >> 1;
        }
        self.0.dedup_by(|next, one| {
            let same = next.index == one.index;
            one.count += if same { next.count } else { 0 };
            same
        });
    }
}

/// The index of the bucket that a value other than 0 is in.
fn index(schema: i8, value: f64) -> i32 {
    let (fraction, exponent) = split(value.abs());
    let within = BOUNDS.partition_point(|bound| *bound < fraction) as i32;
    let finest = within + (exponent - 1) * BOUNDS.len() as i32;
    // Each bucket of a lower schema ends with one of the finest, so its index is that one's divided and rounded up.
    let shift = FINEST - schema;
    (finest + (1 << shift) - 1) >> shift
}

/// A positive number as `fraction * 2^exponent`, with a fraction from 0.5 to below 1: C's `frexp`.
fn split(value: f64) -> (f64, i32) {
    const EXPONENT: u64 = 0x7ff << 52;
    const HALF: u64 = 1022 << 52;
    // Scaled by 2^54 a subnormal number is a normal one, and no bit of it is lost.
    let (value, scaled) = if value < f64::MIN_POSITIVE { (value * 18_014_398_509_481_984.0, 54) } else { (value, 0) };
    let bits = value.to_bits();
    (f64::from_bits(bits & !EXPONENT | HALF), ((bits & EXPONENT) >> 52) as i32 - 1022 - scaled)
}
