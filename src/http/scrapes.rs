//! How many scrapes there may be at once, and who has to make way for another one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Limits;
use super::socket::Gate;

/// How often a scrape that waits looks for one that may have to make way.
const LOOK: Duration = Duration::from_millis(100);

/// The scrapes in flight, on all addresses together: each keeps the values of its moment.
#[derive(Clone, Debug)]
pub(super) struct Scrapes {
    in_flight: Arc<Mutex<InFlight>>,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// Each connection with a scrape, and when that began.
type InFlight = Vec<(Arc<Gate>, Instant)>;

impl Scrapes {
    /// Half of the cores may write scrapes, and one at least: the others are for the probes, however many scrapes there are.
    pub(super) fn new(limits: &Limits) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { in_flight: Arc::default(), places: semaphore(limits.scrapes), turns: semaphore((cores / 2).max(1)) }
    }

    /// Who writes a piece of a scrape waits for one of these, and keeps it for that piece.
    pub(super) fn turns(&self) -> &Arc<Semaphore> {
        &self.turns
    }

    /// Begins a scrape on a connection. If there are too many, it waits for its place behind those that came before, and
    /// others make way: the one whose client has not read for longest, or failing that the one that has taken far longer
    /// than a scrape should. `None` if that did not help in time.
    pub(super) async fn begin(&self, gate: &Arc<Gate>, limits: &Limits) -> Option<Scrape> {
        let end = Instant::now() + limits.scrape_wait;
        let place = async {
            let mut place = std::pin::pin!(Arc::clone(&self.places).acquire_owned());
            loop {
                let look = Instant::now() + LOOK;
                tokio::select! {
                    place = &mut place => return place.ok(),
                    () = sleep_until(look) => self.make_way(limits),
                }
            }
        };
        let place = timeout_at(end, place).await.ok().flatten()?;
        self.lock().push((Arc::clone(gate), Instant::now()));
        Some(Scrape { all: self.clone(), gate: Arc::clone(gate), _place: place })
    }

    /// Ends the scrape that has least of a right to its place, if there is one.
    fn make_way(&self, limits: &Limits) {
        let mut in_flight = self.lock();
        let all = || in_flight.iter().enumerate();
        let stuck = all().filter_map(|(nth, (gate, _))| Some((gate.stuck_since(limits)?, nth))).min();
        let slow =
            || all().map(|(nth, (_, began))| (*began, nth)).filter(|(began, _)| began.elapsed() > limits.scrape_time);
        if let Some((_, nth)) = stuck.or_else(|| slow().min()) {
            in_flight.swap_remove(nth).0.cut();
        }
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A scrape in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Scrape {
    all: Scrapes,
    gate: Arc<Gate>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.all.lock().retain(|(gate, _)| !Arc::ptr_eq(gate, &self.gate));
    }
}
