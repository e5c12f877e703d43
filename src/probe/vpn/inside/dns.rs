//! One question for a name's address.

use std::net::SocketAddr;
use std::str::FromStr as _;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};

use super::{DNS_PORT, Heard, with_port};
use crate::probe::vpn::random::random;
use crate::probe::{Failure, Reason};
use crate::settings::{Endpoint, Section};

/// A name, and a name server inside.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::probe::vpn) struct Lookup {
    name: Name,
    server: SocketAddr,
}

impl Lookup {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let name = section
            .checked("dns", |name: &String| Name::from_str(name).map(|_| ()).map_err(|_| "is not a name".to_owned()));
        let server = section.checked("server", |server: &Endpoint<DNS_PORT>| {
            with_port(server).map(|_| ()).ok_or_else(|| "expected the IP address of a name server".to_owned())
        });
        if section.has("dns") != section.has("server") {
            section.problem(
                None,
                "`dns` and `server` belong together: a name, and the name server inside that is asked for it",
            );
        }
        let mut name = Name::from_str(&name?).ok()?;
        name.set_fqdn(true);
        Some(Self { name, server: with_port(&server?)? })
    }

    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    pub(super) fn label(&self) -> String {
        let name = self.name.to_string();
        format!("{} at {}", name.strip_suffix('.').unwrap_or(&name), self.server)
    }

    /// A question with an id of its own.
    pub(super) fn query(&self) -> Result<(u16, Vec<u8>), Failure> {
        let id = u16::from_be_bytes(random()?);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), RecordType::A));
        let bytes = message.to_vec().map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        Ok((id, bytes))
    }
}

/// Reads an answer. What has another id, or is no answer, is not ours.
pub fn judge(bytes: &[u8], id: u16) -> Heard {
    let Ok(message) = Message::from_vec(bytes) else { return Heard::More };
    if message.metadata.id != id || message.metadata.message_type != MessageType::Response {
        return Heard::More;
    }
    let failed = |reason, words| Heard::All(Err(Failure::new(reason, words)));
    match message.metadata.response_code {
        ResponseCode::NoError if message.answers.is_empty() => {
            failed(Reason::Mismatch, "the name has no address".to_owned())
        }
        ResponseCode::NoError => Heard::All(Ok(())),
        code => failed(Reason::Resolve, format!("the name server answered {code}")),
    }
}
