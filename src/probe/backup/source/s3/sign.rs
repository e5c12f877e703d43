//! AWS Signature Version 4, for requests without a body ("Signature Calculations for the Authorization Header: Transferring Payload in
//! a Single Chunk" in the reference of the Amazon S3 API).

use std::fmt::Write as _;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The SHA-256 of an empty body, in hexadecimal digits.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Who asks.
#[derive(Clone, Copy)]
pub struct Key<'k> {
    /// Names the key.
    pub id: &'k str,
    /// The key itself.
    pub secret: &'k str,
    /// What comes with a key that is good for some hours only.
    pub token: Option<&'k str>,
}

/// A request without a body.
#[derive(Debug)]
pub struct Question<'q> {
    /// The header `Host`.
    pub host: &'q str,
    /// The path, [escaped](escape).
    pub path: &'q str,
    /// The query, from [`query`].
    pub query: &'q str,
}

/// The headers that sign a request, each with its name.
pub fn headers(
    question: &Question<'_>,
    key: Key<'_>,
    region: &str,
    now: SystemTime,
) -> Vec<(&'static str, Zeroizing<String>)> {
    let time = DateTime::<Utc>::from(now).format("%Y%m%dT%H%M%SZ").to_string();
    let mut headers = vec![
        ("x-amz-content-sha256", Zeroizing::new(OF_NOTHING.to_owned())),
        ("x-amz-date", Zeroizing::new(time.clone())),
    ];
    if let Some(token) = key.token {
        headers.push(("x-amz-security-token", Zeroizing::new(token.to_owned())));
    }
    // Sorted by name, as `host` and these three are.
    let names = std::iter::once("host").chain(headers.iter().map(|(name, _)| *name)).collect::<Vec<_>>().join(";");
    let mut canonical = Zeroizing::new(format!("GET\n{}\n{}\nhost:{}\n", question.path, question.query, question.host));
    for (name, value) in &headers {
        canonical.push_str(name);
        canonical.push(':');
        canonical.push_str(value.trim());
        canonical.push('\n');
    }
    canonical.push_str(&format!("\n{names}\n{OF_NOTHING}"));
    let day = &time[..8];
    let scope = format!("{day}/{region}/s3/aws4_request");
    let hash = hex(&Sha256::digest(canonical.as_bytes()));
    let signature = hex(&*hmac(&*of_day(key, day, region), &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}")));
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", key.id);
    headers.push(("authorization", Zeroizing::new(authorization)));
    headers
}

/// The key that is good for one day and region.
fn of_day(key: Key<'_>, day: &str, region: &str) -> Zeroizing<[u8; 32]> {
    let secret = Zeroizing::new(format!("AWS4{}", key.secret));
    let of_day = hmac(secret.as_bytes(), day);
    [region, "s3", "aws4_request"].iter().fold(of_day, |key, part| hmac(&*key, part))
}

fn hmac(key: &[u8], text: &str) -> Zeroizing<[u8; 32]> {
    // Keys of any length are good: this cannot fail.
    let mac = Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(text).finalize().into_bytes().into());
    Zeroizing::new(mac.unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The query in the one form that is signed: sorted by name, names and values escaped.
pub fn query(parameters: &mut [(&str, &str)]) -> String {
    parameters.sort_unstable();
    let pairs: Vec<_> =
        parameters.iter().map(|(name, value)| format!("{}={}", escape(name, ""), escape(value, ""))).collect();
    pairs.join("&")
}

/// Escapes all but the unreserved characters of RFC 3986, section 2.3, and those that are to be kept.
pub fn escape(text: &str, kept: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        let char = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(char) || kept.contains(char) && byte.is_ascii() {
            escaped.push(char);
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Those of AWS' published examples.
    const EXAMPLE: Key<'static> =
        Key { id: "AKIAIOSFODNN7EXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", token: None };

    fn signed(key: Key<'_>, query: &str) -> String {
        let question = Question { host: "examplebucket.s3.amazonaws.com", path: "/", query };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        headers(&question, key, "us-east-1", now).last().unwrap().1.to_string()
    }

    #[test]
    fn the_published_examples_come_out() {
        let expected = |signature: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={signature}"
            )
        };
        let list = query(&mut [("prefix", "J"), ("max-keys", "2")]);
        assert_eq!(
            signed(EXAMPLE, &list),
            expected("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
        );
        assert_eq!(
            signed(EXAMPLE, &query(&mut [("lifecycle", "")])),
            expected("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")
        );
    }

    #[test]
    fn a_query_is_escaped_and_sorted() {
        let query = query(&mut [("start-after", "a b/ä+"), ("list-type", "2"), ("prefix", "")]);
        assert_eq!(query, "list-type=2&prefix=&start-after=a%20b%2F%C3%A4%2B");
        assert_eq!(escape("a/b c", "/"), "a/b%20c");
    }
}
