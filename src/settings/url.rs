//! Where an HTTP server is.

use super::address::HostPort;
use super::value::{Invalid, Item, Value};

const EXPECTED: &str = "a URL such as \"https://login.example.net/token\"";

/// An `http` or `https` URL, without user and password: those have keys of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Host and port.
    pub address: HostPort,
    /// Path and query.
    pub path: String,
    /// Whether it is `https`.
    pub is_https: bool,
}

impl HttpUrl {
    /// What the text says, if it is such a URL.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: hyper::Uri = text.parse().ok()?;
        let (is_https, port) = match uri.scheme_str()? {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let address = HostPort { host, port: authority.port_u16().unwrap_or(port) };
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        (!address.host.is_empty() && address.port != 0).then_some(Self { address, path, is_https })
    }
}

impl Value for HttpUrl {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        Self::parse(item.text(EXPECTED)?).ok_or_else(|| Invalid::new(format!("expected {EXPECTED}")))
    }
}
