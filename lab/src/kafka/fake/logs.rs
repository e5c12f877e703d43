//! What the fake says of topics and their logs.

use std::collections::HashSet;

use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::describe_quorum_response::{PartitionData, TopicData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeConfigsRequest, DescribeConfigsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeQuorumResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::Question;
use super::answers::{Answers, Arrived, Outcome};
use super::shape::{Clock, Shape};

/// Answers that Kafka has for what is not so.
const UNKNOWN_TOPIC: i16 = 3;
const NOT_LEADER: i16 = 6;
const INVALID_REQUEST: i16 = 42;
/// What a question for an offset has as timestamp when it asks for an end or a beginning.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// The kind of resource that a topic is to DescribeConfigs.
const TOPIC: i8 = 2;
/// The settings of every topic.
const SETTINGS: [(&str, &str); 4] = [
    ("min.insync.replicas", "2"),
    ("cleanup.policy", "delete"),
    ("retention.ms", "604800000"),
    ("message.timestamp.type", "CreateTime"),
];

/// A text as the codec wants it.
pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub(super) fn topic_name(topic: i32) -> TopicName {
    text(Shape::topic_name(topic)).into()
}

impl Answers {
    pub(super) fn metadata(&self, request: &MetadataRequest) -> Outcome<MetadataResponse> {
        let brokers = (1..).zip(&self.addresses).map(|(id, address)| {
            let broker = MetadataResponseBroker::default().with_node_id(BrokerId(id));
            broker.with_host(text(address.ip().to_string())).with_port(i32::from(address.port()))
        });
        // An empty list is all topics in version 0 and none later; nobody asks for none.
        let asked = request.topics.as_ref().filter(|topics| !topics.is_empty());
        let topics = match asked {
            None => (0..self.shape.topics).map(|topic| self.topic(topic)).collect::<Outcome<_>>()?,
            Some(topics) => {
                let named = |name: &TopicName| match self.shape.topic(name) {
                    Some(topic) => self.topic(topic),
                    None => Ok(MetadataResponseTopic::default()
                        .with_error_code(UNKNOWN_TOPIC)
                        .with_name(Some(name.clone()))),
                };
                topics.iter().filter_map(|topic| topic.name.as_ref()).map(named).collect::<Outcome<_>>()?
            }
        };
        Ok(MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(text("a-fake-cluster")))
            .with_controller_id(BrokerId(1))
            .with_topics(topics))
    }

    fn topic(&self, topic: i32) -> Outcome<MetadataResponseTopic> {
        let partition = |index| {
            let replicas: Vec<_> = self.shape.replicas(topic, index).map(BrokerId).collect();
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(replicas[0])
                .with_leader_epoch(1)
                .with_isr_nodes(replicas.clone())
                .with_replica_nodes(replicas)
        };
        Ok(MetadataResponseTopic::default()
            .with_name(Some(topic_name(topic)))
            .with_topic_id(topic_id(topic).parse()?)
            .with_partitions(self.shape.all_partitions().map(partition).collect()))
    }

    /// Ends, beginnings or the records after a time: whatever is asked of the first partition, the request counts as that.
    pub(super) fn offsets(
        &self,
        arrived: &Arrived,
        request: &ListOffsetsRequest,
    ) -> (Question, usize, ListOffsetsResponse) {
        let now = self.clock.now();
        let (mut question, mut asked, mut seen) = (Question::Ends, 0, HashSet::new());
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let known = self.shape.topic(&topic.name);
            let partitions = topic.partitions.iter().map(|partition| {
                let (index, timestamp) = (partition.partition_index, partition.timestamp);
                if asked == 0 {
                    question = match timestamp {
                        LATEST => Question::Ends,
                        EARLIEST => Question::Starts,
                        _ => Question::ByTime,
                    };
                }
                asked += 1;
                let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
                let Some(topic) = known.filter(|_| self.shape.all_partitions().contains(&index)) else {
                    return answer.with_error_code(UNKNOWN_TOPIC);
                };
                if !seen.insert((topic, index)) {
                    return answer.with_error_code(INVALID_REQUEST);
                }
                if !self.shape.leads(arrived.broker, topic, index) {
                    return answer.with_error_code(NOT_LEADER);
                }
                let log = topic * self.shape.partitions + index;
                let (offset, at) = match timestamp {
                    LATEST => (Clock::end(log, now), -1),
                    EARLIEST => (Clock::start_offset(), -1),
                    since => self.clock.first_after(log, since, now).unwrap_or((-1, -1)),
                };
                answer.with_offset(offset).with_timestamp(at).with_leader_epoch(1)
            });
            let partitions = partitions.collect();
            topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        (question, asked, ListOffsetsResponse::default().with_topics(topics))
    }

    /// The replicas on a broker; how many topics were named.
    pub(super) fn log_dirs(&self, broker: i32, request: &DescribeLogDirsRequest) -> (usize, DescribeLogDirsResponse) {
        let named = request.topics.as_ref();
        let topics: Vec<i32> = match named {
            None => (0..self.shape.topics).collect(),
            Some(topics) => topics.iter().filter_map(|topic| self.shape.topic(&topic.topic)).collect(),
        };
        let replica = |index| {
            let size = 1_000_000 + 1_000 * i64::from(index);
            DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size)
        };
        let topic = |topic| {
            let held = |index: &i32| self.shape.replicas(topic, *index).any(|replica| replica == broker);
            let partitions: Vec<_> = self.shape.all_partitions().filter(held).map(replica).collect();
            let described = DescribeLogDirsTopic::default().with_name(topic_name(topic)).with_partitions(partitions);
            (!described.partitions.is_empty()).then_some(described)
        };
        let dir = DescribeLogDirsResult::default()
            .with_log_dir(text("/var/lib/fake"))
            .with_topics(topics.into_iter().filter_map(topic).collect())
            .with_total_bytes(1 << 40)
            .with_usable_bytes(1 << 39);
        (named.map_or(0, Vec::len), DescribeLogDirsResponse::default().with_results(vec![dir]))
    }
}

pub(super) fn settings(request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let wanted = |name: &str| {
            let keys = resource.configuration_keys.as_ref();
            resource.resource_type == TOPIC && keys.is_none_or(|keys| keys.iter().any(|key| &**key == name))
        };
        let setting = |(name, value): &(&'static str, &'static str)| {
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(StrBytes::from_static_str(value)))
        };
        DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_configs(SETTINGS.iter().filter(|(name, _)| wanted(name)).map(setting).collect())
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

pub(super) fn quorum() -> DescribeQuorumResponse {
    let partition = PartitionData::default().with_leader_id(BrokerId(1)).with_leader_epoch(1);
    let topic = TopicData::default().with_topic_name(text("__cluster_metadata").into());
    DescribeQuorumResponse::default().with_topics(vec![topic.with_partitions(vec![partition])])
}

/// A topic's id, never 0, in the form of a UUID.
pub(super) fn topic_id(topic: i32) -> String {
    format!("00000000-0000-0000-0000-{:012}", topic + 1)
}
