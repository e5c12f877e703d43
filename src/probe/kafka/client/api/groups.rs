//! Consumer groups: who coordinates them, their state, members and what members own, in both protocols.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use kafka_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::list_groups_request::ListGroupsRequest;
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::{Failure, Reason};

/// The first version of FindCoordinator that takes more than one group.
pub const MANY_KEYS: i16 = 4;

/// Each group is asked for, and kept: more than this on one broker is none of Kafka's.
const MOST_GROUPS: usize = 500_000;

/// Asks a broker for the groups that it coordinates.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListGroups;

/// The groups that a broker coordinates.
#[derive(Debug)]
pub struct Listing {
    /// Why there is no answer.
    pub error: ErrorCode,
    /// The groups.
    pub groups: Vec<Listed>,
}

/// A group in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub group: Arc<str>,
    /// `consumer` for groups of consumers, empty for those that only commit, anything for others (Connect, share).
    pub protocol_type: Box<str>,
    /// Its state; empty where brokers do not tell (before 2.6).
    pub state: Box<str>,
    /// `classic`, `consumer` or `share` in whatever case; empty where brokers do not tell (before 3.8).
    pub group_type: Box<str>,
}

impl Request for ListGroups {
    const API: Api = Api::ListGroups;
    type Response = Listing;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        put(&ListGroupsRequest::default(), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Listing, Malformed> {
        if version >= 1 {
            r.i32()?;
        }
        let error = ErrorCode(r.i16()?);
        let groups = r.array(|r| {
            let (group, protocol_type) = (Arc::from(r.str()?), r.str()?.into());
            let state = if version >= 4 { r.str()? } else { "" }.into();
            let group_type = if version >= 5 { r.str()? } else { "" }.into();
            r.tags()?;
            Ok(Listed { group, protocol_type, state, group_type })
        })?;
        if groups.len() > MOST_GROUPS {
            return Err(Malformed("there are more groups than a broker can have"));
        }
        Ok(Listing { error, groups })
    }

    fn is_refused(response: &Self::Response) -> bool {
        !response.error.is_ok()
    }
}

/// A group in detail.
#[derive(Debug)]
pub struct Described {
    /// Its name.
    pub group: Box<str>,
    /// Why there is no answer.
    pub error: ErrorCode,
    /// Its state.
    pub state: Box<str>,
    /// How partitions are assigned: the assignor's name.
    pub assignor: Box<str>,
    /// How many members it has.
    pub members: usize,
    /// What members own: topic and partition, each once.
    pub owned: Vec<(Box<str>, i32)>,
}

/// Asks a coordinator for classic groups in detail.
#[derive(Clone, Debug, Default)]
pub struct DescribeGroups {
    /// The groups.
    pub groups: Vec<Arc<str>>,
}

impl Request for DescribeGroups {
    const API: Api = Api::DescribeGroups;
    type Response = Vec<Described>;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let groups = self.groups.iter().map(|group| StrBytes::from(group.to_string()).into()).collect();
        put(&DescribeGroupsRequest::default().with_groups(groups), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self::Response, Malformed> {
        if version >= 1 {
            r.i32()?;
        }
        r.array(|r| {
            let error = ErrorCode(r.i16()?);
            let (group, state) = (r.str()?.into(), r.str()?.into());
            let protocol_type = r.str()?;
            let assignor = r.str()?.into();
            let (mut members, mut owned) = (0, Vec::new());
            r.each(|r| {
                members += 1;
                classic_member(r, version, (protocol_type == "consumer").then_some(&mut owned))
            })?;
            if version >= 3 {
                r.i32()?;
            }
            r.tags()?;
            Ok(Described { group, error, state, assignor, members, owned: once(owned) })
        })
    }
}

fn classic_member(r: &mut Reader<'_>, version: i16, owned: Option<&mut Vec<(Box<str>, i32)>>) -> Result<(), Malformed> {
    r.str()?;
    if version >= 4 {
        r.nullable_str()?;
    }
    r.str()?;
    r.str()?;
    r.bytes()?;
    let assignment = r.bytes()?;
    r.tags()?;
    // While a group rebalances its members have none. What clients wrote there is their business: an unreadable one owns
    // nothing, and spoils no other group.
    if let Some(owned) = owned
        && !assignment.is_empty()
    {
        let _ = consumer_assignment(&mut Reader::new(assignment, false), owned);
    }
    Ok(())
}

/// What a consumer of the classic protocol was given (`ConsumerProtocolAssignment.json`; all versions begin alike).
fn consumer_assignment(r: &mut Reader<'_>, owned: &mut Vec<(Box<str>, i32)>) -> Result<(), Malformed> {
    r.i16()?;
    r.each(|r| {
        let topic = r.str()?;
        r.each(|r| {
            owned.push((topic.into(), r.i32()?));
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(())
}

/// Asks a coordinator for groups of the new protocol (KIP-848) in detail.
#[derive(Clone, Debug, Default)]
pub struct ConsumerGroupDescribe {
    /// The groups.
    pub groups: Vec<Arc<str>>,
}

impl Request for ConsumerGroupDescribe {
    const API: Api = Api::ConsumerGroupDescribe;
    type Response = Vec<Described>;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let groups = self.groups.iter().map(|group| StrBytes::from(group.to_string()).into()).collect();
        put(&ConsumerGroupDescribeRequest::default().with_group_ids(groups), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self::Response, Malformed> {
        r.i32()?;
        r.array(|r| {
            let error = ErrorCode(r.i16()?);
            r.nullable_str()?;
            let (group, state) = (r.str()?.into(), r.str()?.into());
            r.i32()?;
            r.i32()?;
            let assignor = r.str()?.into();
            let (mut members, mut owned) = (0, Vec::new());
            r.each(|r| {
                members += 1;
                consumer_member(r, version, &mut owned)
            })?;
            r.i32()?;
            r.tags()?;
            Ok(Described { group, error, state, assignor, members, owned: once(owned) })
        })
    }
}

fn consumer_member(r: &mut Reader<'_>, version: i16, owned: &mut Vec<(Box<str>, i32)>) -> Result<(), Malformed> {
    r.str()?;
    r.nullable_str()?;
    r.nullable_str()?;
    r.i32()?;
    r.str()?;
    r.str()?;
    r.each(|r| r.str().map(drop))?;
    r.nullable_str()?;
    topic_partitions(r, |topic, partition| owned.push((topic.into(), partition)))?;
    // What it is to own when the rebalance is over.
    topic_partitions(r, |_, _| {})?;
    if version >= 1 {
        r.i8()?;
    }
    r.tags()
}

fn topic_partitions(r: &mut Reader<'_>, mut found: impl FnMut(&str, i32)) -> Result<(), Malformed> {
    r.each(|r| {
        r.uuid()?;
        let topic = r.str()?;
        r.each(|r| {
            found(topic, r.i32()?);
            Ok(())
        })?;
        r.tags()
    })?;
    r.tags()
}

fn once(mut owned: Vec<(Box<str>, i32)>) -> Vec<(Box<str>, i32)> {
    owned.sort_unstable();
    owned.dedup();
    owned
}

/// Asks any broker who coordinates groups.
#[derive(Clone, Debug, Default)]
pub struct FindCoordinator {
    /// The groups; only one below version [`MANY_KEYS`].
    pub groups: Vec<Arc<str>>,
}

/// Who coordinates a group.
#[derive(Debug)]
pub struct Coordinator {
    /// The group; empty below version [`MANY_KEYS`], where only one was asked for.
    pub group: Box<str>,
    /// The broker's id.
    pub broker: i32,
    /// Why there is none.
    pub error: ErrorCode,
}

impl Request for FindCoordinator {
    const API: Api = Api::FindCoordinator;
    type Response = Vec<Coordinator>;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let name = |group: &Arc<str>| StrBytes::from(group.to_string());
        if version >= MANY_KEYS {
            let keys = self.groups.iter().map(name).collect();
            return put(&FindCoordinatorRequest::default().with_coordinator_keys(keys), version, out);
        }
        let [group] = self.groups.as_slice() else {
            return Err(Failure::new(Reason::Internal, "several groups for a broker that takes one"));
        };
        put(&FindCoordinatorRequest::default().with_key(name(group)), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self::Response, Malformed> {
        r.i32()?;
        if version < MANY_KEYS {
            let error = ErrorCode(r.i16()?);
            r.nullable_str()?;
            return Ok(vec![Coordinator { group: "".into(), broker: r.i32()?, error }]);
        }
        r.array(|r| {
            let (group, broker) = (r.str()?.into(), r.i32()?);
            r.str()?;
            r.i32()?;
            let error = ErrorCode(r.i16()?);
            r.nullable_str()?;
            r.tags()?;
            Ok(Coordinator { group, broker, error })
        })
    }
}
