//! What is told of a run from outside: over HTTP, or by a record in the spool.

use serde::{Deserialize, Serialize};

use super::books::{Books, Event, OPEN, lost};
use super::runs::{AHEAD, End, Outcome, Run};

/// A message about a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Told {
    /// Tells the run from others; empty where the sender does not number its runs.
    pub rid: String,
    /// What is told.
    pub what: What,
    /// When the run began, in unix seconds, if the sender knows it better than by when its message came.
    pub started: Option<f64>,
    /// When it ended.
    pub ended: Option<f64>,
    /// How long it took, in seconds, by a monotonic clock.
    pub duration: Option<f64>,
    /// Where it runs.
    pub node: Option<String>,
    /// The size of what was stored, in bytes.
    pub size: Option<u64>,
    /// Processor time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// The most memory that a process had, in bytes.
    pub peak_memory: Option<u64>,
    /// For a person.
    pub note: String,
}

/// What a message tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The run began.
    Start,
    /// The run was a success.
    #[default]
    Success,
    /// The run failed.
    Failure,
    /// Nothing but words.
    Log,
}

impl Told {
    /// What a path ends in that tells this over HTTP.
    pub fn action(&self) -> &'static str {
        match self.what {
            What::Start => "/start",
            What::Success => "",
            What::Failure => "/fail",
            What::Log => "/log",
        }
    }

    /// All but that and the note, as the query of a URL.
    pub fn query(&self) -> String {
        let seconds = |value: Option<f64>| value.map(|value| format!("{value:.6}"));
        let whole = |value: Option<u64>| value.map(|value| value.to_string());
        let pairs = [
            ("rid", Some(self.rid.clone())),
            ("node", self.node.as_deref().map(escaped)),
            ("started", seconds(self.started)),
            ("ended", seconds(self.ended)),
            ("duration", seconds(self.duration)),
            ("cpu_seconds", seconds(self.cpu_seconds)),
            ("peak_memory", whole(self.peak_memory)),
            ("size", whole(self.size)),
        ];
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// What the message means for the books; `now` is when it came, in unix seconds. Nothing, if it has come before.
    pub fn events(&self, books: &Books, now: f64) -> Vec<Event> {
        let known = self.known(books);
        let id = || known.map_or_else(|| self.new_id(books, now), |run| run.id.clone());
        let mut events = Vec::new();
        let run = match self.what {
            What::Start if self.rid.is_empty() => {
                // Who does not number runs has one at a time: the last one did not say that it ended.
                let began = self.started.filter(|at| is_recent(*at, now)).unwrap_or(now).min(now);
                events.extend(known.map(|run| lost(run, began)));
                Run { id: self.new_id(books, now), started: Some(now), ..Run::default() }
            }
            What::Start => known.cloned().unwrap_or_else(|| Run { id: id(), started: Some(now), ..Run::default() }),
            What::Log => match known {
                Some(run) => run.clone(),
                None => return events,
            },
            What::Success | What::Failure => {
                let outcome = if self.what == What::Success { Outcome::Success } else { Outcome::Failure };
                let at = self.ended.filter(|at| is_recent(*at, now)).unwrap_or(now);
                let given_up = || self.given_up(books, now).map(|run| Run { duration: None, ..run.clone() });
                let run = known.cloned().or_else(given_up);
                Run { end: Some(End { at, outcome }), ..run.unwrap_or_else(|| Run { id: id(), ..Run::default() }) }
            }
        };
        let run = self.entered(run, now);
        if books.is_news(&run) {
            let is_new = run.end.is_none() && books.open().all(|open| open.id != run.id);
            if is_new && events.is_empty() && books.open().len() >= OPEN {
                events.extend(oldest(books.open()).map(|run| lost(run, now)));
            }
            events.push(Event::Run(run));
        }
        events
    }

    /// The run that goes on and that the message is about.
    fn known<'b>(&self, books: &'b Books) -> Option<&'b Run> {
        if self.rid.is_empty() {
            let unnumbered = books.open().filter(|run| run.id.starts_with(UNNUMBERED));
            return unnumbered.max_by(|a, b| a.started.unwrap_or(0.0).total_cmp(&b.started.unwrap_or(0.0)));
        }
        let id = self.numbered();
        books.open().find(|run| run.id == id)
    }

    /// The run that was given up and whose end the message tells after all.
    fn given_up<'b>(&self, books: &'b Books, now: f64) -> Option<&'b Run> {
        if !self.rid.is_empty() {
            return books.given_up(&self.numbered());
        }
        // The last one that has no number, if it can have gone on until now. An end whose start was never told is another run's.
        let unnumbered = books.recent().filter(|run| run.id.starts_with(UNNUMBERED));
        let last = unnumbered.max_by(|a, b| a.when().unwrap_or(0.0).total_cmp(&b.when().unwrap_or(0.0)))?;
        let (run, started) = (books.given_up(&last.id)?, last.started?);
        let lasted = run.end.map_or(0.0, |end| end.at - started);
        let by_duration = || self.duration.map(|duration| self.ended.unwrap_or(now) - duration);
        let is_its_start = self.started.or_else(by_duration).is_none_or(|at| (at - started).abs() <= SAME);
        (now - started <= 2.0 * lasted && is_its_start).then_some(run)
    }

    /// The id of the run that the message is the first one about.
    fn new_id(&self, books: &Books, now: f64) -> String {
        if !self.rid.is_empty() {
            return self.numbered();
        }
        let is_free = |id: &String| !books.knows(id) && books.open().all(|run| run.id != *id);
        let nth = |n: u64| if n == 0 { format!("{UNNUMBERED}{now}") } else { format!("{UNNUMBERED}{now} {n}") };
        (0..).map(nth).find(is_free).unwrap_or_default()
    }

    /// The id of a run with a number. No number makes it one of those without.
    fn numbered(&self) -> String {
        let id = if self.rid.starts_with(UNNUMBERED) { format!("rid {}", self.rid) } else { self.rid.clone() };
        Run { id, ..Run::default() }.trimmed().id
    }

    /// The run with all that the message says of it and that can be.
    fn entered(&self, mut run: Run, now: f64) -> Run {
        run.started = self.started.filter(|at| is_recent(*at, now)).or(run.started);
        run.duration = self.duration.or(run.duration);
        run.node = self.node.clone().or(run.node);
        run.size = self.size.or(run.size);
        run.cpu_seconds = self.cpu_seconds.or(run.cpu_seconds);
        run.peak_memory = self.peak_memory.or(run.peak_memory);
        if !self.note.is_empty() {
            run.note.clone_from(&self.note);
        }
        run.plausible(now)
    }
}

/// All but letters, digits and the marks that mean nothing in a query (RFC 3986, section 2.3) as escapes.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Whether a sender can mean that time: not one that has not come yet, nor one of a clock that was never set. In unix seconds.
fn is_recent(at: f64, now: f64) -> bool {
    const AGO: f64 = 400.0 * 86_400.0;
    (now - AGO..=now + AHEAD).contains(&at)
}

/// That which began first.
fn oldest<'r>(runs: impl Iterator<Item = &'r Run>) -> Option<&'r Run> {
    runs.min_by(|a, b| a.started.unwrap_or(0.0).total_cmp(&b.started.unwrap_or(0.0)))
}

/// A sender that tells when its run began means the one that began no more seconds earlier or later.
const SAME: f64 = 60.0;
/// What the ids of runs begin with whose sender gave none.
const UNNUMBERED: &str = "at ";

#[cfg(test)]
mod tests;
