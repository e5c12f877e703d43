//! SSTP, the Secure Socket Tunneling Protocol of Windows ([MS-SSTP]): a client opens a duplex channel with a request of HTTP.
//!
//! It was tried against a stub that behaves as the specification says, and against no live server.

use tokio::io::AsyncRead;

use super::http::{Head, Reader};
use super::{Config, Door, host};
use crate::probe::net::clean;
use crate::probe::vpn::budget;
use crate::probe::vpn::knock::Knock;
use crate::probe::vpn::metrics::Reply;
use crate::probe::vpn::random::random;
use crate::probe::{Failure, Reason, Shared};

/// Where the channel is ([MS-SSTP] section 3.2.4.1).
const PATH: &str = "/sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/";

/// Opens SSTP's duplex channel.
pub(in crate::probe::vpn) struct Sstp(Door);

impl Sstp {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with a certificate, in words.
    pub(in crate::probe::vpn) fn new(config: &Config, shared: &Shared) -> Result<Self, String> {
        Door::new(config, budget::TLS, shared).map(Self)
    }

    /// What will not work well here.
    pub(in crate::probe::vpn) fn concerns(&self) -> Vec<String> {
        self.0.concerns()
    }

    /// Knocks once. The channel is closed as soon as it is open.
    ///
    /// # Errors
    /// Why the server cannot be said to be there.
    pub(in crate::probe::vpn) async fn knock(&self, knock: &Knock<'_>) -> Result<(), Failure> {
        let request = request(&host(knock))?;
        self.0.knock(knock, &request, Reply::Accepted, async |reader| hear(reader).await).await
    }
}

/// The request, with an id of its own for the server's log.
fn request(host: &str) -> Result<String, Failure> {
    let id = u128::from_be_bytes(random()?);
    let group = |shift: u32, bits: u32| (id >> shift) & ((1 << bits) - 1);
    Ok(format!(
        "SSTP_DUPLEX_POST {PATH} HTTP/1.1\r\nHost: {host}\r\nSSTPCORRELATIONID: {{{:08X}-{:04X}-{:04X}-{:04X}-{:012X}}}\r\n\
         Content-Length: {}\r\n\r\n",
        group(96, 32),
        group(80, 16),
        group(64, 16),
        group(48, 16),
        group(0, 48),
        u64::MAX
    ))
}

/// Reads the answer, whose body never ends.
pub(super) async fn hear<S: AsyncRead + Unpin>(reader: &mut Reader<S>) -> Result<(), Failure> {
    judge(&reader.head().await?)
}

fn judge(head: &Head) -> Result<(), Failure> {
    if head.status == 200 && head.line.starts_with("HTTP/1.1 ") {
        return Ok(());
    }
    let words = format!("the server did not open SSTP's channel but answered with {}", head.line);
    Err(Failure::new(Reason::Mismatch, clean(&words)))
}
