//! AnyConnect, as ocserv and Cisco's servers speak it: the client asks how to log in.
//!
//! The exchange of XML comes first (draft-mavrogiannopoulos-openconnect, section 2.1); nobody logs in.

use tokio::io::AsyncRead;

use super::http::{Head, Reader};
use super::{Config, Door, host};
use crate::probe::net::clean;
use crate::probe::vpn::budget;
use crate::probe::vpn::knock::Knock;
use crate::probe::vpn::metrics::Reply;
use crate::probe::{Failure, Reason, Shared};

/// What a client begins with.
const INIT: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
    "<config-auth client=\"vpn\" type=\"init\"><version who=\"vpn\">v9.0</version><device-id>linux-64</device-id>",
    "</config-auth>\n"
);
/// The element that everything is in.
const ROOT: &str = "config-auth";

/// Asks an AnyConnect server how to log in.
pub(in crate::probe::vpn) struct Anyconnect(Door);

impl Anyconnect {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with a certificate, in words.
    pub(in crate::probe::vpn) fn new(config: &Config, shared: &Shared) -> Result<Self, String> {
        Door::new(config, budget::ANYCONNECT, shared).map(Self)
    }

    /// What will not work well here.
    pub(in crate::probe::vpn) fn concerns(&self) -> Vec<String> {
        self.0.concerns()
    }

    /// Knocks once.
    ///
    /// # Errors
    /// Why the server cannot be said to be there.
    pub(in crate::probe::vpn) async fn knock(&self, knock: &Knock<'_>) -> Result<(), Failure> {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nUser-Agent: midwatch/{}\r\nAccept: */*\r\nX-Aggregate-Auth: 1\r\nX-Transcend-Version: 1\r\n\
             Content-Type: application/xml; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{INIT}",
            host(knock),
            env!("CARGO_PKG_VERSION"),
            INIT.len()
        );
        self.0.knock(knock, &request, Reply::AuthRequest, async |reader| hear(reader).await).await
    }
}

/// Reads the answer.
pub(super) async fn hear<S: AsyncRead + Unpin>(reader: &mut Reader<S>) -> Result<(), Failure> {
    let head = reader.head().await?;
    expect_xml(&head)?;
    judge(&reader.body(&head).await?)
}

fn expect_xml(head: &Head) -> Result<(), Failure> {
    if head.status != 200 {
        let words = format!("the answer is not a request to log in but {}", head.line);
        return Err(Failure::new(Reason::Mismatch, clean(&words)));
    }
    if head.content_type != "text/xml" {
        let words = format!("the answer is not a request to log in: its type is {:?}, not text/xml", head.content_type);
        return Err(Failure::new(Reason::Mismatch, clean(&words)));
    }
    Ok(())
}

/// Reads the body, as far as its first element: it must be `config-auth` of the type `auth-request`.
///
/// # Errors
/// `mismatch` for another type, `protocol` for what is not such an element.
fn judge(body: &[u8]) -> Result<(), Failure> {
    let kind = std::str::from_utf8(body).ok().and_then(kind);
    match kind {
        Some("auth-request") => Ok(()),
        Some(other) => {
            let words = format!("the server did not ask for a log-in but answered with {other:?}");
            Err(Failure::new(Reason::Mismatch, clean(&words)))
        }
        None => Err(Failure::new(Reason::Protocol, "the answer is not AnyConnect's XML")),
    }
}

/// The attribute `type` of the first element, if that is what it should be.
fn kind(text: &str) -> Option<&str> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // What may stand before an element: a declaration, and comments.
    loop {
        let end = if rest.starts_with("<?") {
            "?>"
        } else if rest.starts_with("<!--") {
            "-->"
        } else {
            break;
        };
        rest = rest.split_once(end)?.1.trim_start();
    }
    let mut attributes = rest.strip_prefix('<')?.strip_prefix(ROOT)?;
    let mut kind = None;
    loop {
        let trimmed = attributes.trim_start();
        if trimmed.starts_with('>') || trimmed.starts_with("/>") {
            return kind;
        }
        if trimmed.len() == attributes.len() {
            return None;
        }
        let (name, after) = trimmed.split_once('=')?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, next) = after.get(1..)?.split_once(quote)?;
        if name.trim_end() == "type" {
            kind = Some(value);
        }
        attributes = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_element_is_believed() {
        for good in [
            "<config-auth type=\"auth-request\">",
            "\u{feff} <?xml version='1.0'?>\n<!-- > -->\n<config-auth\n client = 'vpn'\ttype = 'auth-request' />",
            "<config-auth client=\"a > b\" type=\"auth-request\"><auth type=\"x\">",
        ] {
            assert_eq!(judge(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "",
            "<",
            "<config-auth",
            "<config-auth>",
            "<config-auth type=auth-request>",
            "<config-auth type=\"auth-request\"",
            "<config-authentic type=\"auth-request\">",
            "<config-auth client=\"vpn\"type=\"auth-request\">",
            "<!-- <config-auth type=\"auth-request\"> ",
            "<x><config-auth type=\"auth-request\">",
            "text <config-auth type=\"auth-request\">",
        ] {
            assert_eq!(judge(bad.as_bytes()).unwrap_err().reason, Reason::Protocol, "{bad}");
        }
        assert_eq!(judge(b"<config-auth type=\"auth-request\xff\">").unwrap_err().reason, Reason::Protocol);
        let failure = judge(b"<config-auth type=\"auth-reply\">").unwrap_err();
        assert_eq!(failure.reason, Reason::Mismatch);
        assert!(failure.detail.contains("\"auth-reply\""), "{failure}");
    }
}
