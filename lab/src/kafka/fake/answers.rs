//! From a request to the bytes of its answer.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeLogDirsRequest, DescribeQuorumRequest, FindCoordinatorRequest, ListGroupsRequest,
    ListOffsetsRequest, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, MetadataRequest,
    OffsetFetchRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request, VersionRange, decode_request_header_from_buffer,
};

use super::shape::Clock;
use super::{Question, Shape};

/// What cannot be answered ends the connection.
pub(super) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The APIs that are answered, and the versions that the codec knows of them.
const KNOWN: [(i16, VersionRange); 12] = [
    of::<MetadataRequest>(),
    of::<ListOffsetsRequest>(),
    of::<OffsetFetchRequest>(),
    of::<FindCoordinatorRequest>(),
    of::<ListGroupsRequest>(),
    of::<DescribeGroupsRequest>(),
    of::<ConsumerGroupDescribeRequest>(),
    of::<DescribeConfigsRequest>(),
    of::<DescribeLogDirsRequest>(),
    of::<DescribeQuorumRequest>(),
    of::<ListPartitionReassignmentsRequest>(),
    of::<ApiVersionsRequest>(),
];

const fn of<R: Request>() -> (i16, VersionRange) {
    (R::KEY, R::VERSIONS)
}

/// What a request asked, how much of it, and the encoded answer.
pub(super) type Answer = (Question, usize, Bytes);

/// All that the brokers say.
pub(super) struct Answers {
    pub(super) shape: Shape,
    pub(super) clock: Clock,
    pub(super) addresses: Vec<SocketAddr>,
    /// Answers that stay the same, by broker and by the request without its correlation id.
    kept: HashMap<(i32, Bytes), Answer>,
}

/// A request, its header read.
pub(super) struct Arrived {
    pub(super) broker: i32,
    version: i16,
    correlation: i32,
    body: Bytes,
}

impl Arrived {
    fn read<R: Decodable>(&mut self) -> Outcome<R> {
        Ok(R::decode(&mut self.body, self.version)?)
    }

    /// The encoded answer with its length.
    fn encode<M: Encodable + HeaderVersion>(&self, message: &M) -> Outcome<Bytes> {
        let mut out = BytesMut::with_capacity(4096);
        out.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        header.encode(&mut out, M::header_version(self.version))?;
        message.encode(&mut out, self.version)?;
        let length = i32::try_from(out.len() - 4)?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        Ok(out.freeze())
    }
}

impl Answers {
    pub(super) fn new(shape: Shape, addresses: Vec<SocketAddr>) -> Self {
        let clock = Clock::start(&shape);
        Self { shape, clock, addresses, kept: HashMap::new() }
    }

    /// Answers one request, given without its length.
    pub(super) fn answer(&mut self, broker: i32, request: &Bytes) -> Outcome<Answer> {
        let mut body = request.clone();
        let header: RequestHeader = decode_request_header_from_buffer(&mut body)?;
        let api = ApiKey::try_from(header.request_api_key).map_err(|()| "an API that nobody knows")?;
        let correlation = header.correlation_id;
        let arrived = Arrived { broker, version: header.request_api_version, correlation, body };
        if matches!(api, ApiKey::ListOffsets | ApiKey::OffsetFetch) {
            return self.moving(api, arrived);
        }
        // The number is in the bytes from 4 to 8 of the request, and in the same of the answer, which begins with its length.
        let key = (broker, Bytes::from([&request[..4], &request[8..]].concat()));
        if let Some((question, things, bytes)) = self.kept.get(&key) {
            let mut bytes = BytesMut::from(&bytes[..]);
            bytes[4..8].copy_from_slice(&correlation.to_be_bytes());
            return Ok((*question, *things, bytes.freeze()));
        }
        let answer = self.steady(api, arrived)?;
        self.kept.insert(key, answer.clone());
        Ok(answer)
    }

    /// What changes with the time.
    fn moving(&self, api: ApiKey, mut arrived: Arrived) -> Outcome<Answer> {
        if api == ApiKey::OffsetFetch {
            let request = arrived.read()?;
            let (groups, response) = self.commits(&request, arrived.version);
            return Ok((Question::OffsetFetch, groups, arrived.encode(&response)?));
        }
        let request = arrived.read()?;
        let (question, partitions, response) = self.offsets(&arrived, &request);
        Ok((question, partitions, arrived.encode(&response)?))
    }

    /// What does not.
    fn steady(&self, api: ApiKey, mut arrived: Arrived) -> Outcome<Answer> {
        let version = arrived.version;
        Ok(match api {
            ApiKey::Metadata => {
                let request = arrived.read()?;
                let response = self.metadata(&request)?;
                (Question::Metadata, request.topics.map_or(0, |topics| topics.len()), arrived.encode(&response)?)
            }
            ApiKey::FindCoordinator => {
                let request: FindCoordinatorRequest = arrived.read()?;
                let response = self.coordinators(&request, version);
                (Question::FindCoordinator, response.coordinators.len().max(1), arrived.encode(&response)?)
            }
            ApiKey::ListGroups => {
                let response = self.listing(arrived.broker, version);
                (Question::ListGroups, 0, arrived.encode(&response)?)
            }
            ApiKey::DescribeGroups => {
                let response = self.classic_groups(&arrived.read()?);
                (Question::DescribeGroups, response.groups.len(), arrived.encode(&response)?)
            }
            ApiKey::ConsumerGroupDescribe => {
                let response = self.new_groups(&arrived.read()?)?;
                (Question::ConsumerGroupDescribe, response.groups.len(), arrived.encode(&response)?)
            }
            ApiKey::DescribeConfigs => {
                let response = super::logs::settings(&arrived.read()?);
                (Question::DescribeConfigs, response.results.len(), arrived.encode(&response)?)
            }
            ApiKey::DescribeLogDirs => {
                let request = arrived.read()?;
                let (topics, response) = self.log_dirs(arrived.broker, &request);
                (Question::DescribeLogDirs, topics, arrived.encode(&response)?)
            }
            ApiKey::DescribeQuorum => (Question::DescribeQuorum, 0, arrived.encode(&super::logs::quorum())?),
            ApiKey::ListPartitionReassignments => {
                let nothing = ListPartitionReassignmentsResponse::default();
                (Question::ListPartitionReassignments, 0, arrived.encode(&nothing)?)
            }
            ApiKey::ApiVersions => (Question::ApiVersions, 0, arrived.encode(&self.versions())?),
            other => return Err(format!("the fake has no answer to {other:?}").into()),
        })
    }

    fn versions(&self) -> ApiVersionsResponse {
        let version = |(key, range): &(i16, VersionRange)| {
            let limit = self.shape.newest.iter().find(|(api, _)| api == key).map_or(range.max, |(_, newest)| *newest);
            ApiVersion::default().with_api_key(*key).with_min_version(range.min).with_max_version(range.max.min(limit))
        };
        ApiVersionsResponse::default().with_api_keys(KNOWN.iter().map(version).collect())
    }
}
