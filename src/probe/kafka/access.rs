//! The keys of the configuration that say how a cluster is reached, and as whom.

use std::collections::HashSet;

use super::client::token::is_token;
use crate::probe::net::TlsConfig;
use crate::settings::{Endpoint, HostPort, HttpUrl, Invalid, Item, Secret, Section, Value};

/// Kafka's own port, which an address may leave out.
const PORT: u16 = 9092;
/// Every key of `sasl` but `mechanism`.
const SASL_KEYS: [&str; 12] = [
    "username",
    "password",
    "token",
    "token_url",
    "client_id",
    "client_secret",
    "scope",
    "tls",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
];

/// How a cluster is reached, and as whom.
#[derive(Debug, PartialEq)]
pub struct Access {
    /// Addresses to begin with; the brokers behind them say where all others are. At least one.
    pub bootstrap: Vec<HostPort>,
    /// How TLS is done, if at all.
    pub tls: Option<TlsConfig>,
    /// How we log in, if at all.
    pub sasl: Option<Sasl>,
}

/// How a new connection authenticates, other than by its certificate.
#[derive(Debug, PartialEq)]
pub enum Sasl {
    /// PLAIN.
    Plain { username: String, password: Secret },
    /// SCRAM-SHA-256 or SCRAM-SHA-512.
    Scram { hash: ScramHash, username: String, password: Secret },
    /// OAUTHBEARER.
    Bearer(Box<TokenSource>),
}

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    Sha256,
    Sha512,
}

/// Where tokens come from.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "it is in a box")]
pub enum TokenSource {
    /// From an OAuth 2.0 server, with the client credentials grant (RFC 6749, section 4.4).
    Oauth { url: HttpUrl, client_id: String, client_secret: Secret, scope: Option<String>, tls: Option<TlsConfig> },
    /// From whoever writes it into a file and renews it there, such as the kubelet: a file that changes is read again.
    Given(Secret),
    /// Made by us for Amazon MSK.
    #[cfg(feature = "msk-iam")]
    MskIam { region: String, access_key_id: String, secret_access_key: Secret, session_token: Option<Secret> },
}

#[derive(Clone, Copy, PartialEq)]
enum Mechanism {
    Plain,
    Scram(ScramHash),
    Oauth,
    MskIam,
}

impl Mechanism {
    /// The keys that it needs, and those that it may have.
    fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Plain | Self::Scram(_) => (&["username", "password"], &[]),
            Self::Oauth => (&[], &["token", "token_url", "client_id", "client_secret", "scope", "tls"]),
            Self::MskIam => (&["region", "access_key_id", "secret_access_key"], &["session_token"]),
        }
    }
}

impl Value for Mechanism {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[
            ("PLAIN", Self::Plain),
            ("SCRAM-SHA-256", Self::Scram(ScramHash::Sha256)),
            ("SCRAM-SHA-512", Self::Scram(ScramHash::Sha512)),
            ("OAUTHBEARER", Self::Oauth),
            ("AWS_MSK_IAM", Self::MskIam),
        ])
    }
}

impl Access {
    /// Whether both are likely to lead to the same cluster.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.bootstrap.iter().any(|address| other.bootstrap.contains(address))
    }

    /// Reads the keys `bootstrap`, `tls` and `sasl`.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let bootstrap = section.required::<Vec<Endpoint<PORT>>>("bootstrap");
        let tls = TlsConfig::read(section, false);
        let has_sasl = section.has("sasl");
        let sasl = section.section("sasl", Sasl::read);
        if bootstrap.as_ref().is_some_and(Vec::is_empty) {
            section.problem(Some("bootstrap"), "`bootstrap`: expected at least one address");
        }
        let mut bootstrap: Vec<HostPort> = bootstrap?.into_iter().map(|endpoint| endpoint.0).collect();
        // Names are equal whatever their case. The order is kept: it is the order in which they are tried.
        let mut seen = HashSet::new();
        bootstrap.retain(|address| seen.insert(address.to_string().to_ascii_lowercase()));
        if has_sasl && sasl.is_none() {
            return None;
        }
        Some(Self { bootstrap, tls, sasl })
    }
}

impl Sasl {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let Some(mechanism) = section.required::<Mechanism>("mechanism") else {
            // What the other keys should be depends on it.
            section.ignore_rest();
            return None;
        };
        let (needed, possible) = mechanism.keys();
        for key in SASL_KEYS {
            if section.has(key) && !needed.contains(&key) && !possible.contains(&key) {
                section.ignore(key);
                section.problem(Some(key), format!("`{key}`: has no meaning with this `mechanism`"));
            }
        }
        match mechanism {
            Mechanism::Plain | Mechanism::Scram(_) => {
                let username = section.required("username");
                let password = section.required("password");
                let (username, password) = (username?, password?);
                Some(match mechanism {
                    Mechanism::Scram(hash) => Self::Scram { hash, username, password },
                    _ => Self::Plain { username, password },
                })
            }
            Mechanism::Oauth => Some(Self::Bearer(Box::new(read_oauth(section)?))),
            #[cfg(not(feature = "msk-iam"))]
            Mechanism::MskIam => {
                section.ignore_rest();
                section.problem(Some("mechanism"), "`mechanism`: AWS_MSK_IAM is not in this build (feature `msk-iam`)");
                None
            }
            #[cfg(feature = "msk-iam")]
            Mechanism::MskIam => {
                let region = section.checked("region", is_region);
                if !section.has("region") {
                    section.problem(None, "missing field `region`");
                }
                let access_key_id = section.required("access_key_id");
                let secret_access_key = section.required("secret_access_key");
                let session_token = section.optional("session_token");
                let (access_key_id, secret_access_key) = (access_key_id?, secret_access_key?);
                let source = TokenSource::MskIam { region: region?, access_key_id, secret_access_key, session_token };
                Some(Self::Bearer(Box::new(source)))
            }
        }
    }
}

/// The keys of OAUTHBEARER: a token, or where to get one.
fn read_oauth(section: &mut Section<'_>) -> Option<TokenSource> {
    if section.has("token") {
        for key in ["token_url", "client_id", "client_secret", "scope", "tls"] {
            if section.has(key) {
                section.ignore(key);
                section.problem(Some(key), format!("`{key}`: has no meaning with a `token`"));
            }
        }
        return section.checked("token", may_be_token).map(TokenSource::Given);
    }
    let url = section.required::<HttpUrl>("token_url");
    let client_id = section.required("client_id");
    let client_secret = section.required("client_secret");
    let scope = section.optional("scope");
    let is_https = url.as_ref().is_none_or(|url| url.is_https);
    if section.has("tls") && !is_https {
        section.problem(Some("tls"), "`tls`: `token_url` is not https");
    }
    let tls = TlsConfig::read(section, is_https);
    if is_https && tls.is_none() && !section.is_table("tls") {
        section.problem(Some("tls"), "`tls`: `token_url` is https");
    }
    let (client_id, client_secret) = (client_id?, client_secret?);
    Some(TokenSource::Oauth { url: url?, client_id, client_secret, scope, tls })
}

fn may_be_token(token: &Secret) -> Result<(), String> {
    if is_token(token.expose()) { Ok(()) } else { Err("holds characters that no token has".to_owned()) }
}

/// It becomes part of a host's name.
#[cfg(feature = "msk-iam")]
fn is_region(region: &String) -> Result<(), String> {
    if region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        Ok(())
    } else {
        Err("expected the name of a region such as \"eu-central-1\"".to_owned())
    }
}
