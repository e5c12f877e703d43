//! VPNs over TLS: AnyConnect (ocserv) and SSTP. Both begin with a request of HTTP.

mod anyconnect;
mod http;
mod sstp;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

pub(super) use self::anyconnect::Anyconnect;
use self::http::Reader;
pub(super) use self::sstp::Sstp;
use super::budget::Rule;
use super::knock::Knock;
use super::metrics::{self, Reply};
use crate::probe::key_file;
use crate::probe::net::{Clock, Connected, Tls, TlsConfig, TlsStream, connect, read_failure};
use crate::probe::{Failure, Reason, Shared};
use crate::settings::{HostPort, Section};

/// The keys of both.
#[derive(Debug, PartialEq)]
pub(super) struct Config {
    tls: TlsConfig,
}

impl Config {
    /// Reads the keys.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let problems = section.problems();
        let tls = TlsConfig::read(section, true);
        if tls.is_none() && section.problems() == problems {
            section.problem(Some("tls"), "`tls`: this protocol is not spoken without TLS");
        }
        tls.map(|tls| Self { tls })
    }
}

/// The way to the server that both take.
struct Door {
    tls: Tls,
    rule: Rule,
    /// The file that nobody else should read.
    key_file: Option<PathBuf>,
}

impl Door {
    fn new(config: &Config, rule: Rule, shared: &Shared) -> Result<Self, String> {
        let key_file = config.tls.client.as_ref().map(|(_, key)| key.path().to_owned());
        Ok(Self { tls: config.tls.build(&shared.net)?, rule, key_file })
    }

    fn concerns(&self) -> Vec<String> {
        self.key_file.iter().filter_map(|path| key_file::concern(path)).collect()
    }

    /// Connects and agrees on TLS, a stage each. The certificate is shown also when it is refused.
    ///
    /// # Errors
    /// Why there is no TLS with the server.
    async fn open(&self, knock: &Knock<'_>) -> Result<TlsStream, Failure> {
        self.tls.prepare().await?;
        if let Err(failure) = knock.permit(self.rule).await {
            return Err(knock.stage(metrics::HANDSHAKE).fail(failure));
        }
        let stage = knock.stage(metrics::CONNECT);
        let Connected { stream, handshake, .. } = match in_time(knock, "the connection", connect(knock.address)).await {
            Ok(connected) => connected,
            Err(failure) => return Err(stage.fail(failure)),
        };
        stage.done_in(handshake);
        let stage = knock.stage(metrics::TLS);
        let shown = self.tls.examine(stream, knock.host, Some(Instant::now() + knock.time_left())).await;
        if let Some(leaf) = &shown.leaf {
            knock.certificate(leaf);
        }
        if let Some(version) = shown.version {
            knock.tls_version(version);
        }
        match shown.result {
            Ok(stream) => {
                stage.done();
                Ok(stream)
            }
            Err(failure) if failure.reason == Reason::Timeout => {
                let words = format!("{} took the connection, but was not done with TLS in time", knock.address);
                Err(stage.fail(Failure::new(Reason::Timeout, words)))
            }
            Err(failure) => Err(stage.fail(failure)),
        }
    }

    /// The whole knock: the request, and what `listen` makes of the answer. The handshake is timed to the answer's first byte.
    ///
    /// # Errors
    /// Why the server cannot be said to be there.
    async fn knock(
        &self,
        knock: &Knock<'_>,
        request: &str,
        reply: Reply,
        listen: impl AsyncFn(&mut Reader<TlsStream>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut stream = self.open(knock).await?;
        let stage = knock.stage(metrics::HANDSHAKE);
        let talk = async {
            let sent = Instant::now();
            stream.write_all(request.as_bytes()).await.map_err(|error| read_failure("send the request", &error))?;
            stream.flush().await.map_err(|error| read_failure("send the request", &error))?;
            let mut reader = Reader::new(stream);
            reader.wait().await?;
            let time: Duration = sent.elapsed();
            listen(&mut reader).await.map(|()| time)
        };
        let result = in_time(knock, "the request", talk).await;
        knock.sent(metrics::HANDSHAKE, result.is_ok());
        match result {
            Ok(time) => {
                knock.timed(Clock::User);
                knock.replied(reply);
                stage.done_in(time);
                Ok(())
            }
            Err(failure) => Err(stage.fail(failure)),
        }
    }
}

/// Ends with the visit.
///
/// # Errors
/// `timeout`, saying what the server did not answer.
async fn in_time<T>(
    knock: &Knock<'_>,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match timeout(knock.time_left(), work).await {
        Ok(result) => result,
        Err(_) => {
            let words = format!("{} did not answer {what} in time, or not to its end", knock.address);
            Err(Failure::new(Reason::Timeout, words))
        }
    }
}

/// Reads an answer as that of an AnyConnect server, and as that of an SSTP server, without either.
///
/// # Errors
/// Why it is neither.
pub(super) fn read(bytes: &[u8]) -> Result<(), Failure> {
    let waited = || Err(Failure::new(Reason::Internal, "reading from memory had to wait"));
    let anyconnect = anyconnect::hear(&mut Reader::new(bytes)).now_or_never().unwrap_or_else(waited);
    anyconnect.or_else(|_| sstp::hear(&mut Reader::new(bytes)).now_or_never().unwrap_or_else(waited))
}

/// What a request says of the host: its port only where it is another one than HTTPS has (RFC 9110, section 7.2).
fn host(knock: &Knock<'_>) -> String {
    let bracketed = match knock.host.contains(':') && !knock.host.starts_with('[') {
        true => format!("[{}]", knock.host),
        false => knock.host.to_owned(),
    };
    match knock.address.port() {
        443 => bracketed,
        port => HostPort { host: knock.host.to_owned(), port }.to_string(),
    }
}

#[cfg(test)]
mod tests;
