//! The header `Authorization` of basic authentication, RFC 7617: bytes that anybody may send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The longest text that is decoded, in bytes. bcrypt looks at 72 bytes of a password.
const MAX_ENCODED: usize = 4096;

/// Who somebody says to be. Wiped from memory when dropped.
pub(super) struct Credentials {
    pub(super) user: Zeroizing<Vec<u8>>,
    pub(super) password: Zeroizing<Vec<u8>>,
}

/// Reads the value of the header. `None` if it is of another scheme or malformed.
pub(super) fn parse(header: &[u8]) -> Option<Credentials> {
    const SCHEME: &[u8] = b"basic ";
    let (scheme, encoded) = header.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let encoded = encoded.trim_ascii();
    if encoded.len() > MAX_ENCODED {
        return None;
    }
    let mut text = Zeroizing::new(vec![0; base64::decoded_len_estimate(encoded.len())]);
    let length = STANDARD.decode_slice(encoded, &mut text).ok()?;
    let text = text.get(..length)?;
    // The RFC forbids them. Besides, bcrypt cannot tell "a" from "a", a NUL and "a".
    if text.iter().any(u8::is_ascii_control) {
        return None;
    }
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (user, password) = (text.get(..colon)?, text.get(colon + 1..)?);
    Some(Credentials { user: Zeroizing::new(user.to_vec()), password: Zeroizing::new(password.to_vec()) })
}

/// What the header presents to somebody who asks for no user: the token of `Bearer` (RFC 6750), or the password of `Basic`.
pub(super) fn secret(header: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const SCHEME: &[u8] = b"bearer ";
    let token = header.split_at_checked(SCHEME.len()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    match token {
        Some((_, token)) => Some(Zeroizing::new(token.trim_ascii().to_vec())).filter(|token| !token.is_empty()),
        None => parse(header).map(|credentials| credentials.password),
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn headers() {
        type Case<'a> = (&'a [u8], Option<(&'a str, &'a str)>);
        let table: [Case<'_>; 18] = [
            (b"Basic YWxpY2U6c2VjcmV0", Some(("alice", "secret"))),
            (b"bASIC  YWxpY2U6c2VjcmV0 ", Some(("alice", "secret"))),
            (b"Basic YTpiOmM=", Some(("a", "b:c"))),
            (b"Basic Og==", Some(("", ""))),
            (b"Basic w6Q6w7Y=", Some(("\u{e4}", "\u{f6}"))),
            (b"Basic YTpiOmM", None),
            (b"Basic YTpiOmN=", None),
            (b"Basic YTpi_w==", None),
            (b"Basic YTo\nYg==", None),
            (b"Basic YWxpY2U=", None),
            (b"Basic YToAYg==", None),
            (b"Basic", None),
            (b"Basic ", None),
            (b"", None),
            (b"BasicYTpiOmM=", None),
            (b"Bearer YTpiOmM=", None),
            (b"Basic YTpiOmM= YTpiOmM=", None),
            (b"Basic \xff\xff", None),
        ];
        for (header, expected) in table {
            let found = parse(header).map(|found| (found.user.to_vec(), found.password.to_vec()));
            let expected = expected.map(|(user, password)| (user.as_bytes().to_vec(), password.as_bytes().to_vec()));
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(header));
        }
        let long = |length: usize| format!("Basic {}", STANDARD.encode(format!("a:{}", "x".repeat(length))));
        assert!(parse(long(3000).as_bytes()).is_some() && parse(long(4000).as_bytes()).is_none());
    }

    #[test]
    fn seeds_and_their_mutations_keep_the_promises() {
        let (seeds, read) = crate::corpus::each("authorization", crate::http::fuzz::authorization);
        assert!(seeds >= 10 && read > 100, "{seeds} seeds, {read} of all were read");
    }
}
