//! The formats in which metrics are written.
//!
//! A [`Writer`] walks over a snapshot and writes it piece by piece, so that a scrape takes one piece of memory however many
//! series there are. Formats differ in how a metric begins, how a row looks, and how all of it ends.

mod number;
mod text;

pub(super) use number::write_number;

use self::text::{Dialect, Text};
use super::Snapshot;
use super::store::Metric;

/// Pieces are about this large, in bytes: large enough for few writes, small enough for hundreds of slow readers.
pub const PIECE: usize = 128 * 1024;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// OpenMetrics text, version 1.0, which has exemplars.
    OpenMetrics {
        /// Whether to write when counters and histograms came into being, as series: one more for each.
        created: bool,
    },
}

impl Format {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics { .. } => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes a snapshot piece by piece.
#[derive(Debug)]
pub struct Writer {
    snapshot: Snapshot,
    encoder: Text,
    metric: usize,
    place: Option<Place>,
    ended: bool,
}

/// The next row of a metric, by family, block, and row.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    family: usize,
    block: usize,
    row: usize,
}

impl Writer {
    /// Starts at the beginning of the snapshot.
    pub fn new(snapshot: Snapshot, format: Format) -> Self {
        let dialect = match format {
            Format::Text => Dialect::Prometheus,
            Format::OpenMetrics { created } => Dialect::OpenMetrics { created },
        };
        Self { snapshot, encoder: Text::new(dialect), metric: 0, place: None, ended: false }
    }

    /// Appends the next piece, until there are about [`PIECE`] bytes: whole rows, at least one. False when nothing is left
    /// to write.
    pub fn write(&mut self, out: &mut Vec<u8>) -> bool {
        if self.ended {
            return false;
        }
        let before = out.len();
        while let Some(metric) = self.snapshot.metric(self.metric) {
            let mut place = self.place.take().unwrap_or_else(|| {
                self.encoder.open(out, &metric);
                Place::default()
            });
            if !rows(&mut self.encoder, out, &metric, &mut place) {
                self.place = Some(place);
                return true;
            }
            self.metric += 1;
        }
        self.encoder.end(out);
        self.ended = true;
        out.len() > before
    }

    /// All that is left, in one piece.
    pub fn rest(mut self) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), Vec::new());
        while self.write(&mut piece) {
            all.append(&mut piece);
        }
        all
    }
}

/// Writes rows of a metric from `place` on; true when that was all of them.
fn rows(encoder: &mut Text, out: &mut Vec<u8>, metric: &Metric<'_>, place: &mut Place) -> bool {
    while let Some(family) = metric.family(place.family) {
        while let Some(block) = family.blocks.get(place.block) {
            while place.row < block.len() {
                if out.len() >= PIECE {
                    return false;
                }
                encoder.row(out, family, block, place.row);
                place.row += 1;
            }
            (place.block, place.row) = (place.block + 1, 0);
        }
        (place.family, place.block) = (place.family + 1, 0);
    }
    true
}
