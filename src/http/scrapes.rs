//! How many scrapes there may be at once, and who has to make way for another one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Limits;
use super::socket::Gate;

/// The scrapes in flight, on all addresses together: each keeps the values of its moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrapes(Arc<Mutex<Vec<Arc<Gate>>>>);

impl Scrapes {
    /// Begins a scrape on a connection. If there are too many, the one whose client has not read for longest is cut off;
    /// `None` if all clients read theirs.
    pub(super) fn begin(&self, gate: &Arc<Gate>, limits: &Limits) -> Option<Scrape> {
        let mut in_flight = self.lock();
        if in_flight.len() >= limits.scrapes {
            let stuck = in_flight.iter().enumerate().filter_map(|(nth, gate)| Some((gate.stuck_since(limits)?, nth)));
            let (_, longest) = stuck.min()?;
            in_flight.swap_remove(longest).cut();
        }
        in_flight.push(Arc::clone(gate));
        Some(Scrape { all: self.clone(), gate: Arc::clone(gate) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Gate>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A scrape in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Scrape {
    all: Scrapes,
    gate: Arc<Gate>,
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.all.lock().retain(|gate| !Arc::ptr_eq(gate, &self.gate));
    }
}
