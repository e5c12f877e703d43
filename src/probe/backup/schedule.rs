//! When a job is to run.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use super::books::Spans;
use crate::settings::{Invalid, Item, Section, Value, parse_duration};

/// How much later than due a run may begin unless the configuration says otherwise.
pub const GRACE: Duration = Duration::from_secs(3600);
/// No more due times than these are judged at once; the others are when it is judged next.
const MOST_DUE: usize = 2000;
/// So many seconds before its due time a run may begin: the clocks of two machines differ a little.
const EARLY: f64 = 60.0;

/// When a job is to run, and how late it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    rhythm: Rhythm,
    /// How much later than due a run may begin, in seconds.
    pub grace: f64,
}

#[derive(Clone, Debug)]
enum Rhythm {
    /// Due times are those of a cron expression in a time zone. The text is what was written.
    Cron { text: String, cron: Box<Cron>, zone: Tz },
    /// Due so many seconds after the last run began.
    Every(f64),
}

impl PartialEq for Rhythm {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cron { text, zone, .. }, Self::Cron { text: other, zone: other_zone, .. }) => {
                text == other && zone == other_zone
            }
            (Self::Every(seconds), Self::Every(other)) => seconds == other,
            _ => false,
        }
    }
}

/// What is written: a cron expression or a duration.
enum Written {
    Cron(String, Box<Cron>),
    Every(Duration),
}

impl Value for Written {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        const EXPECTED: &str = "a cron expression such as \"30 2 * * *\", or an interval such as \"24h\"";
        let text = item.text(EXPECTED)?;
        if let Ok(every) = parse_duration(text) {
            let good = (Duration::from_secs(60)..=Duration::from_secs(400 * 86_400)).contains(&every);
            return if good { Ok(Self::Every(every)) } else { Err(Invalid::new("must be from 1m to 400d")) };
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        match parser.parse(text) {
            Ok(cron) if cron.find_next_occurrence(&DateTime::UNIX_EPOCH, false).is_err() => {
                Err(Invalid::new("there is no such day in any year"))
            }
            Ok(cron) => Ok(Self::Cron(text.to_owned(), Box::new(cron))),
            Err(_) => Err(Invalid::new(format!("expected {EXPECTED}"))),
        }
    }
}

struct Zone(Tz);

impl Value for Zone {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        const EXPECTED: &str = "the name of a time zone such as \"Europe/Berlin\"";
        item.text(EXPECTED)?.parse().map(Self).map_err(|_| Invalid::new(format!("expected {EXPECTED}")))
    }
}

impl Schedule {
    /// Reads `schedule` and `time_zone`. `None` without a schedule.
    pub fn read(section: &mut Section<'_>, grace: f64) -> Option<Self> {
        let written = section.optional::<Written>("schedule");
        let zone = section.optional::<Zone>("time_zone");
        if section.has("time_zone") && !matches!(written, Some(Written::Cron(..)) | None) {
            section.problem(Some("time_zone"), "`time_zone`: an interval has none");
        }
        for key in ["time_zone", "grace"] {
            // A CronJob of Kubernetes has a schedule of its own.
            let is_told = key == "grace" && section.has("cronjob");
            if section.has(key) && !section.has("schedule") && !is_told {
                section.problem(Some(key), format!("`{key}`: needs a `schedule`"));
            }
        }
        let rhythm = match written? {
            Written::Cron(text, cron) => Rhythm::Cron { text, cron, zone: zone.map_or(Tz::UTC, |zone| zone.0) },
            Written::Every(every) => Rhythm::Every(every.as_secs_f64()),
        };
        Some(Self { rhythm, grace })
    }

    /// What a source tells: a cron expression, and the name of its time zone, which is UTC unless it says so. `None` if they are
    /// none.
    pub fn told(text: &str, zone: Option<&str>) -> Option<Self> {
        let zone = zone.map_or(Ok(Tz::UTC), str::parse).ok()?;
        let cron = CronParser::builder().seconds(Seconds::Disallowed).build().parse(text).ok()?;
        let rhythm = Rhythm::Cron { text: text.to_owned(), cron: Box::new(cron), zone };
        Some(Self { rhythm, grace: GRACE.as_secs_f64() })
    }

    /// What [`told`](Self::told) makes it of; `None` for an interval.
    pub fn as_told(&self) -> Option<(String, String)> {
        match &self.rhythm {
            Rhythm::Cron { text, zone, .. } => Some((text.clone(), zone.name().to_owned())),
            Rhythm::Every(_) => None,
        }
    }

    /// The same, of which a run may be so many seconds late.
    pub fn within(self, grace: f64) -> Self {
        Self { grace, ..self }
    }

    /// What tells it from others: when due times come, but not how late a run may be.
    pub fn text(&self) -> String {
        match &self.rhythm {
            Rhythm::Cron { text, zone, .. } => format!("{text} {zone}"),
            Rhythm::Every(every) => format!("{every}s"),
        }
    }

    /// Judges due times after `from`, in unix seconds: up to when they are judged now, and at how many of them no run began. `None`
    /// if there is nothing to judge. A due time is judged when it is longer ago than the grace, seen from `heard`, up to when runs
    /// have been heard of. `spans` is when runs went on that are known, and `went_on` says whether one did.
    ///
    /// A run belongs to the last due time before it, or to the next one if that is less than a minute away.
    pub fn judge(&self, from: f64, heard: f64, spans: &Spans, went_on: &impl Fn(f64) -> bool) -> Option<(f64, u64)> {
        let until = heard - self.grace;
        match &self.rhythm {
            Rhythm::Cron { cron, zone, .. } => {
                let start = time(from)?.with_timezone(zone);
                let due = cron.iter_after(start).map(|due| due.timestamp() as f64).filter(|due| *due > from);
                let mut due = due.take(MOST_DUE + 1).peekable();
                let (mut last, mut missed) = (from, 0);
                while let Some(at) = due.next_if(|at| *at <= until) {
                    let next = due.peek().copied().unwrap_or(f64::INFINITY);
                    let end = (at + self.grace).min(next - self.early(at, next));
                    let began = at - self.early(last, at);
                    // At the last of many the next one is not known, and it is judged next time.
                    if next.is_infinite() && last > from {
                        break;
                    }
                    let is_kept = spans.first(|start| start < began).is_some_and(|start| start <= end);
                    let is_known = spans.known_since().is_none_or(|since| since <= at);
                    missed += u64::from(is_known && !is_kept && !went_on(at));
                    last = at;
                }
                (last > from).then_some((last, missed))
            }
            Rhythm::Every(every) => {
                let since = spans.known_since().map_or(from, |since| since.max(from));
                let (mut last, mut missed) = (since, 0);
                for _ in 0..MOST_DUE {
                    let at = last + every;
                    if let Some(start) = spans.first(|start| start <= last).filter(|start| *start <= at + self.grace) {
                        last = start;
                    } else if at <= until {
                        missed += u64::from(!went_on(at));
                        last = at;
                    } else {
                        break;
                    }
                }
                (last > from).then_some((last, missed))
            }
        }
    }

    /// The first due time after `now`, in unix seconds; `None` if an interval has no beginning yet.
    pub fn next(&self, now: f64, last_start: Option<f64>) -> Option<f64> {
        match &self.rhythm {
            Rhythm::Cron { cron, zone, .. } => {
                let now = time(now)?.with_timezone(zone);
                cron.find_next_occurrence(&now, false).ok().map(|due| due.timestamp() as f64)
            }
            Rhythm::Every(every) => {
                let last = last_start?;
                Some(last + every * (((now - last) / every).floor().max(0.0) + 1.0))
            }
        }
    }

    /// How many seconds a run may begin before it is due.
    fn early(&self, last: f64, due: f64) -> f64 {
        EARLY.min(self.grace).min((due - last) / 2.0)
    }

    /// How many seconds there are between the last due time and the next.
    pub fn interval(&self, now: f64) -> Option<f64> {
        match &self.rhythm {
            Rhythm::Every(every) => Some(*every),
            Rhythm::Cron { cron, zone, .. } => {
                let now = time(now)?.with_timezone(zone);
                let next = cron.find_next_occurrence(&now, false).ok()?;
                let last = cron.find_previous_occurrence(&now, true).ok()?;
                Some((next - last).as_seconds_f64())
            }
        }
    }
}

fn time(unix: f64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(unix.floor() as i64, 0)
}

#[cfg(test)]
mod tests;
