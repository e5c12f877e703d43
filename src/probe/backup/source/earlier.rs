//! What a source held when it was read last, also before a restart.

use std::sync::Arc;

use crate::probe::backup::books::Books;
use crate::probe::backup::ledger::{Files, Ledger};
use crate::probe::{Shared, State};

/// The books of a job, for its source.
pub(super) struct Earlier {
    job: String,
    state: State,
    ledger: Arc<Ledger>,
}

impl Earlier {
    /// Those of a job.
    pub(super) fn of(job: &str, shared: &Shared) -> Self {
        Self { job: job.to_owned(), state: shared.state.clone(), ledger: Ledger::of(shared) }
    }

    /// How much room all backups took, in bytes, if that was known.
    pub(super) async fn bytes(&self) -> Option<u64> {
        let (job, state, ledger) = (self.job.clone(), self.state.clone(), Arc::clone(&self.ledger));
        let bytes = |books: &Books| books.held().and_then(|(_, held)| held.seen().stock?.bytes);
        self.ledger.beside(Files::Journal, move || ledger.read(&state, &job, bytes)).await.ok().flatten()
    }
}
