//! Who enters what is told into the books of a job.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

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
    pub(super) fn enter(&self, told: &Told) -> Result<(), NotWritten> {
        let plan = |books: &Books| {
            let now = now();
            let set_back = books.ahead(now).filter(|_| lock(&self.memory).clocks.trusts(now, Instant::now()));
            let mut events = books.after(set_back, |books| told.events(books, now));
            for event in &mut events {
                // What the run is known to be at stays: only its first message may have named it.
                if let Event::Run(run) = event
                    && run.node.is_none()
                {
                    run.node.clone_from(&self.config.node);
                }
            }
            events
        };
        let (counted, _) = self.ledger.commit(&self.state, self.job(), Unwritten::Refuse, plan)?;
        lock(&self.memory).counted.extend(counted);
        Ok(())
    }
}
