use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::advance;

use super::line::{Found, of_books, of_event, replay};
use super::*;
use crate::probe::backup::runs::{End, Outcome, Run, Seen};

const NOW: f64 = 1_800_000_000.0;

/// That of a daemon, in that directory.
fn daemon(dir: &Path) -> State {
    let state = State::of_daemon();
    state.set_dir(Some(dir));
    state
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn journal(dir: &Path) -> PathBuf {
    dir.join("backups.journal")
}

fn success(id: &str) -> Event {
    let end = Some(End { at: NOW + 9.0, outcome: Outcome::Success });
    Event::Run(Run { id: id.to_owned(), started: Some(NOW), end, ..Run::default() })
}

/// Enters the end of a run, and says whether it is on disk.
fn enter(ledger: &Ledger, state: &State, job: &str, id: &str) -> Result<(), NotWritten> {
    ledger.commit(state, job, Unwritten::Enter, |_| vec![success(id)]).unwrap().1
}

fn refuse(ledger: &Ledger, state: &State, job: &str, id: &str) -> Result<(), NotWritten> {
    ledger.commit(state, job, Unwritten::Refuse, |_| vec![success(id)]).map(|_| ())
}

/// Tries again what failed.
fn again(ledger: &Ledger, state: &State, job: &str) -> Result<(), NotWritten> {
    ledger.commit(state, job, Unwritten::Enter, |_| Vec::new()).unwrap().1
}

/// How many runs of the job were counted.
fn count(ledger: &Ledger, state: &State, job: &str) -> u64 {
    ledger.read(state, job, |books| Outcome::ALL.iter().map(|outcome| books.ended(*outcome)).sum())
}

/// The same of a process that only reads.
fn count_on_disk(dir: &Path, job: &str) -> u64 {
    let state = State::default();
    state.set_dir(Some(dir));
    count(&Ledger::default(), &state, job)
}

#[test]
fn the_books_are_there_after_a_restart() {
    let folder = folder();
    let dir = folder.path().join("made/by/it");
    let state = daemon(&dir);
    let ledger = Ledger::default();
    for id in ["a", "b", "a"] {
        enter(&ledger, &state, "nightly", id).unwrap();
    }
    enter(&ledger, &state, "other", "a").unwrap();
    let books = ledger.read(&state, "nightly", Clone::clone);
    drop(ledger);
    let ledger = Ledger::default();
    assert_eq!(ledger.read(&state, "nightly", Clone::clone), books);
    assert_eq!((count(&ledger, &state, "nightly"), count(&ledger, &state, "other")), (2, 1));
    // A number that JSON cannot spell well is read back as it was.
    let at = NOW + 0.1 + f64::EPSILON * NOW;
    ledger
        .commit(&state, "nightly", Unwritten::Enter, |_| vec![Event::Judged { until: at, missed: 0 }])
        .unwrap()
        .1
        .unwrap();
    let books = ledger.read(&state, "nightly", Clone::clone);
    drop(ledger);
    assert_eq!(Ledger::default().read(&state, "nightly", Clone::clone), books);
    for name in ["backups.journal", "backups.lock"] {
        assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn without_a_state_directory_everything_is_in_memory() {
    let (state, ledger) = (State::of_daemon(), Ledger::default());
    enter(&ledger, &state, "a", "1").unwrap();
    refuse(&ledger, &state, "a", "2").unwrap();
    assert_eq!(count(&ledger, &state, "a"), 2);
}

#[test]
fn who_only_reads_leaves_nothing_behind() {
    let folder = folder();
    let dir = folder.path();
    let ledger = Ledger::default();
    let state = daemon(dir);
    enter(&ledger, &state, "a", "1").unwrap();
    let before = fs::read(journal(dir)).unwrap();
    fs::OpenOptions::new().append(true).open(journal(dir)).unwrap().write_all(b"1 torn").unwrap();
    let beside = State::default();
    beside.set_dir(Some(dir));
    let other = Ledger::default();
    assert_eq!(count(&other, &beside, "a"), 1);
    enter(&other, &beside, "a", "2").unwrap();
    assert_eq!(count(&other, &beside, "a"), 2);
    assert_eq!(fs::read(journal(dir)).unwrap(), [&before[..], b"1 torn"].concat());
    // Nor where there is nothing.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    beside.set_dir(Some(&empty));
    enter(&Ledger::default(), &beside, "a", "2").unwrap();
    assert_eq!(fs::read_dir(empty).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_daemon_waits_for_the_first_one_and_goes_on_from_there() {
    let folder = folder();
    let (first, second) = (Ledger::default(), Ledger::default());
    let (one, two) = (daemon(folder.path()), daemon(folder.path()));
    enter(&first, &one, "a", "1").unwrap();
    let refused = refuse(&second, &two, "a", "2").unwrap_err();
    assert!(refused.to_string().contains("another midwatch"), "{refused}");
    assert_eq!(count(&second, &two, "a"), 1);
    enter(&second, &two, "a", "3").unwrap_err();
    enter(&second, &two, "only here", "3").unwrap_err();
    // Both saw the same run; the first one writes on.
    enter(&first, &one, "a", "3").unwrap();
    enter(&first, &one, "a", "4").unwrap();
    advance(Duration::from_secs(2)).await;
    again(&second, &two, "a").unwrap_err();
    assert_eq!(count(&second, &two, "a"), 2);
    drop(first);
    again(&second, &two, "a").unwrap_err();
    advance(Duration::from_secs(2)).await;
    again(&second, &two, "a").unwrap();
    assert_eq!((count(&second, &two, "a"), count(&second, &two, "only here")), (3, 1));
    refuse(&second, &two, "a", "5").unwrap();
    drop(second);
    assert_eq!((count_on_disk(folder.path(), "a"), count_on_disk(folder.path(), "only here")), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_written_when_it_can() {
    let folder = folder();
    let dir = folder.path().join("state");
    fs::write(&dir, "a file where the directory should be").unwrap();
    let (ledger, state) = (Ledger::default(), daemon(&dir));
    for id in ["1", "2", "3"] {
        enter(&ledger, &state, "a", id).unwrap_err();
        refuse(&ledger, &state, "a", "refused").unwrap_err();
    }
    assert_eq!(count(&ledger, &state, "a"), 3);
    fs::remove_file(&dir).unwrap();
    // It is not tried with every message.
    again(&ledger, &state, "a").unwrap_err();
    advance(Duration::from_secs(2)).await;
    again(&ledger, &state, "a").unwrap();
    assert_eq!(count_on_disk(&dir, "a"), 3);
    refuse(&ledger, &state, "a", "refused").unwrap();
    drop(ledger);
    assert_eq!(count(&Ledger::default(), &state, "a"), 4);
}

#[tokio::test(start_paused = true)]
async fn if_too_much_waits_all_books_are_written_in_its_place() {
    let folder = folder();
    let dir = folder.path().join("state");
    fs::write(&dir, "").unwrap();
    let (ledger, state) = (Ledger::default(), daemon(&dir));
    let note = "x".repeat(Run::LONGEST_NOTE);
    let run = |n: usize| {
        let end = Some(End { at: NOW, outcome: Outcome::Success });
        Event::Run(Run { id: n.to_string(), end, note: note.clone(), ..Run::default() })
    };
    for n in 0..5 {
        let events: Vec<_> = (n * 1000..(n + 1) * 1000).map(run).collect();
        ledger.commit(&state, "a", Unwritten::Enter, |_| events).unwrap().1.unwrap_err();
    }
    fs::remove_file(&dir).unwrap();
    advance(Duration::from_secs(2)).await;
    enter(&ledger, &state, "b", "1").unwrap();
    assert_eq!((count_on_disk(&dir, "a"), count_on_disk(&dir, "b")), (5000, 1));
    assert!(fs::metadata(journal(&dir)).unwrap().len() < 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_deleted_is_written_anew() {
    let folder = folder();
    let (ledger, state) = (Ledger::default(), daemon(folder.path()));
    enter(&ledger, &state, "a", "1").unwrap();
    fs::remove_file(journal(folder.path())).unwrap();
    enter(&ledger, &state, "a", "2").unwrap_err();
    advance(Duration::from_secs(2)).await;
    enter(&ledger, &state, "a", "3").unwrap();
    assert_eq!(count_on_disk(folder.path(), "a"), 3);
    // The books move along with the state directory.
    let other = folder.path().join("other");
    state.set_dir(Some(&other));
    enter(&ledger, &state, "a", "4").unwrap();
    assert_eq!((count_on_disk(&other, "a"), count_on_disk(folder.path(), "a")), (4, 3));
}

#[test]
fn an_older_journal_where_the_state_directory_is_now_replaces_nothing() {
    let (folder, later) = (folder(), NOW + 1000.0);
    let old = folder.path().join("old");
    let one = daemon(&old);
    enter(&Ledger::default(), &one, "a", "1").unwrap();
    enter(&Ledger::default(), &one, "only there", "1").unwrap();
    let (ledger, state) = (Ledger::default(), daemon(&folder.path().join("new")));
    let newer = |id: &str| {
        let end = Some(End { at: later, outcome: Outcome::Success });
        Event::Run(Run { id: id.to_owned(), started: Some(NOW), end, ..Run::default() })
    };
    ledger.commit(&state, "a", Unwritten::Enter, |_| vec![newer("2"), newer("3")]).unwrap().1.unwrap();
    state.set_dir(Some(&old));
    enter(&ledger, &state, "a", "4").unwrap();
    assert_eq!((count(&ledger, &state, "a"), count_on_disk(&old, "a")), (3, 3));
    assert_eq!((count(&ledger, &state, "only there"), count_on_disk(&old, "only there")), (1, 1));
    // One that is newer does.
    let other = folder.path().join("other");
    let third = daemon(&other);
    let newest = Event::Judged { until: later + 1.0, missed: 1 };
    Ledger::default().commit(&third, "a", Unwritten::Enter, |_| vec![newest]).unwrap().1.unwrap();
    state.set_dir(Some(&other));
    enter(&ledger, &state, "b", "1").unwrap();
    assert_eq!(ledger.read(&state, "a", Books::missed), 1);
}

#[test]
fn a_journal_that_cannot_be_read_is_told() {
    let folder = folder();
    let beside = State::default();
    beside.set_dir(Some(folder.path()));
    let ledger = Ledger::default();
    assert_eq!((count(&ledger, &beside, "a"), ledger.unread()), (0, None), "there is none");
    fs::create_dir(journal(folder.path())).unwrap();
    let ledger = Ledger::default();
    assert_eq!(count(&ledger, &beside, "a"), 0);
    assert!(ledger.unread().is_some_and(|why| why.contains("backups.journal")));
}

#[tokio::test]
async fn a_disk_that_hangs_takes_one_thread() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (release, hangs) = std::sync::mpsc::channel::<()>();
    let (ledger, begun) = (Ledger::default(), Arc::new(AtomicUsize::new(0)));
    let work = |wait: Option<std::sync::mpsc::Receiver<()>>| {
        let begun = Arc::clone(&begun);
        ledger.beside(Files::Journal, move || {
            begun.fetch_add(1, Ordering::Relaxed);
            wait.map_or(Ok(()), |wait| wait.recv())
        })
    };
    let patience = Duration::from_millis(5);
    assert!(tokio::time::timeout(patience, work(Some(hangs))).await.is_err());
    for _ in 0..20 {
        assert!(tokio::time::timeout(patience, work(None)).await.is_err());
    }
    // The spool is another matter.
    assert!(ledger.beside(Files::Spool, || ()).await.is_ok());
    assert!(begun.load(Ordering::Relaxed) <= 1, "all wait for the one that hangs");
    release.send(()).unwrap();
    assert!(work(None).await.is_ok());
    assert_eq!(begun.load(Ordering::Relaxed), 2, "who gave up in the meantime does nothing");
}

#[test]
fn a_time_that_has_not_come_makes_no_other_job_forgotten() {
    let folder = folder();
    let (state, path) = (daemon(folder.path()), journal(folder.path()));
    let now = crate::probe::backup::now();
    let at = |at: f64| Event::Run(Run { end: Some(End { at, outcome: Outcome::Success }), ..Run::default() });
    for (job, days) in [("ahead", 3000.0), ("lately", -1.0)] {
        let event = at(now + days * 86_400.0);
        Ledger::default().commit(&state, job, Unwritten::Enter, |_| vec![event]).unwrap().1.unwrap();
    }
    // Damage has all of it written anew.
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"1 0 damaged\n").unwrap();
    enter(&Ledger::default(), &state, "a", "1").unwrap();
    assert_eq!(["ahead", "lately", "a"].map(|job| count_on_disk(folder.path(), job)), [1, 1, 1]);
}

#[test]
fn a_torn_line_is_cut_off() {
    let folder = folder();
    let (state, path) = (daemon(folder.path()), journal(folder.path()));
    enter(&Ledger::default(), &state, "a", "1").unwrap();
    let whole = fs::read(&path).unwrap();
    enter(&Ledger::default(), &state, "a", "2").unwrap();
    let both = fs::read(&path).unwrap();
    for length in whole.len()..both.len() {
        fs::write(&path, &both[..length]).unwrap();
        let ledger = Ledger::default();
        assert_eq!(count(&ledger, &state, "a"), 1);
        assert_eq!(fs::read(&path).unwrap(), whole);
        enter(&ledger, &state, "a", "2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), both);
    }
}

#[test]
fn a_damaged_line_is_left_out_and_kept_beside() {
    let folder = folder();
    let (state, path) = (daemon(folder.path()), journal(folder.path()));
    let ledger = Ledger::default();
    for id in ["1", "2", "3"] {
        enter(&ledger, &state, "a", id).unwrap();
    }
    drop(ledger);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let ledger = Ledger::default();
    assert_eq!(count(&ledger, &state, "a"), 2);
    assert_eq!(fs::read(folder.path().join("backups.journal.damaged")).unwrap(), bytes);
    assert_ne!(fs::read(&path).unwrap(), bytes);
    // The source tells it again.
    enter(&ledger, &state, "a", "2").unwrap();
    assert_eq!(count_on_disk(folder.path(), "a"), 3);
}

#[test]
fn what_a_newer_version_wrote_is_kept() {
    let folder = folder();
    let (state, path) = (daemon(folder.path()), journal(folder.path()));
    enter(&Ledger::default(), &state, "a", "1").unwrap();
    let event = "{\"event\":[\"a\",{\"tamed\":{\"by\":3}}]}";
    let line = |version: &str| {
        let sum = crc32fast::hash(format!("{version}{event}").as_bytes());
        format!("{version} {sum:08x} {event}\n")
    };
    let newer = line("1") + &line("2") + &line("10");
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(newer.as_bytes()).unwrap();
    let ledger = Ledger::default();
    for n in 0..20 {
        let note = "x".repeat(Run::LONGEST_NOTE);
        let run = |n: usize| Run { id: n.to_string(), note: note.clone(), ..Run::default() };
        let events: Vec<_> = (0..64).map(|id| Event::Run(run(n * 64 + id))).collect();
        ledger.commit(&state, "a", Unwritten::Enter, |_| events).unwrap().1.unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.len() > 2 << 20 && text.contains(&newer));
    assert_eq!(count_on_disk(folder.path(), "a"), 1);
}

#[test]
fn the_journal_stays_short() {
    let folder = folder();
    let (state, path) = (daemon(folder.path()), journal(folder.path()));
    let old = Run { id: "x".to_owned(), ..Run::default() };
    let ago = |at| vec![Event::Run(Run { end: Some(End { at, outcome: Outcome::Success }), ..old.clone() })];
    for (job, days) in [("long ago", 500.0), ("lately", 300.0), ("still there", 500.0)] {
        let at = NOW - days * 86_400.0;
        Ledger::default().commit(&state, job, Unwritten::Enter, |_| ago(at)).unwrap().1.unwrap();
    }
    let ledger = Ledger::default();
    assert_eq!(count(&ledger, &state, "still there"), 1);
    let mut largest = 0;
    for n in 0..200 {
        let note = "x".repeat(Run::LONGEST_NOTE);
        let run = |id: usize| {
            let Event::Run(run) = success(&id.to_string()) else { unreachable!() };
            Event::Run(Run { note: note.clone(), ..run })
        };
        let events: Vec<_> = (0..20).map(|id| run(n * 20 + id)).collect();
        ledger.commit(&state, "a", Unwritten::Enter, |_| events).unwrap().1.unwrap();
        largest = largest.max(fs::metadata(&path).unwrap().len());
    }
    assert!(largest < 2 << 20, "{largest} bytes of {}", 4000 * Run::LONGEST_NOTE);
    let books = ledger.read(&state, "a", Clone::clone);
    drop(ledger);
    let ledger = Ledger::default();
    assert_eq!(ledger.read(&state, "a", Clone::clone), books);
    let counts = ["a", "lately", "still there", "long ago"].map(|job| count(&ledger, &state, job));
    assert_eq!(counts, [4000, 1, 1, 0]);
    assert!(!folder.path().join("backups.journal.tmp").exists());
}

#[test]
fn what_is_no_journal_is_not_waited_for() {
    let folder = folder();
    let (state, path) = (daemon(folder.path()), journal(folder.path()));
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(count_on_disk(folder.path(), "a"), 0);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    enter(&Ledger::default(), &state, "a", "1").unwrap_err();
    fs::remove_dir(&path).unwrap();
    // A terabyte of nothing.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let ledger = Ledger::default();
    enter(&ledger, &state, "a", "1").unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 1 << 16);
    assert_eq!(count_on_disk(folder.path(), "a"), 1);
}

/// All kinds of events, and books in between.
fn lines() -> Vec<Vec<u8>> {
    let mut books = Books::default();
    let open = Run { id: "1".to_owned(), started: Some(NOW), ..Run::default() };
    let first = Seen { runs: vec![open], ..Seen::default() };
    let mut events = vec![Event::Source { name: "pbm".to_owned() }];
    events.extend(books.plan(&first, (NOW, true), 1e5));
    events.push(Event::Schedule { at: NOW, text: "1h".to_owned() });
    events.push(success("1"));
    events.push(Event::Judged { until: NOW + 5.0, missed: 1 });
    let mut lines: Vec<_> = events.iter().map(|event| of_event("a", event).unwrap()).collect();
    for event in &events {
        books.apply(event);
    }
    lines.push(of_books("a", &books).unwrap());
    lines.push(of_event("a", &success("2")).unwrap());
    lines
}

fn read(bytes: &[u8]) -> (Found, Option<Books>) {
    let mut books = BTreeMap::new();
    let found = replay(bytes, u64::MAX, &mut books).unwrap();
    assert_eq!(found.whole + found.torn, bytes.len() as u64);
    (found, books.remove("a"))
}

#[test]
fn wherever_it_is_cut_the_lines_before_are_read() {
    let lines = lines();
    let bytes = lines.concat();
    for length in 0..=bytes.len() {
        let (found, books) = read(&bytes[..length]);
        let (mut whole, mut count) = (0, 0);
        while count < lines.len() && whole + lines[count].len() <= length {
            (whole, count) = (whole + lines[count].len(), count + 1);
        }
        assert_eq!(found, Found { whole: whole as u64, torn: (length - whole) as u64, ..Found::default() });
        assert_eq!(books, read(&lines[..count].concat()).1);
    }
}

#[test]
fn whatever_bit_is_wrong_no_run_is_counted_twice() {
    let mut bytes = lines().concat();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let (found, books) = read(&bytes);
            assert_eq!(found.foreign, 0, "bit {bit} of byte {at}");
            assert!(found.damaged + u64::from(found.torn > 0) >= 1, "bit {bit} of byte {at}");
            let books = books.unwrap();
            assert!(books.ended(Outcome::Success) <= 2 && books.missed() <= 1);
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn long_lines_are_skipped_and_take_no_memory() {
    let line = of_event("a", &success("1")).unwrap();
    let mut bytes = vec![b'x'; 40 << 20];
    bytes.push(b'\n');
    bytes.extend_from_slice(&line);
    let (found, books) = read(&bytes);
    assert_eq!((found.damaged, found.torn), (1, 0));
    assert_eq!(books.unwrap().ended(Outcome::Success), 1);
    bytes.extend(vec![0; 20 << 20]);
    assert_eq!(read(&bytes).0.torn, 20 << 20);
    // No more jobs than a configuration can have.
    let jobs: Vec<_> = (0..5000).flat_map(|n| of_event(&n.to_string(), &success("1")).unwrap()).collect();
    let mut books = BTreeMap::new();
    assert_eq!(replay(&jobs[..], u64::MAX, &mut books).unwrap().foreign, 5000 - 4096);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_with_all_books_is_not_written_twice() {
    let folder = folder();
    let (ledger, state) = (Ledger::default(), daemon(folder.path()));
    enter(&ledger, &state, "a", "1").unwrap();
    fs::remove_file(journal(folder.path())).unwrap();
    let judged = || {
        let until = NOW + 3600.0;
        vec![Event::Schedule { at: NOW, text: "1h".to_owned() }, Event::Judged { until, missed: 1 }]
    };
    ledger.commit(&state, "a", Unwritten::Enter, |_| judged()).unwrap().1.unwrap_err();
    advance(Duration::from_secs(2)).await;
    again(&ledger, &state, "a").unwrap();
    let books = ledger.read(&state, "a", Clone::clone);
    drop(ledger);
    let ledger = Ledger::default();
    assert_eq!((ledger.read(&state, "a", Clone::clone), books.missed()), (books.clone(), 1));
    // Nor does it matter if it is.
    ledger.commit(&state, "a", Unwritten::Enter, |_| judged()).unwrap().1.unwrap();
    assert_eq!(ledger.read(&state, "a", Books::missed), 1);
}
