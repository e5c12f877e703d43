//! Who enters what is told into the books of a job.

use std::sync::{Arc, Mutex};

use super::books::{Books, Event};
use super::config::Config;
use super::ledger::{Ledger, NotWritten, Unwritten};
use super::told::Told;
use super::{Memory, now};
use crate::probe::State;
use crate::sync::lock;

/// Enters messages about one job.
#[derive(Clone)]
pub(super) struct Clerk {
    pub(super) config: Arc<Config>,
    pub(super) state: State,
    pub(super) ledger: Arc<Ledger>,
    pub(super) memory: Arc<Mutex<Memory>>,
}

impl Clerk {
    /// The job's name.
    pub(super) fn job(&self) -> &str {
        &self.config.job
    }

    /// Enters a message. When this returns without an error, it is on disk, if there is a state directory. Writes files, so not
    /// for an asynchronous thread.
    ///
    /// # Errors
    /// Nothing was entered, because it could not be written: whoever told it is to keep it.
    pub(super) fn enter(&self, mut told: Told) -> Result<(), NotWritten> {
        told.node = told.node.or_else(|| self.config.node.clone());
        // What is told again is not written again.
        let is_news = |books: &Books, event: &Event| !matches!(event, Event::Run(run) if !books.is_news(run));
        let plan = |books: &Books| {
            let mut events = told.events(books, now());
            events.retain(|event| is_news(books, event));
            events
        };
        let (counted, _) = self.ledger.commit(&self.state, self.job(), Unwritten::Refuse, plan)?;
        lock(&self.memory).counted.extend(counted);
        Ok(())
    }
}
