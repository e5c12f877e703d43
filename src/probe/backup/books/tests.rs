use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::probe::backup::runs::Seen;

const NOW: f64 = 1_800_000_000.0;
const LONGEST: f64 = 2.0 * 86_400.0;

fn open(id: &str, started: f64) -> Run {
    Run { id: id.to_owned(), started: Some(started), ..Run::default() }
}

fn ended(id: &str, started: f64, at: f64) -> Run {
    Run { end: Some(End { at, outcome: Outcome::Success }), ..open(id, started) }
}

fn seen(runs: impl IntoIterator<Item = Run>) -> Seen {
    Seen { runs: runs.into_iter().collect(), has_all_open: true, ..Seen::default() }
}

/// Reads the source: how many events that were.
fn read(books: &mut Books, seen: &Seen, now: f64) -> usize {
    let events = books.plan(seen, (now, true), LONGEST);
    for event in &events {
        books.apply(event);
    }
    events.len()
}

/// Books of a source that held nothing when it was read first.
fn watched() -> Books {
    let mut books = Books::default();
    read(&mut books, &seen([]), NOW);
    books
}

fn all(books: &Books) -> u64 {
    Outcome::ALL.iter().map(|outcome| books.ended(*outcome)).sum()
}

/// As they are read back from a snapshot.
fn reread(books: &Books) -> Books {
    serde_json::from_str(&serde_json::to_string(books).unwrap()).unwrap()
}

#[test]
fn what_had_ended_before_anybody_watched_is_not_counted() {
    let mut books = Books::default();
    let runs = [ended("a", NOW - 200.0, NOW - 100.0), open("b", NOW - 50.0), open("old", NOW - LONGEST - 100.0)];
    assert_eq!(read(&mut books, &seen(runs.clone()), NOW), 2);
    assert_eq!((all(&books), books.open().len(), books.overlap_count()), (0, 1, 0));
    assert_eq!(books.last_success().map(|run| run.id.as_str()), Some("a"));
    // The one that went on is counted when it ends; nothing else is, ever.
    assert_eq!(
        read(&mut books, &seen([runs[0].clone(), ended("b", NOW - 50.0, NOW + 5.0), runs[2].clone()]), NOW + 9.0),
        1
    );
    assert_eq!(read(&mut books, &seen([ended("before", NOW - 900.0, NOW - 800.0)]), NOW + 9.0), 0);
    assert_eq!((all(&books), books.ended(Outcome::Success)), (1, 1));
}

#[test]
fn a_run_is_counted_once_however_often_it_is_seen() {
    let mut books = watched();
    assert_eq!(read(&mut books, &seen([open("a", NOW)]), NOW), 1);
    assert_eq!(read(&mut books, &seen([open("a", NOW)]), NOW + 15.0), 0);
    let grown = Run { size: Some(7), ..open("a", NOW) };
    assert_eq!(read(&mut books, &seen([grown.clone(), grown]), NOW + 30.0), 2);
    let end = seen([ended("a", NOW, NOW + 40.0)]);
    assert_eq!(read(&mut books, &end, NOW + 45.0), 1);
    let known = books.clone();
    for _ in 0..3 {
        books = reread(&books);
        assert_eq!(read(&mut books, &end, NOW + 60.0), 0);
    }
    // Nor if its end changes, or it seems to go on again.
    assert_eq!(read(&mut books, &seen([ended("a", NOW, NOW + 70.0)]), NOW + 75.0), 0);
    assert_eq!(read(&mut books, &seen([open("a", NOW)]), NOW + 75.0), 0);
    assert_eq!(books, known);
    assert_eq!((all(&books), books.last_ended().and_then(Run::seconds)), (1, Some(40.0)));
}

#[test]
fn runs_that_do_not_end_are_lost_once() {
    let mut books = watched();
    read(&mut books, &seen([open("vanishes", NOW), open("stays", NOW + 1.0)]), NOW + 2.0);
    // One is not there any more; the other is, for too long.
    assert_eq!(read(&mut books, &seen([open("stays", NOW + 1.0)]), NOW + 60.0), 1);
    assert_eq!((books.ended(Outcome::Lost), books.open().len()), (1, 1));
    let later = NOW + LONGEST + 10.0;
    assert_eq!(read(&mut books, &seen([open("stays", NOW + 1.0)]), later), 1);
    assert_eq!(read(&mut books, &seen([open("stays", NOW + 1.0)]), later + 15.0), 0);
    assert_eq!((books.ended(Outcome::Lost), books.open().len(), all(&books)), (2, 0, 2));
    // Where not all that go on are told, one that is not told goes on.
    read(&mut books, &seen([open("c", later)]), later);
    assert_eq!(read(&mut books, &Seen { has_all_open: false, ..seen([]) }, later + 1.0), 0);
    assert_eq!(books.open().len(), 1);
}

#[test]
fn a_run_that_ends_in_the_reading_in_which_it_would_be_lost_is_not() {
    let mut books = watched();
    read(&mut books, &seen([open("a", NOW)]), NOW);
    let later = NOW + LONGEST + 1.0;
    assert_eq!(read(&mut books, &seen([ended("a", NOW, later)]), later), 1);
    assert_eq!((all(&books), books.ended(Outcome::Success)), (1, 1));
}

#[test]
fn how_a_lost_run_ended_is_news_but_not_another_run() {
    let mut books = watched();
    read(&mut books, &seen([open("a", NOW)]), NOW);
    read(&mut books, &seen([]), NOW + 500.0);
    assert_eq!(books.last_failure(), Some(NOW + 500.0));
    assert_eq!(read(&mut books, &seen([ended("a", NOW, NOW + 100.0)]), NOW + 600.0), 1);
    assert_eq!((all(&books), books.ended(Outcome::Lost)), (1, 1));
    let last = books.last_ended().unwrap();
    assert_eq!((last.end.unwrap().outcome, last.seconds()), (Outcome::Success, Some(100.0)));
    assert_eq!(read(&mut books, &seen([ended("a", NOW, NOW + 100.0)]), NOW + 615.0), 0);
}

#[test]
fn a_run_that_was_given_up_and_goes_on_is_open_again_and_counts_no_more() {
    let mut books = watched();
    read(&mut books, &seen([open("a", NOW)]), NOW);
    read(&mut books, &seen([]), NOW + 500.0);
    assert_eq!((books.open().len(), books.ended(Outcome::Lost)), (0, 1));
    let again = seen([open("a", NOW)]);
    for round in 0..2 {
        assert_eq!(read(&mut books, &again, NOW + 515.0), 1);
        assert_eq!(read(&mut books, &again, NOW + 530.0), 0);
        books = reread(&books);
        assert_eq!((books.open().len(), all(&books), books.last_ended()), (1, 1, None), "{round}");
        // Given up once more.
        assert_eq!(read(&mut books, &seen([]), NOW + 600.0), 1);
        assert_eq!((books.open().len(), all(&books)), (0, 1), "{round}");
    }
    read(&mut books, &again, NOW + 615.0);
    let end = seen([ended("a", NOW, NOW + 700.0)]);
    assert_eq!(read(&mut books, &end, NOW + 705.0), 1);
    assert_eq!(read(&mut books, &end, NOW + 720.0), 0);
    assert_eq!((books.open().len(), all(&books), books.ended(Outcome::Lost)), (0, 1, 1));
    assert_eq!(books.last_success().and_then(Run::seconds), Some(700.0));
    assert_eq!(books.last_ended().map(|run| run.id.as_str()), Some("a"));
    // One that ended is not opened by anybody.
    assert_eq!(read(&mut books, &again, NOW + 735.0), 0);
}

#[test]
fn a_run_that_went_on_again_may_end_by_another_id() {
    let mut books = watched();
    read(&mut books, &seen([open("part", NOW)]), NOW);
    read(&mut books, &seen([]), NOW + 500.0);
    read(&mut books, &seen([open("part", NOW)]), NOW + 515.0);
    let whole = Run { opened_as: Some("part".to_owned()), ..ended("whole", NOW, NOW + 600.0) };
    assert_eq!(read(&mut books, &seen([whole.clone()]), NOW + 605.0), 1);
    assert_eq!(read(&mut books, &seen([whole]), NOW + 620.0), 0);
    assert_eq!((books.open().len(), all(&books), books.ended(Outcome::Lost)), (0, 1, 1));
    assert_eq!(books.last_success().map(|run| run.id.as_str()), Some("whole"));
}

#[test]
fn a_run_that_is_given_up_for_going_on_too_long_stays_so() {
    let mut books = watched();
    let run = seen([open("a", NOW)]);
    read(&mut books, &run, NOW);
    assert_eq!(read(&mut books, &run, NOW + LONGEST + 1.0), 1);
    for seconds in 0..3 {
        assert_eq!(read(&mut books, &run, NOW + LONGEST + 2.0 + f64::from(seconds)), 0);
    }
    assert_eq!((books.open().len(), books.ended(Outcome::Lost)), (0, 1));
}

#[test]
fn the_size_of_a_run_may_come_later() {
    let mut books = watched();
    let run = ended("a", NOW, NOW + 9.0);
    read(&mut books, &seen([run.clone()]), NOW + 10.0);
    let measured = seen([Run { size: Some(7), ..run.clone() }]);
    assert_eq!(read(&mut books, &measured, NOW + 11.0), 1);
    assert_eq!(read(&mut books, &measured, NOW + 12.0), 0);
    assert_eq!(books.last_success().and_then(|run| run.size), Some(7));
    assert_eq!((books.last_ended().and_then(|run| run.size), all(&books)), (Some(7), 1));
    // What is known stays.
    for size in [None, Some(8)] {
        assert_eq!(read(&mut books, &seen([Run { size, ..run.clone() }]), NOW + 13.0), 0);
    }
}

#[test]
fn what_a_clock_that_was_ahead_left_is_taken_back() {
    const YEAR: f64 = 365.0 * 86_400.0;
    let mut books = watched();
    let later = NOW + YEAR;
    read(&mut books, &seen([ended("a", later - 9.0, later), open("b", later)]), later);
    let failed = Run { end: Some(End { at: later, outcome: Outcome::Failure }), ..open("c", later - 9.0) };
    read(&mut books, &seen([failed, open("b", later)]), later);
    assert_eq!(books.ahead(later - 30.0), None);
    assert_eq!(books.ahead(1000.0), None, "that clock was never set");
    let set_back = books.ahead(NOW).unwrap();
    books.apply(&set_back);
    books = reread(&books);
    assert_eq!(books.ahead(NOW), None);
    assert_eq!(books.last_success().and_then(|run| run.end).map(|end| end.at), Some(NOW));
    assert_eq!((books.last_failure(), books.last_start(), books.touched()), (Some(NOW), Some(NOW), NOW));
    assert_eq!(books.open().map(|run| run.started).collect::<Vec<_>>(), [Some(NOW)], "or it would go on for ever");
    // What ends now is the last run, and those are counted no second time.
    let unknown = Run { started: None, ..open("b", NOW) };
    assert!(!books.is_news(&unknown));
    read(&mut books, &seen([ended("d", NOW + 1.0, NOW + 5.0), unknown]), NOW + 6.0);
    assert_eq!((books.last_success().map(|run| run.id.as_str()), books.last_start()), (Some("d"), Some(NOW + 1.0)));
    assert_eq!(books.ended(Outcome::Success), 2);
    read(&mut books, &seen([ended("a", NOW, NOW)]), NOW + 7.0);
    assert_eq!(books.ended(Outcome::Success), 2);
}

#[test]
fn what_was_forgotten_by_a_clock_that_was_ahead_does_not_hide_what_ends() {
    let mut books = watched();
    let later = NOW + 1e7;
    let many = (0..2 * KNOWN).map(|n| ended(&n.to_string(), later, later + n as f64 / 1e4));
    read(&mut books, &seen(many), later + 1.0);
    let counted = all(&books);
    assert_eq!(read(&mut books, &seen([ended("new", NOW, NOW)]), NOW), 0, "older than what is remembered");
    let set_back = books.ahead(NOW).unwrap();
    books.apply(&set_back);
    assert_eq!(read(&mut books, &seen([ended("new", NOW, NOW)]), NOW), 1);
    assert_eq!(all(&books), counted + 1);
}

#[test]
fn a_run_with_another_id_at_its_end_is_the_same_run() {
    let mut books = watched();
    let end = |id: &str, first: &str, at| Run { opened_as: Some(first.to_owned()), ..ended(id, at - 9.0, at) };
    read(&mut books, &seen([open("part", NOW)]), NOW);
    assert_eq!(read(&mut books, &seen([end("whole", "part", NOW + 9.0)]), NOW + 10.0), 1);
    assert_eq!((all(&books), books.open().len()), (1, 0));
    // It was given up before, and so long ago that only its id is known.
    read(&mut books, &seen([open("second", NOW + 20.0)]), NOW + 20.0);
    read(&mut books, &seen([]), NOW + 30.0);
    for n in 0..40 {
        read(&mut books, &seen([ended(&n.to_string(), NOW + 31.0, NOW + 40.0 + f64::from(n))]), NOW + 100.0);
    }
    assert_eq!(all(&books), 42);
    read(&mut books, &seen([end("second whole", "second", NOW + 99.0)]), NOW + 100.0);
    assert_eq!(all(&books), 42);
}

#[test]
fn runs_overlap_if_one_began_while_another_went_on() {
    // Each run as its beginning and end; those that began while another one went on.
    let cases: [(&[(f64, f64)], u64); 6] = [
        (&[(0.0, 10.0), (10.0, 20.0)], 0),
        (&[(0.0, 10.0), (9.0, 20.0)], 1),
        (&[(0.0, 30.0), (5.0, 10.0), (12.0, 20.0)], 2),
        (&[(0.0, 10.0), (0.0, 10.0)], 1),
        (&[(0.0, 20.0), (5.0, 25.0), (10.0, 15.0)], 2),
        (&[(5.0, 6.0), (7.0, 7.0), (8.0, 9.0)], 0),
    ];
    for (runs, overlaps) in cases {
        let runs: Vec<_> = runs.iter().enumerate().map(|(n, (a, b))| ended(&n.to_string(), NOW + a, NOW + b)).collect();
        // All at once; each as it ends, in any order; and each as it begins.
        let mut books = watched();
        read(&mut books, &seen(runs.clone()), NOW + 50.0);
        assert_eq!(books.overlap_count(), overlaps, "{runs:?}");
        for first in 0..runs.len() {
            let mut books = watched();
            for run in runs.iter().cycle().skip(first).take(runs.len()) {
                read(&mut books, &seen([run.clone()]), NOW + 50.0);
                books = reread(&books);
            }
            assert_eq!(books.overlap_count(), overlaps, "{runs:?} from {first} on");
        }
        let mut books = watched();
        for second in 0..50 {
            let now = NOW + f64::from(second);
            let began = runs.iter().filter(|run| run.started <= Some(now));
            let is_over = |run: &Run| run.end.is_some_and(|end| end.at <= now);
            let shown = began.map(|run| if is_over(run) { run.clone() } else { Run { end: None, ..run.clone() } });
            read(&mut books, &seen(shown), now);
        }
        assert_eq!((books.overlap_count(), all(&books)), (overlaps, runs.len() as u64), "{runs:?}");
    }
}

#[test]
fn another_source_has_another_history() {
    let mut books = Books::default();
    let move_to = |books: &mut Books, source: &str, seen: &Seen, now| {
        for event in books.sourced(source, now) {
            books.apply(&event);
        }
        read(books, seen, now)
    };
    move_to(&mut books, "pbm", &seen([ended("a", NOW - 9.0, NOW - 5.0)]), NOW);
    move_to(&mut books, "pbm", &seen([ended("b", NOW, NOW + 5.0), open("c", NOW + 6.0)]), NOW + 10.0);
    assert_eq!((all(&books), books.open().len()), (1, 1));
    move_to(
        &mut books,
        "restic",
        &seen([ended("x", NOW - 900.0, NOW - 800.0), ended("y", NOW, NOW + 8.0)]),
        NOW + 20.0,
    );
    assert_eq!((all(&books), books.ended(Outcome::Lost), books.open().len()), (2, 1, 0));
    move_to(&mut books, "restic", &seen([ended("z", NOW + 21.0, NOW + 25.0)]), NOW + 30.0);
    assert_eq!((all(&books), books.ended(Outcome::Success)), (3, 2));
}

#[test]
fn no_more_runs_go_on_than_can_be_remembered() {
    let mut books = watched();
    let many = seen((0..1000).map(|n| open(&n.to_string(), NOW + f64::from(n))));
    assert_eq!(read(&mut books, &many, NOW + 1000.0), OPEN);
    assert_eq!(read(&mut books, &many, NOW + 1015.0), 0);
    assert!(books.open().all(|run| run.started >= Some(NOW + 1000.0 - OPEN as f64)));
    // All of them count when they end.
    let over = seen((0..1000).map(|n| ended(&n.to_string(), NOW + f64::from(n), NOW + 2000.0)));
    read(&mut books, &over, NOW + 2001.0);
    assert_eq!((all(&books), books.open().len()), (1000, 0));
}

#[test]
fn nodes_are_remembered_but_not_all() {
    let mut books = watched();
    for n in 0..200 {
        let node = Some(format!("node-{n}"));
        let run = Run { node, ..ended(&n.to_string(), NOW + f64::from(n), NOW + f64::from(n)) };
        read(&mut books, &seen([run]), NOW + 200.0);
    }
    assert_eq!(books.nodes().count(), NODES);
    assert!(books.nodes().any(|node| node == "node-199") && books.nodes().all(|node| node != "node-0"));
}

#[test]
fn a_hundred_thousand_runs_are_read_as_fast_as_they_can_be_compared() {
    let history =
        || (0..100_000).map(|n| ended(&format!("id-{n:06}"), NOW - 2e6 + f64::from(n), NOW - 1.9e6 + f64::from(n)));
    let mut books = Books::default();
    assert_eq!(read(&mut books, &seen(history()), NOW), 1);
    assert_eq!(books.known.len(), KNOWN);
    // Nothing of it is news, also what is not remembered, nor if the newest are gone.
    assert_eq!(read(&mut books, &seen(history()), NOW + 15.0), 0);
    assert_eq!(read(&mut books, &seen(history().take(90_000)), NOW + 15.0), 0);
    // As many that end while it is watched: all count, and most are forgotten again.
    let news = || (0..100_000).map(|n| ended(&format!("new-{n:06}"), NOW + f64::from(n), NOW + 1.0 + f64::from(n)));
    assert_eq!(
        read(
            &mut books,
            &seen(news().chain(history()).chain((0..OPEN).map(|n| open(&format!("o{n}"), NOW + 2e5)))),
            NOW + 2e5
        ),
        100_000 + OPEN
    );
    assert_eq!(all(&books), 100_000);
    assert!(books.known.len() <= KNOWN + KNOWN / 4);
    assert_eq!(
        read(&mut reread(&books), &seen(news().chain((0..OPEN).map(|n| open(&format!("o{n}"), NOW + 2e5)))), NOW + 2e5),
        0
    );
}

mod judging {
    use super::*;
    use crate::probe::backup::config::Config;
    use crate::probe::backup::schedule::Schedule;

    const HOUR: f64 = 3600.0;

    /// Each hour, with a grace of ten minutes.
    fn hourly() -> Schedule {
        schedule("0 * * * *")
    }

    fn schedule(text: &str) -> Schedule {
        let keys = format!("source = \"exec\"\nschedule = \"{text}\"\ngrace = \"10m\"");
        let files = crate::settings::Files::new(false);
        let config: Config = crate::probe::testing::config(std::path::Path::new("/"), &keys, &files).unwrap();
        config.schedule(None).unwrap()
    }

    /// Judges, and says how many were missed in all.
    fn judge(books: &mut Books, schedule: &Schedule, now: f64, heard: f64) -> u64 {
        if let Some(event) = books.judge(schedule, now, heard) {
            books.apply(&event);
            // What was judged is not judged again, also if it is read twice.
            books.apply(&event);
        }
        books.missed()
    }

    #[test]
    fn nothing_is_judged_that_was_due_before_the_schedule() {
        let mut books = watched();
        for minute in 0..=180 {
            let now = NOW + f64::from(minute) * 60.0;
            let missed = judge(&mut books, &hourly(), now, now);
            assert_eq!(missed, u64::from(minute >= 70) + u64::from(minute >= 130), "minute {minute}");
            books = reread(&books);
        }
        // Another schedule begins anew, once.
        let other = schedule("30 * * * *");
        let later = NOW + 4.0 * HOUR;
        assert_eq!(judge(&mut books, &other, later, later), 2);
        assert_eq!(judge(&mut books, &other, later + 1.0, later + 1.0), 2);
        assert_eq!(judge(&mut books, &other, later + 2400.0, later + 2400.0), 3);
    }

    #[test]
    fn a_source_that_is_back_is_judged_by_what_it_lists() {
        let mut books = watched();
        judge(&mut books, &hourly(), NOW, NOW);
        // A day later it lists all runs but that of hour 7. Until it was heard, nothing is said.
        let runs = (1..=24).filter(|hour| *hour != 7).map(|hour| NOW + f64::from(hour) * HOUR);
        let runs = runs.map(|at| ended(&at.to_string(), at, at + 60.0));
        assert_eq!(judge(&mut books, &hourly(), NOW + 24.5 * HOUR, NOW), 0);
        read(&mut books, &seen(runs), NOW + 24.5 * HOUR);
        assert_eq!(judge(&mut books, &hourly(), NOW + 24.5 * HOUR, NOW + 24.5 * HOUR), 1);
        assert_eq!(judge(&mut books, &hourly(), NOW + 24.6 * HOUR, NOW + 24.6 * HOUR), 1);
    }

    #[test]
    fn due_times_while_midwatch_was_down_are_judged_when_it_is_back() {
        let mut books = watched();
        judge(&mut books, &hourly(), NOW, NOW);
        let back = NOW + 5.5 * HOUR;
        let mut books = reread(&books);
        read(&mut books, &seen([ended("a", NOW + HOUR, NOW + 2.0 * HOUR)]), back);
        // The run of the first hour ended as the second was due.
        assert_eq!(judge(&mut books, &hourly(), back, back), 3);
    }

    #[test]
    fn a_backup_that_takes_longer_than_its_interval_is_not_missed() {
        let mut books = watched();
        judge(&mut books, &hourly(), NOW, NOW);
        read(&mut books, &seen([open("a", NOW + HOUR)]), NOW + HOUR);
        read(&mut books, &seen([open("a", NOW + HOUR), open("b", NOW + 2.0 * HOUR)]), NOW + 2.0 * HOUR);
        assert_eq!(judge(&mut books, &hourly(), NOW + 3.5 * HOUR, NOW + 3.5 * HOUR), 0);
        assert_eq!(books.overlap_count(), 1);
    }

    #[test]
    fn a_clock_that_was_ahead_is_forgiven() {
        let mut books = watched();
        judge(&mut books, &hourly(), NOW + 1000.0 * HOUR, NOW + 1000.0 * HOUR);
        // Back by less than the grace: what was judged is not judged again.
        assert_eq!(books.judge(&hourly(), NOW + 1000.0 * HOUR - 500.0, NOW), None);
        // Back by weeks, in another process: what is due from then on is judged.
        let mut books = reread(&books);
        assert_eq!(judge(&mut books, &hourly(), NOW, NOW), 0);
        assert_eq!(judge(&mut books, &hourly(), NOW + 1.5 * HOUR, NOW + 1.5 * HOUR), 1);
        // Ahead by weeks: nobody knows what was due meanwhile.
        let ahead = NOW + 500.0 * HOUR;
        let skipped = books.skip(ahead).unwrap();
        books.apply(&skipped);
        assert_eq!(books.skip(ahead), None);
        assert_eq!(judge(&mut books, &hourly(), ahead + 1.5 * HOUR, ahead + 1.5 * HOUR), 2);
    }

    #[test]
    fn a_clock_that_was_never_set_is_not_judged_by() {
        let mut books = Books::default();
        read(&mut books, &seen([]), 1000.0);
        assert_eq!(judge(&mut books, &hourly(), 1000.0 + 5.0 * HOUR, 1000.0 + 5.0 * HOUR), 0);
        assert_eq!(judge(&mut books, &hourly(), NOW, NOW), 0);
        assert_eq!(judge(&mut books, &hourly(), NOW + 1.5 * HOUR, NOW + 1.5 * HOUR), 1);
    }
}

/// A run as it really was, in seconds from the beginning: when it began, how long it took, and how it ended.
#[derive(Clone, Debug)]
struct Truth {
    began: u32,
    took: u32,
    outcome: Outcome,
}

fn truths() -> impl Strategy<Value = Vec<Truth>> {
    let outcome = prop::sample::select(&[Outcome::Success, Outcome::Failure, Outcome::Canceled][..]);
    let truth = (0..5000_u32, 0..2000_u32, outcome);
    prop::collection::vec(truth.prop_map(|(began, took, outcome)| Truth { began, took, outcome }), 0..60)
}

/// What a source tells at a time, of runs that it has not thrown away yet.
fn told(truths: &[Truth], now: u32, kept: u32, has_all_open: bool) -> Seen {
    let runs =
        truths.iter().enumerate().filter(|(_, truth)| truth.began <= now && truth.began + truth.took + kept > now);
    let runs = runs.map(|(n, truth)| {
        let at = truth.began + truth.took;
        let end = (at <= now).then(|| End { at: NOW + f64::from(at), outcome: truth.outcome });
        Run { end, ..open(&n.to_string(), NOW + f64::from(truth.began)) }
    });
    Seen { runs: runs.collect(), has_all_open, ..Seen::default() }
}

proptest! {
    #[test]
    fn each_run_counts_once_whenever_the_source_is_read(
        truths in truths(),
        mut looks in prop::collection::vec((0..9000_u32, any::<bool>(), any::<bool>()), 1..30),
        kept in 1..4000_u32,
        are_in_order in prop::bool::weighted(0.8),
    ) {
        if are_in_order {
            looks.sort_unstable();
        }
        let (mut books, mut journal) = (Books::default(), Vec::new());
        let mut shown = HashSet::new();
        let mut had_ended: Option<HashSet<String>> = None;
        for (now, has_all_open, is_restart) in looks {
            let seen = told(&truths, now, kept, has_all_open);
            shown.extend(seen.runs.iter().map(|run| run.id.clone()));
            had_ended.get_or_insert_with(|| {
                seen.runs.iter().filter(|run| run.end.is_some()).map(|run| run.id.clone()).collect()
            });
            let before = all(&books);
            let counted = books.plan(&seen, (NOW + f64::from(now), true), LONGEST);
            let counts = counted.iter().filter(|event| books.apply(event).is_some()).count();
            prop_assert_eq!(all(&books), before + counts as u64);
            journal.extend(counted);
            // The same reading again is no news, and neither is it after a restart.
            prop_assert_eq!(books.plan(&seen, (NOW + f64::from(now), true), LONGEST), []);
            if is_restart {
                let mut replayed = Books::default();
                for event in &journal {
                    replayed.apply(&serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap());
                }
                prop_assert_eq!(&replayed, &books);
                // A journal that is there twice says the same.
                for event in &journal {
                    replayed.apply(event);
                }
                prop_assert_eq!(all(&replayed), all(&books));
                books = reread(&books);
                prop_assert_eq!(&reread(&books), &books);
            }
        }
        let most = shown.difference(&had_ended.unwrap_or_default()).count() as u64;
        // Those that were given up and go on have been counted.
        let uncounted = books.open().filter(|run| !books.knows(&run.id)).count() as u64;
        prop_assert!(all(&books) + uncounted <= most, "more runs than there were");
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn forgetting_counts_nobody_twice(sizes in prop::collection::vec(1..4000_usize, 1..8), window in 1..9000_usize) {
        let mut books = watched();
        let mut until = 0;
        for size in sizes {
            until += size;
            let from = until.saturating_sub(window.max(size));
            let runs = (from..until).map(|n| ended(&n.to_string(), NOW + n as f64, NOW + n as f64 + 0.5));
            read(&mut books, &seen(runs), NOW + until as f64);
            prop_assert_eq!(all(&books), until as u64);
            prop_assert!(books.known.len() <= KNOWN + KNOWN / 4);
        }
    }
}
