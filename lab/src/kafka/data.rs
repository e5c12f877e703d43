//! Topics, records and commits.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionListElem};
use rdkafka::types::RDKafkaErrorCode;

use super::cluster::{Cluster, blocking};
use crate::{Error, Result, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A record to produce.
#[derive(Debug, Clone)]
pub struct Record {
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Option<i64>,
}

impl Record {
    /// A record for that partition, with a few bytes, without a key, of now.
    pub fn new(partition: i32) -> Record {
        Record { partition, key: None, value: Some(b"record".to_vec()), timestamp: None }
    }

    /// Its key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Record {
        self.key = Some(key.into());
        self
    }

    /// Its value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> Record {
        self.value = Some(value.into());
        self
    }

    /// A value of so many bytes.
    #[must_use]
    pub fn size(self, bytes: usize) -> Record {
        self.value(vec![b'x'; bytes])
    }

    /// No value: in a compacted topic that deletes the key.
    #[must_use]
    pub fn tombstone(mut self) -> Record {
        self.value = None;
        self
    }

    /// Its timestamp, in milliseconds since 1970.
    #[must_use]
    pub fn timestamp(mut self, milliseconds: i64) -> Record {
        self.timestamp = Some(milliseconds);
        self
    }
}

impl Cluster {
    /// Creates a topic with these settings. When this returns every partition has a leader.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
        self.create(topic, settings).await
    }

    /// As [`Cluster::create_topic`], with the replicas of each partition said: the first of them is the preferred leader.
    pub async fn create_topic_at(&self, name: &str, replicas: &[&[i32]], settings: &[(&str, &str)]) -> Result<()> {
        let partitions = i32::try_from(replicas.len()).unwrap_or(i32::MAX);
        self.create(NewTopic::new(name, partitions, TopicReplication::Variable(replicas)), settings).await
    }

    async fn create<'a>(&self, mut topic: NewTopic<'a>, settings: &[(&'a str, &'a str)]) -> Result<()> {
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let (name, partitions) = (topic.name, topic.num_partitions);
        all(self.admin.create_topics([&topic], &patient()).await?)?;
        until(&format!("leaders of {name}"), PATIENCE, async || {
            let metadata = self.metadata().await.map_err(|error| error.to_string())?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name).ok_or("not there")?;
            let leaders = topic.partitions().iter().filter(|partition| partition.leader() >= 0).count();
            if usize::try_from(partitions) == Ok(leaders) { Ok(()) } else { Err(format!("{leaders} of {partitions}")) }
        })
        .await
    }

    /// Adds partitions to a topic, so that there are `total`.
    pub async fn add_partitions(&self, topic: &str, total: usize) -> Result<()> {
        all(self.admin.create_partitions([&NewPartitions::new(topic, total)], &patient()).await?)
    }

    /// Deletes a topic. When this returns brokers no longer know it.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        all(self.admin.delete_topics(&[topic], &patient()).await?)?;
        until(&format!("{topic} to be deleted"), PATIENCE, async || {
            let metadata = self.metadata().await.map_err(|error| error.to_string())?;
            let gone = metadata.topics().iter().all(|found| found.name() != topic);
            if gone { Ok(()) } else { Err("still there".to_owned()) }
        })
        .await
    }

    /// Deletes a group that has no members.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        all(self.admin.delete_groups(&[group], &patient()).await?)
    }

    /// Deletes the records of a partition that are before an offset.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))?;
        let outcome = self.admin.delete_records(&list, &patient()).await?;
        outcome.elements().iter().try_for_each(TopicPartitionListElem::error).map_err(Error::from)
    }

    /// The offsets of the oldest record and of the next one to be produced.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        until(&format!("the ends of {topic} {partition}"), PATIENCE, async || {
            let (admin, topic) = (self.admin.clone(), topic.to_owned());
            match blocking(move || Ok(admin.inner().fetch_watermarks(&topic, partition, PATIENCE)?)).await {
                // The client is still replacing its connection to a broker that was away.
                Err(Error::Kafka(KafkaError::MetadataFetch(code))) => Err(code.to_string()),
                outcome => Ok(outcome),
            }
        })
        .await?
    }

    /// The values of all records of a partition that a consumer can read now, in their order; of a record without one, nothing.
    pub async fn values(&self, topic: &str, partition: i32) -> Result<Vec<Vec<u8>>> {
        let (start, end) = self.watermarks(topic, partition).await?;
        let mut config = self.config();
        config.set("group.id", "lab-reader").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(start))?;
        blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            consumer.assign(&list)?;
            let (mut values, mut next) = (Vec::new(), start);
            while next < end {
                match consumer.poll(PATIENCE) {
                    Some(Ok(message)) => {
                        values.push(message.payload().unwrap_or_default().to_vec());
                        next = message.offset() + 1;
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => break,
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(Error::Unexpected(format!("nothing to read of {partition} at {next}"))),
                }
            }
            Ok(values)
        })
        .await
    }

    /// Produces records, with `acks=all`. When this returns all of them are in the log. Gives their places: partition and offset.
    pub async fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) -> Result<Vec<(i32, i64)>> {
        send(&self.producer, topic, records).await
    }

    /// Produces records in a transaction and leaves it open. A transaction that somebody else has open under that id is aborted.
    pub async fn transaction(
        &self,
        id: &str,
        topic: &str,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Transaction> {
        let mut config = self.config();
        // As long as a broker allows by default: it would abort the transaction after that.
        config.set("transactional.id", id).set("transaction.timeout.ms", "900000");
        let producer: FutureProducer = config.create()?;
        let begun = producer.clone();
        blocking(move || {
            begun.init_transactions(PATIENCE)?;
            Ok(begun.begin_transaction()?)
        })
        .await?;
        let places = send(&producer, topic, records).await?;
        Ok(Transaction { producer, places })
    }

    /// Commits offsets for a group that has no members now, as a consumer does that assigns partitions to itself.
    pub async fn commit(&self, group: &str, offsets: &[(&str, i32, i64)]) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        let consumer: Arc<BaseConsumer> = Arc::new(self.config().set("group.id", group).create()?);
        until(&format!("a commit of {group}"), PATIENCE, async || {
            let (consumer, list) = (consumer.clone(), list.clone());
            match blocking(move || Ok(consumer.commit(&list, CommitMode::Sync)?)).await {
                Err(Error::Kafka(KafkaError::ConsumerCommit(code))) if no_coordinator(code) => Err(code.to_string()),
                outcome => Ok(outcome),
            }
        })
        .await?
    }
}

/// An open transaction. Dropped, it stays open until its broker gives it up.
pub struct Transaction {
    producer: FutureProducer,
    /// Where its records are: partition and offset.
    pub places: Vec<(i32, i64)>,
}

impl Transaction {
    /// Commits it.
    pub async fn commit(self) -> Result<()> {
        blocking(move || Ok(self.producer.commit_transaction(PATIENCE)?)).await
    }

    /// Aborts it.
    pub async fn abort(self) -> Result<()> {
        blocking(move || Ok(self.producer.abort_transaction(PATIENCE)?)).await
    }
}

async fn send(
    producer: &FutureProducer,
    topic: &str,
    records: impl IntoIterator<Item = Record>,
) -> Result<Vec<(i32, i64)>> {
    /// How many are under way at once.
    const WINDOW: usize = 2000;
    let mut records = records.into_iter();
    let mut places = Vec::new();
    loop {
        let mut waiting = Vec::new();
        for record in records.by_ref().take(WINDOW) {
            let Record { partition, key, value, timestamp } = &record;
            let mut sent = FutureRecord::<[u8], [u8]>::to(topic).partition(*partition);
            (sent.key, sent.payload, sent.timestamp) = (key.as_deref(), value.as_deref(), *timestamp);
            waiting.push(producer.send_result(sent).map_err(|(error, _)| error)?);
        }
        if waiting.is_empty() {
            return Ok(places);
        }
        for delivery in waiting {
            let gone = |_| Error::Unexpected("the producer is gone".to_owned());
            let delivery = delivery.await.map_err(gone)?.map_err(|(error, _)| error)?;
            places.push((delivery.partition, delivery.offset));
        }
    }
}

/// Whether the group has no coordinator yet: the topic for offsets is made when it is first needed, and moves with its leaders.
fn no_coordinator(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::CoordinatorLoadInProgress
    )
}

fn patient() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// The first failure of an administrative request, if there is any.
fn all<T>(outcomes: Vec<std::result::Result<T, (T, RDKafkaErrorCode)>>) -> Result<()> {
    let failed = outcomes.into_iter().find_map(std::result::Result::err);
    failed.map_or(Ok(()), |(_, code)| Err(KafkaError::AdminOp(code).into()))
}
