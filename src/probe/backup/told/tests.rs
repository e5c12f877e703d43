use super::*;

const NOW: f64 = 1_800_000_000.0;

fn told(what: What, rid: &str) -> Told {
    Told { what, rid: rid.to_owned(), ..Told::default() }
}

/// Enters what a message means, and says how many events that took.
fn tell(books: &mut Books, told: &Told, now: f64) -> usize {
    let events = told.events(books, now);
    for event in &events {
        books.apply(event);
    }
    events.len()
}

fn counts(books: &Books) -> [u64; 4] {
    [Outcome::Success, Outcome::Failure, Outcome::Canceled, Outcome::Lost].map(|outcome| books.ended(outcome))
}

#[test]
fn a_start_and_an_end_without_a_number_are_one_run() {
    let mut books = Books::default();
    assert_eq!(tell(&mut books, &told(What::Start, ""), NOW), 1);
    assert_eq!(books.open().len(), 1);
    tell(&mut books, &told(What::Success, ""), NOW + 90.0);
    assert_eq!((books.open().len(), counts(&books)), (0, [1, 0, 0, 0]));
    assert_eq!(books.last_ended().and_then(Run::seconds), Some(90.0));
    // An end alone is a run of which nobody knows when it began, also if two come in the same moment.
    for _ in 0..2 {
        tell(&mut books, &told(What::Failure, ""), NOW + 100.0);
    }
    assert_eq!(counts(&books), [1, 2, 0, 0]);
    assert_eq!(books.last_ended().and_then(Run::seconds), None);
}

#[test]
fn a_new_start_without_a_number_gives_the_last_run_up() {
    let mut books = Books::default();
    tell(&mut books, &told(What::Start, ""), NOW);
    assert_eq!(tell(&mut books, &told(What::Start, ""), NOW + 60.0), 2);
    assert_eq!((books.open().len(), counts(&books), books.overlap_count()), (1, [0, 0, 0, 1], 0));
    let since = Told { started: Some(NOW + 100.0), ..told(What::Start, "") };
    tell(&mut books, &since, NOW + 120.0);
    assert_eq!((counts(&books), books.overlap_count()), ([0, 0, 0, 2], 0));
    tell(&mut books, &told(What::Success, ""), NOW + 130.0);
    assert_eq!(books.last_ended().and_then(Run::seconds), Some(30.0));
}

#[test]
fn numbers_tell_runs_that_go_on_at_once() {
    let mut books = Books::default();
    tell(&mut books, &told(What::Start, "a"), NOW);
    tell(&mut books, &told(What::Start, "b"), NOW + 10.0);
    assert_eq!((books.open().len(), books.overlap_count()), (2, 1));
    tell(&mut books, &told(What::Success, "a"), NOW + 60.0);
    assert_eq!(books.last_ended().and_then(Run::seconds), Some(60.0));
    // What has no number says nothing of those that have one.
    tell(&mut books, &told(What::Failure, ""), NOW + 70.0);
    assert_eq!((books.open().len(), counts(&books)), (1, [1, 1, 0, 0]));
    tell(&mut books, &told(What::Failure, "b"), NOW + 80.0);
    assert_eq!((books.open().len(), counts(&books)), (0, [1, 2, 0, 0]));
}

#[test]
fn a_message_that_comes_twice_means_nothing_more() {
    let mut books = Books::default();
    assert_eq!(tell(&mut books, &told(What::Start, "a"), NOW), 1);
    assert_eq!(tell(&mut books, &told(What::Start, "a"), NOW + 5.0), 0);
    assert_eq!(books.last_start(), Some(NOW));
    assert_eq!(tell(&mut books, &told(What::Success, "a"), NOW + 60.0), 1);
    let known = books.clone();
    for what in [What::Success, What::Failure, What::Start, What::Log] {
        assert_eq!(tell(&mut books, &told(what, "a"), NOW + 65.0), 0, "{what:?}");
    }
    assert_eq!(books, known);
}

#[test]
fn an_end_that_comes_before_its_start_is_the_run() {
    let mut books = Books::default();
    tell(&mut books, &told(What::Success, "a"), NOW);
    assert_eq!(tell(&mut books, &told(What::Start, "a"), NOW + 1.0), 0);
    assert_eq!((books.open().len(), counts(&books)), (0, [1, 0, 0, 0]));
}

#[test]
fn a_run_that_was_given_up_may_end_after_all() {
    let mut books = Books::default();
    tell(&mut books, &told(What::Start, "a"), NOW);
    let run = books.open().next().unwrap().clone();
    books.apply(&lost(&run, NOW + 1e5));
    assert_eq!(books.last_ended().and_then(|run| run.end).map(|end| end.outcome), Some(Outcome::Lost));
    let ended = Told { ended: Some(NOW + 500.0), started: Some(NOW), ..told(What::Success, "a") };
    assert_eq!(tell(&mut books, &ended, NOW + 2e5), 1);
    assert_eq!(tell(&mut books, &ended, NOW + 2e5), 0);
    // It was counted when it was given up.
    assert_eq!(counts(&books), [0, 0, 0, 1]);
    assert_eq!(books.last_ended().and_then(Run::seconds), Some(500.0));
    assert_eq!(books.last_success().and_then(|run| run.end).map(|end| end.at), Some(NOW + 500.0));
}

#[test]
fn words_are_kept_with_the_run_that_goes_on() {
    let mut books = Books::default();
    let log = Told { note: "half of it".to_owned(), node: Some("db-1:27017".to_owned()), ..told(What::Log, "a") };
    assert_eq!(tell(&mut books, &log, NOW), 0);
    tell(&mut books, &told(What::Start, "a"), NOW);
    assert_eq!(tell(&mut books, &log, NOW + 1.0), 1);
    assert_eq!(tell(&mut books, &log, NOW + 2.0), 0);
    tell(&mut books, &Told { size: Some(7), ..told(What::Success, "a") }, NOW + 3.0);
    let run = books.last_success().unwrap();
    assert_eq!((run.note.as_str(), run.node.as_deref(), run.size), ("half of it", Some("db-1:27017"), Some(7)));
}

#[test]
fn times_that_cannot_be_are_not_believed() {
    for time in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1.0, NOW - 1e9, NOW + 1e6, f64::MAX] {
        let mut books = Books::default();
        let start = Told { started: Some(time), ..told(What::Start, "a") };
        tell(&mut books, &start, NOW);
        assert_eq!(books.last_start(), Some(NOW), "{time}");
        let (duration, cpu_seconds) = (Some(-time.abs()), Some(time * 1e10));
        tell(&mut books, &Told { ended: Some(time), duration, cpu_seconds, ..told(What::Success, "a") }, NOW + 9.0);
        let run = books.last_success().unwrap();
        assert_eq!(
            (run.end.unwrap().at, run.cpu_seconds.filter(|seconds| *seconds > 1e10)),
            (NOW + 9.0, None),
            "{time}"
        );
        assert!(run.seconds().unwrap() <= 9.0, "{time}");
        assert!(books.cpu_seconds().is_finite(), "{time}");
    }
}

#[test]
fn a_run_ends_no_later_than_that_is_told() {
    let mut books = Books::default();
    tell(&mut books, &Told { ended: Some(NOW + 60.0), ..told(What::Success, "a") }, NOW);
    assert_eq!(books.last_success().unwrap().end.unwrap().at, NOW);
}

#[test]
fn numbers_are_what_senders_like() {
    let mut books = Books::default();
    // Long ones that begin alike, one like those that runs without a number have, and a strange one.
    let long = "x".repeat(5000);
    let numbers = [format!("{long}1"), format!("{long}2"), format!("{UNNUMBERED}1"), "\0\u{1F980}\n".to_owned()];
    for rid in &numbers {
        tell(&mut books, &told(What::Start, rid), NOW);
    }
    assert_eq!(books.open().len(), 4);
    assert!(books.open().all(|run| run.id.len() <= Run::LONGEST));
    tell(&mut books, &told(What::Success, ""), NOW + 1.0);
    assert_eq!(books.open().len(), 4);
    for rid in &numbers {
        assert_eq!(tell(&mut books, &told(What::Success, rid), NOW + 2.0), 1);
        assert_eq!(tell(&mut books, &told(What::Success, rid), NOW + 3.0), 0);
    }
    assert_eq!((books.open().len(), counts(&books)), (0, [5, 0, 0, 0]));
}

#[test]
fn so_many_runs_go_on_and_no_more() {
    let mut books = Books::default();
    for n in 0..1000 {
        tell(&mut books, &told(What::Start, &n.to_string()), NOW + f64::from(n));
        assert!(books.open().len() <= OPEN);
    }
    assert_eq!(counts(&books), [0, 0, 0, 1000 - OPEN as u64]);
    assert!(books.open().all(|run| run.started >= Some(NOW + 1000.0 - OPEN as f64)));
}

#[test]
fn the_end_of_a_run_without_a_number_that_was_given_up_is_its_end() {
    const LONGEST: f64 = 1e5;
    let given_up = || {
        let mut books = Books::default();
        tell(&mut books, &told(What::Start, ""), NOW);
        for event in books.plan(&crate::probe::backup::runs::Seen::default(), (NOW + LONGEST + 1.0, true), LONGEST) {
            books.apply(&event);
        }
        assert_eq!((books.open().len(), counts(&books)), (0, [0, 0, 0, 1]));
        books
    };
    let late = NOW + LONGEST + 500.0;
    let mut books = given_up();
    assert_eq!(tell(&mut books, &told(What::Success, ""), late), 1);
    assert_eq!((counts(&books), books.last_success().and_then(Run::seconds)), ([0, 0, 0, 1], Some(LONGEST + 500.0)));
    // The next one is another run.
    tell(&mut books, &told(What::Success, ""), late + 60.0);
    assert_eq!(counts(&books), [1, 0, 0, 1]);
    // So is one that cannot be it: it came much later, or says when it began.
    for (message, now) in [
        (told(What::Success, ""), NOW + 2.5 * LONGEST),
        (Told { started: Some(late - 60.0), ..told(What::Success, "") }, late),
        (Told { duration: Some(60.0), ..told(What::Success, "") }, late),
    ] {
        let mut books = given_up();
        tell(&mut books, &message, now);
        assert_eq!(counts(&books), [1, 0, 0, 1], "{message:?}");
    }
    let mut books = given_up();
    tell(&mut books, &Told { duration: Some(LONGEST + 500.0), ..told(What::Failure, "") }, late);
    assert_eq!(counts(&books), [0, 0, 0, 1]);
}

#[test]
fn when_a_run_that_was_given_up_began_is_not_forgotten() {
    let mut books = Books::default();
    tell(&mut books, &told(What::Start, "a"), NOW);
    let run = books.open().next().unwrap().clone();
    books.apply(&lost(&run, NOW + 1e5));
    tell(&mut books, &told(What::Success, "a"), NOW + 2e5);
    assert_eq!((counts(&books), books.last_success().and_then(Run::seconds)), ([0, 0, 0, 1], Some(2e5)));
}
