//! DescribeQuorum (KIP-595): who the active controller is with KRaft, where Metadata names any broker instead.

use bytes::BytesMut;
use kafka_protocol::messages::describe_quorum_request::{DescribeQuorumRequest, PartitionData, TopicData};
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// The topic that the controllers replicate among themselves.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Asks any broker for the leader of the controllers.
#[derive(Clone, Copy, Debug, Default)]
pub struct DescribeQuorum;

/// The leader of the controllers.
#[derive(Clone, Copy, Debug)]
pub struct Quorum {
    /// Why there is no answer.
    pub error: ErrorCode,
    /// Its node id; -1 is none.
    pub leader: i32,
}

impl Request for DescribeQuorum {
    const API: Api = Api::DescribeQuorum;
    type Response = Quorum;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let topic = TopicData::default()
            .with_topic_name(StrBytes::from_static_str(METADATA_TOPIC).into())
            .with_partitions(vec![PartitionData::default()]);
        put(&DescribeQuorumRequest::default().with_topics(vec![topic]), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Quorum, Malformed> {
        let mut quorum = Quorum { error: ErrorCode(r.i16()?), leader: -1 };
        if version >= 2 {
            r.nullable_str()?;
        }
        // One topic with one partition was asked for, and what follows its leader is of no interest.
        let is_any = r.uvarint()? > 1;
        if !is_any {
            return Ok(quorum);
        }
        r.str()?;
        if r.uvarint()? > 1 {
            r.i32()?;
            let error = ErrorCode(r.i16()?);
            quorum.error = if quorum.error.is_ok() { error } else { quorum.error };
            if version >= 2 {
                r.nullable_str()?;
            }
            quorum.leader = r.i32()?;
        }
        Ok(quorum)
    }

    fn is_refused(response: &Self::Response) -> bool {
        !response.error.is_ok()
    }
}
