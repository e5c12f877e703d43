//! DescribeLogDirs: what a broker's disks hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// Asks a broker for the sizes of its replicas.
#[derive(Clone, Debug, Default)]
pub struct DescribeLogDirs {
    /// Topics with the partitions of interest; `None` is all.
    pub topics: Option<Vec<(Arc<str>, BTreeSet<i32>)>>,
}

/// What a broker's disks hold.
#[derive(Debug)]
pub struct LogDirs {
    /// Why there is no answer.
    pub error: ErrorCode,
    /// The folders.
    pub dirs: Vec<LogDir>,
}

/// A folder of a broker, in practice a disk.
#[derive(Debug)]
pub struct LogDir {
    /// Its path.
    pub path: Box<str>,
    /// Why it is offline.
    pub error: ErrorCode,
    /// The size of the disk in bytes, where brokers tell (since 3.3).
    pub total_bytes: Option<i64>,
    /// What is free of it for the broker.
    pub usable_bytes: Option<i64>,
    /// The replicas, by topic.
    pub topics: Vec<(Box<str>, Vec<ReplicaSize>)>,
}

/// A replica on a disk.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaSize {
    /// Its partition.
    pub partition: i32,
    /// Its size in bytes.
    pub bytes: i64,
    /// Whether it is being copied here from another disk of the broker, to replace the one there.
    pub is_future: bool,
}

impl Request for DescribeLogDirs {
    const API: Api = Api::DescribeLogDirs;
    type Response = LogDirs;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let topic = |(name, partitions): &(Arc<str>, BTreeSet<i32>)| {
            DescribableLogDirTopic::default()
                .with_topic(StrBytes::from(name.to_string()).into())
                .with_partitions(partitions.iter().copied().collect())
        };
        let topics = self.topics.as_ref().map(|topics| topics.iter().map(topic).collect());
        put(&DescribeLogDirsRequest::default().with_topics(topics), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<LogDirs, Malformed> {
        r.i32()?;
        let error = if version >= 3 { ErrorCode(r.i16()?) } else { ErrorCode::NONE };
        let dirs = r.array(|r| log_dir(r, version))?;
        Ok(LogDirs { error, dirs })
    }

    fn is_refused(response: &Self::Response) -> bool {
        !response.error.is_ok()
    }
}

fn log_dir(r: &mut Reader<'_>, version: i16) -> Result<LogDir, Malformed> {
    let error = ErrorCode(r.i16()?);
    let path = r.str()?.into();
    let topics = r.array(|r| {
        let name = r.str()?.into();
        let partitions = r.array(|r| {
            let (partition, bytes) = (r.i32()?, r.i64()?);
            r.i64()?;
            let is_future = r.bool()?;
            r.tags()?;
            Ok(ReplicaSize { partition, bytes, is_future })
        })?;
        r.tags()?;
        Ok((name, partitions))
    })?;
    let mut space = || Ok(if version >= 4 { Some(r.i64()?).filter(|bytes| *bytes >= 0) } else { None });
    let (total_bytes, usable_bytes) = (space()?, space()?);
    r.tags()?;
    Ok(LogDir { path, error, total_bytes, usable_bytes, topics })
}
