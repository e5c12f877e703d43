//! One GET, as far as its status.

use std::net::SocketAddr;

use super::Heard;
use crate::probe::net::clean;
use crate::probe::{Failure, Reason};
use crate::settings::{Invalid, Item, Section, Value};

/// The longest line that is read before a peer is taken for something else.
const MAX_LINE: usize = 1_024;

/// A page inside.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::probe::vpn) struct Page {
    url: Url,
    /// The name in the header `Host`, instead of the address.
    host: Option<String>,
    /// The only good status; `None` is any from 200 to 399.
    status: Option<u16>,
}

/// `http://ADDRESS[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq)]
struct Url {
    to: SocketAddr,
    authority: String,
    path: String,
}

impl Value for Url {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let expected = "\"http://ADDRESS/PATH\" with an IP address";
        let bad = || Invalid::new(format!("expected {expected}; neither names nor https are supported inside"));
        let text = item.text(expected)?;
        let rest = text.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let to = authority.parse().or_else(|_| format!("{authority}:80").parse()).map_err(|_| bad())?;
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid::new("the path holds a character that must be escaped"));
        }
        Ok(Self { to, authority: authority.to_owned(), path: path.to_owned() })
    }
}

impl Page {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let url = section.optional::<Url>("http");
        let host = section.checked("host", |host: &String| {
            let good = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
            if good { Ok(()) } else { Err("is not the name of a host".to_owned()) }
        });
        let status = section.checked("status", |status: &u16| {
            if (100..=599).contains(status) { Ok(()) } else { Err("must be from 100 to 599".to_owned()) }
        });
        for key in ["host", "status"] {
            if section.has(key) && !section.has("http") {
                section.problem(Some(key), format!("`{key}`: has a meaning only with `http`"));
            }
        }
        Some(Self { url: url?, host, status })
    }

    pub(super) fn to(&self) -> SocketAddr {
        self.url.to
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    pub(super) fn label(&self) -> String {
        let of_host = self.host.as_ref().map_or_else(String::new, |host| format!(" of {host}"));
        format!("{}{}{of_host}", self.url.authority, self.url.path)
    }

    /// The whole request (RFC 9112, section 3).
    pub(super) fn request(&self) -> String {
        let host = self.host.as_ref().unwrap_or(&self.url.authority);
        let agent = env!("CARGO_PKG_VERSION");
        format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: midwatch/{agent}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.url.path
        )
    }
}

/// Reads the status line (RFC 9112, section 4).
pub fn judge(bytes: &[u8], wanted: Option<u16>) -> Heard {
    let end = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n');
    let Some(end) = end else {
        if bytes.len() >= MAX_LINE {
            return Heard::All(Err(Failure::new(Reason::Protocol, "the answer is not HTTP")));
        }
        return Heard::More;
    };
    let line = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let line = line.trim_end();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let Some(status) = status.filter(|status| status.len() == 3).and_then(|status| status.parse::<u16>().ok()) else {
        return Heard::All(Err(Failure::new(Reason::Protocol, "the answer is not HTTP")));
    };
    let is_good = wanted.map_or((200..400).contains(&status), |wanted| status == wanted);
    Heard::All(if is_good {
        Ok(())
    } else {
        Err(Failure::new(Reason::Mismatch, clean(&format!("the answer is {line}"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &[u8], wanted: Option<u16>) -> Option<Option<Reason>> {
        match judge(bytes, wanted) {
            Heard::More => None,
            Heard::All(result) => Some(result.err().map(|failure| failure.reason)),
        }
    }

    #[test]
    fn a_status_is_read_as_soon_as_its_line_is_there() {
        assert_eq!(reason(b"HTTP/1.1 20", None), None);
        assert_eq!(reason(b"HTTP/1.1 200 OK\r\n", None), Some(None));
        assert_eq!(reason(b"HTTP/1.0 302\r\n", None), Some(None));
        assert_eq!(reason(b"HTTP/1.1 404 Not Found\r\nx", None), Some(Some(Reason::Mismatch)));
        assert_eq!(reason(b"HTTP/1.1 404 Not Found\r\n", Some(404)), Some(None));
        assert_eq!(reason(b"SSH-2.0-OpenSSH\r\n", None), Some(Some(Reason::Protocol)));
        assert_eq!(reason(b"HTTP/1.1 2000 \r\n", None), Some(Some(Reason::Protocol)));
        assert_eq!(reason(&[b'x'; 5_000], None), Some(Some(Reason::Protocol)));
    }
}
