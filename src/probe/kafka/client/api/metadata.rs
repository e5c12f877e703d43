//! Metadata: brokers, topics, partitions.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// Each broker is asked, and costs connections: more than this is no cluster.
const MOST_BROKERS: usize = 10_000;

/// Asks for all topics, or for some by name.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// `None` is all.
    pub topics: Option<Vec<String>>,
}

/// A cluster as one broker sees it.
#[derive(Debug, Default)]
pub struct Topology {
    /// Its id, where brokers have one.
    pub cluster_id: Option<String>,
    /// The active controller with ZooKeeper; with KRaft any broker, so that clients have somebody to ask.
    pub controller: i32,
    /// The live brokers, by id.
    pub brokers: Vec<Broker>,
    /// The topics, by name.
    pub topics: Vec<Topic>,
}

/// A live broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Where it listens, as advertised on the listener that was asked.
    pub host: Arc<str>,
    /// The port there.
    pub port: u16,
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; 0 where brokers do not tell (before 2.8).
    pub id: u128,
    /// Why nothing is said of it.
    pub error: ErrorCode,
    /// Its partitions, by index.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// The leader's broker id; -1 is none.
    pub leader: i32,
    /// Which leadership this is; -1 where brokers do not tell (before 2.1).
    pub leader_epoch: i32,
    /// All replicas, the preferred leader first.
    pub replicas: Box<[i32]>,
    /// Those that are in sync.
    pub in_sync: Box<[i32]>,
}

impl Request for Metadata {
    const API: Api = Api::Metadata;
    type Response = Topology;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let topic =
            |name: &String| MetadataRequestTopic::default().with_name(Some(StrBytes::from(name.clone()).into()));
        let topics = self.topics.as_ref().map(|names| names.iter().map(topic).collect());
        let request = MetadataRequest::default().with_topics(topics);
        // Looking must not create what is looked for. Older versions have no such field.
        put(&request.with_allow_auto_topic_creation(version < 4), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Topology, Malformed> {
        if version >= 3 {
            r.i32()?;
        }
        let mut brokers = r.array(|r| broker(r))?;
        if brokers.len() > MOST_BROKERS {
            return Err(Malformed("there are more brokers than a cluster can have"));
        }
        brokers.sort_by_key(|broker| broker.id);
        brokers.dedup_by_key(|broker| broker.id);
        let cluster_id = if version >= 2 { r.nullable_str()?.map(str::to_owned) } else { None };
        let controller = r.i32()?;
        let mut topics = r.array(|r| topic(r, version))?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics.dedup_by(|a, b| a.name == b.name);
        if (8..=10).contains(&version) {
            // What we may do with the cluster.
            r.i32()?;
        }
        r.tags()?;
        Ok(Topology { cluster_id, controller, brokers, topics })
    }
}

fn broker(r: &mut Reader<'_>) -> Result<Broker, Malformed> {
    let (id, host, port) = (r.i32()?, r.str()?, r.i32()?);
    // It becomes part of messages and labels.
    if host.len() > 255 || host.chars().any(char::is_control) {
        return Err(Malformed("a host is no name"));
    }
    r.nullable_str()?;
    r.tags()?;
    Ok(Broker {
        id,
        host: Arc::from(host),
        port: u16::try_from(port).map_err(|_| Malformed("a port is out of range"))?,
    })
}

fn topic(r: &mut Reader<'_>, version: i16) -> Result<Topic, Malformed> {
    let error = ErrorCode(r.i16()?);
    let name = Arc::from(r.nullable_str()?.unwrap_or_default());
    let id = if version >= 10 { r.uuid()? } else { 0 };
    r.bool()?;
    let mut partitions = r.array(|r| partition(r, version))?;
    partitions.sort_by_key(|partition| partition.index);
    partitions.dedup_by_key(|partition| partition.index);
    if version >= 8 {
        r.i32()?;
    }
    r.tags()?;
    Ok(Topic { name, id, error, partitions })
}

fn partition(r: &mut Reader<'_>, version: i16) -> Result<Partition, Malformed> {
    // The error says why there is no leader or not all replicas; both show in the fields.
    r.i16()?;
    let (index, leader) = (r.i32()?, r.i32()?);
    let leader_epoch = if version >= 7 { r.i32()? } else { -1 };
    let replicas = r.array(Reader::i32)?.into_boxed_slice();
    let in_sync = r.array(Reader::i32)?.into_boxed_slice();
    if version >= 5 {
        r.each(|r| r.i32().map(drop))?;
    }
    r.tags()?;
    Ok(Partition { index, leader, leader_epoch, replicas, in_sync })
}
