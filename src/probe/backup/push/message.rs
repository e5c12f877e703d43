//! Reads a message from a path and a query: bytes of the network, so nothing is guessed and everything is bounded.

use zeroize::Zeroizing;

use crate::probe::backup::config::is_node;
use crate::probe::backup::runs::Run;
use crate::probe::backup::told::{Told, What};
use crate::probe::net::clean_lines;

/// The longest part of a path and the longest value, in bytes.
const LONGEST: usize = 256;
/// The most parts of a query that are looked at.
const PAIRS: usize = 64;

const BAD_PATH: &str = "invalid url format";
const BAD_RID: &str = "invalid uuid format";
const BAD_QUERY: &str = "invalid query";

/// Whom a message is about, not verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A token, or the name of a job.
    pub(super) first: Zeroizing<String>,
    /// The name of a job, if a token is before it.
    pub(super) job: Option<String>,
}

/// A message.
#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) address: Address,
    /// All but the note.
    pub(super) told: Told,
    /// How the command ended, if that is how it was told.
    pub(super) exit_status: Option<u8>,
}

impl Message {
    /// Reads what is behind `/ping/`, and behind the question mark. What the query has that is not known is for others: clients
    /// add what other servers want.
    ///
    /// # Errors
    /// What is wrong, in words that hold nothing of it.
    pub(super) fn read(path: &str, query: &str) -> Result<Self, &'static str> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut parts = path.split('/');
        let mut part = || parts.next().map(|part| decode(part, false).ok_or(BAD_PATH)).transpose();
        let (first, second, third, more) = (part()?.map(Zeroizing::new), part()?, part()?, part()?);
        let first = first.ok_or(BAD_PATH)?;
        let is_action = second.as_deref().is_some_and(Action::is);
        let (job, action) = match (second, third, more) {
            (second, None, None) if is_action => (None, second),
            (job, action, None) => (job, action),
            _ => return Err(BAD_PATH),
        };
        let action = action.map_or(Some(Action::Success), |action| Action::read(&action)).ok_or(BAD_PATH)?;
        let (what, exit_status) = match action {
            Action::Start => (What::Start, None),
            Action::Success => (What::Success, None),
            Action::Fail => (What::Failure, None),
            Action::Log => (What::Log, None),
            Action::Exit(0) => (What::Success, Some(0)),
            Action::Exit(status) => (What::Failure, Some(status)),
        };
        Ok(Self { address: Address { first, job }, told: Told { what, ..read_query(query)? }, exit_status })
    }
}

/// The last part of a path.
#[derive(Clone, Copy)]
enum Action {
    Start,
    Success,
    Fail,
    Log,
    Exit(u8),
}

impl Action {
    /// Whether a part is meant to be one. A job of such a name can only be told something with an action behind it.
    fn is(part: &str) -> bool {
        matches!(part, "start" | "fail" | "log") || part.bytes().all(|byte| byte.is_ascii_digit())
    }

    fn read(part: &str) -> Option<Self> {
        Some(match part {
            "start" => Self::Start,
            "fail" => Self::Fail,
            "log" => Self::Log,
            status if Self::is(status) => Self::Exit(status.parse().ok()?),
            _ => return None,
        })
    }
}

fn read_query(query: &str) -> Result<Told, &'static str> {
    const KEYS: [&str; 8] = ["rid", "node", "started", "ended", "duration", "cpu_seconds", "peak_memory", "size"];
    let mut values = [const { None::<String> }; KEYS.len()];
    for pair in query.split('&').filter(|pair| !pair.is_empty()).take(PAIRS) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(place) = KEYS.iter().position(|known| *known == key).and_then(|at| values.get_mut(at)) else {
            continue;
        };
        let value = decode(value, true).ok_or(if key == "rid" { BAD_RID } else { BAD_QUERY })?;
        if place.replace(value).is_some() {
            return Err(BAD_QUERY);
        }
    }
    let [rid, node, started, ended, duration, cpu_seconds, peak_memory, size] = values;
    let rid = rid.map(|rid| uuid(&rid).ok_or(BAD_RID)).transpose()?.unwrap_or_default();
    if node.as_deref().is_some_and(|node| is_node(node).is_err()) {
        return Err(BAD_QUERY);
    }
    let (started, ended) = (seconds(started)?, seconds(ended)?);
    if started.zip(ended).is_some_and(|(started, ended)| ended < started) {
        return Err(BAD_QUERY);
    }
    Ok(Told {
        rid,
        node,
        started,
        ended,
        duration: seconds(duration)?,
        cpu_seconds: seconds(cpu_seconds)?,
        peak_memory: bytes(peak_memory)?,
        size: bytes(size)?,
        ..Told::default()
    })
}

/// A time or an amount of it, in seconds.
fn seconds(text: Option<String>) -> Result<Option<f64>, &'static str> {
    // No clock shows more.
    const MOST: f64 = 1e11;
    let read = |text: String| {
        let good = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        text.parse().ok().filter(|seconds| good && *seconds < MOST).ok_or(BAD_QUERY)
    };
    text.map(read).transpose()
}

fn bytes(text: Option<String>) -> Result<Option<u64>, &'static str> {
    let read = |text: String| {
        let good = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| good).ok_or(BAD_QUERY)
    };
    text.map(read).transpose()
}

/// A UUID (RFC 9562) as it is usually written, in lower case.
fn uuid(text: &str) -> Option<String> {
    let good = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    (text.len() == 36 && text.bytes().enumerate().all(good)).then(|| text.to_ascii_lowercase())
}

/// Undoes the escapes of a part or value, which is not empty. `None` if it is malformed or too long.
fn decode(text: &str, is_value: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len().min(LONGEST));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if bytes.len() == LONGEST {
            return None;
        }
        bytes.push(match byte {
            b'+' if is_value => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high << 4 | low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// The end of a text for a person, from bytes that anybody may send: line by line, without what a terminal obeys.
pub(super) fn note(exit_status: Option<u8>, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let body = clean_lines(body.trim());
    match exit_status.filter(|status| *status != 0) {
        None => tail(&body, Run::LONGEST_NOTE).to_owned(),
        Some(status) => {
            let head = format!("exit status {status}");
            let body = tail(&body, Run::LONGEST_NOTE - head.len() - 1);
            if body.is_empty() { head } else { format!("{head}\n{body}") }
        }
    }
}

/// The last bytes of a text, whole characters only, and whole lines if there are.
fn tail(text: &str, most: usize) -> &str {
    let Some(from) = text.len().checked_sub(most).filter(|from| *from > 0) else { return text };
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let end = text.get(from..).unwrap_or_default();
    end.split_once('\n').map(|(_, lines)| lines).filter(|lines| !lines.is_empty()).unwrap_or(end)
}
