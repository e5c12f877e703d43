//! The steps of a SASL login (KIP-43, KIP-152, KIP-368).

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// Chooses a mechanism.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    /// Its name.
    pub mechanism: &'static str,
}

/// What the broker says of the mechanism.
#[derive(Debug)]
pub struct Offer {
    /// Whether it may be used.
    pub error: ErrorCode,
    /// The mechanisms that the listener has.
    pub mechanisms: Vec<Box<str>>,
}

impl Request for Handshake {
    const API: Api = Api::SaslHandshake;
    type Response = Offer;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(self.mechanism));
        put(&request, version, out)
    }

    fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Offer, Malformed> {
        let error = ErrorCode(reader.i16()?);
        Ok(Offer { error, mechanisms: reader.array(|reader| Ok(reader.str()?.into()))? })
    }
}

/// Sends the mechanism's next message. Not to be shown: it may be a password.
pub struct Authenticate {
    /// The message.
    pub message: Bytes,
}

/// The broker's message.
#[derive(Debug)]
pub struct Step {
    /// Whether the login goes on.
    pub error: ErrorCode,
    /// Why not, in the broker's words.
    pub explanation: Option<Box<str>>,
    /// The mechanism's message.
    pub message: Bytes,
    /// After how many milliseconds the broker closes the connection unless we log in again; 0 is never.
    pub lifetime_ms: i64,
}

impl Request for Authenticate {
    const API: Api = Api::SaslAuthenticate;
    type Response = Step;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        put(&SaslAuthenticateRequest::default().with_auth_bytes(self.message.clone()), version, out)
    }

    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Step, Malformed> {
        let error = ErrorCode(reader.i16()?);
        let explanation = reader.nullable_str()?.map(Box::from);
        let message = Bytes::copy_from_slice(reader.bytes()?);
        let lifetime_ms = if version >= 1 { reader.i64()? } else { 0 };
        reader.tags()?;
        Ok(Step { error, explanation, message, lifetime_ms })
    }
}
