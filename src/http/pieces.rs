//! Makes the body of a scrape: written and compressed piece by piece, into buffers that are used again.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::negotiate::Coding;
use crate::metrics::exposition::{PIECE, Writer};

/// With flate2's pure backend this level takes a quarter of the time of the next one, and what it makes is an eighth larger:
/// see docs/PERFORMANCE.md, "Compression".
const GZIP_LEVEL: u32 = 1;
/// Compresses as well as the levels above it, which take longer.
const ZSTD_LEVEL: i32 = 1;
/// How far back zstd looks, as a power of two: label sets repeat within a few rows, and every scrape takes this much memory
/// a few times over.
const ZSTD_WINDOW: u32 = 17;
/// A piece that is compressed is handed on at this size: it stands for a megabyte of text or so.
const COMPRESSED_PIECE: usize = PIECE / 2;

/// Buffers that are free. One is being filled, one is waiting, one is being sent.
type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

/// The pieces of one body.
pub(super) struct Pieces {
    writer: Writer,
    coder: Coder,
    pool: Pool,
}

enum Coder {
    Identity,
    /// With the text that is compressed next.
    Compressed(Box<dyn Encoder + Send>, Vec<u8>),
    Ended,
}

/// A compressor that writes to a buffer.
trait Encoder: io::Write {
    fn output(&mut self) -> &mut Vec<u8>;
    fn end(&mut self) -> io::Result<()>;
}

impl Encoder for GzEncoder<Vec<u8>> {
    fn output(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn end(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

impl Encoder for ZstdEncoder<'_, Vec<u8>> {
    fn output(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn end(&mut self) -> io::Result<()> {
        self.do_finish()
    }
}

impl Pieces {
    /// Nothing is written before the first piece is asked for.
    ///
    /// # Errors
    /// There is no memory for the compressor.
    pub(super) fn new(writer: Writer, coding: Coding) -> io::Result<Self> {
        let encoder: Box<dyn Encoder + Send> = match coding {
            Coding::Identity => return Ok(Self { writer, coder: Coder::Identity, pool: Pool::default() }),
            Coding::Gzip => Box::new(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW)?;
                Box::new(encoder)
            }
        };
        Ok(Self { writer, coder: Coder::Compressed(encoder, Vec::new()), pool: Pool::default() })
    }

    /// The next piece; `None` when the body is complete.
    ///
    /// # Errors
    /// Compressing failed; the body cannot be completed.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut bytes = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        bytes.clear();
        match &mut self.coder {
            Coder::Identity => {
                // Rows end behind the limit, and growing would copy all of it.
                bytes.reserve(PIECE + PIECE / 8);
                self.writer.write(&mut bytes);
            }
            Coder::Compressed(encoder, text) => {
                if compress(&mut self.writer, &mut **encoder, text)? {
                    std::mem::swap(encoder.output(), &mut bytes);
                } else {
                    bytes = std::mem::take(encoder.output());
                    self.coder = Coder::Ended;
                }
            }
            Coder::Ended => {}
        }
        let pool = Arc::clone(&self.pool);
        Ok((!bytes.is_empty()).then(|| Bytes::from_owner(Piece { bytes, pool })))
    }
}

/// Compresses rows until they make a piece; false if these were the last ones.
fn compress(writer: &mut Writer, encoder: &mut dyn Encoder, text: &mut Vec<u8>) -> io::Result<bool> {
    while encoder.output().len() < COMPRESSED_PIECE {
        text.clear();
        if !writer.write(text) {
            encoder.end()?;
            return Ok(false);
        }
        encoder.write_all(text)?;
    }
    Ok(true)
}

/// A piece whose buffer is free again when it was sent.
struct Piece {
    bytes: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.bytes));
    }
}
