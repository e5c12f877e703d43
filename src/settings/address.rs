//! Where a target is: a host and a port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::value::{Invalid, Item, Value};

/// A host and a port. The host keeps its spelling, because it becomes a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// A name or an IP address, the latter without brackets.
    pub host: String,
    /// The port; not 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// For addresses that peers name. The error says what is wrong without repeating any of the text.
impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, None)
    }
}

/// `"host:port"` or `"[::1]:port"`.
impl Value for HostPort {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        read(item, None)
    }
}

/// A [`HostPort`] whose port may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<const PORT: u16>(pub HostPort);

impl<const PORT: u16> Value for Endpoint<PORT> {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        read(item, Some(PORT)).map(Self)
    }
}

fn read(item: &Item<'_>, default: Option<u16>) -> Result<HostPort, Invalid> {
    let expected = match default {
        None => "\"host:port\"",
        Some(_) => "\"host:port\" or \"host\"",
    };
    parse(item.text(expected)?, default).map_err(|why| Invalid::new(format!("expected {expected}; {why}")))
}

/// The error must not repeat any part of the text: it may hold a password.
fn parse(text: &str, default: Option<u16>) -> Result<HostPort, &'static str> {
    if text.contains("://") {
        return Err("found a URI; user names and passwords have keys of their own");
    }
    if text.contains('@') {
        return Err("user names and passwords have keys of their own");
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or("a colon and the port must follow the bracket")?),
        };
        if host.contains('%') {
            return Err("an IPv6 address with a zone is not supported");
        }
        host.parse::<Ipv6Addr>().map_err(|_| "the brackets do not hold an IPv6 address")?;
        (host, port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err("an IPv6 address is written in brackets, such as \"[::1]:27017\"");
        }
        check_host(host)?;
        (host, port)
    };
    let port = match port {
        None => default.ok_or("the port is missing")?,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0).ok_or("the port is not a number from 1 to 65535")?
        }
        Some(_) => return Err("the port is not a number from 1 to 65535"),
    };
    Ok(HostPort { host: host.to_owned(), port })
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() || host.len() > 253 {
        return Err("the host is empty or too long");
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Err("the host holds a character that no host name has");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table = [
            ("db1:27017", Some("db1:27017")),
            ("DB1.example.net:1", Some("DB1.example.net:1")),
            ("db1", Some("db1:27017")),
            ("10.0.0.1:5", Some("10.0.0.1:5")),
            ("[::1]:27018", Some("[::1]:27018")),
            ("[::1]", Some("[::1]:27017")),
            ("[fe80::1%eth0]:1", None),
            ("::1", None),
            ("[::1", None),
            ("[db1]:1", None),
            ("[::1]27017", None),
            ("db1:", None),
            ("db1:0", None),
            ("db1:+1", None),
            ("db1:65536", None),
            (":27017", None),
            ("db 1:1", None),
            ("db1/x:1", None),
            ("mongodb://u:p@db1:27017", None),
            ("u:p@db1:27017", None),
            ("db1:1,db2:1", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text, Some(27017)).ok().map(|a| a.to_string()).as_deref(), expected, "{text}");
        }
        assert!(parse("db1", None).is_err());
    }
}
