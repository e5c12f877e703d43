//! Prints one run for a person: each target, each phase as a bar, the failure in words.

use std::fmt::Write as _;
use std::time::Duration;

use crate::failure::{Failure, Reason};
use crate::metrics::trace::{PhaseTrace, TargetTrace, Trace};

/// The widest bar, in characters.
const BAR: usize = 40;

/// Writes the report. Bars are in proportion to the longest phase of the run, so that targets compare.
pub fn render(title: &str, trace: &Trace, result: &Result<(), Failure>, duration: Duration) -> String {
    let longest = trace.phases.iter().map(|phase| phase.duration).max().unwrap_or_default();
    let mut text = format!("{title}\n");
    let mut targets: Vec<_> = trace.targets.iter().enumerate().collect();
    targets.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    for (index, target) in &targets {
        render_target(&mut text, target, trace.phases.iter().filter(|phase| phase.target == *index), longest);
    }
    let good = trace.targets.iter().filter(|target| matches!(target.verdict, Some(Ok(())))).count();
    let _ = match result {
        Ok(()) if targets.is_empty() => writeln!(text, "\nsucceeded in {}", time(duration)),
        Ok(()) => writeln!(text, "\n{good} of {} succeeded in {}", targets.len(), time(duration)),
        Err(failure) => writeln!(text, "\nfailed after {}: {}", time(duration), in_words(failure)),
    };
    text
}

fn render_target<'t>(
    text: &mut String,
    target: &TargetTrace,
    phases: impl Iterator<Item = &'t PhaseTrace>,
    longest: Duration,
) {
    let name = if target.name.is_empty() { "target" } else { &target.name };
    let note = if target.note.is_empty() { String::new() } else { format!("  {}", target.note) };
    let failure = target.verdict.as_ref().and_then(|verdict| verdict.as_ref().err());
    let _ = writeln!(text, "\n{} {name}{note}", if failure.is_some() { "✗" } else { "✓" });
    for phase in phases {
        let end = phase.failure.map_or(String::new(), |reason| format!("  ✗ {reason}"));
        let _ =
            writeln!(text, "    {:<9}{:>10}  {}{end}", phase.name, time(phase.duration), bar(phase.duration, longest));
    }
    let _ = writeln!(text, "    {:<9}{:>10}", "total", time(target.duration));
    if let Some(failure) = failure {
        let _ = writeln!(text, "    {}", in_words(failure));
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
    format!("{} ({}): {}", meaning(failure.reason), failure.reason, failure.detail)
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
        let report = render("mongodb orders", &trace, &Ok(()), ms(12));
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
}
