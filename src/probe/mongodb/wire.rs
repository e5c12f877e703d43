//! MongoDB's wire protocol as far as a prober needs it: one command, one reply (OP_MSG, MongoDB 3.6 and later).
//!
//! Source: "MongoDB Wire Protocol" in the manual and `message/OP_MSG.md` of the driver specifications. Never asked for:
//! compression, exhaust replies, checksums. Everything that arrives is checked before it is used, because a prober talks
//! to whatever answers on a port.

use std::io::ErrorKind;

use bson::raw::{RawBsonRef, RawDocument};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::probe::net::{clean, read_failure};
use crate::probe::{Failure, Reason};

/// The opcode of OP_MSG.
const OP_MSG: i32 = 2013;
/// Length, request id, response to, opcode: four i32.
const HEADER: usize = 16;
/// Where the body's document begins: after the header, the flags and the section's kind.
const BODY: usize = HEADER + 4 + 1;
/// A message with an empty document.
const MIN_MESSAGE: usize = BODY + 5;
/// The largest reply that is read: a document of the greatest size that the server makes (`BSONObjMaxInternalSize`,
/// 16 MiB + 16 KiB) and its framing. The protocol allows 48 MB, for batches that are never asked for here.
const MAX_REPLY: usize = 16 * 1024 * 1024 + 16 * 1024 + BODY + CHECKSUM;
/// How much memory is set aside ahead of what has arrived, so that a header that lies about the length costs nothing.
const READ_AHEAD: usize = 64 * 1024;
/// The length of the CRC-32C that may end a message. It is not verified: TCP and TLS have their own.
const CHECKSUM: usize = 4;
/// How deep documents may be nested; the server's own limit (`BSONDepth::kDefaultMaxAllowableDepth`).
const MAX_DEPTH: usize = 200;

/// Flag bits of OP_MSG. A receiver must refuse required bits (0 to 15) that it does not know.
mod flag {
    pub(super) const CHECKSUM_PRESENT: u32 = 1;
    pub(super) const REQUIRED: u32 = 0xffff;
}

/// A connection on which commands are answered one after the other.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    last_request: i32,
    /// The request on its way out, then the reply.
    buffer: Vec<u8>,
    /// A request is under way. Still set when the next one starts if that request was dropped: what arrives then could be
    /// the answer to it.
    busy: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Speaks over an established stream.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, last_request: 0, buffer: Vec::with_capacity(4096), busy: false }
    }

    /// Sends a command (with its `$db`) and returns the reply, which is a well-formed document with `ok: 1`.
    ///
    /// # Errors
    /// `closed`, `protocol` for anything but one valid reply to this request, and what [`ServerError::reason`] says for a
    /// reply of `ok: 0`.
    pub(super) async fn command(&mut self, command: &RawDocument) -> Result<&RawDocument, Failure> {
        let reply = self.round_trip(command).await?;
        match ServerError::of(reply) {
            None => Ok(reply),
            Some(error) => Err(error.failure(name_of(command))),
        }
    }

    /// The same for callers that want to see a reply of `ok: 0` as well.
    ///
    /// # Errors
    /// `closed` and `protocol`, as above.
    pub(super) async fn round_trip(&mut self, command: &RawDocument) -> Result<&RawDocument, Failure> {
        if self.busy {
            return Err(Failure::new(Reason::Internal, "the connection was used again after a cancelled request"));
        }
        self.busy = true;
        let name = name_of(command);
        self.last_request = self.last_request.wrapping_add(1);
        encode(&mut self.buffer, self.last_request, command);
        let sent = async {
            self.stream.write_all(&self.buffer).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| read_failure(&format!("send {name}"), &error))?;
        self.buffer.clear();
        self.receive(name).await?;
        let reply = decode(&self.buffer, self.last_request)?;
        self.busy = false;
        Ok(reply)
    }

    /// Nothing is asked for a while: gives back the memory that a large answer took.
    pub(super) fn rest(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(READ_AHEAD);
    }

    /// Reads one message into the buffer.
    async fn receive(&mut self, name: &str) -> Result<(), Failure> {
        let mut expected = HEADER;
        let mut sized = false;
        while self.buffer.len() < expected {
            self.buffer.reserve((expected - self.buffer.len()).min(READ_AHEAD));
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(self.hung_up(name)),
                // TLS that ends without a farewell.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(self.hung_up(name)),
                Err(error) => return Err(read_failure(&format!("answer to {name}"), &error)),
                Ok(_) => {}
            }
            if !sized && self.buffer.len() >= HEADER {
                expected = length(&self.buffer)?;
                sized = true;
            }
        }
        Ok(())
    }

    /// The peer closed the connection instead of answering.
    fn hung_up(&self, name: &str) -> Failure {
        let words = match self.buffer.len() {
            // Servers say no more than that when they miss something.
            0 if self.last_request == 1 => {
                format!(
                    "the peer closed the connection instead of answering {name}; does it require TLS, or a client certificate?"
                )
            }
            0 => format!("the peer closed the connection instead of answering {name}"),
            got => format!("the peer closed the connection within its answer to {name}, after {got} bytes"),
        };
        Failure::new(Reason::Closed, words)
    }
}

/// Writes a message into the buffer, over what it holds.
fn encode(buffer: &mut Vec<u8>, request: i32, command: &RawDocument) {
    let body = command.as_bytes();
    // Commands are a few hundred bytes of our own making.
    let length = i32::try_from(BODY + body.len()).unwrap_or(i32::MAX);
    buffer.clear();
    for number in [length, request, 0, OP_MSG, 0] {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
    buffer.push(0);
    buffer.extend_from_slice(body);
}

/// The length that a header announces, if it is possible.
fn length(message: &[u8]) -> Result<usize, Failure> {
    match usize::try_from(int(message, 0)) {
        Ok(length) if (MIN_MESSAGE..=MAX_REPLY).contains(&length) => Ok(length),
        _ => {
            let start = message.get(..HEADER.min(message.len())).unwrap_or_default().escape_ascii();
            Err(malformed(&format!("an impossible message length; is this MongoDB? It begins with \"{start}\"")))
        }
    }
}

/// Takes a message apart that must be the reply to `request`.
///
/// # Errors
/// `protocol`, naming the first thing that is wrong.
pub(super) fn decode(message: &[u8], request: i32) -> Result<&RawDocument, Failure> {
    if message.len() < MIN_MESSAGE {
        return Err(malformed("a message that is too short"));
    }
    if length(message)? != message.len() {
        return Err(malformed("bytes beyond the message"));
    }
    let (answered, opcode, flags) = (int(message, 8), int(message, 12), int(message, 16).cast_unsigned());
    if opcode != OP_MSG {
        return Err(malformed(&format!("opcode {opcode} (MongoDB before 3.6?)")));
    }
    if answered != request {
        return Err(malformed(&format!("an answer to request {answered} instead of {request}")));
    }
    if flags & flag::REQUIRED & !flag::CHECKSUM_PRESENT != 0 {
        return Err(malformed(&format!("the flags {flags:#x}")));
    }
    let end = message.len() - if flags & flag::CHECKSUM_PRESENT != 0 { CHECKSUM } else { 0 };
    let Some(body) = message.get(BODY..end).filter(|_| message[BODY - 1] == 0) else {
        return Err(malformed("a section that is not a single document"));
    };
    let document = RawDocument::from_bytes(body).map_err(|error| malformed(&format!("broken BSON: {error}")))?;
    check(document, MAX_DEPTH)?;
    Ok(document)
}

/// Looks at every element, so that nobody after this meets broken BSON or a nesting that exhausts the stack.
fn check(document: &RawDocument, depth: usize) -> Result<(), Failure> {
    document.iter().try_for_each(|element| check_value(element.map(|(_, value)| value), depth))
}

fn check_value(value: bson::error::Result<RawBsonRef<'_>>, depth: usize) -> Result<(), Failure> {
    let inner = depth.checked_sub(1).ok_or_else(|| malformed("a document that is nested too deeply"));
    match value.map_err(|error| malformed(&format!("broken BSON: {error}")))? {
        RawBsonRef::Document(document) => check(document, inner?),
        RawBsonRef::Array(array) => inner.and_then(|depth| array.into_iter().try_for_each(|v| check_value(v, depth))),
        RawBsonRef::JavaScriptCodeWithScope(code) => check(code.scope, inner?),
        _ => Ok(()),
    }
}

/// The i32 at an offset of a message that is long enough.
fn int(message: &[u8], at: usize) -> i32 {
    message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_le_bytes)
}

fn malformed(what: &str) -> Failure {
    Failure::new(Reason::Protocol, clean(&format!("the peer sent {what}")))
}

/// The name of a command: its first key.
fn name_of(command: &RawDocument) -> &str {
    command.iter().next().and_then(Result::ok).map_or("command", |(key, _)| key.as_str())
}

/// A number of whatever type the server chose: `ok` alone occurs as double, int and boolean.
pub(in crate::probe) fn number(value: RawBsonRef<'_>) -> Option<i64> {
    match value {
        RawBsonRef::Int32(number) => Some(number.into()),
        RawBsonRef::Int64(number) => Some(number),
        // Saturates; a NaN is 0.
        RawBsonRef::Double(number) => Some(number as i64),
        RawBsonRef::Boolean(truth) => Some(truth.into()),
        _ => None,
    }
}

/// A reply of `ok: 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerError<'a> {
    /// The number of the error, 0 if there is none.
    pub(super) code: i64,
    /// Its name.
    pub(super) name: &'a str,
    /// What happened, in the server's words.
    pub(super) message: &'a str,
}

impl<'a> ServerError<'a> {
    /// The error in a reply, if it is one. A reply without `ok` is one too.
    pub(super) fn of(reply: &'a RawDocument) -> Option<Self> {
        let field = |key| reply.get(key).ok().flatten();
        if field("ok").and_then(number) == Some(1) {
            return None;
        }
        Some(Self {
            code: field("code").and_then(number).unwrap_or(0),
            name: field("codeName").and_then(RawBsonRef::as_str).unwrap_or(""),
            message: field("errmsg").and_then(RawBsonRef::as_str).unwrap_or("no explanation"),
        })
    }

    /// The kind of failure. Numbers and names are those of `src/mongo/base/error_codes.yml` in the server's source.
    pub(super) fn reason(&self) -> Reason {
        match self.code {
            // UserNotFound, AuthenticationFailed, AuthenticationRestrictionUnmet, MechanismUnavailable,
            // ReauthenticationRequired; not Unauthorized (13), which is about a command of somebody who is logged in
            11 | 18 | 214 | 334 | 391 => Reason::Auth,
            // The category NotPrimaryError: PrimarySteppedDown, NotWritablePrimary, InterruptedDueToReplStateChange,
            // NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary; and LegacyNotPrimary
            189 | 10058 | 10107 | 11602 | 13435 | 13436 => Reason::NotPrimary,
            // The category SystemOverloadedError: AdmissionQueueOverflow, RateLimitExceeded,
            // PooledConnectionAcquisitionRejected, IngressRequestRateLimitExceeded
            433 | 449 | 450 | 462 => Reason::Overload,
            // ShutdownInProgress, InterruptedAtShutdown: the peer is about to hang up, and says so
            91 | 11600 => Reason::Closed,
            // MaxTimeMSExpired, ExceededTimeLimit
            50 | 262 => Reason::Timeout,
            _ => Reason::Rejected,
        }
    }

    /// The failure of the command of that name.
    pub(super) fn failure(&self, command: &str) -> Failure {
        let Self { code, name, message } = self;
        Failure::new(self.reason(), clean(&format!("{command} failed with {code} {name}: {message}")))
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
