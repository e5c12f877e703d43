//! The accounts of a session as its threads share them: the ledger, who waits for a record, and where it is recorded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::ledger::{Ack, Id, Ledger, Sight};
use super::metrics::{CONSUMED, DUPLICATED, END_TO_END_LATENCY, FAILED, LATE, LOST, PRODUCE_LATENCY, PRODUCED};
use super::view::State;
use crate::metrics::{Live, Recorder};
use crate::probe::Failure;

/// Where a probe's sessions record: what [`Probe::serve`](crate::probe::Probe::serve) was given last. Without, as in
/// `midwatch probe`, nothing is.
pub(super) type LiveSlot = Arc<Mutex<Option<Live>>>;

/// What the threads of a session share.
pub(super) struct Books {
    accounts: Mutex<Accounts>,
    live: LiveSlot,
    /// What runs see of the session.
    pub(super) state: watch::Sender<State>,
    closed: AtomicBool,
}

struct Accounts {
    ledger: Ledger,
    waiting: HashMap<Id, Waiter>,
}

#[derive(Default)]
struct Waiter {
    ack: Option<oneshot::Sender<Result<Duration, Failure>>>,
    sight: Option<oneshot::Sender<Duration>>,
}

/// A record that was sent, for the run that waits for it.
pub(super) struct Sent {
    /// Which one it is.
    pub(super) id: Id,
    /// When it was sent.
    pub(super) at: Instant,
    /// How long the acknowledgement took, or why there is none.
    pub(super) ack: oneshot::Receiver<Result<Duration, Failure>>,
    /// How long it took to come back.
    pub(super) sight: oneshot::Receiver<Duration>,
    books: Arc<Books>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.books.lock().waiting.remove(&self.id);
    }
}

impl Books {
    /// New accounts, with `sla` for a record to come back.
    pub(super) fn new(sla: Duration, live: &LiveSlot) -> Self {
        let accounts = Accounts { ledger: Ledger::new(sla), waiting: HashMap::new() };
        Self {
            accounts: Mutex::new(accounts),
            live: Arc::clone(live),
            state: watch::Sender::new(State::default()),
            closed: AtomicBool::new(false),
        }
    }

    /// From now on nothing is entered or recorded any more: what the clients say as they end is about ending.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the session ends.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Enters a record that is about to be sent.
    pub(super) fn send(self: &Arc<Self>, partition: i32, broker: i32) -> Sent {
        let (ack_to, ack) = oneshot::channel();
        let (sight_to, sight) = oneshot::channel();
        let mut accounts = self.lock();
        let at = Instant::now();
        let id = accounts.ledger.send(partition, broker, at);
        accounts.waiting.insert(id, Waiter { ack: Some(ack_to), sight: Some(sight_to) });
        drop(accounts);
        self.record(|rec| rec.add(&PRODUCED, [&broker.to_string()], 1.0));
        Sent { id, at, ack, sight, books: Arc::clone(self) }
    }

    /// The record was acknowledged. Here and below whoever waits is told last, so that a run that has ended has been recorded.
    pub(super) fn acked(&self, id: Id, offset: Option<i64>) {
        let now = Instant::now();
        let mut accounts = self.lock();
        let ack = accounts.ledger.acked(id, offset, now);
        let waiter = accounts.waiting.get_mut(&id).and_then(|waiter| waiter.ack.take());
        drop(accounts);
        match ack {
            Ack::Good { broker, latency } => {
                self.record(|rec| rec.observe(&PRODUCE_LATENCY, [&broker.to_string()], latency.as_secs_f64()));
                tell(waiter, Ok(latency));
            }
            Ack::OtherLog => self.state.send_modify(|state| state.misread = true),
            Ack::Nothing => {}
        }
    }

    /// The producer gave the record up.
    pub(super) fn failed(&self, id: Id, why: &Failure) {
        let mut accounts = self.lock();
        let broker = accounts.ledger.failed(id);
        let waiter = accounts.waiting.get_mut(&id).and_then(|waiter| waiter.ack.take());
        drop(accounts);
        if let Some(broker) = broker {
            self.record(|rec| rec.add(&FAILED, [&broker.to_string()], 1.0));
        }
        tell(waiter, Err(why.clone()));
    }

    /// The consumer read something at an offset; `seq` is the record's number if it is one of ours.
    pub(super) fn read(&self, partition: i32, offset: i64, seq: Option<u64>) {
        let now = Instant::now();
        let mut accounts = self.lock();
        accounts.ledger.read(partition, offset);
        let Some(id) = seq.map(|seq| Id { partition, seq }) else { return };
        let sight = accounts.ledger.seen(id, offset, now);
        let waiter = accounts.waiting.get_mut(&id).and_then(|waiter| waiter.sight.take());
        drop(accounts);
        match sight {
            Sight::First { broker, latency, late } => {
                let broker = broker.to_string();
                self.record(|rec| {
                    rec.add(&CONSUMED, [&broker], 1.0);
                    rec.add(&LATE, [&broker], f64::from(u8::from(late)));
                    rec.observe(&END_TO_END_LATENCY, [&broker], latency.as_secs_f64());
                });
                tell(waiter, latency);
            }
            Sight::Duplicate { broker } => self.record(|rec| rec.add(&DUPLICATED, [&broker.to_string()], 1.0)),
            Sight::Nothing => {}
        }
    }

    /// The consumer begins to read the partition at that offset.
    pub(super) fn begin(&self, partition: i32, position: i64) {
        self.lock().ledger.forget(partition, position);
    }

    /// Where the consumer goes on reading.
    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        self.lock().ledger.position(partition)
    }

    /// Closes the accounts of records that have had their grace.
    pub(super) fn expire(&self) {
        let expired = self.lock().ledger.expire(Instant::now());
        if expired.lost.is_empty() && expired.failed.is_empty() {
            return;
        }
        self.record(|rec| {
            for (counter, brokers) in [(&LOST, &expired.lost), (&FAILED, &expired.failed)] {
                brokers.iter().for_each(|broker| rec.add(counter, [&broker.to_string()], 1.0));
            }
        });
    }

    /// A client has something to complain about: what a run says that cannot begin.
    pub(super) fn trouble(&self, failure: Failure) {
        tracing::debug!(reason = failure.reason.label(), detail = %failure.detail, "librdkafka");
        if !self.is_closed() {
            self.state.send_modify(|state| state.complain(failure));
        }
    }

    fn record(&self, record: impl FnOnce(&Recorder)) {
        if self.is_closed() {
            return;
        }
        if let Some(live) = &*self.live.lock().unwrap_or_else(PoisonError::into_inner) {
            live.record(record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whoever waits, if anybody still does: a run that was dropped meanwhile hears nothing.
fn tell<T>(waiter: Option<oneshot::Sender<T>>, what: T) {
    if let Some(waiter) = waiter {
        let _ = waiter.send(what);
    }
}
