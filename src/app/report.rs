//! Prints runs for a person: each target, each phase as a bar, the failure in words; or a line for each run. Texts of
//! peers are [cleaned](clean) here too, whoever recorded them: what is printed ends up in a terminal.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use ::time::OffsetDateTime;

use crate::failure::{Failure, Reason};
use crate::metrics::trace::{PhaseTrace, TargetTrace, Trace};
use crate::probe::ProbeId;
use crate::probe::net::clean;
use crate::scheduler::{LeftOut, PastRun, Standing, on_target};

/// The widest bar, in characters.
const BAR: usize = 40;

/// One run to be reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report<'r> {
    /// The first line.
    pub(super) title: &'r str,
    pub(super) trace: &'r Trace,
    pub(super) result: &'r Result<(), Failure>,
    pub(super) duration: Duration,
    /// The only target to be shown, if not all are.
    pub(super) only: Option<&'r str>,
}

impl Report<'_> {
    /// Writes the report. Bars are in proportion to the longest phase of the run, so that targets compare.
    pub(super) fn render(&self) -> String {
        let Self { title, trace, result, duration, only } = *self;
        let longest = trace.phases.iter().map(|phase| phase.duration).max().unwrap_or_default();
        let mut text = format!("{title}\n");
        let mut targets: Vec<_> = trace.targets.iter().enumerate().collect();
        targets.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        for (index, target) in &targets {
            if only.is_none_or(|only| only == target.name) {
                self.render_target(&mut text, (*index, target), longest);
            }
        }
        let good = trace.targets.iter().filter(|target| on_target(target, result, duration).1.is_ok()).count();
        let _ = match result {
            Ok(()) if targets.is_empty() => writeln!(text, "\nsucceeded in {}", time(duration)),
            Ok(()) => writeln!(text, "\n{good} of {} succeeded in {}", targets.len(), time(duration)),
            Err(failure) => writeln!(text, "\nfailed after {}: {}", time(duration), in_words(failure)),
        };
        text
    }

    /// The targets, if there are any.
    fn render_briefly(&self, text: &mut String) {
        let longest = self.trace.phases.iter().map(|phase| phase.duration).max().unwrap_or_default();
        let mut targets: Vec<_> = self.trace.targets.iter().enumerate().collect();
        targets.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        let mut was_brief = false;
        for (index, target) in targets {
            let (duration, verdict) = on_target(target, self.result, self.duration);
            if verdict.is_err() {
                self.render_target(text, (index, target), longest);
                was_brief = false;
                continue;
            }
            if !was_brief {
                text.push('\n');
            }
            was_brief = true;
            let phases = self.trace.phases.iter().filter(|phase| phase.target == index);
            let phases: Vec<_> = phases.map(|phase| format!("{} {}", phase.name, time(phase.duration))).collect();
            let note = clean(&target.note);
            let _ = writeln!(text, "✓ {}  {note}  {}  ({})", name(target), time(duration), phases.join(", "));
        }
    }

    fn render_target(&self, text: &mut String, (index, target): (usize, &TargetTrace), longest: Duration) {
        let note = if target.note.is_empty() { String::new() } else { format!("  {}", clean(&target.note)) };
        let (duration, verdict) = on_target(target, self.result, self.duration);
        let _ = writeln!(text, "\n{} {}{note}", if verdict.is_ok() { "✓" } else { "✗" }, name(target));
        let phases = || self.trace.phases.iter().filter(|phase| phase.target == index);
        let width = phases().map(|phase| phase.name.len() + 1).max().unwrap_or(0).max(9);
        for phase in phases() {
            let PhaseTrace { name, duration, failure, .. } = phase;
            let end = failure.map_or(String::new(), |reason| format!("  ✗ {reason}"));
            let _ = writeln!(text, "    {name:<width$}{:>10}  {}{end}", time(*duration), bar(*duration, longest));
        }
        let _ = writeln!(text, "    {:<width$}{:>10}", "total", time(duration));
        if let Err(failure) = verdict {
            let _ = writeln!(text, "    {}", in_words(failure));
        }
    }
}

/// The runs of all cycles of a probe: a line each, and of their targets a line for one that is well, and all phases of one that
/// is not.
pub(super) fn cycles<'r>(title: &str, runs: impl Iterator<Item = (&'static str, Report<'r>)>) -> String {
    let runs: Vec<_> = runs.collect();
    let width = runs.iter().map(|(cycle, _)| cycle.len()).max().unwrap_or(0);
    let mut text = format!("{title}\n\n");
    let mut said = String::new();
    for (cycle, report) in &runs {
        let took = time(report.duration);
        let Err(failure) = report.result else {
            let _ = writeln!(text, "✓ {cycle:<width$} {took:>12}");
            continue;
        };
        let words = in_words(failure);
        let shown = if words == said { "the same" } else { &words };
        let _ = writeln!(text, "✗ {cycle:<width$} {took:>12}  {shown}");
        said = words;
    }
    for (_, report) in &runs {
        report.render_briefly(&mut text);
    }
    text
}

/// A remembered run in full, or one target of it.
pub(super) fn past(id: &ProbeId, run: &PastRun, only: Option<&str>) -> String {
    let title = format!(
        "{} {}\nrun {}, cycle {}, ended {}, {}",
        id.kind,
        id.name,
        run.id,
        run.cycle,
        utc(run.ended),
        run.standing.label()
    );
    let report = Report { title: &title, trace: &run.trace, result: &run.result, duration: run.duration, only };
    let mut text = report.render();
    let LeftOut { targets, phases } = run.left_out;
    if (targets, phases) != (0, 0) {
        let _ = writeln!(
            text,
            "The run was too large to remember all of it: {targets} targets and {phases} phases are left out."
        );
    }
    text
}

/// Remembered runs of a probe, one a line, in the order given. With `only`, what is said of each is said of that target.
pub(super) fn list(id: &ProbeId, runs: &[PastRun], only: Option<&str>) -> String {
    let mut text = format!("{} {}: {} runs, newest first\n", id.kind, id.name, runs.len());
    if !runs.is_empty() {
        let _ = writeln!(text, "\n{:<16}  {:<24}  {:>12}  result", "id", "ended", "duration");
    }
    for run in runs {
        let line = format!(
            "{:<16}  {:<24}  {:>12}  {:<6}  {}",
            run.id.to_string(),
            utc(run.ended),
            time(run.duration),
            run.standing.label(),
            gist(run, only)
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What a person wants to know of a run first: of the given target, or else of the worst.
fn gist(run: &PastRun, only: Option<&str>) -> String {
    let verdict = |target| on_target(target, &run.result, run.duration);
    let mut targets: Vec<_> =
        run.trace.targets.iter().filter(|target| only.is_none_or(|only| only == target.name)).collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    let mut failed = targets.iter().filter_map(|target| Some((target, verdict(target).1.err()?)));
    if let Some((target, failure)) = failed.next() {
        let more = match failed.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        return format!("{}: {}{more}", name(target), in_words(failure));
    }
    let slowest = targets.into_iter().max_by_key(|target| target.duration);
    match (&run.result, slowest) {
        (Err(failure), _) => in_words(failure),
        (Ok(()), Some(target)) if only.is_some() || run.standing == Standing::Slow => {
            format!("{} took {}", name(target), time(target.duration))
        }
        (Ok(()), _) => String::new(),
    }
}

/// Every probe with its last run.
pub(super) fn overview<'p>(probes: impl Iterator<Item = (&'p ProbeId, Option<PastRun>)>, now: SystemTime) -> String {
    let probes: Vec<_> = probes.map(|(id, last)| (format!("{} {}", id.kind, id.name), last)).collect();
    let width = probes.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("probe".len());
    let mut text = format!("{:<width$}  {:<6}  {:>8}  run\n", "probe", "last", "age");
    for (name, last) in &probes {
        let _ = match last {
            Some(run) => {
                let (standing, age) = (run.standing.label(), age(run.ended, now));
                writeln!(text, "{name:<width$}  {standing:<6}  {age:>8}  {}", run.id)
            }
            None => writeln!(text, "{name:<width$}  no run has ended yet"),
        };
    }
    text
}

/// A target's name, which may be a peer's word, fit for a terminal.
fn name(target: &TargetTrace) -> String {
    if target.name.is_empty() { "target".to_owned() } else { clean(&target.name) }
}

/// RFC 3339, to the millisecond.
pub(super) fn utc(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// How long ago that was, in the unit that a person would choose. A clock that was set back makes it 0.
fn age(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then).unwrap_or_default().as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Eighths of a character, so that short phases are told apart.
fn bar(duration: Duration, longest: Duration) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = duration.as_nanos() * (BAR as u128 * 8) / longest.as_nanos().max(1);
    let eighths = usize::try_from(eighths).unwrap_or(BAR * 8).clamp(1, BAR * 8);
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// Three significant places in the unit that a person would choose.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.3} ms", seconds * 1e3) } else { format!("{seconds:.3} s") }
}

fn in_words(failure: &Failure) -> String {
    format!("{} ({}): {}", meaning(failure.reason), failure.reason, clean(&failure.detail))
}

/// What a reason means, for somebody who was woken by it.
fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::Timeout => "no answer in time",
        Reason::Resolve => "the name could not be resolved",
        Reason::Refused => "nothing listens there",
        Reason::Unreachable => "there is no way to the host",
        Reason::Closed => "the peer closed the connection",
        Reason::Tls => "the TLS handshake failed",
        Reason::Certificate => "the certificate is not acceptable",
        Reason::Auth => "the credentials were refused",
        Reason::Protocol => "the peer does not speak the protocol",
        Reason::Rejected => "the peer refused the request",
        Reason::NotPrimary => "the member is not the primary",
        Reason::Mismatch => "the answer is not the expected one",
        Reason::Overload => "the peer is overloaded",
        Reason::PskMismatch => "the pre-shared key is another one than the server's",
        Reason::WrapMismatch => "the server wraps its control packets in another way",
        Reason::DataPlaneTimeout => "the tunnel opens, but nothing comes back through it",
        Reason::RateLimited => "not asked, to do the server no harm",
        Reason::ClockBehind => "our clock is behind what it was, and the server remembers",
        Reason::WrongInterface => "the packets took another way than the one that is watched",
        Reason::Local => "this machine lacks a resource",
        Reason::Internal => "a defect of midwatch",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_never_empty() {
        let ms = Duration::from_millis;
        assert_eq!(bar(ms(10), ms(10)).chars().count(), BAR);
        assert_eq!(bar(ms(5), ms(10)).chars().count(), BAR / 2);
        assert_eq!(bar(Duration::from_nanos(1), ms(10)), "▏");
        assert_eq!(bar(Duration::ZERO, Duration::ZERO), "▏");
    }

    #[test]
    fn cycles_have_a_line_each_and_what_is_well_is_brief() {
        let ms = Duration::from_millis;
        let failure = || Failure::new(Reason::Timeout, "late");
        let phase = |target, name, failure| PhaseTrace { target, name, duration: ms(4), failure };
        let targets = Trace {
            targets: vec![
                target("2", "db2:9092", Err(failure())),
                target("1", "db1:9092", Ok(())),
                target("3", "db3:9092", Ok(())),
            ],
            phases: vec![phase(0, "tcp", Some(Reason::Timeout)), phase(1, "tcp", None), phase(1, "tls", None)],
            gone: Vec::new(),
        };
        let (none, good, bad) = (Trace::default(), Ok(()), Err(failure()));
        let report = |trace, result| Report { title: "", trace, result, duration: ms(12), only: None };
        let runs = [
            ("main", report(&none, &good)),
            ("disks", report(&none, &bad)),
            ("more", report(&none, &bad)),
            ("ways", report(&targets, &good)),
        ];
        let expected = "kafka orders

✓ main     12.000 ms
✗ disks    12.000 ms  no answer in time (timeout): late
✗ more     12.000 ms  the same
✓ ways     12.000 ms

✓ 1  db1:9092  12.000 ms  (tcp 4.000 ms, tls 4.000 ms)

✗ 2  db2:9092
    tcp        4.000 ms  ████████████████████████████████████████  ✗ timeout
    total     12.000 ms
    no answer in time (timeout): late

✓ 3  db3:9092  12.000 ms  ()
";
        assert_eq!(cycles("kafka orders", runs.into_iter()), expected);
    }

    #[test]
    fn a_report_names_targets_phases_and_the_failure() {
        let phase = |target, name, duration, failure| PhaseTrace { target, name, duration, failure };
        let ms = Duration::from_millis;
        let failed = Failure::new(Reason::Timeout, "the deadline passed");
        let target = |name: &str, note: &str, verdict| TargetTrace {
            name: name.into(),
            duration: ms(12),
            verdict: Some(verdict),
            note: note.into(),
        };
        let trace = Trace {
            targets: vec![target("db2:27017", "", Err(failed)), target("db1:27017", "primary", Ok(()))],
            phases: vec![
                phase(0, "tls", ms(10), Some(Reason::Timeout)),
                phase(1, "tcp", Duration::from_micros(50), None),
                phase(1, "hello", ms(5), None),
            ],
            gone: Vec::new(),
        };
        let report = Report { title: "mongodb orders", trace: &trace, result: &Ok(()), duration: ms(12), only: None };
        let report = report.render();
        let expected = "mongodb orders

✓ db1:27017  primary
    tcp        0.050 ms  █▌
    hello      5.000 ms  ████████████████████
    total     12.000 ms

✗ db2:27017
    tls       10.000 ms  ████████████████████████████████████████  ✗ timeout
    total     12.000 ms
    no answer in time (timeout): the deadline passed

1 of 2 succeeded in 12.000 ms
";
        assert_eq!(report, expected.replace("█▌\n", "▏\n"));
    }

    fn target(name: &str, note: &str, verdict: Result<(), Failure>) -> TargetTrace {
        TargetTrace {
            name: name.into(),
            duration: Duration::from_millis(12),
            verdict: Some(verdict),
            note: note.into(),
        }
    }

    fn hostile(reason: Reason) -> Failure {
        Failure::new(reason, "\u{1b}[2J\r\n\u{9b}31mall is well")
    }

    fn past_run(standing: Standing, targets: Vec<TargetTrace>) -> PastRun {
        let phase = PhaseTrace { target: 0, name: "tcp", duration: Duration::from_millis(1), failure: None };
        PastRun {
            id: "00000000000000a1".parse().unwrap(),
            cycle: "main",
            ended: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_789),
            duration: Duration::from_millis(12),
            standing,
            result: Ok(()),
            trace: Trace { phases: vec![phase; targets.len().min(1)], targets, gone: Vec::new() },
            left_out: LeftOut::default(),
        }
    }

    fn id() -> ProbeId {
        ProbeId { kind: "mongodb", name: "orders".into() }
    }

    #[test]
    fn no_control_character_of_a_peer_is_printed() {
        let named = "db\u{1b}]0;x\u{7}\n1";
        let targets =
            vec![target(named, "\u{1b}[1mprimary", Err(hostile(Reason::Closed))), target("a", "\u{202e}", Ok(()))];
        let mut run = past_run(Standing::Failed, targets);
        run.result = Err(hostile(Reason::Protocol));
        let harmless = |text: &str| text.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}'));
        let texts = [past(&id(), &run, None), past(&id(), &run, Some(named)), list(&id(), &[run], None)];
        for text in texts {
            assert!(harmless(&text) && text.contains("all is well"), "{text:?}");
        }
    }

    #[test]
    fn a_run_that_is_past_says_when_and_what_is_left_out() {
        let mut run = past_run(Standing::Slow, vec![target("db1:1", "primary", Ok(())), target("db2:1", "", Ok(()))]);
        let head = "mongodb orders\nrun 00000000000000a1, cycle main, ended 2024-02-29T12:34:56.789Z, slow\n\n✓ db1:1  primary\n";
        let text = past(&id(), &run, None);
        assert!(text.starts_with(head) && text.ends_with("2 of 2 succeeded in 12.000 ms\n"), "{text}");
        run.left_out = LeftOut { targets: 3, phases: 4 };
        let text = past(&id(), &run, Some("db2:1"));
        assert!(text.contains("✓ db2:1\n") && !text.contains("db1:1"), "{text}");
        assert!(text.ends_with("remember all of it: 3 targets and 4 phases are left out.\n"), "{text}");
    }

    #[test]
    fn a_list_names_what_is_worst() {
        let refused = || Err(Failure::new(Reason::Refused, "no"));
        let mut slow = past_run(Standing::Slow, vec![target("b", "", Ok(())), target("a", "", Ok(()))]);
        slow.trace.targets[1].duration = Duration::from_millis(20);
        let failed = past_run(Standing::Failed, vec![target("b", "", refused()), target("a", "", refused())]);
        let mut whole = past_run(Standing::Failed, Vec::new());
        whole.result = refused();
        let good = past_run(Standing::Good, vec![target("", "", Ok(()))]);
        let runs = [good, slow, failed, whole];
        let results = |only| {
            let text = list(&id(), &runs, only);
            let mut lines = text.lines().skip(3).map(|line| line.split_once("12.000 ms  ").unwrap().1.to_owned());
            assert!(text.starts_with("mongodb orders: 4 runs, newest first\n\nid "), "{text}");
            [(); 4].map(|()| lines.next().unwrap())
        };
        let why = "nothing listens there (refused): no";
        assert_eq!(
            results(None),
            ["good", "slow    a took 20.000 ms", &format!("failed  a: {why} (and 1 more)"), &format!("failed  {why}")]
        );
        assert_eq!(results(Some("b"))[1..3], ["slow    b took 12.000 ms", &format!("failed  b: {why}")]);
    }

    #[test]
    fn an_overview_has_every_probe() {
        let run = past_run(Standing::Failed, Vec::new());
        let (one, two) = (id(), ProbeId { kind: "mongodb", name: "x".into() });
        let now = run.ended + Duration::from_secs(150);
        let text = overview([(&one, Some(run)), (&two, None)].into_iter(), now);
        let expected = "probe           last         age  run
mongodb orders  failed     2 min  00000000000000a1
mongodb x       no run has ended yet
";
        assert_eq!(text, expected);
    }

    #[test]
    fn ages_are_in_the_unit_that_a_person_would_choose() {
        let then = SystemTime::UNIX_EPOCH;
        let after = |seconds| age(then, then + Duration::from_secs(seconds));
        assert_eq!([119, 120, 7_200, 172_800].map(after), ["119 s", "2 min", "2 h", "2 d"]);
        assert_eq!(age(then + Duration::from_secs(5), then), "0 s");
    }
}
