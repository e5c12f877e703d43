//! OffsetFetch: what groups have committed, of many groups at once where brokers can (KIP-709).

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::{Failure, Reason};

/// The first version that takes more than one group.
pub const MANY_GROUPS: i16 = 8;

/// Asks a coordinator for all that groups have committed.
#[derive(Clone, Debug, Default)]
pub struct OffsetFetch {
    /// The groups; only one below version [`MANY_GROUPS`].
    pub groups: Vec<Arc<str>>,
}

/// What one group has committed.
#[derive(Debug)]
pub struct GroupCommits {
    /// The group; empty below version [`MANY_GROUPS`], where only one was asked for.
    pub group: Box<str>,
    /// Why there is no answer.
    pub error: ErrorCode,
    /// The topics.
    pub topics: Vec<TopicCommits>,
}

/// What a group has committed in one topic.
#[derive(Debug)]
pub struct TopicCommits {
    /// Its name.
    pub name: Box<str>,
    /// Partition and offset, where there is one, by partition.
    pub partitions: Vec<(i32, i64)>,
    /// Whether the broker could not say something of some partition.
    pub incomplete: bool,
}

impl Request for OffsetFetch {
    const API: Api = Api::OffsetFetch;
    type Response = Vec<GroupCommits>;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let name = |group: &Arc<str>| StrBytes::from(group.to_string()).into();
        if version >= MANY_GROUPS {
            let group = |id| OffsetFetchRequestGroup::default().with_group_id(name(id)).with_topics(None);
            return put(
                &OffsetFetchRequest::default().with_groups(self.groups.iter().map(group).collect()),
                version,
                out,
            );
        }
        let [group] = self.groups.as_slice() else {
            return Err(Failure::new(Reason::Internal, "several groups for a broker that takes one"));
        };
        put(&OffsetFetchRequest::default().with_group_id(name(group)).with_topics(None), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self::Response, Malformed> {
        if version >= 3 {
            r.i32()?;
        }
        if version < MANY_GROUPS {
            let topics = r.array(|r| topic(r, version))?;
            return Ok(vec![GroupCommits { group: "".into(), error: ErrorCode(r.i16()?), topics }]);
        }
        r.array(|r| {
            let group = r.str()?.into();
            let topics = r.array(|r| topic(r, version))?;
            let error = ErrorCode(r.i16()?);
            r.tags()?;
            Ok(GroupCommits { group, error, topics })
        })
    }
}

fn topic(r: &mut Reader<'_>, version: i16) -> Result<TopicCommits, Malformed> {
    let name = r.str()?.into();
    let mut partitions = Vec::new();
    let mut incomplete = false;
    r.each(|r| {
        let (partition, offset) = (r.i32()?, r.i64()?);
        if version >= 5 {
            r.i32()?;
        }
        r.nullable_str()?;
        let error = ErrorCode(r.i16()?);
        r.tags()?;
        incomplete |= !error.is_ok();
        // -1 is no commit.
        if error.is_ok() && offset >= 0 {
            partitions.push((partition, offset));
        }
        Ok(())
    })?;
    r.tags()?;
    partitions.sort_unstable();
    partitions.dedup_by_key(|(partition, _)| *partition);
    partitions.shrink_to_fit();
    Ok(TopicCommits { name, partitions, incomplete })
}
