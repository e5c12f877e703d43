//! The formats in which metrics are written.
//!
//! A [`Writer`] walks over a snapshot and writes it piece by piece, so that a scrape takes one piece of memory however many
//! series there are. Formats differ in how a metric begins, how a row looks, and how all of it ends.

mod number;
mod protobuf;
mod text;

pub(super) use number::{write_canonical, write_number};

use self::protobuf::Protobuf;
use self::text::{Dialect, Text};
use super::Snapshot;
use super::block::Block;
use super::family::Family;
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
    /// Protobuf, which has exemplars, native histograms and when things came into being.
    Protobuf,
}

impl Format {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics { .. } => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// How a format writes what a [`Writer`] comes by.
trait Encode {
    /// Begins a metric.
    fn open(&mut self, out: &mut Vec<u8>, metric: &Metric<'_>);
    /// Writes a row of the metric.
    fn row(&mut self, out: &mut Vec<u8>, family: &Family, block: &Block, row: usize);
    /// Ends the whole.
    fn end(&mut self, out: &mut Vec<u8>);
}

#[derive(Debug)]
enum Encoder {
    Text(Text),
    Protobuf(Protobuf),
}

/// Writes a snapshot piece by piece.
#[derive(Debug)]
pub struct Writer {
    snapshot: Snapshot,
    encoder: Encoder,
    walk: Walk,
}

/// How far a writer has come.
#[derive(Debug, Default)]
struct Walk {
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
        let encoder = match format {
            Format::Text => Encoder::Text(Text::new(Dialect::Prometheus)),
            Format::OpenMetrics { created } => Encoder::Text(Text::new(Dialect::OpenMetrics { created })),
            Format::Protobuf => Encoder::Protobuf(Protobuf::default()),
        };
        Self { snapshot, encoder, walk: Walk::default() }
    }

    /// Appends the next piece, until there are about [`PIECE`] bytes: whole rows, at least one. False when nothing is left
    /// to write.
    pub fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        match &mut self.encoder {
            Encoder::Text(text) => self.walk.write(&self.snapshot, text, out),
            Encoder::Protobuf(protobuf) => self.walk.write(&self.snapshot, protobuf, out),
        }
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

impl Walk {
    fn write(&mut self, snapshot: &Snapshot, encoder: &mut impl Encode, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        while let Some(metric) = snapshot.metric(self.metric) {
            let mut place = self.place.take().unwrap_or_else(|| {
                encoder.open(out, &metric);
                Place::default()
            });
            if !rows(encoder, out, &metric, &mut place) {
                self.place = Some(place);
                return;
            }
            self.metric += 1;
        }
        encoder.end(out);
        self.ended = true;
    }
}

/// Writes rows of a metric from `place` on; true when that was all of them.
fn rows(encoder: &mut impl Encode, out: &mut Vec<u8>, metric: &Metric<'_>, place: &mut Place) -> bool {
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
