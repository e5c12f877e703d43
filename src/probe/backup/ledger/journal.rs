//! The journal: what happened to all jobs, a line each, and what is done while it cannot be written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::file::{self, Version, Writer};
use super::line::{self, Found};
use super::{NotWritten, Unwritten};
use crate::probe::State;
use crate::probe::backup::books::{Books, Event};
use crate::probe::backup::now;

/// So many bytes wait in memory for a disk that cannot be written. Beyond that all books are written in their place.
const PENDING: usize = 4 << 20;
/// A disk that has not as much room, in bytes, is full.
const ROOM: usize = 4096;
/// What could not be written is tried again after that.
const RETRY: Duration = Duration::from_secs(1);
/// The journal is written anew when it has so many bytes, and twice as many as it had when it was written anew last.
const LONG: u64 = 1 << 20;
/// No more bytes are read: nobody who counts them writes more.
const MOST_READ: u64 = Writer::LARGEST + (1 << 20);
/// The books of a job that nobody has configured or told anything of for so many seconds are thrown away.
const FORGOTTEN: f64 = 400.0 * 86_400.0;

/// The books of all jobs.
#[derive(Clone, Default)]
pub(super) struct Shelf {
    pub(super) jobs: BTreeMap<String, Arc<Books>>,
    /// The jobs that somebody of this process asked for.
    pub(super) used: BTreeSet<String>,
}

/// Where events are written.
#[derive(Default)]
pub(super) struct Journal {
    /// Whether it has been read.
    is_open: bool,
    /// Where it is to be; `None` if nothing is kept: there is no state directory, or it is another process' to write.
    dir: Option<Arc<Path>>,
    writer: Option<Writer>,
    /// What was read into the books, to see whether somebody else wrote since.
    read: Option<Version>,
    /// Lines that are in the books and not on disk.
    pending: Vec<u8>,
    /// How many bytes could not be written last.
    refused: usize,
    /// Whether there were too many of those, so that all books are to be written.
    is_behind: bool,
    /// Whether it holds lines of a newer version, which are not to be thrown away.
    is_foreign: bool,
    /// Whether it holds lines that were damaged, which a person may want to see.
    is_damaged: bool,
    /// How long it was when it was written anew last.
    base: u64,
    /// Whether the state directory is another one than before.
    is_moved: bool,
    /// Why it could not be read.
    unread: Option<String>,
    /// Why nothing can be written, and when that is tried again.
    trouble: Option<(NotWritten, Instant)>,
}

impl Journal {
    /// Whether [`catch_up`](Self::catch_up) has anything to do.
    pub(super) fn is_due(&self, state: &State) -> bool {
        let is_again = self.trouble.as_ref().is_some_and(|(_, again)| *again <= Instant::now());
        !self.is_open || is_again || state.own_dir() != self.dir
    }

    /// At first reads what was written before into the books. Tries again what failed: then what waits is written.
    pub(super) fn catch_up(&mut self, state: &State, shelf: &mut Shelf) {
        let dir = state.own_dir();
        if dir != self.dir {
            // If a reload moved the state directory, the books move along.
            *self = Self { dir, is_behind: self.is_open, is_moved: self.is_open, ..Self::default() };
        }
        self.is_open = true;
        match (&self.dir, state.dir()) {
            (Some(_), _) => {
                let result = self.recover(shelf);
                self.note(result);
            }
            (None, Some(dir)) => {
                self.read(&dir, shelf);
            }
            (None, None) => {}
        }
    }

    /// Why it could not be read, if that is so.
    pub(super) fn unread(&self) -> Option<String> {
        self.unread.clone()
    }

    /// Why nothing can be written, if that is so.
    pub(super) fn trouble(&self) -> Result<(), NotWritten> {
        self.trouble.as_ref().map_or(Ok(()), |(error, _)| Err(error.clone()))
    }

    fn recover(&mut self, shelf: &mut Shelf) -> io::Result<()> {
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        if self.writer.is_none() {
            let opened = Writer::open(&dir);
            let found = match &opened {
                Ok(_) => (self.read.is_none() || self.read != file::version(&dir)).then(|| self.read(&dir, shelf)),
                // Somebody else writes, or nobody can: what is there is read once.
                Err(_) if self.read.is_none() => {
                    self.read(&dir, shelf);
                    None
                }
                Err(_) => None,
            };
            self.writer = Some(opened?);
            if let Some(found) = found {
                self.repair(&found)?;
            }
        }
        if self.is_behind || self.is_damaged && !self.is_foreign {
            self.write_all(shelf)?;
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if self.pending.is_empty() {
            // What was refused does not wait here, and would be refused again.
            return writer.try_room(self.refused.max(ROOM));
        }
        writer.append(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Reads the file into the books, which keep what only waits to be written.
    fn read(&mut self, dir: &Path, shelf: &mut Shelf) -> Found {
        let mut jobs = BTreeMap::new();
        let read = (|| {
            // Whatever it is, opening it does not wait.
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file::path(dir))?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            self.read = file::version(dir);
            let is_too_large = file.metadata()?.len() > MOST_READ;
            let mut found = line::replay(BufReader::with_capacity(1 << 16, file), MOST_READ, &mut jobs)?;
            if is_too_large {
                (found.torn, found.damaged) = (0, found.damaged + 1);
            }
            Ok(found)
        })();
        self.unread = None;
        let found = read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, "cannot read the journal of backups: runs that were counted may be counted again");
                self.unread = Some(format!("{}: {error}", file::path(dir).display()));
            }
            Found::default()
        });
        let listed: BTreeSet<String> = jobs.keys().cloned().collect();
        self.is_behind |= self.read.is_some() && shelf.jobs.keys().any(|job| !listed.contains(job));
        // Cannot fail, being in memory.
        let _ = line::replay(&self.pending[..], u64::MAX, &mut jobs);
        // What the file does not have at all is known here only.
        jobs.retain(|job, _| listed.contains(job) || !shelf.jobs.contains_key(job));
        if self.is_moved {
            // What lies where the state directory is now may be of long ago.
            jobs.retain(|job, books| shelf.jobs.get(job).is_none_or(|known| known.touched() < books.touched()));
            self.is_moved = false;
        }
        shelf.jobs.extend(jobs.into_iter().map(|(job, books)| (job, Arc::new(books))));
        (self.is_foreign, self.is_damaged) = (found.foreign > 0, found.damaged > 0);
        found
    }

    /// Cuts off what a crash left half written, and says what else is wrong.
    fn repair(&mut self, found: &Found) -> io::Result<()> {
        let Found { whole, torn, damaged, foreign } = *found;
        if foreign > 0 {
            tracing::warn!(
                lines = foreign,
                "the journal of backups was written by a newer version, too: what only that one understands is kept, and not believed"
            );
        }
        if damaged > 0 {
            tracing::warn!(
                lines = damaged,
                "lines of the journal of backups were damaged and are left out; the damaged file is kept beside it"
            );
        }
        if torn > 0 {
            tracing::warn!(bytes = torn, "the journal of backups ended within a line, which is cut off");
            return self.writer.as_mut().map_or(Ok(()), |writer| writer.cut(whole));
        }
        Ok(())
    }

    /// Writes events so that they are there after a crash. Those that cannot be are kept, or refused.
    pub(super) fn append(&mut self, job: &str, events: &[Event], unwritten: Unwritten) -> Result<(), NotWritten> {
        if self.dir.is_none() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for event in events {
            let line = line::of_event(job, event);
            lines.append(&mut line.map_err(|error| NotWritten(error.to_string()))?);
        }
        if self.trouble.is_none() && !lines.is_empty() {
            let result = match &mut self.writer {
                Some(writer) if writer.is_there() => writer.append(&lines),
                // All is written where the file belongs as soon as it is tried again.
                _ => {
                    (self.writer, self.read, self.is_behind) = (None, None, true);
                    Err(io::Error::other("the journal has been deleted"))
                }
            };
            self.note(result);
        }
        let result = self.trouble();
        if result.is_err() && !lines.is_empty() {
            self.refused = lines.len();
        }
        if result.is_err() && unwritten == Unwritten::Enter {
            self.pending.append(&mut lines);
            if self.pending.len() > PENDING {
                self.pending = Vec::new();
                self.is_behind = true;
            }
        }
        result
    }

    /// Whether it has become so long that it is worth to be written anew.
    pub(super) fn is_long(&self) -> bool {
        let length = self.writer.as_ref().map_or(0, Writer::length);
        self.trouble.is_none() && !self.is_foreign && length >= LONG + 2 * self.base
    }

    /// Writes it anew.
    pub(super) fn compact(&mut self, shelf: &Shelf) {
        let length = self.writer.as_ref().map_or(0, Writer::length);
        // If it fails, it is tried again when as much has been added.
        self.base = length;
        if let Err(error) = self.write_all(shelf) {
            tracing::warn!(%error, "the journal of backups has become long and cannot be written anew");
        }
    }

    /// Writes all books in place of the journal; after what it holds, if that must not be thrown away.
    fn write_all(&mut self, shelf: &Shelf) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        // Neither a clock that is ahead now nor one that was when something happened to a job makes all others forgotten.
        let latest = shelf.jobs.values().map(|books| books.touched()).fold(0.0, f64::max).min(now());
        let is_kept = |job: &String, books: &Books| shelf.used.contains(job) || latest - books.touched() < FORGOTTEN;
        let kept = shelf.jobs.iter().filter(|(job, books)| is_kept(job, books));
        let mut lines = kept.map(|(job, books)| line::of_books(job, books));
        if self.is_foreign {
            lines.try_for_each(|line| writer.append(&line?))?;
        } else {
            writer.replace(lines, self.is_damaged)?;
        }
        (self.is_behind, self.is_damaged, self.base) = (false, false, writer.length());
        // The books have all of it.
        self.pending.clear();
        Ok(())
    }

    /// Remembers whether it can be written, and tells the operator when that changes.
    fn note(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) if self.trouble.take().is_some() => {
                tracing::info!("the journal of backups can be written again, and nothing is missing in it");
            }
            Ok(()) => {}
            Err(error) => {
                if self.trouble.is_none() {
                    tracing::warn!(
                        %error,
                        "the journal of backups cannot be written: what happens now is kept in memory until it can, and messages from \
                         outside are refused"
                    );
                }
                self.trouble = Some((NotWritten(error.to_string()), Instant::now() + RETRY));
            }
        }
    }
}
