//! The readers of a client's bytes that are our own, callable without a client: for the fuzz targets in `fuzz/` and for the
//! test that runs their seeds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::credentials::parse;
use super::negotiate::{self, Coding};
use crate::metrics::exposition::Format;

/// Reads a header `Authorization`, and whether it was readable. What was read, written again, must read the same.
///
/// # Panics
/// A promise of the reader is broken.
pub fn authorization(bytes: &[u8]) -> bool {
    let Some(found) = parse(bytes) else { return false };
    assert!(!found.user.contains(&b':'), "a name ends at the first colon");
    assert!(!found.user.iter().chain(found.password.iter()).any(u8::is_ascii_control), "no control characters");
    let again = [&found.user[..], b":", &found.password[..]].concat();
    let again = parse(format!("Basic {}", STANDARD.encode(again)).as_bytes());
    assert!(again.is_some_and(|again| again.user == found.user && again.password == found.password));
    true
}

/// Reads the first line as `Accept` and the second as `Accept-Encoding`, and whether either asked for something special.
///
/// # Panics
/// A client gets what it did not name.
pub fn negotiation(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    let mut names = |name: HeaderName, known: &[&str]| {
        let line = lines.next().unwrap_or_default();
        headers.extend(HeaderValue::from_bytes(line).ok().map(|value| (name, value)));
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        known.iter().map(|known| line.contains(known)).collect::<Vec<_>>()
    };
    let formats = names(header::ACCEPT, &["openmetrics", "protobuf"]);
    let codings = names(header::ACCEPT_ENCODING, &["gzip", "zstd"]);
    let (format, coding) = (negotiate::format(&headers, false), negotiate::coding(&headers));
    let named = match format {
        Format::Text => true,
        Format::OpenMetrics { .. } => formats[0],
        Format::Protobuf => formats[1],
    };
    let coding_named = match coding {
        Coding::Identity => true,
        Coding::Gzip => codings[0],
        Coding::Zstd => codings[1],
    };
    assert!(named && coding_named, "{format:?} {coding:?}");
    format != Format::Text || coding != Coding::Identity
}
