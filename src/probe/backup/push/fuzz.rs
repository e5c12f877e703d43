//! The readers of a sender's bytes, callable without a sender: for the fuzz target in `fuzz/` and for the test that runs its
//! seeds.

use std::fmt::Write as _;

use super::message::{Message, note};
use crate::probe::backup::runs::Run;
use crate::probe::backup::told::What;

/// Reads the first line as what is behind `/ping/`, and the rest as a body, and whether it is a message. What was read, written
/// again, must read the same.
///
/// # Panics
/// A promise of the readers is broken.
pub fn message(bytes: &[u8]) -> bool {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, body) = bytes.split_at(at);
    let Ok(line) = std::str::from_utf8(line) else { return false };
    let (path, query) = line.split_once('?').unwrap_or((line, ""));
    let read = Message::read(path, query);
    let exit_status = read.as_ref().map_or(Some(1), |message| message.exit_status);
    let note = note(exit_status, body);
    assert!(note.len() <= Run::LONGEST_NOTE, "{} bytes", note.len());
    assert!(!note.contains(|c: char| c.is_control() && c != '\n'), "{note:?}");
    match read {
        Ok(message) => {
            let (path, query) = written(&message);
            assert_eq!(Message::read(&path, &query).as_ref(), Ok(&message), "{path}?{query}");
            let told = message.told;
            let texts = [&told.rid, told.node.as_deref().unwrap_or_default(), &told.note];
            assert!(texts.iter().all(|text| text.len() <= 256 && !text.contains(char::is_control)), "{texts:?}");
            let times = [told.started, told.ended, told.duration, told.cpu_seconds];
            assert!(times.iter().flatten().all(|time| time.is_finite() && *time >= 0.0), "{times:?}");
            true
        }
        Err(problem) => {
            assert!(problem.is_ascii() && problem.len() < 100, "{problem}");
            false
        }
    }
}

/// A path and a query that say the same.
fn written(message: &Message) -> (String, String) {
    let mut path = escaped(&message.address.first);
    if let Some(job) = &message.address.job {
        let _ = write!(path, "/{}", escaped(job));
    }
    path += &match (message.exit_status, message.told.what) {
        (Some(status), _) => format!("/{status}"),
        (None, What::Start) => "/start".to_owned(),
        (None, What::Failure) => "/fail".to_owned(),
        (None, What::Log) => "/log".to_owned(),
        (None, What::Success) => String::new(),
    };
    let told = &message.told;
    let mut query = String::new();
    let mut say = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = write!(query, "&{key}={}", escaped(&value));
        }
    };
    let number = |number: Option<f64>| number.map(|number| number.to_string());
    say("rid", Some(told.rid.clone()));
    say("node", told.node.clone());
    say("started", number(told.started));
    say("ended", number(told.ended));
    say("duration", number(told.duration));
    say("cpu_seconds", number(told.cpu_seconds));
    say("peak_memory", told.peak_memory.map(|bytes| bytes.to_string()));
    say("size", told.size.map(|bytes| bytes.to_string()));
    (path, query)
}

fn escaped(text: &str) -> String {
    let escape =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") };
    text.bytes().map(escape).collect()
}
