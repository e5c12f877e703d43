//! A line of the journal: `<version> <checksum> <what happened>`, and how all of them are read.
//!
//! The checksum is the CRC-32 of the version and of what happened, in hexadecimal digits. A line whose checksum is right was written on
//! purpose: if it cannot be understood, a newer version wrote it, and it is not to be thrown away.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use crate::probe::backup::books::{Books, Event};

/// The version of lines that are written.
const VERSION: &str = "1";
/// The longest line that is read, in bytes: more than the books of a job can take, or all that a source held as it was read first.
const LONGEST: u64 = 16 << 20;
/// No more jobs than these are read.
const MOST_JOBS: usize = 4096;

/// What a line says.
#[allow(clippy::large_enum_variant, reason = "almost all of them are events, and none is kept")]
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry<'l> {
    /// Something happened to a job.
    Event(Cow<'l, str>, Cow<'l, Event>),
    /// The books of a job were so, whatever was said before.
    Books(Cow<'l, str>, Box<Cow<'l, Books>>),
}

/// The line that says that something happened to a job.
///
/// # Errors
/// A number that JSON does not have.
pub(super) fn of_event(job: &str, event: &Event) -> io::Result<Vec<u8>> {
    line(&Entry::Event(job.into(), Cow::Borrowed(event)))
}

/// The line that says what the books of a job are.
///
/// # Errors
/// A number that JSON does not have.
pub(super) fn of_books(job: &str, books: &Books) -> io::Result<Vec<u8>> {
    line(&Entry::Books(job.into(), Box::new(Cow::Borrowed(books))))
}

fn line(entry: &Entry<'_>) -> io::Result<Vec<u8>> {
    let text = serde_json::to_string(entry)?;
    let line = format!("{VERSION} {:08x} {text}\n", checksum(VERSION.as_bytes(), text.as_bytes()));
    let fits = line.len() as u64 <= LONGEST;
    if fits { Ok(line.into_bytes()) } else { Err(io::Error::other("a line of the journal would be too long")) }
}

fn checksum(version: &[u8], text: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(version);
    hasher.update(text);
    hasher.finalize()
}

/// What a journal holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// The bytes up to the end of the last whole line.
    pub(super) whole: u64,
    /// The bytes after that: a line whose writing was cut short.
    pub(super) torn: u64,
    /// Lines that nobody wrote like that.
    pub(super) damaged: u64,
    /// Lines that were meant, but not for this version.
    pub(super) foreign: u64,
}

/// Enters all lines into the books, and says what else there is. Reads no more than `most` bytes, and keeps one line in memory.
///
/// # Errors
/// It cannot be read; what was read until then has been entered.
pub(super) fn replay(journal: impl BufRead, most: u64, books: &mut BTreeMap<String, Books>) -> io::Result<Found> {
    let mut journal = journal.take(most);
    let mut found = Found::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut length = journal.by_ref().take(LONGEST).read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            return Ok(found);
        }
        let is_too_long = length == LONGEST && line.last() != Some(&b'\n');
        let mut is_whole = line.last() == Some(&b'\n');
        if is_too_long {
            let (rest, ends) = skip_line(&mut journal)?;
            length += rest;
            is_whole = ends;
        }
        if !is_whole {
            found.torn = length;
            return Ok(found);
        }
        found.whole += length;
        match enter(line.strip_suffix(b"\n").unwrap_or_default(), books) {
            Line::Entered => {}
            Line::Damaged => found.damaged += 1,
            Line::Foreign => found.foreign += 1,
        }
    }
}

/// Skips the rest of a line: how many bytes, and whether it ends.
fn skip_line(journal: &mut impl BufRead) -> io::Result<(u64, bool)> {
    let mut skipped = 0;
    loop {
        let piece = journal.fill_buf()?;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(piece.len(), |at| at + 1);
        let is_over = piece.is_empty();
        journal.consume(length);
        skipped += length as u64;
        if end.is_some() || is_over {
            return Ok((skipped, end.is_some()));
        }
    }
}

enum Line {
    Entered,
    Damaged,
    Foreign,
}

fn enter(line: &[u8], books: &mut BTreeMap<String, Books>) -> Line {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(version), Some(sum), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        return Line::Damaged;
    };
    if format!("{:08x}", checksum(version, text)).as_bytes() != sum {
        return Line::Damaged;
    }
    let Some(entry) = serde_json::from_slice(text).ok().filter(|_| version == VERSION.as_bytes()) else {
        return Line::Foreign;
    };
    let (Entry::Event(job, _) | Entry::Books(job, _)) = &entry;
    if books.len() >= MOST_JOBS && !books.contains_key(&**job) {
        return Line::Foreign;
    }
    match entry {
        Entry::Event(job, event) => {
            books.entry(job.into_owned()).or_default().apply(&event);
        }
        Entry::Books(job, known) => {
            books.insert(job.into_owned(), known.into_owned());
        }
    }
    Line::Entered
}
