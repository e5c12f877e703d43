//! ListOffsets: the first and last offset of partitions, and the first record at or after a timestamp.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// The offset of the next record that consumers will see.
pub const LATEST: i64 = -1;
/// The offset of the oldest record that is retained.
pub const EARLIEST: i64 = -2;

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum As {
    /// A consumer: the leader answers, with the high watermark as the end.
    #[default]
    Consumer,
    /// A debugging consumer: any replica answers, with its own log end (`ListOffsetsRequest.DEBUGGING_REPLICA_ID`).
    Debugger,
}

/// Asks one broker about partitions. A partition must be in it once: brokers refuse the second (`INVALID_REQUEST`).
#[derive(Clone, Debug, Default)]
pub struct ListOffsets {
    /// Who asks.
    pub as_replica: As,
    /// Topics with what is asked of their partitions.
    pub topics: Vec<(Arc<str>, Vec<Asked>)>,
}

/// What is asked of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Its number.
    pub partition: i32,
    /// The leadership that we know of: a broker that knows a newer one says so. -1 does not compare.
    pub leader_epoch: i32,
    /// [`LATEST`], [`EARLIEST`], or milliseconds since 1970.
    pub timestamp: i64,
}

/// The answer for one topic.
#[derive(Debug)]
pub struct TopicOffsets {
    /// Its name.
    pub name: Box<str>,
    /// Its partitions.
    pub partitions: Vec<PartitionOffset>,
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionOffset {
    /// Its number.
    pub partition: i32,
    /// Why there is no answer.
    pub error: ErrorCode,
    /// The timestamp of the record found; -1 for the first and last offset.
    pub timestamp: i64,
    /// The offset; -1 when no record is that young.
    pub offset: i64,
}

impl Request for ListOffsets {
    const API: Api = Api::ListOffsets;
    type Response = Vec<TopicOffsets>;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let partition = |asked: &Asked| {
            let epoch = if version >= 4 { asked.leader_epoch } else { -1 };
            ListOffsetsPartition::default()
                .with_partition_index(asked.partition)
                .with_current_leader_epoch(epoch)
                .with_timestamp(asked.timestamp)
        };
        let topic = |(name, asked): &(Arc<str>, Vec<Asked>)| {
            let partitions = asked.iter().map(partition).collect();
            ListOffsetsTopic::default().with_name(StrBytes::from(name.to_string()).into()).with_partitions(partitions)
        };
        // The codec's default of 0 would make us a replica of broker 0.
        let replica = match self.as_replica {
            As::Consumer => BrokerId(-1),
            As::Debugger => BrokerId(-2),
        };
        let topics = self.topics.iter().map(topic).collect();
        put(&ListOffsetsRequest::default().with_replica_id(replica).with_topics(topics), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self::Response, Malformed> {
        if version >= 2 {
            r.i32()?;
        }
        r.array(|r| {
            let name = r.str()?.into();
            let partitions = r.array(|r| partition(r, version))?;
            r.tags()?;
            Ok(TopicOffsets { name, partitions })
        })
    }
}

fn partition(r: &mut Reader<'_>, version: i16) -> Result<PartitionOffset, Malformed> {
    let (partition, error) = (r.i32()?, ErrorCode(r.i16()?));
    let (timestamp, offset) = (r.i64()?, r.i64()?);
    if version >= 4 {
        r.i32()?;
    }
    r.tags()?;
    Ok(PartitionOffset { partition, error, timestamp, offset })
}
