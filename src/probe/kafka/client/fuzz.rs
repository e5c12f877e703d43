//! The readers of brokers' answers, callable without a broker: for the fuzz target in `fuzz/` and for the test that feeds its
//! seeds and mutations of them.

use super::api::{Api, Request, api_versions, configs, fetch, groups, list_offsets, log_dirs, metadata, offset_fetch};
use super::api::{quorum, reassignments, sasl};
use super::reader::{Malformed, Reader};

/// Reads a body that follows two bytes: the API's place in the list of all, and the version above the oldest that we speak.
/// False if it is no such response. None of the readers may panic, or allocate what a length merely claims.
pub fn response(bytes: &[u8]) -> bool {
    let [api, version, body @ ..] = bytes else { return false };
    let Some(&api) = Api::ALL.get(usize::from(*api)) else { return false };
    let version = api.versions().start() + i16::from(*version);
    api.versions().contains(&version) && decode_any(api, version, body).is_ok()
}

/// Reads a body. Says how many bytes are left over.
pub(super) fn decode_any(api: Api, version: i16, body: &[u8]) -> Result<usize, Malformed> {
    let read = match api {
        Api::Metadata => decode::<metadata::Metadata>,
        Api::ListOffsets => decode::<list_offsets::ListOffsets>,
        Api::Fetch => decode::<fetch::FetchOne>,
        Api::OffsetFetch => decode::<offset_fetch::OffsetFetch>,
        Api::FindCoordinator => decode::<groups::FindCoordinator>,
        Api::DescribeGroups => decode::<groups::DescribeGroups>,
        Api::ListGroups => decode::<groups::ListGroups>,
        Api::SaslHandshake => decode::<sasl::Handshake>,
        Api::ApiVersions => decode::<api_versions::AskVersions>,
        Api::DescribeConfigs => decode::<configs::DescribeConfigs>,
        Api::DescribeLogDirs => decode::<log_dirs::DescribeLogDirs>,
        Api::SaslAuthenticate => decode::<sasl::Authenticate>,
        Api::ListPartitionReassignments => decode::<reassignments::ListReassignments>,
        Api::DescribeQuorum => decode::<quorum::DescribeQuorum>,
        Api::ConsumerGroupDescribe => decode::<groups::ConsumerGroupDescribe>,
    };
    read(version, body)
}

fn decode<R: Request>(version: i16, body: &[u8]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(body, R::API.is_flexible(version));
    R::decode(&mut reader, version).map(|_| reader.remaining())
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod tests;
