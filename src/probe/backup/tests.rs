//! What readings and the time that passes come to, with sources of all kinds.

use std::fs;
use std::path::Path;

use super::runs::{End, Outcome, Run};
use super::schedule::Schedule;
use super::*;
use crate::metrics::testing::Scrape;
use crate::metrics::{Gauges, SeriesSet};
use crate::probe::testing::{Bench, config};
use crate::settings::Files as Secrets;

const NOW: f64 = 1_800_000_000.0;
const HOUR: f64 = 3600.0;
const TIME: Duration = Duration::from_secs(60);

fn read(keys: &str) -> Result<Config, Vec<String>> {
    config(Path::new("/"), keys, &Secrets::new(true))
}

/// A daemon that has just started, with its state there.
fn daemon(folder: &Path, keys: &str) -> Bench<Backup> {
    let state = State::of_daemon();
    state.set_dir(Some(&folder.join("state")));
    Bench::within(folder, keys, &Shared { state, ..Shared::default() })
}

/// A job as it is planned for, without a journal.
struct Plan {
    books: Books,
    config: Config,
    memory: Mutex<Memory>,
}

impl Plan {
    fn of(keys: &str) -> Self {
        Self { books: Books::default(), config: read(keys).unwrap(), memory: Mutex::default() }
    }

    fn enter(&mut self, now: f64, plan: impl FnOnce(&Job<'_>) -> Vec<Event>) -> Vec<Event> {
        lock(&self.memory).remember(&self.books, self.config.history());
        let events = plan(&Job { books: &self.books, config: &self.config, memory: &self.memory, now });
        for event in &events {
            self.books.apply(event);
        }
        events
    }

    fn heard(&mut self, seen: &Seen, now: f64) -> Vec<Event> {
        let events = self.enter(now, |job| job.heard(seen));
        let mut memory = lock(&self.memory);
        (memory.held, memory.heard, memory.is_up) = (Some(seen.clone()), now, Some(true));
        events
    }

    #[allow(clippy::redundant_closure_for_method_calls, reason = "the method alone is of one lifetime")]
    fn judge(&mut self, now: f64) -> u64 {
        self.enter(now, |job| job.judge());
        self.books.missed()
    }
}

#[tokio::test]
async fn what_a_source_held_is_shown_though_it_cannot_be_read_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (files, keys) = (folder.path().join("files"), "source = \"directory\"\npath = \"files\"\npattern = \"*\"");
    let keys = keys.replace("\"files\"", &format!("'{}'", files.display()));
    fs::create_dir(&files).unwrap();
    fs::write(files.join("one"), [0; 1000]).unwrap();
    let then = SystemTime::now() - Duration::from_secs(86_400);
    fs::File::open(files.join("one")).unwrap().set_modified(then).unwrap();
    let first = daemon(folder.path(), &keys);
    first.run(TIME).await.unwrap();
    let retained = |bench: &Bench<Backup>| bench.sum("midwatch_backup_retained", "");
    let stored = |bench: &Bench<Backup>| bench.sum("midwatch_backup_stored_bytes", "");
    assert_eq!((retained(&first), stored(&first)), (1.0, 1000.0));
    drop(first);
    fs::remove_dir_all(&files).unwrap();
    let second = daemon(folder.path(), &keys);
    second.run(TIME).await.unwrap_err();
    assert_eq!((retained(&second), stored(&second)), (1.0, 1000.0));
    assert_eq!(second.sum("midwatch_backup_source_up", ""), 0.0);
    assert!(second.probe.story().contains("complete backups there: 1"));
}

#[test]
fn what_a_source_holds_is_written_down_now_and_then() {
    let mut plan = Plan::of("source = \"exec\"");
    let held = |lag, is_suspended| Seen {
        pitr: Some(runs::Pitr {
            sets: vec![runs::PitrSet { name: "rs".to_owned(), running: None, lag: Some(lag) }],
            ..runs::Pitr::default()
        }),
        schedule: Schedule::told("0 2 * * *", Some("Europe/Berlin")),
        is_suspended,
        ..Seen::default()
    };
    let mut is_written = |lag, is_suspended, now| {
        let events = plan.heard(&held(lag, is_suspended), now);
        events.iter().any(|event| matches!(event, Event::Held { .. }))
    };
    assert!(is_written(1.0, false, NOW));
    assert!(!is_written(2.0, false, NOW + 15.0));
    assert!(!is_written(1.0, false, NOW + 700.0), "it is the same");
    assert!(is_written(2.0, false, NOW + 700.0));
    assert!(is_written(2.0, true, NOW + 715.0), "somebody switched it off");
    assert!(!is_written(f64::NAN, true, NOW + 730.0));
    let read: Books = serde_json::from_str(&serde_json::to_string(&plan.books).unwrap()).unwrap();
    assert_eq!(read, plan.books);
    assert_eq!(read.held().unwrap().1.seen(), held(2.0, true));
    // Another source holds something else.
    plan.books.apply(&Event::Source { name: "restic".to_owned() });
    assert_eq!(plan.books.held(), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_due_while_the_job_was_suspended_is_not_missed_afterwards() {
    let suspended = |is_suspended| Seen { is_suspended, ..Seen::default() };
    for is_restarted in [false, true] {
        let mut plan = Plan::of("source = \"exec\"\nschedule = \"0 * * * *\"\ngrace = \"30m\"");
        let pass = |plan: &mut Plan, is_suspended, minute: u32| {
            let now = NOW + f64::from(minute) * 60.0;
            plan.heard(&suspended(is_suspended), now);
            plan.judge(now)
        };
        for minute in 0..=200 {
            // Resumed ten minutes after a due time, which was within its grace then.
            let missed = pass(&mut plan, (20..70).contains(&minute), minute);
            assert_eq!(missed, u64::from(minute >= 150), "minute {minute}, restarted {is_restarted}");
            if is_restarted && minute == 69 {
                let clocks = std::mem::take(&mut lock(&plan.memory).clocks);
                plan.memory = Mutex::new(Memory { clocks, ..Memory::default() });
            }
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_judged_before_the_clock_had_time_to_be_set() {
    let mut plan = Plan::of("source = \"exec\"\nschedule = \"0 * * * *\"\ngrace = \"10m\"");
    plan.books.apply(&Event::Schedule { at: NOW, text: plan.config.schedule(None).unwrap().text() });
    // The clock is a day ahead as the machine starts.
    let day = 86_400.0;
    plan.heard(&Seen::default(), NOW + day);
    assert_eq!(plan.judge(NOW + day), 0);
    tokio::time::advance(Duration::from_secs(15)).await;
    plan.heard(&Seen::default(), NOW + 15.0);
    for minute in 0..60 {
        let now = NOW + 15.0 + f64::from(minute) * 60.0;
        plan.heard(&Seen::default(), now);
        assert_eq!(plan.judge(now), 0);
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    plan.heard(&Seen::default(), NOW + 1.2 * HOUR);
    tokio::time::advance(Duration::from_secs(705)).await;
    assert_eq!(plan.judge(NOW + 1.2 * HOUR), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_is_not_given_up_by_a_clock_that_is_ahead() {
    let mut plan = Plan::of("source = \"exec\"\nmax_duration = \"1h\"");
    let run = Run { id: "a".to_owned(), started: Some(NOW), ..Run::default() };
    plan.heard(&Seen::default(), NOW);
    plan.judge(NOW);
    tokio::time::advance(Duration::from_secs(125)).await;
    plan.judge(NOW + 125.0);
    plan.books.apply(&Event::Run(run.clone()));
    let lost = |plan: &Plan| (plan.books.ended(Outcome::Lost), plan.books.open().len());
    // Three days ahead for a moment, seen by a reading before anybody has looked at the clocks, and after.
    for now in [NOW + 3.0 * 86_400.0, NOW + 140.0] {
        plan.heard(&Seen::default(), now);
        plan.judge(now);
        plan.heard(&Seen::default(), now);
        assert_eq!(lost(&plan), (0, 1), "{now}");
        tokio::time::advance(Duration::from_secs(15)).await;
    }
    // Once the clock is believed again, it is given up when its time is over.
    plan.judge(NOW + 155.0);
    tokio::time::advance(Duration::from_secs(7200)).await;
    plan.judge(NOW + 7355.0);
    plan.heard(&Seen::default(), NOW + 7355.0);
    assert_eq!(lost(&plan), (1, 0));
}

#[test]
fn what_another_source_held_is_not_shown() {
    let mut plan = Plan::of("source = \"exec\"");
    plan.books.apply(&Event::Source { name: "directory".to_owned() });
    let held = Held::of(&Seen { is_suspended: true, ..Seen::default() });
    plan.books.apply(&Event::Held { at: NOW, held: Box::new(held) });
    plan.enter(NOW, |_| Vec::new());
    assert!(lock(&plan.memory).held.is_none());
    let mut plan =
        Plan { books: plan.books, ..Plan::of("source = \"directory\"\npath = \"/backup\"\npattern = \"*\"") };
    plan.enter(NOW, |_| Vec::new());
    assert!(lock(&plan.memory).held.is_some());
}

#[tokio::test(start_paused = true)]
async fn times_that_have_not_come_are_set_back_without_a_schedule_too() {
    let mut plan = Plan::of("source = \"exec\"");
    let ended = |at| {
        let end = Some(End { at, outcome: Outcome::Success });
        Event::Run(Run { id: at.to_string(), end, ..Run::default() })
    };
    plan.books.apply(&ended(NOW + 1e7));
    let last = |plan: &Plan| plan.books.last_success().and_then(|run| run.end).unwrap().at;
    plan.judge(NOW);
    assert_eq!(last(&plan), NOW + 1e7);
    tokio::time::advance(Duration::from_secs(125)).await;
    plan.judge(NOW + 125.0);
    assert_eq!(last(&plan), NOW + 125.0);
}

#[tokio::test]
async fn what_goes_on_no_more_is_not_shown_though_nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let keys = "source = \"exec\"\nnode = \"db1:27017\"";
    // Not one that a directory can be made in.
    fs::write(folder.path().join("state"), "").unwrap();
    let bench = daemon(folder.path(), keys);
    let run = Run { id: "a".to_owned(), started: Some(now() - 60.0), ..Run::default() };
    let end = Some(End { at: now(), outcome: Outcome::Success });
    let over = Run { end, ..run.clone() };
    let set = SeriesSet::new([("probe", "p")], Default::default());
    for (run, goes_on) in [(run, 1), (over, 0)] {
        bench.probe.commit(move |_| vec![Event::Run(run)]).await.unwrap_err();
        let mut rec = Recorder::default();
        rec.ends_at(Instant::now() + TIME);
        bench.probe.run(Cycle::MAIN, &mut rec).await.unwrap_err();
        // A run that failed leaves gauges as they were.
        rec.commit(&set, "main", Gauges::Keep);
        let scrape = Scrape::from(&*set);
        assert_eq!(scrape.sum("midwatch_backup_runs_in_progress", ""), f64::from(goes_on));
        assert_eq!(scrape.sum("midwatch_backup_running_start_timestamp_seconds", "") > 0.0, goes_on == 1);
    }
}

#[test]
fn a_source_that_is_read_rarely_has_a_grace_to_match() {
    let restic = "source = \"restic\"\nrepository = \"/r\"\npassword = { env = \"P\" }\nschedule = \"0 2 * * *\"\n";
    let grace = |keys: &str| read(&format!("{restic}{keys}")).map(|config| config.schedule(None).unwrap().grace);
    assert_eq!(grace(""), Ok(HOUR));
    assert_eq!(grace("listing_interval = \"6h\""), Ok(6.0 * HOUR));
    assert_eq!(grace("listing_interval = \"6h\"\ngrace = \"7h\""), Ok(7.0 * HOUR));
    assert!(grace("listing_interval = \"6h\"\ngrace = \"5h\"").unwrap_err()[0].contains("`listing_interval`"));
    assert!(grace("grace = \"10m\"").is_err());
    assert_eq!(grace("grace = \"10m\"\nlisting_interval = \"5m\""), Ok(600.0));
}

#[test]
fn who_tells_the_same_runs_has_the_same_history() {
    let history = |keys: &str| read(keys).unwrap().history();
    assert_eq!(history("source = \"exec\""), history("source = \"push\"\ntoken = { env = \"T\" }"));
    #[cfg(feature = "mongodb")]
    {
        let pbm = "source = \"pbm\"\nhosts = [\"h:1\"]";
        assert_ne!(history(pbm), history(&format!("{pbm}\nrestores = \"other\"")));
    }
}
