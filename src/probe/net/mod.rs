//! What every probe does before it speaks its own protocol: resolve a name, connect, negotiate TLS.
//!
//! Three rules hold throughout. Every failure is a [`Failure`] with the reason an operator would give
//! it. A time that the kernel knows better than we do is taken from the kernel. What a peer sent is cleaned before it
//! becomes part of a sentence, see [`clean`].

mod certificate;
mod connect;
pub mod http;
mod resolve;
mod tcp_info;
mod tls;
mod tls_config;
mod tls_verify;
mod udp;

use std::net::IpAddr;
use std::sync::Arc;

use rustls::RootCertStore;
use tokio::sync::OnceCell;

use super::{Failure, Reason};

pub use certificate::CertInfo;
pub use connect::{Clock, Connected, connect, connect_any, connect_through};
pub use tls::{ClientCertificate, Shown, Tls, TlsOptions, TlsStream, read_failure};
pub use tls_config::TlsConfig;
pub use udp::{Datagrams, Received, Sent, may_send_echoes};

/// What probes share for reaching their targets: the resolver and the system's trust roots. Cheap to make and to clone;
/// both parts are read at their first use, because building a probe does no I/O.
#[derive(Clone, Debug, Default)]
pub struct Net {
    resolver: Arc<resolve::Resolver>,
    roots: Arc<OnceCell<Arc<RootCertStore>>>,
}

impl Net {
    /// The addresses of a host in the order in which to try them. IP literals (also `[::1]`) need no I/O; names are
    /// looked up as the system would (`/etc/hosts`, search domains, both families) but never from a cache: a prober
    /// measures DNS as it is now.
    ///
    /// # Errors
    /// `resolve`, with what the name servers said in the detail; `local` without file descriptors.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        match literal(host) {
            Some(ip) => Ok(vec![ip]),
            None => self.resolver.addresses(host).await,
        }
    }

    /// Does what [`resolve`](Self::resolve) needs and what is no part of asking a name server: reads the system's
    /// configuration anew if it is old. Nothing for an IP literal.
    ///
    /// # Errors
    /// `resolve` if the configuration cannot be used.
    pub async fn prepare(&self, host: &str) -> Result<(), Failure> {
        match literal(host) {
            Some(_) => Ok(()),
            None => self.resolver.current().await.map(|_| ()),
        }
    }

    /// The hosts and ports behind `mongodb+srv://NAME`, sorted: `_mongodb._tcp.NAME`, with the check that the
    /// specification demands (every host within the domain of the name).
    ///
    /// # Errors
    /// `resolve`, also when a record points out of the domain.
    pub async fn resolve_srv(&self, name: &str) -> Result<Vec<(String, u16)>, Failure> {
        self.resolver.mongodb_hosts(name).await
    }

    /// The system's trust roots, read once for the life of the process. A failure is not remembered.
    async fn roots(&self) -> Result<&Arc<RootCertStore>, Failure> {
        self.roots
            .get_or_try_init(|| async {
                tokio::task::spawn_blocking(tls::native_roots)
                    .await
                    .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?
            })
            .await
    }
}

/// The address that the text spells, if it spells one.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// The longest text that is taken from a peer into a detail, in characters.
const MAX_TEXT: usize = 300;

/// Makes a text from a peer fit for a log line and a page: no control or direction-changing characters, and no more than
/// 300 characters.
pub fn clean(text: &str) -> String {
    let mut kept = text.chars().map(visible);
    let mut out: String = kept.by_ref().take(MAX_TEXT - 1).collect();
    match (kept.next(), kept.next()) {
        (None, _) => {}
        (Some(last), None) => out.push(last),
        (Some(_), Some(_)) => out.push('…'),
    }
    out
}

/// The same line by line, and of any length: for texts that are read as such, and bounded by whoever keeps them.
pub fn clean_lines(text: &str) -> String {
    let visible = |line: &str| line.chars().map(visible).collect::<String>().trim_end().to_owned();
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

/// The character, or a space in place of one that a terminal or a page would obey.
fn visible(c: char) -> char {
    let hidden = c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if hidden { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_need_no_resolver() {
        let net = Net::default();
        assert_eq!(net.resolve("127.0.0.1").await.unwrap(), [IpAddr::from([127, 0, 0, 1])]);
        for spelling in ["::1", "[::1]"] {
            assert_eq!(net.resolve(spelling).await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        }
    }

    #[test]
    fn text_is_bounded_and_harmless() {
        assert_eq!(clean("a\nb\u{7}c\u{202e}d"), "a b c d");
        assert_eq!(clean(&"é".repeat(300)).chars().count(), 300);
        assert_eq!(clean_lines("a \r\n\n\tb\u{1b}[2Jc\u{202e}\r"), "a\n\n b [2Jc");
        let long = clean(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), 300);
        assert!(long.ends_with('…'));
    }
}
