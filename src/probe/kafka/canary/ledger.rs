//! The accounts: what became of every record that was sent. Arithmetic only, and no clock but the times it is given.
//!
//! What the classes mean:
//!
//! * *late*: the record came back, but more than the allowed time (`sla`) after it was sent.
//! * *failed*: the producer gave it up. It may have reached the log all the same, and then comes back, mostly late.
//! * *lost*: it was acknowledged, the consumer read past its place without seeing it, and the [grace] is over. A
//!   partition that cannot be read makes no record lost, however long that takes.
//! * *duplicated*: it is in the log at more than one offset. An offset that is read again is no duplicate.
//!
//! A log that was replaced or cut (a topic that was deleted and made anew, an unclean election) says nothing of the
//! records in flight: they are [forgotten](Ledger::forget) and count as nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// The most records of a partition that are remembered; beyond, the oldest is forgotten. It is reached only when a
/// partition cannot be read for long.
const MOST: usize = 10_000;
/// The shortest grace: longer than a broker takes to be fenced and another to lead in its place.
const SHORTEST_GRACE: Duration = Duration::from_secs(30);

/// How long after it was sent a record may be missing before it counts as lost, if the consumer has read past it.
pub(super) fn grace(sla: Duration) -> Duration {
    (sla * 10).max(SHORTEST_GRACE)
}

/// Names a record within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    /// The partition it was sent to.
    pub(super) partition: i32,
    /// Counts the records of the partition.
    pub(super) seq: u64,
}

/// A record that came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sight {
    /// For the first time.
    First {
        /// Who led the partition when it was sent.
        broker: i32,
        /// Since it was sent.
        latency: Duration,
        /// Whether that is more than was allowed.
        late: bool,
    },
    /// It was seen before, at another offset.
    Duplicate {
        /// Who led the partition when it was sent.
        broker: i32,
    },
    /// It is not in the accounts any more, or the consumer read the same offset twice.
    Nothing,
}

/// An acknowledged record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ack {
    /// As it should be.
    Good {
        /// Who led the partition when it was sent.
        broker: i32,
        /// Since it was sent.
        latency: Duration,
    },
    /// The offset is one that the consumer had read past before the record was sent, so this is another log than the one
    /// that it reads.
    OtherLog,
    /// It is not in the accounts any more.
    Nothing,
}

/// What became of records that nobody waits for any more: the broker, once for each record.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expired {
    pub(super) lost: Vec<i32>,
    /// Never answered, one way or the other.
    pub(super) failed: Vec<i32>,
}

/// The accounts of one session.
#[derive(Debug)]
pub(super) struct Ledger {
    sla: Duration,
    partitions: BTreeMap<i32, Account>,
}

#[derive(Debug, Default)]
struct Account {
    next: u64,
    /// The offset after the last one that the consumer read.
    position: i64,
    /// The latest record that was seen.
    newest_seen: Option<u64>,
    records: BTreeMap<u64, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    broker: i32,
    sent: Instant,
    /// The consumer's position at that time: the record's offset cannot be less.
    not_before: i64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Sent,
    /// The offset, if the broker named it: it does not where a retry turned out to be in the log already.
    Acked(Option<i64>),
    Failed,
    Seen(i64),
}

impl Account {
    /// Whether the consumer would have seen the record by now if it were in the log.
    fn is_past(&self, seq: u64, offset: Option<i64>) -> bool {
        offset.is_some_and(|offset| self.position > offset) || self.newest_seen.is_some_and(|seen| seen > seq)
    }
}

impl Ledger {
    /// Empty accounts; `sla` is how long a record may take to come back.
    pub(super) fn new(sla: Duration) -> Self {
        Self { sla, partitions: BTreeMap::new() }
    }

    /// Enters a record that is about to be sent.
    pub(super) fn send(&mut self, partition: i32, broker: i32, now: Instant) -> Id {
        let account = self.partitions.entry(partition).or_default();
        if account.records.len() >= MOST {
            account.records.pop_first();
        }
        let seq = account.next;
        account.next += 1;
        let record = Record { broker, sent: now, not_before: account.position, state: State::Sent };
        account.records.insert(seq, record);
        Id { partition, seq }
    }

    /// The broker acknowledged it.
    pub(super) fn acked(&mut self, id: Id, offset: Option<i64>, now: Instant) -> Ack {
        let Some(record) = self.record(id) else { return Ack::Nothing };
        if offset.is_some_and(|offset| offset < record.not_before) {
            return Ack::OtherLog;
        }
        if record.state == State::Sent {
            record.state = State::Acked(offset);
        }
        Ack::Good { broker: record.broker, latency: now.saturating_duration_since(record.sent) }
    }

    /// The producer gave it up; says who led the partition.
    pub(super) fn failed(&mut self, id: Id) -> Option<i32> {
        let record = self.record(id)?;
        if record.state == State::Sent {
            record.state = State::Failed;
        }
        Some(record.broker)
    }

    /// The consumer read an offset, whatever is there.
    pub(super) fn read(&mut self, partition: i32, offset: i64) {
        let account = self.partitions.entry(partition).or_default();
        account.position = account.position.max(offset + 1);
    }

    /// The consumer read a record of ours at an offset; comes after [`read`](Self::read).
    pub(super) fn seen(&mut self, id: Id, offset: i64, now: Instant) -> Sight {
        let sla = self.sla;
        let Some(record) = self.record(id) else { return Sight::Nothing };
        let broker = record.broker;
        if let State::Seen(before) = record.state {
            return if before == offset { Sight::Nothing } else { Sight::Duplicate { broker } };
        }
        record.state = State::Seen(offset);
        let latency = now.saturating_duration_since(record.sent);
        if let Some(account) = self.partitions.get_mut(&id.partition) {
            account.newest_seen = account.newest_seen.max(Some(id.seq));
        }
        Sight::First { broker, latency, late: latency > sla }
    }

    /// Where the consumer goes on reading.
    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition).map(|account| account.position)
    }

    /// The consumer begins to read the partition at that offset, and nothing is known any more of the records in flight.
    pub(super) fn forget(&mut self, partition: i32, position: i64) {
        let account = self.partitions.entry(partition).or_default();
        account.records.clear();
        account.newest_seen = None;
        account.position = position;
    }

    /// Closes the accounts of records that have had their grace.
    pub(super) fn expire(&mut self, now: Instant) -> Expired {
        let grace = grace(self.sla);
        let mut expired = Expired::default();
        for account in self.partitions.values_mut() {
            let mut done = Vec::new();
            for (seq, record) in &account.records {
                if now.saturating_duration_since(record.sent) <= grace {
                    break;
                }
                match record.state {
                    State::Acked(offset) if !account.is_past(*seq, offset) => continue,
                    State::Acked(_) => expired.lost.push(record.broker),
                    State::Sent => expired.failed.push(record.broker),
                    State::Failed | State::Seen(_) => {}
                }
                done.push(*seq);
            }
            for seq in done {
                account.records.remove(&seq);
            }
        }
        expired
    }

    /// How many records are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.partitions.values().map(|account| account.records.len()).sum()
    }

    fn record(&mut self, id: Id) -> Option<&mut Record> {
        self.partitions.get_mut(&id.partition)?.records.get_mut(&id.seq)
    }
}
