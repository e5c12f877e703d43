//! The books of all jobs, and the journal that they are kept in.
//!
//! There is one ledger in a process, and one process writes the journal. An event is on disk before the books show it, so
//! that what was shown is never lost, and nothing is counted twice.

mod file;
mod journal;
mod line;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::journal::{Journal, Shelf};
use super::books::{Books, Counted, Event};
use crate::failure::{Failure, Reason};
use crate::probe::{Shared, State};
use crate::sync::lock;

/// The books of all jobs.
pub struct Ledger {
    /// Held while files are written, so only by those who may wait. `None` until the first use: building a probe does no I/O.
    journal: Mutex<Option<Journal>>,
    /// Held for moments. Who changes the books has the journal.
    shelf: Mutex<Shelf>,
    /// Who has it works with the journal on a thread.
    turn: Arc<Semaphore>,
    /// Who has it works with the spool on a thread.
    spool: Arc<Semaphore>,
    since: Instant,
}

impl Default for Ledger {
    fn default() -> Self {
        let turn = || Arc::new(Semaphore::new(1));
        Self { journal: Mutex::default(), shelf: Mutex::default(), turn: turn(), spool: turn(), since: Instant::now() }
    }
}

/// Which files are worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// The journal.
    Journal,
    /// The spool.
    Spool,
}

/// What is to become of an event that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// It is entered all the same, and written later: its source would tell it again after a restart.
    Enter,
    /// It is not entered: whoever tells it is told so, and keeps it.
    Refuse,
}

/// Why an event is not on disk, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotWritten(pub String);

impl Ledger {
    /// That of this process.
    pub fn of(shared: &Shared) -> Arc<Self> {
        shared.state.common()
    }

    /// The turn to work with files on a thread. One has it at a time and the others wait without a thread: a disk that hangs takes
    /// one of them, and not all that the process has.
    pub async fn turn(&self, files: Files) -> Option<OwnedSemaphorePermit> {
        let turn = match files {
            Files::Journal => &self.turn,
            Files::Spool => &self.spool,
        };
        // Nobody closes it.
        Arc::clone(turn).acquire_owned().await.ok()
    }

    /// Works with files, beside the runtime. Nothing of it happens if the result is dropped before it was its turn.
    ///
    /// # Errors
    /// `internal` if the work panicked.
    pub async fn beside<T: Send + 'static>(
        &self,
        files: Files,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.turn(files).await;
        let work = move || {
            let _turn = turn;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Failure::new(Reason::Internal, error.to_string()))
    }

    /// Plans events with the books of a job as they are, writes them, and enters them. The runs that they count are returned, and
    /// whether all is on disk. Writes files, so not for an asynchronous thread.
    ///
    /// # Errors
    /// Nothing was entered, because it could not be written.
    pub fn commit(
        &self,
        state: &State,
        job: &str,
        unwritten: Unwritten,
        plan: impl FnOnce(&Books) -> Vec<Event>,
    ) -> Result<(Vec<Counted>, Result<(), NotWritten>), NotWritten> {
        let mut journal = lock(&self.journal);
        let journal = self.opened(&mut journal, state);
        let books = self.books(job);
        let events = plan(&books);
        drop(books);
        let written = journal.append(job, &events, unwritten);
        if unwritten == Unwritten::Refuse && !events.is_empty() {
            written.clone()?;
        }
        let counted = {
            let mut shelf = lock(&self.shelf);
            let books = Arc::make_mut(shelf.jobs.entry(job.to_owned()).or_default());
            events.iter().filter_map(|event| books.apply(event)).collect()
        };
        if journal.is_long() {
            let shelf = lock(&self.shelf).clone();
            journal.compact(&shelf);
        }
        Ok((counted, written))
    }

    /// Shows the books of a job. Reads files, if it comes before all else.
    pub fn read<T>(&self, state: &State, job: &str, show: impl FnOnce(&Books) -> T) -> T {
        if !lock(&self.shelf).used.contains(job) {
            let mut journal = lock(&self.journal);
            if journal.is_none() {
                self.opened(&mut journal, state);
            }
        }
        show(&self.books(job))
    }

    /// Why the journal cannot be read, although there is one.
    pub fn unread(&self) -> Option<String> {
        lock(&self.journal).as_ref().and_then(Journal::unread)
    }

    /// Whether somebody of this process has asked for that job.
    pub fn uses(&self, job: &str) -> bool {
        lock(&self.shelf).used.contains(job)
    }

    /// How long the process has had it.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// The journal, which has been read; what could not be written is tried again.
    fn opened<'j>(&self, journal: &'j mut Option<Journal>, state: &State) -> &'j mut Journal {
        let journal = journal.get_or_insert_default();
        if journal.is_due(state) {
            let mut shelf = lock(&self.shelf).clone();
            journal.catch_up(state, &mut shelf);
            *lock(&self.shelf) = shelf;
        }
        journal
    }

    /// The books of a job as they are.
    fn books(&self, job: &str) -> Arc<Books> {
        let mut shelf = lock(&self.shelf);
        if !shelf.used.contains(job) {
            shelf.used.insert(job.to_owned());
        }
        Arc::clone(shelf.jobs.entry(job.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests;
