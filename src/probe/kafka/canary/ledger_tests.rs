use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::ledger::{Ack, Expired, Id, Ledger, Sight, grace};

const SLA: Duration = Duration::from_secs(2);
const MS: Duration = Duration::from_millis(1);
const BROKER: i32 = 7;

fn after_grace(now: Instant) -> Instant {
    now + grace(SLA) + MS
}

/// What the consumer does with a record of ours.
fn read(ledger: &mut Ledger, id: Id, offset: i64, now: Instant) -> Sight {
    ledger.read(id.partition, offset);
    ledger.seen(id, offset, now)
}

#[test]
fn a_good_record_is_acknowledged_and_seen() {
    let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
    let id = ledger.send(0, BROKER, t);
    assert_eq!(ledger.acked(id, Some(5), t + 3 * MS), Ack::Good { broker: BROKER, latency: 3 * MS });
    let first = Sight::First { broker: BROKER, latency: 4 * MS, late: false };
    assert_eq!(read(&mut ledger, id, 5, t + 4 * MS), first);
    assert_eq!(ledger.expire(after_grace(t)), Expired::default());
    assert_eq!(ledger.len(), 0);
}

#[test]
fn the_consumer_may_be_faster_than_the_acknowledgement() {
    let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
    let id = ledger.send(0, BROKER, t);
    assert!(matches!(read(&mut ledger, id, 0, t + MS), Sight::First { .. }));
    assert_eq!(ledger.acked(id, Some(0), t + 2 * MS), Ack::Good { broker: BROKER, latency: 2 * MS });
    assert_eq!(ledger.expire(after_grace(t)), Expired::default());
}

#[test]
fn what_comes_after_the_time_allowed_is_late_and_not_lost() {
    let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
    let (good, given_up) = (ledger.send(0, BROKER, t), ledger.send(0, BROKER, t));
    ledger.acked(good, Some(0), t + MS);
    assert_eq!(ledger.failed(given_up), Some(BROKER));
    let late = Sight::First { broker: BROKER, latency: 5 * SLA, late: true };
    assert_eq!(read(&mut ledger, good, 0, t + 5 * SLA), late);
    assert_eq!(read(&mut ledger, given_up, 1, t + 5 * SLA), late);
    let in_time = ledger.send(0, BROKER, t);
    assert!(matches!(read(&mut ledger, in_time, 2, t + SLA), Sight::First { late: false, .. }));
    assert_eq!(ledger.expire(after_grace(t)), Expired::default());
}

#[test]
fn lost_is_what_was_acknowledged_and_read_past() {
    let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
    let lost = ledger.send(0, BROKER, t);
    ledger.acked(lost, Some(10), t + MS);
    assert_eq!(ledger.expire(after_grace(t)), Expired::default(), "nobody has looked there");
    ledger.read(0, 9);
    assert_eq!(ledger.expire(after_grace(t)), Expired::default(), "not there either");
    ledger.read(0, 11);
    assert_eq!(ledger.expire(t + grace(SLA)), Expired::default(), "within the grace");
    assert_eq!(ledger.expire(after_grace(t)), Expired { lost: vec![BROKER], failed: vec![] });
    assert_eq!(ledger.expire(after_grace(t)), Expired::default(), "once");
    assert_eq!(ledger.len(), 0);
}

#[test]
fn a_record_without_an_offset_is_past_when_a_later_one_was_seen() {
    let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
    let (lost, next) = (ledger.send(0, BROKER, t), ledger.send(0, BROKER, t));
    ledger.acked(lost, None, t + MS);
    ledger.read(0, 100);
    assert_eq!(ledger.expire(after_grace(t)), Expired { lost: vec![], failed: vec![BROKER] }, "that is the next one");
    let later = ledger.send(0, BROKER, t);
    read(&mut ledger, later, 101, t + MS);
    assert_eq!(ledger.expire(after_grace(t)), Expired { lost: vec![BROKER], failed: vec![] });
    assert_eq!(ledger.seen(next, 102, t), Sight::Nothing);
}

#[test]
fn what_was_given_up_is_never_lost() {
    let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
    let id = ledger.send(0, BROKER, t);
    ledger.failed(id);
    ledger.read(0, 1_000);
    assert_eq!(ledger.expire(after_grace(t)), Expired::default());
    assert_eq!(ledger.len(), 0);
}

#[test]
fn a_duplicate_is_at_another_offset() {
    let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
    let id = ledger.send(0, BROKER, t);
    read(&mut ledger, id, 3, t);
    assert_eq!(read(&mut ledger, id, 3, t), Sight::Nothing, "the consumer read it twice");
    assert_eq!(read(&mut ledger, id, 4, t), Sight::Duplicate { broker: BROKER });
}

#[test]
fn another_log_is_noticed_and_makes_nothing_lost() {
    let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
    ledger.forget(0, 500);
    let id = ledger.send(0, BROKER, t);
    assert_eq!(ledger.acked(id, Some(2), t), Ack::OtherLog);
    ledger.forget(0, 3);
    assert_eq!(ledger.position(0), Some(3));
    ledger.read(0, 900);
    assert_eq!(ledger.expire(after_grace(t)), Expired::default());
    assert_eq!(ledger.acked(id, Some(2), t), Ack::Nothing);
    let next = ledger.send(0, BROKER, t);
    assert_ne!(next, id, "numbers are not used twice");
}

/// A day of a record a second on each of three partitions, one of which cannot be read and one of which fails.
#[test]
fn a_day_of_records_leaves_nothing_behind() {
    let (mut ledger, mut now) = (Ledger::new(SLA), Instant::now());
    let (mut most, mut lost) = (0, 0);
    for second in 0..86_400 {
        let good = ledger.send(0, 1, now);
        ledger.acked(good, Some(second), now + MS);
        read(&mut ledger, good, second, now + 2 * MS);
        let unread = ledger.send(1, 2, now);
        ledger.acked(unread, Some(second), now + MS);
        let bad = ledger.send(2, 3, now);
        ledger.failed(bad);
        now += Duration::from_secs(1);
        if second % 60 == 0 {
            lost += ledger.expire(now).lost.len();
            most = most.max(ledger.len());
        }
    }
    assert_eq!(lost, 0);
    // Those of the last minutes of two partitions, and the most there can be of the one that is not read.
    assert!(most <= 10_000 + 2 * 100, "{most} records are remembered");
    ledger.forget(1, 0);
    ledger.expire(after_grace(now));
    assert_eq!(ledger.len(), 0);
}

/// What happens to a record on its way.
#[derive(Clone, Copy, Debug)]
struct Fate {
    persisted: bool,
    acked: bool,
    copies: u8,
    ack_first: bool,
    delay_ms: u16,
}

fn fate() -> impl Strategy<Value = Fate> {
    (any::<bool>(), any::<bool>(), 1..3_u8, any::<bool>(), 0..10_000_u16).prop_map(
        |(persisted, acked, copies, ack_first, delay_ms)| Fate { persisted, acked, copies, ack_first, delay_ms },
    )
}

proptest! {
    /// Whatever happens in whatever order, every record ends in the classes that its fate says, and none is left.
    #[test]
    fn the_accounts_add_up(fates in prop::collection::vec(fate(), 1..60)) {
        let (mut ledger, t) = (Ledger::new(SLA), Instant::now());
        let ids: Vec<_> = fates.iter().map(|_| ledger.send(0, BROKER, t)).collect();
        let (mut offset, mut first, mut late, mut duplicates) = (0, 0, 0, 0);
        for (fate, id) in fates.iter().zip(&ids) {
            let at = t + u32::from(fate.delay_ms) * MS;
            let answer = |ledger: &mut Ledger, offset| {
                if fate.acked { ledger.acked(*id, Some(offset), at); } else { ledger.failed(*id); }
            };
            if fate.ack_first { answer(&mut ledger, offset); }
            for _ in 0..if fate.persisted { fate.copies } else { 0 } {
                match read(&mut ledger, *id, offset, at) {
                    Sight::First { late: is_late, .. } => { first += 1; late += usize::from(is_late); }
                    Sight::Duplicate { .. } => duplicates += 1,
                    Sight::Nothing => prop_assert!(false, "a record is not in the accounts"),
                }
                offset += 1;
            }
            if !fate.ack_first { answer(&mut ledger, (offset - 1).max(0)); }
        }
        ledger.read(0, offset + 1);
        let expired = ledger.expire(after_grace(t));
        let count = |class: &dyn Fn(&Fate) -> bool| fates.iter().filter(|fate| class(fate)).count();
        prop_assert_eq!(first, count(&|fate| fate.persisted));
        prop_assert_eq!(late, count(&|fate| fate.persisted && fate.delay_ms > 2_000));
        prop_assert_eq!(duplicates, count(&|fate| fate.persisted && fate.copies > 1));
        prop_assert_eq!(expired.lost.len(), count(&|fate| fate.acked && !fate.persisted));
        prop_assert_eq!(expired.failed.len(), 0);
        prop_assert_eq!(ledger.len(), 0);
    }
}
