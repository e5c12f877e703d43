//! The text formats: Prometheus' own, version 0.0.4, and OpenMetrics 1.0.
//!
//! Sources: Prometheus documentation, "Exposition formats", section "Text format details"; the OpenMetrics specification
//! 1.0.0, section "Text Format".

use super::Encode;
use super::number::{write_count, write_number};
use crate::metrics::Type;
use crate::metrics::block::{Block, Data, Exemplar};
use crate::metrics::family::Family;
use crate::metrics::store::Metric;

/// Which of the text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Version 0.0.4.
    Prometheus,
    /// Version 1.0.0, with `_created` series or without.
    OpenMetrics { created: bool },
}

/// Writes rows as lines.
#[derive(Debug)]
pub(super) struct Text {
    dialect: Dialect,
    /// The starts of the lines of the metric that was opened last: its name, the same with a brace, and of a histogram's
    /// buckets.
    name: Vec<u8>,
    labelled: Vec<u8>,
    bucket: Vec<u8>,
}

impl Encode for Text {
    fn open(&mut self, out: &mut Vec<u8>, metric: &Metric<'_>) {
        let desc = metric.desc;
        let kind: &[u8] = match desc.kind {
            Type::Counter => b"counter",
            Type::Gauge => b"gauge",
            Type::Histogram { .. } => b"histogram",
        };
        let openmetrics = self.dialect != Dialect::Prometheus;
        let family = if openmetrics { desc.family() } else { desc.name }.as_bytes();
        // Help is a literal of this program, without anything to escape, which a test of the catalogue checks.
        put(out, [b"# HELP ", family, b" ", desc.help.as_bytes(), b"\n"]);
        put(out, [b"# TYPE ", family, b" ", kind, b"\n"]);
        if let Some(unit) = desc.unit().filter(|_| openmetrics) {
            put(out, [b"# UNIT ", family, b" ", unit.as_bytes(), b"\n"]);
        }
        self.name.clear();
        self.name.extend_from_slice(desc.name.as_bytes());
        self.labelled.clear();
        put(&mut self.labelled, [desc.name.as_bytes(), b"{"]);
        self.bucket.clear();
        put(&mut self.bucket, [desc.name.as_bytes(), b"_bucket{"]);
    }

    fn row(&mut self, out: &mut Vec<u8>, family: &Family, block: &Block, row: usize) {
        let labels = block.labels(row);
        match &block.data {
            Data::Gauges(values) => {
                self.start(out, labels);
                write_number(out, values[row]);
                out.push(b'\n');
            }
            Data::Counters { values, created } => {
                self.start(out, labels);
                write_number(out, values[row]);
                if let [(_, exemplar)] = block.exemplars(row, 1) {
                    self.exemplar(out, exemplar);
                }
                out.push(b'\n');
                self.created(out, labels, created[row]);
            }
            Data::Histograms { sums, created, .. } => {
                let count = self.buckets(out, family, block, row);
                self.start_part(out, b"_sum", labels);
                write_number(out, sums[row]);
                out.push(b'\n');
                self.start_part(out, b"_count", labels);
                write_count(out, count);
                out.push(b'\n');
                self.created(out, labels, created[row]);
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.dialect != Dialect::Prometheus {
            out.extend_from_slice(b"# EOF\n");
        }
    }
}

impl Text {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, name: Vec::new(), labelled: Vec::new(), bucket: Vec::new() }
    }

    /// Writes the buckets of a row, and says how many observations there are.
    fn buckets(&self, out: &mut Vec<u8>, family: &Family, block: &Block, row: usize) -> u64 {
        let Data::Histograms { counts, .. } = &block.data else { return 0 };
        let (labels, width) = (block.labels(row), family.scales.places());
        let comma: &[u8] = if labels.is_empty() { b"" } else { b"," };
        let mut exemplars = block.exemplars(row, width).iter().peekable();
        let canonical = self.dialect != Dialect::Prometheus;
        let mut total = 0;
        for (nth, (count, le)) in counts[row * width..].iter().zip(family.scales.buckets.lines(canonical)).enumerate() {
            total += count;
            put(out, [&self.bucket, labels, comma, le]);
            write_count(out, total);
            if let Some((_, exemplar)) = exemplars.next_if(|(place, _)| *place as usize == row * width + nth) {
                self.exemplar(out, exemplar);
            }
            out.push(b'\n');
        }
        total
    }

    /// A line up to its value. Most lines begin here, so it does as little as it can.
    fn start(&self, out: &mut Vec<u8>, labels: &[u8]) {
        if labels.is_empty() {
            put(out, [&self.name, b" "]);
        } else {
            put(out, [&self.labelled, labels]);
            out.extend_from_slice(b"} ");
        }
    }

    /// The same for a part of a histogram.
    fn start_part(&self, out: &mut Vec<u8>, suffix: &[u8], labels: &[u8]) {
        if labels.is_empty() {
            put(out, [&self.name, suffix, b" "]);
        } else {
            put(out, [&self.name, suffix, b"{", labels, b"} "]);
        }
    }

    fn exemplar(&self, out: &mut Vec<u8>, exemplar: &Exemplar) {
        if self.dialect == Dialect::Prometheus {
            return;
        }
        put(out, [b" # {run_id=\"", exemplar.run.to_string().as_bytes(), b"\"} "]);
        write_number(out, exemplar.value);
        out.push(b' ');
        write_number(out, milliseconds(exemplar.time));
    }

    /// When a row came into being, in a line of its own.
    fn created(&self, out: &mut Vec<u8>, labels: &[u8], created: f64) {
        if self.dialect == (Dialect::OpenMetrics { created: true }) {
            let name = self.name.strip_suffix(b"_total").unwrap_or(&self.name);
            let (open, close): (&[u8], &[u8]) = if labels.is_empty() { (b"", b" ") } else { (b"{", b"} ") };
            put(out, [name, b"_created", open, labels, close]);
            write_number(out, milliseconds(created));
            out.push(b'\n');
        }
    }
}

/// A Unix time in whole milliseconds: nobody reads more of it.
fn milliseconds(time: f64) -> f64 {
    (time * 1e3).round() / 1e3
}

fn put<const N: usize>(out: &mut Vec<u8>, parts: [&[u8]; N]) {
    out.reserve(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}
