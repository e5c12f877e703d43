//! The keys of source `s3`.

use std::sync::Arc;
use std::time::Duration;

use crate::probe::backup::source::selection::Rules;
use crate::probe::backup::source::{Pace, Paced};
use crate::probe::net::TlsConfig;
use crate::settings::{HttpUrl, Invalid, Item, Secret, Section, Value};

use super::sign::Key;

/// How often a bucket is listed unless the configuration says otherwise.
const INTERVAL: Duration = Duration::from_secs(300);
/// How often it is listed from its first key, where that is more than is needed to see new objects.
const FULL_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Its keys.
#[derive(Debug, PartialEq)]
pub struct Config {
    pub(super) endpoint: HttpUrl,
    pub(super) tls: Option<TlsConfig>,
    pub(super) region: String,
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) style: Style,
    /// `None` asks as nobody.
    pub(super) credentials: Option<Credentials>,
    pub(super) rules: Arc<Rules>,
    pub(super) pace: Pace,
    pub(super) full_interval: Duration,
}

/// Where a bucket's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In the path, after the endpoint.
    Path,
    /// In the host's name, before the endpoint's.
    VirtualHost,
}

impl Value for Style {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[("path", Self::Path), ("virtual_host", Self::VirtualHost)])
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    id: Secret,
    secret: Secret,
    token: Option<Secret>,
}

impl Credentials {
    /// For signing.
    pub fn key(&self) -> Key<'_> {
        Key { id: self.id.expose(), secret: self.secret.expose(), token: self.token.as_ref().map(Secret::expose) }
    }

    /// All of them.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        [&self.id, &self.secret].into_iter().chain(&self.token)
    }

    /// Reads them. `None` also where there are none.
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let [id, secret, token] = ["access_key_id", "secret_access_key", "session_token"]
            .map(|key| section.checked(key, |secret: &Secret| may_be_sent(secret.expose())));
        let has_id = section.has("access_key_id");
        for (key, needs) in [("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")] {
            if section.has(key) && !section.has(needs) {
                section.problem(Some(key), format!("`{key}`: needs a `{needs}`"));
            }
        }
        if section.has("session_token") && !has_id {
            section.problem(Some("session_token"), "`session_token`: needs an `access_key_id`");
        }
        Some(Self { id: id?, secret: secret?, token })
    }
}

impl Config {
    pub(in super::super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let endpoint = section.required::<HttpUrl>("endpoint");
        if endpoint.as_ref().is_some_and(|url| url.path != "/") {
            section.problem(Some("endpoint"), "`endpoint`: must have no path: the bucket has a key of its own");
        }
        let is_https = endpoint.as_ref().is_none_or(|url| url.is_https);
        if section.has("tls") && !is_https {
            section.problem(Some("tls"), "`tls`: `endpoint` is not https");
        }
        let tls = TlsConfig::read(section, is_https);
        if is_https && tls.is_none() && !section.is_table("tls") {
            section.problem(Some("tls"), "`tls`: `endpoint` is https");
        }
        let region = section.checked("region", |region: &String| may_be_region(region));
        let style = section.or("style", Style::Path);
        let bucket = section.required::<String>("bucket");
        if let Some(problem) = bucket.as_ref().and_then(|bucket| is_bucket(bucket, style).err()) {
            section.problem(Some("bucket"), format!("`bucket`: {problem}"));
        }
        let prefix = section.checked("prefix", |prefix: &String| {
            let good = prefix.len() <= 1024 && !prefix.starts_with('/') && prefix.ends_with('/');
            if good { Ok(()) } else { Err("must end with a `/` and begin with none, such as \"daily/\"".to_owned()) }
        });
        let is_address = |url: &HttpUrl| url.address.host.parse::<std::net::IpAddr>().is_ok();
        if style == Style::VirtualHost && endpoint.as_ref().is_some_and(is_address) {
            section.problem(Some("style"), "`style`: an address cannot be part of a host's name");
        }
        let credentials = Credentials::read(section);
        let rules = Rules::read(section);
        let pace = Pace::read_or(section, INTERVAL);
        let full_interval = section.checked("full_listing_interval", |interval: &Duration| {
            let good = (pace.interval..=Duration::from_secs(31 * 86_400)).contains(interval);
            if good { Ok(()) } else { Err("must be from `listing_interval` to 31d".to_owned()) }
        });
        Some(Self {
            endpoint: endpoint?,
            tls,
            region: region.unwrap_or_else(|| "us-east-1".to_owned()),
            bucket: bucket?,
            prefix: prefix.unwrap_or_default(),
            style,
            credentials,
            rules: Arc::new(rules?),
            pace,
            full_interval: full_interval.unwrap_or(FULL_INTERVAL.max(pace.interval)),
        })
    }
}

impl Paced for Config {
    fn pace(&self) -> Option<Pace> {
        Some(self.pace)
    }
}

/// It becomes a header.
fn may_be_sent(secret: &str) -> Result<(), String> {
    let good = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(()) } else { Err("holds characters that no key has".to_owned()) }
}

fn may_be_region(region: &str) -> Result<(), String> {
    let good = region.len() <= 64 && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if good { Ok(()) } else { Err("expected the name of a region such as \"eu-central-1\"".to_owned()) }
}

/// Servers of one's own have names that AWS would not take; those that become part of a host's name cannot be any.
fn is_bucket(bucket: &str, style: Style) -> Result<(), String> {
    let may_have = |byte: u8| match style {
        Style::Path => byte.is_ascii_graphic() && !b"/?#".contains(&byte),
        Style::VirtualHost => byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte),
    };
    let good = bucket.len() <= 255 && ![".", ".."].contains(&bucket) && bucket.bytes().all(may_have);
    if good { Ok(()) } else { Err("is not the name of a bucket".to_owned()) }
}
