//! Frames and headers: a length of four bytes, then that many.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::api::{Api, Request};
use super::reader::{Malformed, Reader};
use crate::probe::{Failure, Reason};

/// The longest response that is read. Metadata of 100 000 partitions with three replicas has about 7 MB.
pub(super) const LONGEST: usize = 64 << 20;
/// No more memory than this is reserved for bytes that a length promises.
const STEP: usize = 256 << 10;
/// The shortest response: its correlation id.
const SHORTEST: usize = 4;
/// Where the correlation id is in a request with its length.
const CORRELATION: std::ops::Range<usize> = 8..12;
/// Who we are in the broker's logs and quotas.
const CLIENT_ID: &str = "midwatch";

/// Takes what arrives apart into frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Whether no byte of a further frame is here.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next frame without its length, if all of it is here.
    ///
    /// # Errors
    /// `protocol` if it promises to be longer than any response, or too short to be one.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let frame = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // What is left of the allocation would keep a large response in memory until the next one.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    fn length(&self) -> Result<Option<usize>, Failure> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        match usize::try_from(i32::from_be_bytes(*head)) {
            Ok(length) if (SHORTEST..=LONGEST).contains(&length) => Ok(Some(length)),
            _ => Err(Failure::new(Reason::Protocol, wrong_length(*head))),
        }
    }

    /// Reads once; 0 is the end. Nothing is lost when it is dropped before it is done.
    pub(super) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        let missing = self.length().ok().flatten().map_or(0, |length| (4 + length).saturating_sub(self.buffer.len()));
        self.buffer.reserve(missing.clamp(4 << 10, STEP));
        stream.read_buf(&mut self.buffer).await
    }
}

/// What a length is that cannot be one.
fn wrong_length(head: [u8; 4]) -> String {
    match &head {
        // A TLS record: a type, and the version 3.
        [0x14..=0x17, 3, ..] => "the peer answered with TLS; does this listener want TLS?".to_owned(),
        b"HTTP" => "the peer speaks HTTP, not Kafka".to_owned(),
        _ => format!(
            "the peer sent a frame of {} bytes; a response has from {SHORTEST} to {LONGEST}",
            i32::from_be_bytes(head)
        ),
    }
}

/// A request as it goes over the wire, but for its correlation id, see [`number`].
///
/// # Errors
/// `internal` if it cannot be encoded in that version.
pub(super) fn request<R: Request>(request: &R, version: i16) -> Result<BytesMut, Failure> {
    let mut out = BytesMut::with_capacity(256);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&R::API.key().to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(CLIENT_ID.len() as i16).to_be_bytes());
    out.extend_from_slice(CLIENT_ID.as_bytes());
    if R::API.is_flexible(version) {
        // No tagged fields.
        out.extend_from_slice(&[0]);
    }
    request.encode(version, &mut out)?;
    let length = i32::try_from(out.len() - 4)
        .map_err(|_| Failure::new(Reason::Internal, "a request is too long for the protocol"))?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

/// Writes the correlation id into a request.
pub(super) fn number(request: &mut BytesMut, correlation: i32) {
    request[CORRELATION].copy_from_slice(&correlation.to_be_bytes());
}

/// The correlation id of a frame that came out of [`Frames`].
pub(super) fn correlation(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|head| i32::from_be_bytes(*head))
}

/// Reads a response: its header, its body.
///
/// # Errors
/// `protocol` if the bytes are none.
pub(super) fn response<R: Request>(frame: &[u8], version: i16) -> Result<R::Response, Failure> {
    let read = || {
        let flexible = R::API.is_flexible(version);
        let mut reader = Reader::new(frame, flexible);
        reader.i32()?;
        // The client must be able to read this answer before it knows what the broker speaks (KIP-511).
        if R::API != Api::ApiVersions {
            reader.tags()?;
        }
        R::decode(&mut reader, version)
    };
    read().map_err(|malformed: Malformed| Failure::new(Reason::Protocol, format!("{}: {malformed}", R::API.label())))
}
