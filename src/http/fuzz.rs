//! The readers of a client's bytes that are our own, callable without a client: for the fuzz targets in `fuzz/` and for the
//! test that runs their seeds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::credentials::parse;

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
