//! Bucket for bucket the same as the Prometheus project's own library, and true to the specification where it begins and
//! ends.

use prometheus_client::encoding::prometheus_protobuf::encode;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use super::*;

/// One side: spans and deltas.
type Side = (Vec<(i32, u32)>, Vec<i64>);

/// All that a scrape would carry.
#[derive(Debug, PartialEq)]
struct Seen {
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    positive: Side,
    negative: Side,
}

/// The library's histogram and ours, fed with the same values.
struct Both {
    registry: Registry,
    theirs: Histogram,
    rule: NativeRule,
    ours: Native,
}

impl Both {
    fn new(factor: f64, max_buckets: u16, zero_threshold: f64) -> Self {
        // What the library calls 0 is its default; a negative threshold is its name for none.
        let theirs = if zero_threshold == 0.0 { -1.0 } else { zero_threshold };
        let config = NativeHistogramConfig::new(factor).max_buckets(max_buckets.into()).zero_threshold(theirs);
        let theirs = Histogram::new_native(config);
        let mut registry = Registry::default();
        registry.register("h", "h", theirs.clone());
        let rule = NativeRule::new(factor, max_buckets, zero_threshold);
        Self { registry, theirs, rule, ours: Native::new(&rule) }
    }

    fn observe(&mut self, value: f64) {
        self.theirs.observe(value);
        self.ours.observe(&self.rule, value);
    }

    #[track_caller]
    fn compare(&self) {
        let families = encode(&self.registry).expect("encoded");
        let theirs = families[0].metric[0].histogram.as_ref().expect("a histogram");
        let spans =
            |spans: &[prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::BucketSpan]| {
                spans.iter().map(|span| (span.offset, span.length)).filter(|span| *span != (0, 0)).collect()
            };
        let theirs = Seen {
            schema: theirs.schema,
            zero_threshold: theirs.zero_threshold,
            zero_count: theirs.zero_count,
            positive: (spans(&theirs.positive_span), theirs.positive_delta.clone()),
            negative: (spans(&theirs.negative_span), theirs.negative_delta.clone()),
        };
        assert_eq!(seen(&self.rule, &self.ours), theirs);
    }
}

fn seen(rule: &NativeRule, native: &Native) -> Seen {
    let side = |sparse: &Sparse| (sparse.spans().collect(), sparse.deltas().collect());
    Seen {
        schema: native.schema().into(),
        zero_threshold: rule.zero_threshold(),
        zero_count: native.zero_count(),
        positive: side(native.positive()),
        negative: side(native.negative()),
    }
}

/// Marsaglia's generator: the same values at every run.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Spread evenly over nine decades, from a nanosecond to a second.
    fn nine_decades(&mut self) -> f64 {
        10f64.powf(-9.0 * self.unit())
    }
}

/// Where bucket `index` of a schema ends. Infinite beyond the largest number.
fn upper(schema: i8, index: i32) -> f64 {
    let finest = index << (FINEST - schema);
    // In two steps, because the power alone can be too small a number where the bound is not.
    let (bound, exponent) = (BOUNDS[finest.rem_euclid(256) as usize], finest.div_euclid(256) + 1);
    bound * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
}

#[test]
fn a_hundred_thousand_values_over_nine_decades_are_where_the_library_has_them() {
    for max_buckets in [160, 1000] {
        let (mut both, mut random) = (Both::new(1.1, max_buckets, NativeRule::ZERO_THRESHOLD), Xorshift(1));
        for _ in 0..100_000 {
            both.observe(random.nine_decades());
        }
        both.compare();
        assert_eq!(both.ours.schema(), if max_buckets == 160 { 2 } else { 3 });
        assert!(both.ours.positive().deltas().count() > 100);
    }
}

#[test]
fn every_factor_is_the_library_s_at_every_step() {
    let growths = (-4..=8).map(|schema| 2f64.powf(2f64.powi(-schema)));
    let near = growths.flat_map(|growth| [growth.next_down(), growth, growth.next_up()]);
    for factor in near.chain([1.003, 1.02, 1.05, 1.1, 1.2, 1.5, 1.9, 3.0, 8.0, 70_000.0]).filter(|factor| *factor > 1.0)
    {
        let (mut both, mut random) = (Both::new(factor, 1000, 0.0), Xorshift(factor.to_bits()));
        for step in 0..2_000 {
            let value = random.nine_decades() * 1e4;
            both.observe(if random.next() % 3 == 0 { -value } else { value });
            if step % 50 == 0 {
                both.compare();
            }
        }
        both.compare();
    }
}

#[test]
fn the_resolution_is_halved_when_the_library_halves_it() {
    for max_buckets in [1, 2, 4, 10, 40] {
        let (mut both, mut random) = (Both::new(1.02, max_buckets, 1e-6), Xorshift(max_buckets.into()));
        let mut schemas = Vec::new();
        for _ in 0..300 {
            let value = random.nine_decades();
            both.observe(if random.next() % 2 == 0 { value } else { -value });
            both.compare();
            schemas.push(both.ours.schema());
        }
        schemas.dedup();
        assert_eq!(schemas.first(), Some(&6));
        assert!(schemas.len() > 2 && schemas.is_sorted_by(|one, next| *one == next + 1), "{schemas:?}");
    }
}

#[test]
fn the_coarsest_buckets_are_not_halved_further() {
    let mut both = Both::new(65_536.0, 1, 0.0);
    for value in [1e-300, 1.0, 1e300, -1e300, 1.0] {
        both.observe(value);
        both.compare();
    }
    assert_eq!((both.ours.schema(), both.ours.positive().spans().count()), (COARSEST, 3));
}

#[test]
fn the_zero_bucket_takes_what_is_as_near_as_its_threshold() {
    for threshold in [0.0, 5e-324, NativeRule::ZERO_THRESHOLD, 0.001, 1.0] {
        let mut both = Both::new(1.1, 160, threshold);
        both.compare();
        for value in [0.0, -0.0, threshold, -threshold, threshold.next_up(), -threshold.next_up(), threshold / 2.0] {
            both.observe(value);
            both.compare();
        }
        assert_eq!(both.ours.zero_count(), 5);
    }
}

#[test]
fn the_smallest_and_the_largest_numbers_have_their_buckets() {
    for factor in [1.003, 1.1, 2.0, 20.0, 65_536.0] {
        let mut both = Both::new(factor, 1000, 0.0);
        for value in
            [5e-324, 1.5e-323, f64::MIN_POSITIVE.next_down(), f64::MIN_POSITIVE, f64::MAX.next_down(), f64::MAX]
        {
            both.observe(value);
            both.observe(-value);
            both.compare();
        }
    }
}

#[test]
fn a_value_on_a_bound_belongs_to_the_bucket_that_ends_there() {
    for schema in COARSEST..=FINEST {
        // A little more than the growth, which as a number may be a little less than it is.
        let factor = 2f64.powf(2f64.powi((-schema).into())) * 1.000_01;
        let mut both = Both::new(factor, u16::MAX, 0.0);
        // Each place in the table, for several powers of two.
        let width = 1 << schema.max(0);
        for place in (-3 * width..3 * width).chain([-40 * width, 40 * width]) {
            let bound = upper(schema, place);
            assert_eq!(index(schema, bound), place);
            assert_eq!(index(schema, bound.next_down()), place);
            assert_eq!(index(schema, bound.next_up()), place + 1);
            both.observe(bound);
        }
        assert_eq!(both.ours.schema(), schema);
        both.compare();
    }
}

#[test]
fn the_bounds_are_the_powers_that_the_specification_names() {
    for (place, bound) in BOUNDS.iter().enumerate() {
        let exact = 2f64.powf(place as f64 / 256.0 - 1.0);
        assert!((bound - exact).abs() < 5e-16, "{place}");
    }
}

#[test]
fn gaps_of_two_are_filled_and_larger_ones_begin_a_span() {
    let sparse = Sparse([(-10, 1), (-7, 7), (-5, 7), (-1, 8)].map(|(index, count)| Bucket { index, count }).into());
    assert_eq!(sparse.spans().collect::<Vec<_>>(), [(-10, 6), (3, 1)]);
    assert_eq!(sparse.deltas().collect::<Vec<_>>(), [1, -1, 0, 7, -7, 7, 1]);
}

#[test]
fn an_empty_histogram_has_nothing_and_a_full_one_little() {
    let native = Native::new(&NativeRule::DEFAULT);
    assert_eq!((native.positive().spans().count(), native.negative().deltas().count()), (0, 0));
    assert_eq!((native.positive.0.capacity(), size_of::<Native>(), size_of::<Bucket>()), (0, 64, 12));
    let (rule, mut random) = (NativeRule::DEFAULT, Xorshift(3));
    let mut native = native;
    for _ in 0..10_000 {
        native.observe(&rule, random.nine_decades());
    }
    assert!(native.positive.0.capacity() <= 160 * 5 / 4, "{}", native.positive.0.capacity());
}

#[test]
fn a_factor_beyond_what_there_is_takes_the_nearest() {
    for (factor, schema) in [(0.5, 0), (1.0, FINEST), (1.000_001, FINEST), (1e9, COARSEST), (f64::INFINITY, COARSEST)] {
        assert_eq!(NativeRule::new(factor, 160, 0.0).schema, schema, "{factor}");
    }
    assert_eq!(NativeRule::new(NativeRule::MIN_FACTOR, 160, 0.0).schema, FINEST);
    assert_eq!(NativeRule::new(NativeRule::MAX_FACTOR, 160, 0.0).schema, COARSEST);
    assert_eq!(NativeRule::new(NativeRule::FACTOR, 160, 2f64.powi(-128)), NativeRule::DEFAULT);
}

proptest! {
    // Not of subnormal numbers, where a bound may have to be rounded to the next value.
    #[test]
    fn a_value_is_above_the_bound_before_and_not_above_its_own(bits in 0x0010_0000_0000_0000..0x7ff0_0000_0000_0000u64, schema in COARSEST..=FINEST) {
        let value = f64::from_bits(bits);
        let at = index(schema, value);
        prop_assert!(upper(schema, at - 1) < value);
        prop_assert!(value <= upper(schema, at));
        prop_assert_eq!(index(schema, -value), at);
        prop_assert!(index(schema, value.next_down().max(5e-324)) <= at);
        prop_assert!(index(schema, value.next_up().min(f64::MAX)) >= at);
    }
}
