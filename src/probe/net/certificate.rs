//! What a peer's certificate says, and what is wrong with it, in words.

use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

use super::clean;

/// How many names of a certificate are listed when none of them is the one asked for.
const MAX_NAMES: usize = 5;

/// The part of a peer's own certificate (the leaf) that is worth watching. Known also when verification failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertInfo {
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
    /// Whom it is for: the common name, or the whole subject if there is none. Cleaned and bounded.
    pub subject: String,
    /// Who issued it, likewise.
    pub issuer: String,
}

impl CertInfo {
    /// Reads a certificate; `None` if it is none.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            not_after: cert.validity().not_after.timestamp(),
            subject: common_name(cert.subject()),
            issuer: common_name(cert.issuer()),
        })
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().find_map(|attribute| attribute.as_str().ok());
    clean(&common.map_or_else(|| name.to_string(), ToOwned::to_owned))
}

/// Why the certificate of `host` is not acceptable. `leaf` is what could be read of it.
pub(super) fn explain(host: &str, leaf: Option<&CertInfo>, error: &CertificateError) -> String {
    let words = match error {
        CertificateError::ExpiredContext { time, not_after } => {
            expired(host, leaf, seconds(*time), seconds(*not_after))
        }
        CertificateError::Expired => format!("the certificate of {host} expired"),
        CertificateError::NotValidYetContext { time, not_before } => {
            let (now, from) = (seconds(*time), seconds(*not_before));
            format!("the certificate of {host} is not valid before {} (in {})", date(from), span(from - now))
        }
        CertificateError::NotValidYet => format!("the certificate of {host} is not valid yet"),
        CertificateError::Revoked => format!("the certificate of {host} was revoked"),
        CertificateError::UnknownIssuer => match leaf {
            Some(leaf) if leaf.issuer == leaf.subject => {
                format!("the certificate of {host} is self-signed ({:?}) and not among the trusted roots", leaf.subject)
            }
            Some(leaf) => {
                format!("the certificate of {host} was issued by {:?}, which no trusted root vouches for", leaf.issuer)
            }
            None => format!("the certificate of {host} was issued by nobody that is trusted"),
        },
        CertificateError::NotValidForNameContext { expected, presented } => {
            wrong_name(&expected.to_str(), presented, leaf)
        }
        CertificateError::NotValidForName => format!("the certificate is not valid for the name {host}"),
        CertificateError::BadEncoding => format!("the certificate of {host} cannot be read"),
        // What a recreated authority of the same name looks like.
        CertificateError::BadSignature => format!(
            "the certificate of {host} was signed with another key than the trusted root {:?} has",
            leaf.map_or("", |leaf| &leaf.issuer)
        ),
        other => format!("the certificate of {host} is not acceptable: {other:?}"),
    };
    clean(&words)
}

fn expired(host: &str, leaf: Option<&CertInfo>, now: i64, not_after: i64) -> String {
    let what = match leaf {
        Some(leaf) if leaf.not_after != not_after => "an issuer's certificate in the chain",
        _ => "the certificate",
    };
    format!("{what} of {host} expired {} ago ({})", span(now - not_after), date(not_after))
}

fn wrong_name(expected: &str, presented: &[String], leaf: Option<&CertInfo>) -> String {
    // rustls spells them `DnsName("db1")` and `IpAddress(10.0.0.1)`.
    let names: Vec<&str> = presented.iter().take(MAX_NAMES).map(|name| bare(name)).collect();
    let more = match presented.len().saturating_sub(MAX_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match leaf {
        _ if !names.is_empty() => {
            format!("the certificate is not valid for the name {expected}; it is for {}{more}", names.join(", "))
        }
        Some(leaf) => format!(
            "the certificate is not valid for the name {expected}; it has no alternative name (a common name, here {:?}, \
             does not count)",
            leaf.subject
        ),
        None => format!("the certificate is not valid for the name {expected}"),
    }
}

/// What stands between the brackets and quotes of a debug spelling, if there are any.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// A day as `2026-11-18`.
fn date(timestamp: i64) -> String {
    match ASN1Time::from_timestamp(timestamp) {
        Ok(time) => {
            let day = time.to_datetime();
            format!("{:04}-{:02}-{:02}", day.year(), u8::from(day.month()), day.day())
        }
        Err(_) => format!("second {timestamp} since 1970"),
    }
}

/// A length of time in its largest unit.
fn span(seconds: i64) -> String {
    let (count, unit) = match seconds.max(0) {
        s @ ..60 => (s, "second"),
        s @ ..3_600 => (s / 60, "minute"),
        s @ ..86_400 => (s / 3_600, "hour"),
        s => (s / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn leaf(not_after: i64) -> CertInfo {
        CertInfo { not_after, subject: "db1".into(), issuer: "Fleet CA".into() }
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn expiry_is_told_with_its_date() {
        let end = 1_795_000_000;
        let error = CertificateError::ExpiredContext { time: at(end + 3 * 86_400), not_after: at(end) };
        let leaf = leaf(end as i64);
        assert_eq!(explain("db1", Some(&leaf), &error), "the certificate of db1 expired 3 days ago (2026-11-18)");
        let other = CertInfo { not_after: 1, ..leaf };
        assert!(explain("db1", Some(&other), &error).starts_with("an issuer's certificate in the chain of db1"));
    }

    #[test]
    fn hostile_names_are_bounded() {
        let presented = vec![format!("DnsName(\"{}\n\")", "x".repeat(5_000)); 1_000];
        let expected = "db1".to_owned().try_into().unwrap();
        let text = explain("db1", None, &CertificateError::NotValidForNameContext { expected, presented });
        assert!(text.chars().count() <= 300 && !text.contains('\n'), "{text}");
    }

    #[test]
    fn rubbish_is_no_certificate() {
        for der in [&b""[..], &[0x30; 64], &[0xff; 4]] {
            assert_eq!(CertInfo::from_der(der), None);
        }
    }
}
