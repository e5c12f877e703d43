//! ListPartitionReassignments (KIP-455): partitions whose replicas are being moved between brokers.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// Asks for all partitions that are being moved. With KRaft any broker forwards it, with ZooKeeper the controller answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListReassignments {
    /// How long the broker may take.
    pub timeout_ms: i32,
}

/// All that moves.
#[derive(Debug)]
pub struct Reassignments {
    /// Why there is no answer.
    pub error: ErrorCode,
    /// The partitions.
    pub partitions: Vec<Reassignment>,
}

/// A partition that is being moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: i32,
    /// All replicas, those that come and those that go included.
    pub replicas: Box<[i32]>,
    /// Those that come.
    pub adding: Box<[i32]>,
    /// Those that go.
    pub removing: Box<[i32]>,
}

impl Request for ListReassignments {
    const API: Api = Api::ListPartitionReassignments;
    type Response = Reassignments;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let request = ListPartitionReassignmentsRequest::default().with_topics(None);
        put(&request.with_timeout_ms(self.timeout_ms), version, out)
    }

    fn decode(r: &mut Reader<'_>, _version: i16) -> Result<Reassignments, Malformed> {
        r.i32()?;
        let error = ErrorCode(r.i16()?);
        r.nullable_str()?;
        let mut partitions = Vec::new();
        r.each(|r| {
            let topic: Arc<str> = r.str()?.into();
            r.each(|r| {
                let partition = r.i32()?;
                let replicas = r.array(Reader::i32)?.into_boxed_slice();
                let adding = r.array(Reader::i32)?.into_boxed_slice();
                let removing = r.array(Reader::i32)?.into_boxed_slice();
                r.tags()?;
                partitions.push(Reassignment { topic: Arc::clone(&topic), partition, replicas, adding, removing });
                Ok(())
            })?;
            r.tags()
        })?;
        Ok(Reassignments { error, partitions })
    }

    fn is_refused(response: &Self::Response) -> bool {
        !response.error.is_ok()
    }
}
