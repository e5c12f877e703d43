//! What it takes to compress half a million series: two implementations of gzip, and zstd, level by level.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use midwatch::metrics::exposition::{Format, PIECE};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};
use zstd::stream::write::Encoder as ZstdEncoder;

use super::Outcome;
use super::contenders::{Contender as _, Midwatch};
use super::content::Content;
use super::report::{Table, mb, median, ms};
use super::usage::thread_time;

const SERIES: u64 = 500_000;
const ROUNDS: usize = 3;
const GZIP_LEVELS: std::ops::RangeInclusive<u8> = 1..=6;
const ZSTD_LEVELS: [i32; 5] = [-1, 1, 2, 3, 5];
/// As the server has it, and zstd's own choice.
const ZSTD_WINDOWS: [Option<u32>; 2] = [Some(17), None];

/// A way to compress: level, and window if it can be chosen.
#[derive(Clone, Copy)]
enum Way {
    Flate2(u8),
    ZlibRs(u8),
    Zstd(i32, Option<u32>),
}

/// Of a text in pieces as large as the server's: gauges, and histograms.
pub fn measure() -> Outcome<()> {
    for content in [Content::Whole, Content::Histograms] {
        let text = Midwatch::new(content, content.rows(SERIES), Format::Text).text()?;
        let gzip = GZIP_LEVELS.flat_map(|level| [Way::Flate2(level), Way::ZlibRs(level)]);
        let zstd = ZSTD_LEVELS.iter().flat_map(|level| ZSTD_WINDOWS.map(|window| Way::Zstd(*level, window)));
        let mut ways: Vec<_> = gzip.chain(zstd).map(|way| (way, Vec::new(), 0)).collect();
        for _ in 0..ROUNDS {
            for (way, times, bytes) in &mut ways {
                let started = thread_time();
                *bytes = way.compress(&text)?;
                times.push(thread_time() - started);
            }
        }
        print(content, text.len(), ways);
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "lengths of texts")]
fn print(content: Content, length: usize, ways: Vec<(Way, Vec<Duration>, usize)>) {
    let title = format!("Compression: {} of {}", mb(length as f64), content.metric());
    let mut table = Table::with_columns(&title, &["", "level", "CPU time, median", "smaller by"]);
    for (way, mut times, bytes) in ways {
        let (name, level) = match way {
            Way::Flate2(level) => ("gzip, flate2 with miniz_oxide", level.to_string()),
            Way::ZlibRs(level) => ("gzip, zlib-rs", level.to_string()),
            Way::Zstd(level, Some(window)) => ("zstd", format!("{level}, window {} KiB", (1 << window) / 1024)),
            Way::Zstd(level, None) => ("zstd", format!("{level}, its own window")),
        };
        let ratio = format!("{:.1}", length as f64 / bytes as f64);
        table.cells(&[name.to_owned(), level, ms(median(&mut times)), ratio]);
    }
    table.print();
}

impl Way {
    /// Compresses the text; says how long it is then.
    fn compress(self, text: &[u8]) -> Outcome<usize> {
        match self {
            Self::Flate2(level) => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level.into()));
                let mut bytes = 0;
                for piece in text.chunks(PIECE) {
                    encoder.write_all(piece)?;
                    bytes += encoder.get_ref().len();
                    encoder.get_mut().clear();
                }
                Ok(bytes + encoder.finish()?.len())
            }
            Self::Zstd(level, window) => {
                let mut encoder = ZstdEncoder::new(Vec::new(), level)?;
                if let Some(window) = window {
                    encoder.window_log(window)?;
                }
                let mut bytes = 0;
                for piece in text.chunks(PIECE) {
                    encoder.write_all(piece)?;
                    bytes += encoder.get_ref().len();
                    encoder.get_mut().clear();
                }
                Ok(bytes + encoder.finish()?.len())
            }
            Self::ZlibRs(level) => with_zlib_rs(level, text),
        }
    }
}

fn with_zlib_rs(level: u8, text: &[u8]) -> Outcome<usize> {
    // 16 more than the window's size means a gzip header.
    let config = DeflateConfig { level: level.into(), window_bits: 31, ..DeflateConfig::default() };
    let (mut encoder, mut buffer) = (Deflate::new_with_config(config), vec![0; PIECE]);
    let mut pieces = text.chunks(PIECE).peekable();
    while let Some(mut piece) = pieces.next() {
        let flush = if pieces.peek().is_some() { DeflateFlush::NoFlush } else { DeflateFlush::Finish };
        loop {
            let before = encoder.total_in();
            let status = encoder.compress(piece, &mut buffer, flush).map_err(zlib_rs::DeflateError::as_str)?;
            piece = &piece[usize::try_from(encoder.total_in() - before)?..];
            let more =
                if flush == DeflateFlush::Finish { status != zlib_rs::Status::StreamEnd } else { !piece.is_empty() };
            if !more {
                break;
            }
        }
    }
    Ok(usize::try_from(encoder.total_out())?)
}
