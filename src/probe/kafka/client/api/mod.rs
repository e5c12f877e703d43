//! The requests that midwatch sends, and its readers of their responses: one file for each API, in Kafka's own field order
//! (`clients/src/main/resources/common/message` of Apache Kafka). Only what is used is kept.

pub mod api_versions;
pub mod configs;
pub mod fetch;
pub mod groups;
pub mod list_offsets;
pub mod log_dirs;
pub mod metadata;
pub mod offset_fetch;
pub mod quorum;
pub mod reassignments;
pub mod sasl;

use std::ops::RangeInclusive;

use bytes::BytesMut;
use kafka_protocol::protocol::Encodable;

pub(super) use super::error::ErrorCode;
pub(super) use super::reader::{Malformed, Reader};
use crate::label_values::label_values;
use crate::probe::{Failure, Reason};

label_values! {
    /// An API of Kafka; labels are Kafka's own names.
    #[allow(clippy::enum_variant_names, reason = "ApiVersions is Kafka's own name")]
    pub enum Api {
        /// Topics, partitions, leaders, brokers.
        Metadata = "Metadata",
        /// Offsets of partitions by timestamp, or the first and last.
        ListOffsets = "ListOffsets",
        /// Records.
        Fetch = "Fetch",
        /// What groups have committed.
        OffsetFetch = "OffsetFetch",
        /// Who coordinates a group.
        FindCoordinator = "FindCoordinator",
        /// Classic groups in detail.
        DescribeGroups = "DescribeGroups",
        /// The groups that a broker coordinates.
        ListGroups = "ListGroups",
        /// Chooses a SASL mechanism.
        SaslHandshake = "SaslHandshake",
        /// Which versions a broker speaks.
        ApiVersions = "ApiVersions",
        /// Settings of topics and brokers.
        DescribeConfigs = "DescribeConfigs",
        /// What a broker's disks hold.
        DescribeLogDirs = "DescribeLogDirs",
        /// A step of a SASL login.
        SaslAuthenticate = "SaslAuthenticate",
        /// Partitions that are being moved.
        ListPartitionReassignments = "ListPartitionReassignments",
        /// The controllers of a cluster with KRaft.
        DescribeQuorum = "DescribeQuorum",
        /// Groups of the new protocol (KIP-848) in detail.
        ConsumerGroupDescribe = "ConsumerGroupDescribe",
    }
}

impl Api {
    /// The number on the wire.
    pub const fn key(self) -> i16 {
        match self {
            Self::Fetch => 1,
            Self::ListOffsets => 2,
            Self::Metadata => 3,
            Self::OffsetFetch => 9,
            Self::FindCoordinator => 10,
            Self::DescribeGroups => 15,
            Self::ListGroups => 16,
            Self::SaslHandshake => 17,
            Self::ApiVersions => 18,
            Self::DescribeConfigs => 32,
            Self::DescribeLogDirs => 35,
            Self::SaslAuthenticate => 36,
            Self::ListPartitionReassignments => 46,
            Self::DescribeQuorum => 55,
            Self::ConsumerGroupDescribe => 69,
        }
    }

    /// The versions that our reader of the response knows.
    pub const fn versions(self) -> RangeInclusive<i16> {
        match self {
            Self::Metadata => 1..=12,
            Self::ListOffsets => 1..=8,
            Self::Fetch => 4..=12,
            // From version 10 on topics have ids instead of names.
            Self::OffsetFetch => 2..=9,
            Self::FindCoordinator => 1..=4,
            Self::DescribeGroups => 0..=5,
            Self::ListGroups => 0..=5,
            Self::SaslHandshake => 1..=1,
            Self::ApiVersions => 0..=3,
            Self::DescribeConfigs => 1..=4,
            Self::DescribeLogDirs => 1..=4,
            Self::SaslAuthenticate => 0..=2,
            Self::ListPartitionReassignments => 0..=0,
            Self::DescribeQuorum => 0..=2,
            Self::ConsumerGroupDescribe => 0..=1,
        }
    }

    /// The first version with compact lengths and tagged fields (KIP-482).
    const fn first_flexible(self) -> i16 {
        match self {
            Self::Metadata => 9,
            Self::ListOffsets | Self::OffsetFetch => 6,
            Self::Fetch => 12,
            Self::FindCoordinator | Self::ListGroups | Self::ApiVersions => 3,
            Self::DescribeGroups => 5,
            Self::SaslHandshake => i16::MAX,
            Self::DescribeConfigs => 4,
            Self::DescribeLogDirs | Self::SaslAuthenticate => 2,
            Self::ListPartitionReassignments | Self::DescribeQuorum | Self::ConsumerGroupDescribe => 0,
        }
    }

    /// Whether this version has compact lengths and tagged fields.
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.first_flexible()
    }
}

/// A request, and the reader of its response.
pub trait Request: Sync {
    /// The API.
    const API: Api;
    /// What becomes of the response.
    type Response: Send + 'static;

    /// Writes the body of the request.
    ///
    /// # Errors
    /// A field has no place in that version: a defect of ours.
    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure>;

    /// Reads the body of a response.
    ///
    /// # Errors
    /// The bytes are no such response.
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self::Response, Malformed>;

    /// Whether the response says that the request as a whole failed, so that it counts as an error.
    fn is_refused(response: &Self::Response) -> bool {
        let _ = response;
        false
    }
}

/// Writes a message of the codec crate.
pub(super) fn put(message: &impl Encodable, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
    message.encode(out, version).map_err(|error| Failure::new(Reason::Internal, format!("cannot encode: {error}")))
}
