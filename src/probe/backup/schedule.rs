//! When a job is to run.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::settings::{Invalid, Item, Section, Value, parse_duration};

/// How much later than due a run may begin unless the configuration says otherwise.
const GRACE: Duration = Duration::from_secs(3600);
/// No more due times than these are judged at once; those before them are left out.
const MOST_DUE: usize = 10_000;

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
    /// Reads `schedule`, `time_zone` and `grace`. `None` without a schedule.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let written = section.optional::<Written>("schedule");
        let zone = section.optional::<Zone>("time_zone");
        let grace = section.optional::<Duration>("grace");
        if section.has("time_zone") && !matches!(written, Some(Written::Cron(..)) | None) {
            section.problem(Some("time_zone"), "`time_zone`: an interval has none");
        }
        for key in ["time_zone", "grace"] {
            if section.has(key) && !section.has("schedule") {
                section.problem(Some(key), format!("`{key}`: needs a `schedule`"));
            }
        }
        let rhythm = match written? {
            Written::Cron(text, cron) => Rhythm::Cron { text, cron, zone: zone.map_or(Tz::UTC, |zone| zone.0) },
            Written::Every(every) => Rhythm::Every(every.as_secs_f64()),
        };
        Some(Self { rhythm, grace: grace.unwrap_or(GRACE).as_secs_f64() })
    }

    /// The due times after `from` up to `until`, in unix seconds, ascending. `last_start` is when a run began last, which an interval
    /// counts from.
    pub fn due(&self, from: f64, until: f64, last_start: Option<f64>) -> Vec<f64> {
        match &self.rhythm {
            Rhythm::Cron { cron, zone, .. } => {
                let Some(start) = time(from) else { return Vec::new() };
                let after = cron.iter_after(start.with_timezone(zone));
                after
                    .map(|due| due.timestamp() as f64)
                    .filter(|due| *due > from)
                    .take_while(|due| *due <= until)
                    .take(MOST_DUE)
                    .collect()
            }
            Rhythm::Every(every) => {
                let base = last_start.map_or(from, |last| last.max(from));
                (1..=MOST_DUE).map(|n| base + every * n as f64).take_while(|due| *due <= until).collect()
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

    /// What was written, for a person.
    pub fn text(&self) -> String {
        match &self.rhythm {
            Rhythm::Cron { text, zone, .. } => format!("{text} {zone}"),
            Rhythm::Every(seconds) => format!("every {seconds} s"),
        }
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
