//! Prometheus' text format, version 0.0.4, written piece by piece.
//!
//! Source: Prometheus documentation, "Exposition formats", section "Text format details".

use std::io::Write as _;

use super::write_number;
use crate::metrics::series::{Data, Family};
use crate::metrics::{Snapshot, Type};

/// The value of `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Pieces are about this large, in bytes: large enough for few writes, small enough for thousands of slow readers.
const PIECE: usize = 64 * 1024;

/// Writes a snapshot piece by piece, so that a scrape takes one piece of memory however many series there are.
#[derive(Debug)]
pub struct Writer {
    snapshot: Snapshot,
    family: usize,
    row: usize,
    /// The name of the family before, whose header need not be written again.
    header: &'static str,
}

impl Writer {
    /// Starts at the beginning of the snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, family: 0, row: 0, header: "" }
    }
}

impl Iterator for Writer {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = Vec::new();
        while let Some(family) = self.snapshot.family(self.family) {
            if piece.is_empty() {
                piece.reserve_exact(PIECE + PIECE / 8);
            }
            if self.header != family.desc.name {
                self.header = family.desc.name;
                write_header(&mut piece, family);
            }
            while self.row < family.labels.len() && piece.len() < PIECE {
                write_row(&mut piece, family, self.row);
                self.row += 1;
            }
            if self.row < family.labels.len() {
                break;
            }
            self.family += 1;
            self.row = 0;
        }
        if piece.is_empty() { None } else { Some(piece) }
    }
}

fn write_header(out: &mut Vec<u8>, family: &Family) {
    let kind = match family.desc.kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
        Type::Histogram { .. } => "histogram",
    };
    let name = family.desc.name;
    // Help is a literal of this program, without backslash or line break, which a test of the catalogue checks.
    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.desc.help);
}

fn write_row(out: &mut Vec<u8>, family: &Family, row: usize) {
    let (name, labels) = (family.desc.name, &*family.labels[row]);
    match &family.data {
        Data::Values(values) => write_sample(out, (name, ""), labels, values[row]),
        Data::Histogram { buckets, counts, sums } => {
            let mut total = 0;
            for (count, le) in counts[row * buckets.count()..].iter().zip(buckets.labels()) {
                total += count;
                let comma = if labels.is_empty() { "" } else { "," };
                let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {total}");
            }
            write_sample(out, (name, "_sum"), labels, sums[row]);
            #[allow(clippy::cast_precision_loss, reason = "every sample is a double on the wire")]
            write_sample(out, (name, "_count"), labels, total as f64);
        }
    }
}

fn write_sample(out: &mut Vec<u8>, (name, suffix): (&str, &str), labels: &str, value: f64) {
    let _ = if labels.is_empty() { write!(out, "{name}{suffix} ") } else { write!(out, "{name}{suffix}{{{labels}}} ") };
    write_number(out, value);
    out.push(b'\n');
}
