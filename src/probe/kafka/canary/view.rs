//! What a session knows of the cluster and of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::{Metadata, MetadataTopic};

use super::errors;
use crate::probe::Failure;
use crate::settings::HostPort;

/// What runs see of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The cluster and the topic, once they are known.
    pub(super) view: Option<Arc<View>>,
    /// The partitions that the consumer reads.
    pub(super) reading: BTreeSet<i32>,
    /// What the clients complained about since the cluster last answered.
    pub(super) problem: Option<Failure>,
    /// The partitions' logs may be others than those that are read: their offsets have to be looked at.
    pub(super) misread: bool,
    /// The session is over; the next run begins another one.
    pub(super) over: bool,
}

impl State {
    /// Keeps what a client complains about, unless something more telling is known.
    pub(super) fn complain(&mut self, failure: Failure) {
        let known_better = self.problem.as_ref().is_some_and(|known| errors::is_final(known.reason));
        if !known_better || errors::is_final(failure.reason) {
            self.problem = Some(failure);
        }
    }

    /// Whether every partition that has a leader is read.
    pub(super) fn is_complete(&self) -> bool {
        let Some(view) = &self.view else { return false };
        let mut led = view.partitions.iter().filter(|partition| partition.leader.is_some()).peekable();
        led.peek().is_some() && led.all(|partition| self.reading.contains(&partition.id))
    }
}

/// The cluster as its metadata describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    /// The brokers that are up, with the addresses that they advertise to clients.
    pub(super) brokers: BTreeMap<i32, HostPort>,
    /// The partitions of the topic, in the order of their ids.
    pub(super) partitions: Vec<Partition>,
    /// Why there are none.
    pub(super) problem: Option<Failure>,
}

/// A partition of the topic.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Partition {
    pub(super) id: i32,
    /// Who leads it, if anybody does.
    pub(super) leader: Option<i32>,
    /// Its replicas, the preferred leader first.
    pub(super) replicas: Vec<i32>,
}

impl View {
    /// Reads an answer; without partitions if the topic cannot be used. The error is what the brokers say of the topic.
    pub(super) fn read(metadata: &Metadata, topic: &str) -> (Self, Option<Code>) {
        let port = |port: i32| u16::try_from(port).unwrap_or(0);
        let brokers = metadata.brokers().iter();
        let brokers = brokers
            .map(|broker| (broker.id(), HostPort { host: broker.host().to_owned(), port: port(broker.port()) }))
            .collect();
        let about = metadata.topics().iter().find(|about| about.name() == topic);
        let error = about.and_then(MetadataTopic::error).map(Code::from);
        let mut partitions: Vec<_> = about
            .filter(|_| error.is_none())
            .into_iter()
            .flat_map(MetadataTopic::partitions)
            .map(|partition| Partition {
                id: partition.id(),
                leader: Some(partition.leader()).filter(|leader| *leader >= 0),
                replicas: partition.replicas().to_vec(),
            })
            .collect();
        partitions.sort_by_key(|partition| partition.id);
        let problem = error.map(|code| errors::of_topic(topic, code));
        (Self { brokers, partitions, problem }, error)
    }

    /// Every broker that there is to say something of: those that are up, and those that hold the topic.
    pub(super) fn everyone(&self) -> BTreeSet<i32> {
        let replicas = self.partitions.iter().flat_map(|partition| partition.replicas.iter().copied());
        self.brokers.keys().copied().chain(replicas).collect()
    }

    /// The partitions whose verdict is the broker's: those that it leads, and those without a leader that it should.
    pub(super) fn of(&self, broker: i32) -> impl Iterator<Item = &Partition> {
        self.partitions
            .iter()
            .filter(move |partition| partition.leader.or_else(|| partition.replicas.first().copied()) == Some(broker))
    }
}
