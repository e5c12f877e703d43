//! What is known of a job, for a person who was woken up: how it stands, then the last runs, then what its source holds. Times are
//! UTC, as everywhere that midwatch prints any.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};

use super::books::Books;
use super::config::Config;
use super::runs::{End, Outcome, Pitr, Run, Seen};
use super::schedule::Schedule;
use crate::probe::net::clean;
use crate::probe::words::{bytes, seconds};

/// So many runs are listed.
const LISTED: usize = 15;
/// The widest node and note of the list, in characters.
const NODE: usize = 40;
/// See [`NODE`].
const NOTE: usize = 60;
/// So many lines of the last failure's note are shown.
const LINES: usize = 8;
/// A run that began so many seconds before it was due was not too early.
const EARLY: f64 = 60.0;

/// The job's last runs and what its source holds.
pub(super) fn job(config: &Config, books: &Books, held: Option<&Seen>, now: f64) -> String {
    let mut text = String::from("\n");
    state(&mut text, books, now);
    if let Some(schedule) = config.schedule(held) {
        due(&mut text, &schedule, books, now);
    }
    counts(&mut text, books);
    runs(&mut text, books);
    if let Some(held) = held {
        holdings(&mut text, held, now);
    }
    text
}

/// How it stands: the last run, the last success if that was another one, and what goes on.
fn state(text: &mut String, books: &Books, now: f64) {
    match (books.last_success(), books.last_ended()) {
        (Some(success), last) => {
            let is_last = last.is_none_or(|last| last.id == success.id);
            if let Some(last) = last.filter(|_| !is_last) {
                let _ = writeln!(text, "✗ last run      {}", in_words(last, now));
            }
            let _ = writeln!(text, "{} last success  {}", if is_last { "✓" } else { " " }, in_words(success, now));
        }
        (None, Some(last)) => {
            let _ = writeln!(text, "✗ last run      {}", in_words(last, now));
            let _ = writeln!(text, "✗ last success  none that is known");
        }
        (None, None) => {
            let _ = writeln!(text, "  no run that ended is known");
        }
    }
    for run in books.open() {
        let since = run
            .started
            .map_or_else(String::new, |at| format!(" since {}, for {}", utc(at), seconds((now - at).max(0.0))));
        let node = run.node.as_deref().map_or_else(String::new, |node| format!(", on {}", clean(node)));
        let silent = if run.is_silent { "; nobody has been heard of lately who works on it" } else { "" };
        let _ = writeln!(text, "  running      {since}{node}{silent}");
    }
}

/// One run in a line: when, how long ago, how it ended, what it took.
fn in_words(run: &Run, now: f64) -> String {
    let Some(end) = run.end else { return "goes on".to_owned() };
    let mut words = format!("{}, {} ago", utc(end.at), seconds((now - end.at).max(0.0)));
    if end.outcome != Outcome::Success {
        let _ = write!(words, ": {}", end.outcome.label());
    }
    if let Some(took) = took(run) {
        let _ = write!(words, ", took {took}");
    }
    if let Some(size) = run.size {
        let _ = write!(words, ", {}", size_of(size));
    }
    words
}

/// When it is due, and whether it is late.
fn due(text: &mut String, schedule: &Schedule, books: &Books, now: f64) {
    let start = books.last_start();
    // The first due time that no run has begun for.
    let after = start.map(|start| start + EARLY.min(schedule.grace));
    let unmet =
        after.and_then(|after| schedule.next(after, start)).filter(|due| *due <= now && books.open().len() == 0);
    if let Some(due) = unmet {
        let late = now - due;
        let (mark, what) = if late > schedule.grace { ("✗", "missed") } else { (" ", "due") };
        let _ = writeln!(text, "{mark} {what:<12}  {}, {} ago, and nothing has begun since", utc(due), seconds(late));
    }
    if let Some(next) = schedule.next(now, start) {
        let _ = writeln!(text, "  next due      {}, in {} ({})", utc(next), seconds(next - now), schedule.text());
    }
}

fn counts(text: &mut String, books: &Books) {
    let ended = Outcome::ALL.iter().map(|outcome| (outcome.label(), books.ended(*outcome)));
    let others = [("missed", books.missed()), ("overlaps", books.overlap_count())];
    let counts = ended.chain(others).filter(|(_, count)| *count > 0);
    let counts: Vec<_> = counts.map(|(what, count)| format!("{what} {count}")).collect();
    if !counts.is_empty() {
        let _ = writeln!(text, "  counted       {}", counts.join(", "));
    }
}

/// The last runs, the newest first, and what the last one said if it was no success.
fn runs(text: &mut String, books: &Books) {
    let runs: Vec<_> = books.recent().rev().take(LISTED).collect();
    if runs.is_empty() {
        return;
    }
    let node = |run: &Run| fit(&clean(run.node.as_deref().unwrap_or_default()), NODE);
    let width = runs.iter().map(|run| node(run).chars().count()).max().unwrap_or(0).max("node".len());
    let line = |cells: [&str; 6]| {
        let [began, took, size, outcome, node, note] = cells;
        format!("{began:<20}  {took:>9}  {size:>9}  {outcome:<8}  {node:<width$}  {note}").trim_end().to_owned()
    };
    let _ = writeln!(text, "\n{}", line(["began", "took", "size", "outcome", "node", "note"]));
    for run in &runs {
        // Where it is not known when it began, when it ended is what there is.
        let began = match (run.started, run.end) {
            (Some(at), _) => utc(at),
            (None, Some(end)) => format!("≤{}", utc(end.at)),
            (None, None) => String::new(),
        };
        let took = took(run).unwrap_or_default();
        let size = run.size.map(size_of).unwrap_or_default();
        let outcome = run.end.map(|end| end.outcome.label()).unwrap_or_default();
        let note = fit(&clean(run.note.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()), NOTE);
        let _ = writeln!(text, "{}", line([&began, &took, &size, outcome, &node(run), &note]));
    }
    let failed = runs.first().filter(|run| run.end.is_some_and(|end| end.outcome != Outcome::Success));
    let said: Vec<_> =
        failed.map_or("", |run| run.note.as_str()).lines().filter(|line| !line.trim().is_empty()).collect();
    if said.len() > 1 {
        let _ = writeln!(text, "\nthe last one said at its end:");
        for line in said.iter().skip(said.len().saturating_sub(LINES)) {
            let _ = writeln!(text, "    {}", clean(line));
        }
    }
}

/// What the source holds beside runs.
fn holdings(text: &mut String, held: &Seen, now: f64) {
    if held.stock.is_some() || held.pitr.is_some() || !held.agents.is_empty() || !held.notes.is_empty() {
        text.push('\n');
    }
    if let Some(stock) = &held.stock {
        let size = stock.bytes.map_or_else(String::new, |bytes| format!(", {} in all", size_of(bytes)));
        let oldest = stock.oldest.map_or_else(String::new, |at| format!(", the oldest of {}", utc(at)));
        let _ = writeln!(text, "complete backups there: {}{size}{oldest}", stock.retained);
    }
    if let Some(pitr) = &held.pitr {
        self::pitr(text, pitr, now);
    }
    for (node, is_up) in &held.agents {
        let _ = writeln!(text, "{} agent at {}", if *is_up { "✓" } else { "✗" }, clean(node));
    }
    for note in &held.notes {
        let _ = writeln!(text, "{}", clean(note));
    }
}

fn pitr(text: &mut String, pitr: &Pitr, now: f64) {
    let _ = writeln!(text, "point-in-time recovery is {}", if pitr.enabled { "on" } else { "off" });
    if let Some((from, to)) = pitr.range {
        let behind = seconds((now - to).max(0.0));
        let _ = writeln!(text, "  to any point from {} to {}, {behind} ago", utc(from), utc(to));
    } else if pitr.enabled {
        let _ = writeln!(text, "✗ to no point");
    }
    let (gaps, lasting) = pitr.gaps;
    if gaps > 0 {
        let _ = writeln!(text, "✗ but for gaps: {gaps}, {} in all", seconds(lasting));
    }
    for set in &pitr.sets {
        let running = match set.running {
            Some(true) => "runs",
            Some(false) => "does not run",
            None => "is there",
        };
        let mark = if set.running == Some(false) && pitr.enabled { "✗" } else { " " };
        let lag = set.lag.map_or_else(String::new, |lag| format!(", {} behind", seconds(lag.max(0.0))));
        let _ = writeln!(text, "{mark} {} {running}{lag}", clean(&set.name));
    }
}

/// How long a run took; of one that was given up nobody knows.
fn took(run: &Run) -> Option<String> {
    run.seconds().filter(|_| run.end.is_some_and(|End { outcome, .. }| outcome != Outcome::Lost)).map(seconds)
}

#[allow(clippy::cast_precision_loss, reason = "a size that people read")]
fn size_of(size: u64) -> String {
    bytes(size as f64)
}

/// No more than so many characters.
fn fit(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

/// RFC 3339, to the second.
fn utc(unix: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "a time beyond all calendars is none")]
    let time = DateTime::from_timestamp(unix as i64, 0);
    time.map_or_else(|| "an impossible time".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    use super::super::books::Event;
    use super::super::runs::{PitrSet, Stock};
    use super::*;
    use crate::probe::testing;
    use crate::settings::Files;

    const NOW: f64 = 1_709_210_096.0;

    fn config(keys: &str) -> Config {
        let keys = format!("source = \"exec\"\n{keys}");
        testing::config(std::path::Path::new("/"), &keys, &Files::new(false)).unwrap()
    }

    fn run(id: &str, began: f64, took: f64, outcome: Outcome) -> Run {
        let end = Some(End { at: NOW - began + took, outcome });
        Run { id: id.to_owned(), started: Some(NOW - began), end, ..Run::default() }
    }

    fn books(runs: impl IntoIterator<Item = Run>) -> Books {
        let mut books = Books::default();
        for run in runs {
            books.apply(&Event::Run(run));
        }
        books
    }

    #[test]
    fn a_job_that_is_well() {
        let mut last = run("b", 36_000.0, 622.0, Outcome::Success);
        (last.size, last.node) = (Some(13_207_024_435), Some("mongo-2:27017".to_owned()));
        let open = Run { end: None, ..run("c", 720.0, 0.0, Outcome::Success) };
        let books = books([run("a", 122_400.0, 1.0, Outcome::Failure), last, open]);
        let expected = "
✓ last success  2024-02-29T02:45:18Z, 9.8 h ago, took 10 min, 12.3 GiB
  running       since 2024-02-29T12:22:56Z, for 12 min
  next due      2024-03-01T01:30:00Z, in 12.9 h (30 2 * * * Europe/Berlin)
  counted       success 1, failure 1

began                      took       size  outcome   node           note
2024-02-29T02:34:56Z     10 min   12.3 GiB  success   mongo-2:27017
2024-02-28T02:34:56Z      1.0 s             failure
";
        assert_eq!(
            job(&config("schedule = \"30 2 * * *\"\ntime_zone = \"Europe/Berlin\""), &books, None, NOW),
            expected
        );
    }

    #[test]
    fn a_job_that_is_not() {
        let mut last = run("b", 100_000.0, 50.0, Outcome::Failure);
        last.note = "exit status 1\n\nno space\u{1b}[2J left\n".to_owned();
        let lost = Run { duration: None, ..run("a", 200_000.0, 90_000.0, Outcome::Lost) };
        let books = books([run("0", 300_000.0, 50.0, Outcome::Success), lost, last]);
        let expected = "
✗ last run      2024-02-28T08:49:06Z, 27.8 h ago: failure, took 50 s
  last success  2024-02-26T01:15:46Z, 3.5 d ago, took 50 s
✗ missed        2024-02-29T08:48:16Z, 3.8 h ago, and nothing has begun since
  next due      2024-03-01T08:48:16Z, in 20.2 h (86400s)
  counted       success 1, failure 1, lost 1

began                      took       size  outcome   node  note
2024-02-28T08:48:16Z       50 s             failure         exit status 1
2024-02-27T05:01:36Z                        lost
2024-02-26T01:14:56Z       50 s             success

the last one said at its end:
    exit status 1
    no space [2J left
";
        assert_eq!(job(&config("schedule = \"24h\""), &books, None, NOW), expected);
        // Late, but not too late.
        let text = job(&config("schedule = \"24h\"\ngrace = \"4h\""), &books, None, NOW);
        assert!(text.contains("\n  due           2024-02-29T08:48:16Z, 3.8 h ago, and"), "{text}");
    }

    #[test]
    fn what_nobody_knows_is_not_made_up() {
        assert_eq!(job(&config(""), &books([]), None, NOW), "\n  no run that ended is known\n");
        let ended = Run { started: None, ..run("a", 60.0, 0.0, Outcome::Failure) };
        let text = job(&config("schedule = \"24h\""), &books([ended]), None, NOW);
        assert!(
            text.starts_with(
                "\n✗ last run      2024-02-29T12:33:56Z, 60 s ago: failure\n✗ last success  none that is known\n"
            ),
            "{text}"
        );
        assert!(text.contains("\n≤2024-02-29T12:33:56Z "), "{text}");
    }

    #[test]
    fn what_the_source_holds() {
        let set = |name: &str, running, lag| PitrSet { name: name.to_owned(), running, lag };
        let held = Seen {
            stock: Some(Stock { retained: 12, oldest: Some(NOW - 86_400.0), bytes: Some(3 << 30) }),
            pitr: Some(Pitr {
                enabled: true,
                sets: vec![set("rs0", Some(true), Some(30.0)), set("rs\u{7}1", Some(false), None)],
                range: Some((NOW - 7200.0, NOW - 90.0)),
                gaps: (2, 600.0),
            }),
            agents: vec![("db1:27017".to_owned(), true), ("db2:27017".to_owned(), false)],
            notes: vec!["a note\nof a peer".to_owned()],
            ..Seen::default()
        };
        let expected = "
  no run that ended is known

complete backups there: 12, 3.0 GiB in all, the oldest of 2024-02-28T12:34:56Z
point-in-time recovery is on
  to any point from 2024-02-29T10:34:56Z to 2024-02-29T12:33:26Z, 90 s ago
✗ but for gaps: 2, 10 min in all
  rs0 runs, 30 s behind
✗ rs 1 does not run
✓ agent at db1:27017
✗ agent at db2:27017
a note of a peer
";
        assert_eq!(job(&config(""), &books([]), Some(&held), NOW), expected);
    }
}
