//! The web configuration file: how our own endpoint is protected, in the format of the Prometheus exporter-toolkit.
//!
//! Source of the format: `docs/web-configuration.md` and `web/tls_config.go` of prometheus/exporter-toolkit. What is
//! stricter here is said in docs/CONFIGURATION.md. The file, and the files it refers to, are part of the
//! configuration: read once per load, watched, and refused as a whole if anything is wrong with any of them.

mod client;
mod fields;
#[cfg(test)]
mod tests;
mod tls;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::read::utf8;
use crate::settings::{FileContent, Files, Problem, ReadError, Rules, Source, nearest, parse_duration};
use fields::{Fields, one_of};
use yaml::{Data, Node};

/// The highest cost of a bcrypt hash that is accepted: one more doubles the time of a login, and this one takes seconds
/// already, during which nobody else can log in for the first time.
const MAX_COST: u32 = 15;

/// The largest file that is read: room for several certificates and a thousand users. The parser's time can grow with the
/// square of a text that is made for it.
const MAX_BYTES: usize = 64 << 10;

/// The response headers that may be set, with the values that they may have; none listed means any. The toolkit's list.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// What the web configuration file asks for. Equal if the file and all files that it refers to are.
pub struct Web {
    /// How TLS is spoken; `None` for plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The certificate that clients are shown, by which a command on this machine knows the daemon.
    pub certificate: Option<CertificateDer<'static>>,
    /// The names of those who may log in, with the bcrypt hashes of their passwords. If there are none, all may.
    pub users: BTreeMap<String, Zeroizing<String>>,
    /// What every response carries.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How many requests are answered.
    pub rate_limit: Option<RateLimit>,
    /// The hashes of all files that this was read from.
    hashes: Vec<[u8; 32]>,
}

/// A token bucket: one request for each interval, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The time in which one request is allowed; not zero.
    pub interval: Duration,
    /// How many requests may come at once; not zero.
    pub burst: u32,
}

impl PartialEq for Web {
    fn eq(&self, other: &Self) -> bool {
        self.hashes == other.hashes
    }
}

impl Eq for Web {}

/// Shows neither names nor hashes nor keys.
impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web")
            .field("tls", &self.tls.is_some())
            .field("users", &self.users.len())
            .field("headers", &self.headers.len())
            .field("rate_limit", &self.rate_limit)
            .finish_non_exhaustive()
    }
}

/// Reads the file. `Ok(None)` if it may be missing and is.
///
/// # Errors
/// All its problems, and those of the files that it refers to, at the places that name them.
pub(super) fn read(file: &FileContent, files: &Files) -> Result<Option<Web>, Vec<Problem>> {
    let Some(hash) = file.hash() else { return Ok(None) };
    let path: Arc<Path> = file.path().into();
    if file.bytes().len() > MAX_BYTES {
        let error = ReadError::TooLarge(MAX_BYTES as u64);
        return Err(vec![Problem::of_file(&path, format!("cannot read the file: {error}"))]);
    }
    let text = utf8(&path, file.bytes()).map_err(|problem| vec![problem])?;
    let source = Source::new(&path, text, Rules::Main, files);
    let web = yaml::parse(&source, text).and_then(|root| root_fields(&source, &root, *hash));
    let problems = source.into_problems();
    if problems.is_empty() { Ok(web) } else { Err(problems) }
}

fn root_fields(source: &Source<'_>, root: &Node, hash: [u8; 32]) -> Option<Web> {
    let mut fields = Fields::new(source, "", root)?;
    let mut hashes = vec![hash];
    let tls = fields.node("tls_server_config");
    let tls = tls.and_then(|node| Fields::new(source, "tls_server_config", node));
    let tls = tls.and_then(|mut fields| tls::read(&mut fields, &mut hashes));
    let (tls, certificate) = tls.unzip();
    let http = fields.node("http_server_config");
    let http = http.and_then(|node| Fields::new(source, "http_server_config", node));
    let headers = http.map(|mut fields| http_server(&mut fields)).unwrap_or_default();
    let limit = fields.node("rate_limit");
    let limit = limit.and_then(|node| Fields::new(source, "rate_limit", node));
    let rate_limit = limit.and_then(|mut fields| rate(&mut fields));
    let users = fields.node("basic_auth_users");
    let users = users.and_then(|node| Fields::new(source, "basic_auth_users", node));
    let users = users.map(|fields| users_of(&fields)).unwrap_or_default();
    fields.finish();
    Some(Web { tls, certificate, users, headers, rate_limit, hashes })
}

/// `http_server_config`: the headers. HTTP/2 can be allowed, but is not spoken.
fn http_server(fields: &mut Fields<'_, '_>) -> Vec<(HeaderName, HeaderValue)> {
    fields.boolean("http2");
    let node = fields.node("headers");
    fields.finish();
    let headers = node.and_then(|node| Fields::new(fields.source(), "http_server_config.headers", node));
    headers.map(|fields| headers_of(&fields)).unwrap_or_default()
}

fn headers_of(fields: &Fields<'_, '_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (key, node) in fields.entries() {
        let Some((name, allowed)) = HEADERS.iter().find(|(name, _)| *name == key.name.as_str()) else {
            let near = nearest(&key.name, HEADERS.iter().map(|(name, _)| *name));
            let hint = near.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
            fields.problem(key.offset, format!("a header that cannot be set{hint}"));
            continue;
        };
        let text = match &node.data {
            Data::Text(text) if !text.is_empty() => text,
            // Blank leaves it as it is.
            Data::Text(_) | Data::Null => continue,
            _ => {
                fields.invalid(name, node.offset, &format!("expected a single value, found {}", node.kind()));
                continue;
            }
        };
        let choices: Vec<_> = allowed.iter().map(|value| (*value, ())).collect();
        if !choices.is_empty()
            && let Err(message) = one_of(text, &choices)
        {
            fields.invalid(name, node.offset, &message);
        } else if let (Ok(name), Ok(value)) = (name.parse(), HeaderValue::from_str(text)) {
            headers.push((name, value));
        } else {
            fields.invalid(name, node.offset, "holds a character that a header cannot have");
        }
    }
    headers
}

/// `rate_limit`; an interval of zero means none, as in the toolkit.
fn rate(fields: &mut Fields<'_, '_>) -> Option<RateLimit> {
    let interval = fields.text("interval");
    let burst = fields.text("burst");
    fields.finish();
    let interval = interval.and_then(|text| {
        if text.text == "0" {
            return Some(Duration::ZERO);
        }
        let most = Duration::from_secs(3600);
        let why = match parse_duration(text.text) {
            Ok(interval) if interval <= most => return Some(interval),
            Ok(_) => "; it is at most \"1h\"",
            Err(hint) => hint,
        };
        fields.invalid("interval", text.offset, &format!("expected a duration such as \"250ms\"{why}"));
        None
    });
    let burst = burst.map(|text| {
        let burst = text.text.parse().ok().filter(|burst| (1..=1_000_000).contains(burst));
        if burst.is_none() {
            fields.invalid("burst", text.offset, "expected a whole number from 1 to 1000000");
        }
        burst.unwrap_or(1)
    });
    let interval = interval.filter(|interval| !interval.is_zero())?;
    if burst.is_none() {
        // The toolkit would take it for 0 and refuse every request.
        fields.problem(fields.offset(), "missing field `burst`");
    }
    Some(RateLimit { interval, burst: burst? })
}

/// `basic_auth_users`. No message says whose hash it is about: its place does.
fn users_of(fields: &Fields<'_, '_>) -> BTreeMap<String, Zeroizing<String>> {
    let mut users = BTreeMap::new();
    for (key, node) in fields.entries() {
        if key.name.contains(':') || key.name.chars().any(char::is_control) {
            fields.problem(key.offset, "a user's name holds no colon and no control character");
        }
        let Data::Text(hash) = &node.data else {
            fields.problem(node.offset, format!("expected a bcrypt hash, found {}", node.kind()));
            continue;
        };
        match check_hash(hash) {
            Ok(()) => drop(users.insert(key.name.to_string(), hash.clone())),
            Err(why) => fields.problem(node.offset, why),
        }
    }
    users
}

/// Whether a text is a hash that can be verified in a sane time.
fn check_hash(hash: &str) -> Result<(), String> {
    const EXPECTED: &str = "expected a bcrypt hash, `$2y$10$…` with 60 characters";
    // `$2x$` marks hashes of an implementation that took different passwords for the same.
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|version| hash.strip_prefix(version));
    let parts: Option<bcrypt::HashParts> = rest.and_then(|_| hash.parse().ok());
    match parts.map(|parts| parts.get_cost()) {
        None => Err(EXPECTED.to_owned()),
        Some(4..=MAX_COST) => Ok(()),
        Some(_) => Err(format!("the cost of the hash must be from 4 to {MAX_COST}: each more doubles a login's time")),
    }
}
