//! Which versions of which APIs a broker speaks.

use std::collections::HashMap;

use bytes::BytesMut;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// Asks for them. Tells the broker whose client this is (KIP-511).
pub struct AskVersions;

/// The versions of a broker, by the API's number on the wire.
#[derive(Debug, PartialEq)]
pub struct Versions {
    /// `UNSUPPORTED_VERSION` if the request itself is too new; the answer then has the form of version 0.
    pub error: ErrorCode,
    ranges: HashMap<i16, (i16, i16)>,
}

impl Versions {
    /// The newest version that both sides know.
    pub fn pick(&self, api: Api) -> Option<i16> {
        let (lowest, highest) = self.ranges.get(&api.key()).copied()?;
        let ours = api.versions();
        let picked = highest.min(*ours.end());
        (picked >= lowest && picked >= *ours.start()).then_some(picked)
    }
}

impl Request for AskVersions {
    const API: Api = Api::ApiVersions;
    type Response = Versions;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request.client_software_name = StrBytes::from_static_str("midwatch");
            request.client_software_version = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
        }
        put(&request, version, out)
    }

    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Versions, Malformed> {
        let error = ErrorCode(reader.i16()?);
        if error == ErrorCode::UNSUPPORTED_VERSION {
            // The rest has the form of version 0, whatever was asked for.
            return Ok(Versions { error, ranges: HashMap::new() });
        }
        let mut ranges = HashMap::new();
        reader.each(|reader| {
            ranges.insert(reader.i16()?, (reader.i16()?, reader.i16()?));
            reader.tags()
        })?;
        if version >= 1 {
            // How long the broker throttles us.
            reader.i32()?;
        }
        reader.tags()?;
        Ok(Versions { error, ranges })
    }
}
