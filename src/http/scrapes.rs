//! How many scrapes there may be at once, and who has to make way for another one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

use super::Limits;
use super::socket::Gate;

/// The scrapes in flight, on all addresses together: each keeps the values of its moment.
#[derive(Clone, Debug)]
pub(super) struct Scrapes {
    in_flight: Arc<Mutex<Vec<Arc<Gate>>>>,
    turns: Arc<Semaphore>,
}

impl Default for Scrapes {
    /// Half of the cores may write scrapes, and one at least: the others are for the probes, however many scrapes there are.
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { in_flight: Arc::default(), turns: Arc::new(Semaphore::new((cores / 2).max(1))) }
    }
}

impl Scrapes {
    /// Who writes a piece of a scrape waits for one of these, and keeps it for that piece.
    pub(super) fn turns(&self) -> &Arc<Semaphore> {
        &self.turns
    }

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
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
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
