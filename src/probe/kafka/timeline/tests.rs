use proptest::collection::vec;
use proptest::prelude::*;

use super::known::MOST_LOOKS;
use super::*;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const NOW: i64 = 1_760_000_000_000;

/// A partition that answers as a broker does: records by offset, with holes.
#[derive(Debug, Clone, Default)]
struct Log {
    records: Vec<(i64, i64)>,
    start: i64,
    end: i64,
}

impl Log {
    /// Records at these times, an offset each.
    fn of(times: impl IntoIterator<Item = i64>) -> Self {
        let records: Vec<_> = (0..).zip(times).collect();
        Self { end: records.len() as i64, records, start: 0 }
    }

    fn answer(&self, asked: i64) -> Option<(i64, i64)> {
        assert!(asked >= 0, "negative timestamps have other meanings");
        self.records.iter().copied().find(|&(offset, at)| offset >= self.start && at >= asked)
    }

    fn target(&self, committed: i64) -> Target {
        Target { committed, start: self.start, end: self.end }
    }

    /// When the first unconsumed record was made.
    fn truth(&self, committed: i64) -> Option<i64> {
        let first = committed.max(self.start);
        self.records.iter().find(|record| record.0 >= first).map(|record| record.1)
    }

    /// The age in seconds that a group's first record really has.
    fn true_age(&self, committed: i64, now: i64) -> Option<f64> {
        self.truth(committed).map(|at| (now - at).max(0) as f64 / 1000.0)
    }
}

/// One cycle for one group: up to three rounds. Returns how many questions it took.
fn cycle(line: &mut Timeline, log: &Log, committed: i64, now: i64, most: usize) -> usize {
    let mut asked = 0;
    for _ in 0..3 {
        let asks = line.questions(log.target(committed), now, most);
        assert!(asks.len() <= most);
        assert!(asks.iter().all(|ask| *ask <= now.max(0)), "{asks:?}");
        asked += asks.len();
        for ask in asks {
            line.learn(ask, log.answer(ask), log.end);
        }
    }
    asked
}

/// Asserts that every one of the groups has its age after one cycle from nothing, within a second or 1/400 of it, and
/// within a second after two more.
fn assert_first_cycle(log: &Log, holes: Holes, groups: impl IntoIterator<Item = i64>) {
    assert_cycles(log, holes, groups, 1);
}

fn assert_cycles(log: &Log, holes: Holes, groups: impl IntoIterator<Item = i64>, cycles: usize) {
    for committed in groups {
        let mut line = Timeline::default();
        line.expect(holes);
        line.saw_end(log.end, NOW);
        for _ in 0..cycles {
            cycle(&mut line, log, committed, NOW, 16);
        }
        let truth = log.true_age(committed, NOW).unwrap();
        let age = line.age(log.target(committed), NOW);
        let Age::Known(age) = age else { panic!("{age:?} at {committed}, really {truth}; {line:?}") };
        assert!(age <= truth && truth - age <= f64::max(1.0, truth / 400.0), "{age} instead of {truth} at {committed}");
        cycle(&mut line, log, committed, NOW, 16);
        cycle(&mut line, log, committed, NOW, 16);
        assert_close(&line, log, committed, NOW);
    }
}

fn assert_close(line: &Timeline, log: &Log, committed: i64, now: i64) {
    let truth = log.true_age(committed, now).unwrap();
    let age = line.age(log.target(committed), now);
    let Age::Known(age) = age else { panic!("{age:?} at {committed}, really {truth}; {line:?}") };
    assert!((age - truth).abs() <= 1.0 && age <= truth, "{age} instead of {truth} at {committed}");
}

/// A pseudo-random sequence of numbers below `below`, always the same.
fn noise(below: i64) -> impl Iterator<Item = i64> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as i64
    })
}

fn picks(log: &Log, count: i64) -> impl Iterator<Item = i64> {
    let (start, span) = (log.start, log.end - log.start);
    (0..count).map(move |index| start + span * index / count).chain([log.end - 1])
}

fn bursts(count: i64, apart: i64, records: i64, lasting: i64) -> Log {
    let burst =
        move |index: i64| (0..records).map(move |record| NOW - HOUR - index * apart + record * lasting / records);
    Log::of((0..count).rev().flat_map(burst))
}

#[test]
fn nothing_is_known_of_an_empty_timeline() {
    let line = Timeline::default();
    assert_eq!(line.age(Target { committed: 5, start: 0, end: 10 }, NOW), Age::Unknown);
    assert_eq!(line.age(Target { committed: 10, start: 0, end: 10 }, NOW), Age::CaughtUp);
    assert_eq!(line.age(Target { committed: 12, start: 0, end: 10 }, NOW), Age::CaughtUp);
    assert_eq!(line.age(Target { committed: 2, start: 10, end: 10 }, NOW), Age::CaughtUp);
    assert!(line.questions(Target { committed: 10, start: 0, end: 10 }, NOW, 16).is_empty());
    assert_eq!(line.questions(Target { committed: 5, start: 0, end: 10 }, NOW, 16).len(), 16);
    assert_eq!(line.questions(Target { committed: 5, start: 0, end: 10 }, NOW, 0), Vec::<i64>::new());
    assert!(size_of::<Timeline>() <= 48);
}

#[test]
fn steady_log_is_right_in_the_first_cycle() {
    for spacing in [1, 20, 300, 5 * SECOND] {
        let count = (24 * HOUR / spacing).min(20_000);
        let log = Log::of((0..count).map(|index| NOW - (count - index) * spacing));
        for holes in [Holes::Unsure, Holes::Never, Holes::Compacted] {
            assert_first_cycle(&log, holes, picks(&log, 23));
        }
    }
}

#[test]
fn jittered_log_is_right_in_the_first_cycle() {
    let mut at = NOW - 24 * HOUR;
    let times = noise(4 * SECOND).map(|step| {
        at += step;
        at
    });
    let log = Log::of(times.take_while(|at| *at < NOW));
    assert_first_cycle(&log, Holes::Unsure, picks(&log, 31));
}

#[test]
fn bursts_hours_apart_are_right_in_the_first_cycle() {
    for (apart, lasting) in
        [(2 * HOUR, 8 * SECOND), (3 * HOUR, 10 * SECOND), (5 * HOUR, 5 * SECOND), (6 * HOUR, SECOND)]
    {
        let log = bursts(24 * HOUR / apart, apart, 1000, lasting);
        assert_first_cycle(&log, Holes::Never, picks(&log, 37));
        // Without knowing that there are no holes, it takes until the records on both sides are found.
        assert_cycles(&log, Holes::Unsure, picks(&log, 37), 3);
    }
}

#[test]
fn long_bursts_are_right_in_the_first_cycle_within_the_tolerance_and_exact_in_the_second() {
    for (apart, lasting) in [(2 * HOUR, MINUTE), (4 * HOUR, 5 * MINUTE), (HOUR, 10 * MINUTE), (20 * MINUTE, 8 * SECOND)]
    {
        let log = bursts(24 * HOUR / apart, apart, 1000, lasting);
        for committed in picks(&log, 37) {
            let mut line = Timeline::default();
            line.expect(Holes::Never);
            cycle(&mut line, &log, committed, NOW, 16);
            let truth = log.true_age(committed, NOW).unwrap();
            let Age::Known(age) = line.age(log.target(committed), NOW) else { panic!("unknown at {committed}") };
            assert!(age <= truth && truth - age <= truth * 0.021, "{age} {truth}");
            cycle(&mut line, &log, committed, NOW, 16);
            assert_close(&line, &log, committed, NOW);
        }
    }
}

#[test]
fn bursts_of_one_millisecond_need_to_know_that_there_are_no_holes() {
    let log = bursts(8, 3 * HOUR, 1000, 0);
    assert_first_cycle(&log, Holes::Never, picks(&log, 37));
    // Without, it is said that it is not known, and not asked for ever.
    let mut line = Timeline::default();
    cycle(&mut line, &log, 2500, NOW, 16);
    assert_eq!(line.age(log.target(2500), NOW), Age::Unknown);
    assert!(line.questions(log.target(2500), NOW, 16).is_empty());
    // The first of a burst is an answer itself; of the last burst, every record is older than the silence after it.
    assert_first_cycle(&log, Holes::Unsure, [0, 1000, 2000, 7000, 7500, 7999]);
}

#[test]
fn idle_producers_records_grow_old() {
    let log = Log::of((0..5000).map(|index| NOW - 5 * HOUR - (5000 - index) * 10));
    assert_first_cycle(&log, Holes::Unsure, picks(&log, 11));
    let mut line = Timeline::default();
    cycle(&mut line, &log, 4999, NOW, 16);
    for later in [MINUTE, HOUR, 30 * HOUR] {
        assert!(line.questions(log.target(4999), NOW + later, 16).is_empty());
        assert_close(&line, &log, 4999, NOW + later);
    }
}

#[test]
fn single_record_of_any_age_is_exact() {
    for age in [0, 1, SECOND, HOUR, 24 * HOUR, 400 * 24 * HOUR, NOW] {
        assert_first_cycle(&Log::of([NOW - age]), Holes::Unsure, [0]);
    }
}

#[test]
fn compacted_log_counts_the_first_record_that_is_left() {
    let steps = noise(50);
    let mut log = Log::default();
    // A quarter of a day's records are left, and of one hour nothing.
    for (offset, step) in (0..86_400).zip(steps) {
        if step % 4 == 0 && !(30_000..33_600).contains(&offset) {
            log.records.push((offset, NOW - 24 * HOUR + offset * SECOND));
        }
    }
    log.end = 86_400;
    assert_cycles(
        &log,
        Holes::Compacted,
        picks(&log, 41).filter(|offset| !(29_990..33_600).contains(offset) && *offset < 86_390),
        2,
    );
    assert_first_cycle(&log, Holes::Compacted, [29_990]);
    // Within the large hole, it takes another cycle to make sure that it is one.
    for committed in [29_999, 30_000, 31_000, 32_900, 33_599, 33_601] {
        let mut line = Timeline::default();
        line.expect(Holes::Compacted);
        cycle(&mut line, &log, committed, NOW, 16);
        cycle(&mut line, &log, committed, NOW, 16);
        cycle(&mut line, &log, committed, NOW, 16);
        assert_close(&line, &log, committed, NOW);
    }
    // A log that begins with a hole.
    log.records.retain(|record| record.0 >= 50_000);
    assert_first_cycle(&log, Holes::Unsure, [0, 1, 40_000, 49_999, 50_000]);
}

#[test]
fn records_deleted_below_the_commit_and_above_it() {
    let mut log = Log::of((0..50_000).map(|index| NOW - (50_000 - index) * SECOND));
    log.start = 30_000;
    assert_first_cycle(&log, Holes::Never, [0, 29_999, 30_000, 30_001, 45_000]);
    // The start passes a group that stands still.
    let mut line = Timeline::default();
    cycle(&mut line, &log, 31_000, NOW, 16);
    for start in [30_500, 31_000, 31_001, 40_000, 49_999] {
        log.start = start;
        line.advance_start(start);
        cycle(&mut line, &log, 31_000, NOW, 16);
        assert_close(&line, &log, 31_000, NOW);
    }
    log.start = log.end;
    line.advance_start(log.end);
    assert_eq!(line.age(log.target(31_000), NOW), Age::CaughtUp);
}

#[test]
fn open_transaction_holds_the_group_at_its_first_record() {
    // The group reads what is committed: it stays at 4000 while the log grows.
    let mut log = Log::of((0..4000).map(|index| NOW - 2 * HOUR + index));
    let mut line = Timeline::default();
    for round in 0..60 {
        let now = NOW + round * 10 * SECOND;
        log.records.extend((0..100).map(|index| (log.end + index, now - 10 * SECOND + index * 100)));
        log.end += 100;
        line.saw_end(log.end, now);
        let asked = cycle(&mut line, &log, 4000, now, 16);
        assert!(round == 0 || asked == 0);
        assert_close(&line, &log, 4000, now);
    }
}

#[test]
fn many_groups_share_what_is_known() {
    let mut at = NOW - 12 * HOUR;
    let times = noise(2 * SECOND).map(|step| {
        at += step;
        at
    });
    let log = Log::of(times.take_while(|at| *at < NOW));
    let groups: Vec<i64> = picks(&log, 20).collect();
    let mut line = Timeline::default();
    let targets: Vec<Target> = groups.iter().map(|committed| log.target(*committed)).collect();
    // The groups share the questions of a round.
    for cycle in 0..8 {
        for round in 0..3 {
            let most = if cycle + round == 0 { 16 } else { 1 };
            let asks = targets.iter().flat_map(|target| line.questions(*target, NOW, most));
            let asks: std::collections::BTreeSet<i64> = asks.collect();
            assert!(asks.len() <= targets.len());
            asks.into_iter().for_each(|ask| line.learn(ask, log.answer(ask), log.end));
        }
        line.keep_for(&targets);
    }
    for committed in &groups {
        assert_close(&line, &log, *committed, NOW);
    }
    line.keep_for(&targets);
    assert!(line.known.as_ref().unwrap().facts.len() <= 2 * targets.len());
    for committed in &groups {
        assert_close(&line, &log, *committed, NOW);
    }
}

#[test]
fn out_of_order_timestamps_give_a_lower_bound() {
    let log = Log::of([NOW - HOUR, NOW - 30 * MINUTE, NOW - 50 * MINUTE, NOW - 55 * MINUTE, NOW - 10 * MINUTE]);
    for committed in 0..5 {
        let mut line = Timeline::default();
        line.expect(Holes::Never);
        cycle(&mut line, &log, committed, NOW, 16);
        if let Age::Known(age) = line.age(log.target(committed), NOW) {
            assert!(age <= log.true_age(committed, NOW).unwrap());
        }
    }
}

/// Runs a live log whose records have timestamps of no use, and returns the ages shown at the end of each cycle together with
/// when the record in question arrived.
fn arrivals(lag: i64, timestamp: impl Fn(i64) -> i64) -> Vec<(Age, i64)> {
    let (mut line, mut log) = (Timeline::default(), Log::default());
    let mut shown = Vec::new();
    for round in 0..200 {
        let now = NOW + round * 10 * SECOND;
        log.records.extend((log.end..log.end + 10).map(|offset| (offset, timestamp(now))));
        log.end += 10;
        line.saw_end(log.end, now);
        let committed = (log.end - lag).max(0);
        let asked = cycle(&mut line, &log, committed, now, 1);
        assert!(round < 2 || asked <= 1, "{asked} questions");
        shown.push((line.age(log.target(committed), now), committed / 10 * 10 * SECOND + NOW));
    }
    shown
}

#[test]
fn records_without_a_timestamp_are_as_old_as_our_own_view_of_them() {
    for lag in [1, 10, 100] {
        let shown = arrivals(lag, |_| -1);
        for (round, (age, arrived)) in (0..).zip(shown).skip(lag as usize / 10 + 2) {
            let truth = (NOW + round * 10 * SECOND - arrived) as f64 / 1000.0;
            assert_eq!(age, Age::Known(truth), "round {round}, lag {lag}");
        }
    }
}

#[test]
fn records_of_the_future_are_as_old_as_our_own_view_of_them() {
    for lag in [10, 100] {
        for (round, (age, arrived)) in (0..).zip(arrivals(lag, |now| now + 24 * HOUR)).skip(lag as usize / 10 + 2) {
            let truth = (NOW + round * 10 * SECOND - arrived) as f64 / 1000.0;
            assert_eq!(age, Age::Known(truth), "round {round}, lag {lag}");
        }
    }
}

#[test]
fn record_that_was_there_before_we_looked_and_has_no_timestamp_has_no_age() {
    let log = Log::of([-1; 50]);
    let mut line = Timeline::default();
    line.saw_end(log.end, NOW);
    cycle(&mut line, &log, 20, NOW, 16);
    assert_eq!(line.age(log.target(20), NOW), Age::Unknown);
    assert!(line.questions(log.target(20), NOW, 16).is_empty());
}

#[test]
fn looks_are_bounded_and_keep_their_age() {
    let mut line = Timeline::default();
    line.saw_end(0, NOW);
    line.saw_end(10, NOW + SECOND);
    line.learn(0, None, 10);
    for look in 1..100_000 {
        line.saw_end(10 + look, NOW + look * 10 * SECOND);
    }
    line.learn(0, None, 100_009);
    let known = line.known.as_ref().unwrap();
    assert!(known.looks.as_ref().unwrap().len() <= MOST_LOOKS);
    let now = NOW + 1_000_000 * SECOND;
    for offset in [11, 500, 50_000, 99_000, 99_990] {
        let arrived = NOW + (offset - 9) * 10 * SECOND;
        let truth = (now - arrived) as f64 / 1000.0;
        let target = Target { committed: offset, start: 0, end: 100_009 };
        let Age::Known(age) = line.age(target, now) else { panic!("unknown at {offset}") };
        assert!(age <= truth && age >= truth * 0.6 - 20.0, "{age} instead of {truth}");
    }
    line.advance_start(99_000);
    assert!(line.known.as_ref().unwrap().looks.as_ref().unwrap().len() < 50);
}

#[test]
fn clock_that_is_set_back_makes_no_age_negative() {
    let log = Log::of((0..100).map(|index| NOW - (100 - index) * SECOND));
    let mut line = Timeline::default();
    line.saw_end(100, NOW);
    cycle(&mut line, &log, 50, NOW, 16);
    assert_close(&line, &log, 50, NOW);
    for back in [10 * SECOND, MINUTE, HOUR, NOW] {
        line.saw_end(100, NOW - back);
        if let Age::Known(age) = line.age(log.target(50), NOW - back) {
            assert!((0.0..=50.0).contains(&age));
        }
        line.questions(log.target(50), NOW - back, 16);
    }
    let mut line = Timeline::default();
    line.saw_end(0, NOW);
    line.saw_end(10, NOW + SECOND);
    line.learn(0, None, 10);
    line.saw_end(20, NOW - HOUR);
    assert_eq!(line.age(Target { committed: 5, start: 0, end: 20 }, NOW - HOUR + SECOND), Age::Known(1.0));
}

#[test]
fn reset_and_contradictions_forget() {
    let mut line = Timeline::default();
    line.expect(Holes::Never);
    line.learn(0, Some((0, NOW - HOUR)), 10);
    line.learn(NOW - MINUTE, Some((5, NOW - MINUTE)), 10);
    let target = Target { committed: 5, start: 0, end: 10 };
    assert_eq!(line.age(target, NOW), Age::Known(60.0));
    // Record 5 was compacted away.
    line.learn(NOW - MINUTE, Some((7, NOW - SECOND)), 10);
    assert_eq!(line.age(target, NOW), Age::Unknown);
    line.reset();
    assert!(line.known.is_none());
    assert_eq!(line.holes, Holes::Never);
    // Answers that cannot be.
    line.learn(NOW, Some((5, NOW - 1)), 10);
    line.learn(NOW, Some((-1, NOW)), 10);
    line.learn(NOW, None, 0);
    assert!(line.known.is_none());
}

/// Follows a steady log with a group `lag` behind, and returns questions per cycle once under way and the worst error in seconds.
fn follow(times: impl Iterator<Item = i64>, lag: i64, most: usize) -> (f64, f64) {
    let all = Log::of(times);
    let mut line = Timeline::default();
    line.expect(Holes::Never);
    let (mut asked, mut worst, mut unknown) = (0, 0.0_f64, 0);
    for round in 0..60 {
        let now = NOW + round * 10 * SECOND;
        let end = all.records.partition_point(|record| record.1 <= now);
        let log = Log { records: all.records[..end].to_vec(), start: 0, end: end as i64 };
        let committed = log.records.partition_point(|record| record.1 <= now - lag) as i64;
        line.saw_end(log.end, now);
        let count = cycle(&mut line, &log, committed, now, most);
        if round >= 10 {
            asked += count;
            let truth = log.true_age(committed, now);
            match (line.age(log.target(committed), now), truth) {
                (Age::Known(age), Some(truth)) => worst = worst.max(truth - age),
                (Age::CaughtUp, None) => {}
                (Age::Unknown, _) => unknown += 1,
                other => panic!("{other:?} in round {round}"),
            }
        }
    }
    assert!(unknown <= if most == 1 { 25 } else { 3 }, "{unknown} of 50 unknown");
    (asked as f64 / 50.0, worst)
}

#[test]
fn steady_consumers_cost_few_questions() {
    for lag in [500, 5 * SECOND, MINUTE, 10 * MINUTE] {
        for most in [1, 16] {
            let even = |spacing: i64| {
                (0..)
                    .map(move |index| NOW - 2 * lag - MINUTE + index * spacing)
                    .take_while(|at| *at < NOW + 10 * MINUTE)
            };
            let (asked, worst) = follow(even(50), lag, most);
            assert!(
                asked <= (if most == 1 { 3.0 } else { 16.0 }) && worst <= 1.0 + lag as f64 * 2e-5,
                "even: {asked} questions, {worst} s"
            );
            let (asked, worst) = follow(even(4), lag, most);
            assert!(
                asked <= (if most == 1 { 3.0 } else { 16.0 }) && worst <= 1.2,
                "dense: {asked} questions, {worst} s"
            );
            let mut at = NOW - 2 * lag - MINUTE;
            let jittered = noise(200).map(|step| {
                at += step;
                at
            });
            let (asked, worst) = follow(jittered.take_while(|at| *at < NOW + 10 * MINUTE), lag, most);
            assert!(
                asked <= (if most == 1 { 3.0 } else { 16.0 }) && worst <= 1.0 + lag as f64 * 2e-5,
                "jittered: {asked} questions, {worst} s"
            );
        }
    }
}

/// A log of random shape: gaps between records from nothing to hours, and offsets that are missing.
fn any_log(ordered: bool) -> impl Strategy<Value = Log> {
    let gap = prop_oneof![5 => Just(0_i64), 10 => 0..2000_i64, 3 => 0..MINUTE, 1 => 0..5 * HOUR];
    let back = if ordered { 0..1_i64 } else { 0..HOUR };
    let hole = prop_oneof![8 => Just(0_i64), 1 => 0..20_i64];
    (vec((gap, hole, back), 1..300), 0..HOUR, 0..100_i64).prop_map(|(steps, idle, start)| {
        let mut log = Log::default();
        let (mut offset, mut at) = (0, 0);
        for (gap, hole, back) in steps {
            at += gap;
            offset += hole;
            log.records.push((offset, at - back));
            offset += 1;
        }
        log.records.iter_mut().for_each(|record| record.1 += NOW - idle - at);
        log.end = offset;
        log.start = start.min(offset - 1);
        log
    })
}

proptest! {
    #[test]
    fn ages_are_right_or_unknown(log in any_log(true), picks in vec(0.0..1.0_f64, 1..6), most in prop_oneof![Just(1_usize), Just(3), Just(16)]) {
        let mut line = Timeline::default();
        line.saw_end(log.end, NOW);
        for pick in picks {
            let committed = (log.end as f64 * pick) as i64;
            for _ in 0..8 {
                let target = log.target(committed);
                cycle(&mut line, &log, committed, NOW, most);
                let truth = log.true_age(committed, NOW).unwrap();
                if let Age::Known(age) = line.age(target, NOW) {
                    prop_assert!(age <= truth && truth - age <= f64::max(1.0, truth * 0.021), "{} {}", age, truth);
                    // What is not asked about any further is within a second.
                    if line.questions(target, NOW, most).is_empty() {
                        let tolerated = if line.holes == Holes::Unsure { truth * 0.021 } else { 0.0 };
                        prop_assert!(truth - age <= f64::max(1.0, tolerated), "{} {}", age, truth);
                    }
                }
            }
            if most == 16 {
                prop_assert!(line.questions(log.target(committed), NOW, most).is_empty(), "asks for ever");
            }
        }
    }

    #[test]
    fn without_holes_every_age_is_known_in_the_end(log in any_log(true), pick in 0.0..1.0_f64, most in prop_oneof![Just(1_usize), Just(2), Just(16)]) {
        let log = Log::of(log.records.iter().map(|record| record.1));
        let committed = (log.end as f64 * pick) as i64;
        let mut line = Timeline::default();
        line.expect(Holes::Never);
        let cycles = (0..60).take_while(|_| cycle(&mut line, &log, committed, NOW, most) > 0).count();
        prop_assert!(cycles < if most == 16 { 4 } else { 60 }, "{} cycles", cycles);
        let truth = log.true_age(committed, NOW).unwrap();
        let age = line.age(log.target(committed), NOW);
        prop_assert!(matches!(age, Age::Known(age) if age <= truth && truth - age <= 1.0), "{:?} {}", age, truth);
    }

    #[test]
    fn out_of_order_ages_are_never_too_old(log in any_log(false), picks in vec(0.0..1.0_f64, 1..6)) {
        for holes in [Holes::Unsure, Holes::Compacted] {
            let mut line = Timeline::default();
            line.expect(holes);
            line.saw_end(log.end, NOW);
            for pick in &picks {
                let committed = (log.end as f64 * pick) as i64;
                cycle(&mut line, &log, committed, NOW, 16);
                if let Age::Known(age) = line.age(log.target(committed), NOW) {
                    prop_assert!(age <= log.true_age(committed, NOW).unwrap());
                }
            }
        }
    }

    #[test]
    fn no_answer_whatever_panics(
        steps in vec((any::<i64>(), any::<Option<(i64, i64)>>(), any::<i64>(), any::<i64>(), any::<(i64, i64, i64)>()), 0..200),
    ) {
        let mut line = Timeline::default();
        for (asked, answer, end, now, (committed, start, until)) in steps {
            line.saw_end(end, now);
            line.learn(asked, answer, end);
            let target = Target { committed, start, end: until };
            if let Age::Known(age) = line.age(target, now) {
                prop_assert!(age >= 0.0 && age.is_finite());
            }
            prop_assert!(line.questions(target, now, 16).iter().all(|ask| *ask >= 0));
            line.advance_start(start);
            line.keep_for(&[target]);
        }
    }
}
