//! The protobuf format: messages `io.prometheus.client.MetricFamily`, each after its length. The only format that carries
//! native histograms.
//!
//! Written by hand from rendered labels, because a tree of messages for half a million series is what makes others' scrapes
//! slow. Source: `io/prometheus/client/metrics.proto` of github.com/prometheus/client_model; numbers of fields and wire types
//! are named below as there. Length-delimited fields come after their lengths, so a metric's rows are measured before the
//! first one is written.

use super::Encode;
use crate::metrics::Type;
use crate::metrics::block::{Block, Data, Exemplar};
use crate::metrics::family::Family;
use crate::metrics::histogram::Scales;
use crate::metrics::label::{rendered_pairs, unescape};
use crate::metrics::native::{Native, Sparse};
use crate::metrics::store::Metric;

/// The wire types of protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;

/// Writes rows as messages.
#[derive(Debug, Default)]
pub(super) struct Protobuf {
    /// The value of one row: a `Gauge`, `Counter` or `Histogram` with its number in `Metric`.
    value: Vec<u8>,
    /// A message inside of that.
    inner: Vec<u8>,
}

impl Encode for Protobuf {
    fn open(&mut self, out: &mut Vec<u8>, metric: &Metric<'_>) {
        let desc = metric.desc;
        let kind = match desc.kind {
            Type::Counter => 0,
            Type::Gauge => 1,
            Type::Histogram { .. } => 4,
        };
        let mut head = Vec::new();
        bytes(&mut head, 1, desc.name.as_bytes());
        bytes(&mut head, 2, desc.help.as_bytes());
        number(&mut head, 3, kind);
        let rows: usize = metric
            .families()
            .flat_map(|family| family.blocks.iter().map(move |block| (family, block)))
            .flat_map(|(family, block)| (0..block.len()).map(move |row| (family, block, row)))
            .map(|(family, block, row)| delimited_len(self.measure(family, block, row)))
            .sum();
        if let Some(unit) = desc.unit() {
            bytes(&mut head, 5, unit.as_bytes());
        }
        varint(out, (head.len() + rows) as u64);
        out.append(&mut head);
    }

    fn row(&mut self, out: &mut Vec<u8>, family: &Family, block: &Block, row: usize) {
        let len = self.measure(family, block, row);
        key(out, 4, DELIMITED);
        varint(out, len as u64);
        for (name, value) in rendered_pairs(block.labels(row)) {
            key(out, 1, DELIMITED);
            varint(out, pair_len(name, value) as u64);
            bytes(out, 1, name);
            key(out, 2, DELIMITED);
            varint(out, unescaped_len(value) as u64);
            unescape(out, value);
        }
        out.extend_from_slice(&self.value);
    }

    fn end(&mut self, _: &mut Vec<u8>) {}
}

impl Protobuf {
    /// The length of a row's `Metric`. Leaves its value in `self.value`.
    fn measure(&mut self, family: &Family, block: &Block, row: usize) -> usize {
        self.value.clear();
        self.inner.clear();
        let inner = &mut self.inner;
        let field = match &block.data {
            Data::Gauges(values) => {
                double(inner, 1, values[row]);
                2
            }
            Data::Counters { values, created } => {
                double(inner, 1, values[row]);
                if let [(_, exemplar)] = block.exemplars(row, 1) {
                    write_exemplar(inner, 2, exemplar);
                }
                timestamp(inner, 3, created[row]);
                3
            }
            Data::Histograms { sums, created, native, .. } => {
                classic(inner, block, row, &family.scales, sums[row]);
                if let (Some(native), Some(rule)) = (native.get(row), &family.scales.native) {
                    sparse(inner, native, rule.zero_threshold());
                }
                timestamp(inner, 15, created[row]);
                7
            }
        };
        bytes(&mut self.value, field, &self.inner);
        let labels = rendered_pairs(block.labels(row)).map(|(name, value)| delimited_len(pair_len(name, value)));
        labels.sum::<usize>() + self.value.len()
    }
}

/// Number, sum and classic buckets of a `Histogram`.
fn classic(out: &mut Vec<u8>, block: &Block, row: usize, scales: &Scales, sum: f64) {
    let Data::Histograms { counts, .. } = &block.data else { return };
    let (width, first) = (scales.places(), row * scales.places());
    let counts = &counts[first..first + width];
    number(out, 1, counts.iter().sum());
    double(out, 2, sum);
    let mut exemplars = block.exemplars(row, width).iter().peekable();
    let bounds = scales.buckets.bounds().iter().chain(&[f64::INFINITY]);
    let (mut total, mut bucket) = (0, Vec::new());
    for (nth, (count, bound)) in counts.iter().zip(bounds).enumerate() {
        total += count;
        bucket.clear();
        number(&mut bucket, 1, total);
        double(&mut bucket, 2, *bound);
        if let Some((_, exemplar)) = exemplars.next_if(|(place, _)| *place as usize == first + nth) {
            write_exemplar(&mut bucket, 3, exemplar);
        }
        bytes(out, 3, &bucket);
    }
}

/// The native buckets of a `Histogram`.
fn sparse(out: &mut Vec<u8>, native: &Native, zero_threshold: f64) {
    number(out, 5, zigzag(native.schema().into()));
    double(out, 6, zero_threshold);
    number(out, 7, native.zero_count());
    side(out, (9, 10), native.negative());
    side(out, (12, 13), native.positive());
    let empty = |side: &Sparse| side.spans().next().is_none();
    if zero_threshold == 0.0 && native.zero_count() == 0 && empty(native.negative()) && empty(native.positive()) {
        // Without it, nothing would say that there are native buckets at all.
        bytes(out, 12, &[]);
    }
}

fn side(out: &mut Vec<u8>, (spans, deltas): (u32, u32), side: &Sparse) {
    let mut inner = Vec::new();
    for (offset, length) in side.spans() {
        inner.clear();
        number(&mut inner, 1, zigzag(offset.into()));
        number(&mut inner, 2, length.into());
        bytes(out, spans, &inner);
    }
    inner.clear();
    side.deltas().for_each(|delta| varint(&mut inner, zigzag(delta)));
    if !inner.is_empty() {
        // Packed.
        bytes(out, deltas, &inner);
    }
}

fn write_exemplar(out: &mut Vec<u8>, field: u32, exemplar: &Exemplar) {
    let (mut pair, mut inner) = (Vec::with_capacity(32), Vec::with_capacity(64));
    bytes(&mut pair, 1, b"run_id");
    bytes(&mut pair, 2, exemplar.run.to_string().as_bytes());
    bytes(&mut inner, 1, &pair);
    double(&mut inner, 2, exemplar.value);
    timestamp(&mut inner, 3, exemplar.time);
    bytes(out, field, &inner);
}

/// A `google.protobuf.Timestamp` of a Unix time, in milliseconds: nobody reads more of it.
fn timestamp(out: &mut Vec<u8>, field: u32, time: f64) {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the time is after 1970; the cast saturates"
    )]
    let milliseconds = (time * 1e3).round() as u64;
    let mut inner = Vec::with_capacity(16);
    number(&mut inner, 1, milliseconds / 1_000);
    number(&mut inner, 2, milliseconds % 1_000 * 1_000_000);
    bytes(out, field, &inner);
}

/// The length of a `LabelPair`, given its escaped value.
fn pair_len(name: &[u8], value: &[u8]) -> usize {
    delimited_len(name.len()) + delimited_len(unescaped_len(value))
}

fn unescaped_len(escaped: &[u8]) -> usize {
    let mut escapes = 0;
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        escapes += 1;
        rest = &rest[at + 2..];
    }
    escaped.len() - escapes
}

/// The length of a length-delimited field with a number up to 15.
fn delimited_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn varint_len(value: u64) -> usize {
    // Seven bits a byte.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn key(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, VARINT);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(out, field, DELIMITED);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A signed number as protobuf's `sint` types have it: near to 0 means short.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_what_is_written() {
        for value in (0..64).flat_map(|bit| [1_u64 << bit, (1_u64 << bit) - 1]).chain([u64::MAX]) {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(varint_len(value), out.len(), "{value}");
        }
        for escaped in ["", "a", "\\\\", "\\n", "a\\\"b\\\\\\nc"] {
            let mut out = Vec::new();
            unescape(&mut out, escaped.as_bytes());
            assert_eq!(unescaped_len(escaped.as_bytes()), out.len(), "{escaped}");
        }
    }
}
