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

#[cfg(test)]
mod tests {
    use super::*;

    const RID: &str = "3ac5ad23-1f4c-4d5e-9a6b-0123456789ab";

    fn read(text: &str) -> Result<Message, &'static str> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        Message::read(path, query)
    }

    #[test]
    fn paths() {
        use What::{Failure, Log, Start, Success};
        type Case<'c> = (&'c str, &'c str, Option<&'c str>, What, Option<u8>);
        let table: [Case<'_>; 18] = [
            ("t", "t", None, Success, None),
            ("t/", "t", None, Success, None),
            ("t/start", "t", None, Start, None),
            ("t/start/", "t", None, Start, None),
            ("t/fail", "t", None, Failure, None),
            ("t/log", "t", None, Log, None),
            ("t/0", "t", None, Success, Some(0)),
            ("t/1", "t", None, Failure, Some(1)),
            ("t/255", "t", None, Failure, Some(255)),
            ("t/007", "t", None, Failure, Some(7)),
            ("t/job", "t", Some("job"), Success, None),
            ("t/job/start", "t", Some("job"), Start, None),
            ("t/job/0", "t", Some("job"), Success, Some(0)),
            ("t/job/3", "t", Some("job"), Failure, Some(3)),
            // Jobs whose names are actions.
            ("t/log/log", "t", Some("log"), Log, None),
            ("t/300/0", "t", Some("300"), Success, Some(0)),
            // Only a name, whatever it looks like.
            ("../metrics", "..", Some("metrics"), Success, None),
            ("%2e%2e%2Fa%00/%c3%a4+b/fail", "../a\0", Some("\u{e4}+b"), Failure, None),
        ];
        for (text, first, job, what, exit_status) in table {
            let message = read(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
            let address = Address { first: first.to_owned().into(), job: job.map(str::to_owned) };
            assert_eq!(
                (message.address, message.told.what, message.exit_status),
                (address, what, exit_status),
                "{text}"
            );
        }
    }

    #[test]
    fn queries() {
        let all = format!(
            "t?rid={}&node=db%2D1%3A27017&started=1700000000.5&ended=1700000060&duration=59.25&cpu_seconds=7&peak_memory=1024\
             &size=18446744073709551615&create=1&&x&=y",
            RID.to_ascii_uppercase()
        );
        let told = Told {
            rid: RID.to_owned(),
            node: Some("db-1:27017".to_owned()),
            started: Some(1_700_000_000.5),
            ended: Some(1_700_000_060.0),
            duration: Some(59.25),
            cpu_seconds: Some(7.0),
            peak_memory: Some(1024),
            size: Some(u64::MAX),
            ..Told::default()
        };
        assert_eq!(read(&all).unwrap().told, told);
        assert_eq!(read("t?").unwrap().told, Told::default());
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let long = "x".repeat(257);
        let rid_of = |text: &str| format!("t?rid={text}");
        for (text, problem) in [
            ("", BAD_PATH),
            ("/", BAD_PATH),
            ("//", BAD_PATH),
            ("t//", BAD_PATH),
            ("//metrics", BAD_PATH),
            ("t//start", BAD_PATH),
            ("t/256", BAD_PATH),
            ("t/job/256", BAD_PATH),
            ("t/99999999999999999999", BAD_PATH),
            ("t/job/what", BAD_PATH),
            ("t/job/-1", BAD_PATH),
            ("t/job/start/x", BAD_PATH),
            ("t/job/start//", BAD_PATH),
            ("%", BAD_PATH),
            ("%4", BAD_PATH),
            ("%+1", BAD_PATH),
            ("%ff", BAD_PATH),
            (&*long, BAD_PATH),
            ("t?rid=", BAD_RID),
            ("t?rid=1", BAD_RID),
            (&*rid_of(&RID.replace('-', "0")), BAD_RID),
            (&*rid_of(&RID.replace('3', "g")), BAD_RID),
            (&*rid_of(&format!("{RID}0")), BAD_RID),
            (&*rid_of(&format!("{RID}&rid={RID}")), BAD_QUERY),
            ("t?node=", BAD_QUERY),
            ("t?node=a%0ab", BAD_QUERY),
            ("t?node=%ff", BAD_QUERY),
            ("t?started=", BAD_QUERY),
            ("t?started=nan", BAD_QUERY),
            ("t?started=-1", BAD_QUERY),
            ("t?started=1e9", BAD_QUERY),
            ("t?started=inf", BAD_QUERY),
            ("t?started=.", BAD_QUERY),
            ("t?started=999999999999", BAD_QUERY),
            ("t?started=2&ended=1", BAD_QUERY),
            ("t?size=1.5", BAD_QUERY),
            ("t?size=%2B1", BAD_QUERY),
            ("t?size=18446744073709551616", BAD_QUERY),
            (&*format!("t?node={long}"), BAD_QUERY),
        ] {
            assert_eq!(read(text).map(|_| ()), Err(problem), "{text}");
        }
    }

    #[test]
    fn a_note_is_the_end_of_a_body_and_harmless() {
        assert_eq!(note(None, b""), "");
        assert_eq!(note(Some(0), b" \r\n"), "");
        assert_eq!(note(Some(7), b""), "exit status 7");
        assert_eq!(note(Some(7), b"one\r\ntwo\x1b[2J\n\n"), "exit status 7\none\ntwo [2J");
        assert_eq!(note(None, b"a\xffb\0c"), "a\u{fffd}b c");
        let lines: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        for status in [None, Some(1)] {
            let note = note(status, lines.as_bytes());
            assert!(note.len() <= Run::LONGEST_NOTE && note.len() > Run::LONGEST_NOTE - 20, "{}", note.len());
            assert!(note.ends_with("\nline 9999"), "{note}");
            let first = note.lines().nth(usize::from(status.is_some())).unwrap();
            assert!(first.starts_with("line 9"), "{first}");
        }
        assert_eq!(note(None, "\u{e4}".repeat(5000).as_bytes()), "\u{e4}".repeat(Run::LONGEST_NOTE / 2));
    }

    #[test]
    fn seeds_and_their_mutations_keep_the_promises() {
        let (seeds, read) = crate::corpus::each("ping", crate::probe::backup::push::fuzz::message);
        assert!(seeds >= 10 && read > 1000, "{seeds} seeds, {read} of all were read");
    }
}
