//! The books of all jobs, and the journal that they are kept in.
//!
//! There is one ledger in a process, and one process writes the journal. An event is on disk before the books show it, so
//! that what was shown is never lost, and nothing is counted twice.

mod journal;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use self::journal::Journal;
use super::books::{Books, Counted, Event};
use crate::probe::{Shared, State};
use crate::sync::lock;

/// So many events wait in memory for a disk that cannot be written.
const PENDING: usize = 10_000;

/// The books of all jobs.
#[derive(Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    books: BTreeMap<String, Books>,
    /// `None` until the first use: building a probe does no I/O.
    journal: Option<Journal>,
    /// What is in the books and not on disk yet.
    pending: VecDeque<(String, Event)>,
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
        let mut inner = lock(&self.inner);
        let Inner { books, journal, pending } = &mut *inner;
        let journal = journal.get_or_insert_with(|| Journal::open(state, books));
        let events = plan(books.entry(job.to_owned()).or_default());
        pending.extend(events.iter().map(|event| (job.to_owned(), event.clone())));
        let written = journal.append(pending.make_contiguous());
        match (&written, unwritten) {
            (Ok(()), _) => pending.clear(),
            (Err(error), Unwritten::Refuse) => {
                pending.truncate(pending.len() - events.len());
                return Err(error.clone());
            }
            (Err(_), Unwritten::Enter) => {
                let surplus = pending.len().saturating_sub(PENDING);
                pending.drain(..surplus);
            }
        }
        let of_job = books.entry(job.to_owned()).or_default();
        let counted = events.iter().filter_map(|event| of_job.apply(event)).collect();
        if written.is_ok() {
            journal.compact(books);
        }
        Ok((counted, written))
    }

    /// Shows the books of a job.
    pub fn read<T>(&self, state: &State, job: &str, show: impl FnOnce(&Books) -> T) -> T {
        let mut inner = lock(&self.inner);
        let Inner { books, journal, .. } = &mut *inner;
        journal.get_or_insert_with(|| Journal::open(state, books));
        show(books.entry(job.to_owned()).or_default())
    }
}
