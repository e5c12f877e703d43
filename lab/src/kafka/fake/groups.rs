//! What the fake says of groups.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as NewGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    BrokerId, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, GroupId, ListGroupsResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::answers::{Answers, Outcome};
use super::logs::{text, topic_id, topic_name};
use super::shape::{Clock, Shape};

/// Kafka's answer for a group that it does not know.
const GROUP_ID_NOT_FOUND: i16 = 69;
/// The first version of OffsetFetch, and of FindCoordinator, that takes several groups.
const MANY_GROUPS: i16 = 8;
const MANY_KEYS: i16 = 4;
/// The first versions of ListGroups with the state of a group, and with its type.
const WITH_STATE: i16 = 4;
const WITH_TYPE: i16 = 5;
/// Members of a group: each owns every second partition.
const MEMBERS: i32 = 2;

/// A topic, and partitions with what is committed there; -1 is nothing.
type Commits = (TopicName, Vec<(i32, i64)>);

impl Answers {
    pub(super) fn listing(&self, broker: i32, version: i16) -> ListGroupsResponse {
        let of_broker = |group: &i32| self.shape.coordinator(*group) == broker;
        let listed = |group| {
            let listed = ListedGroup::default()
                .with_group_id(text(Shape::group_name(group)).into())
                .with_protocol_type(StrBytes::from_static_str("consumer"));
            let listed = if version >= WITH_STATE {
                listed.with_group_state(StrBytes::from_static_str("Stable"))
            } else {
                listed
            };
            let kind = if self.shape.is_of_new_protocol(group) { "Consumer" } else { "Classic" };
            if version >= WITH_TYPE { listed.with_group_type(StrBytes::from_static_str(kind)) } else { listed }
        };
        ListGroupsResponse::default().with_groups((0..self.shape.groups).filter(of_broker).map(listed).collect())
    }

    pub(super) fn coordinators(&self, request: &FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
        let find = |key: &StrBytes| {
            let broker = self.shape.group(key).map_or(1, |group| self.shape.coordinator(group));
            let place = usize::try_from(broker - 1).unwrap_or(0);
            let (host, port) = (text(self.addresses[place].ip().to_string()), i32::from(self.addresses[place].port()));
            let found = Coordinator::default().with_key(key.clone()).with_node_id(BrokerId(broker));
            found.with_host(host).with_port(port)
        };
        if version >= MANY_KEYS {
            return FindCoordinatorResponse::default()
                .with_coordinators(request.coordinator_keys.iter().map(find).collect());
        }
        let found = find(&request.key);
        FindCoordinatorResponse::default().with_node_id(found.node_id).with_host(found.host).with_port(found.port)
    }

    /// What groups have committed; how many groups were asked about.
    pub(super) fn commits(&self, request: &OffsetFetchRequest, version: i16) -> (usize, OffsetFetchResponse) {
        let now = self.clock.now();
        if version < MANY_GROUPS {
            let named = request.topics.as_ref();
            let named =
                named.map(|topics| topics.iter().map(|topic| (&topic.name, &*topic.partition_indexes)).collect());
            let partition = |(index, offset): (i32, i64)| {
                OffsetFetchResponsePartition::default().with_partition_index(index).with_committed_offset(offset)
            };
            let topic = |(name, partitions): Commits| {
                let partitions = partitions.into_iter().map(partition).collect();
                OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions)
            };
            let topics = self.committed(&request.group_id, named, now).into_iter().map(topic).collect();
            return (1, OffsetFetchResponse::default().with_topics(topics));
        }
        let partition = |(index, offset): (i32, i64)| {
            OffsetFetchResponsePartitions::default().with_partition_index(index).with_committed_offset(offset)
        };
        let topic = |(name, partitions): Commits| {
            let partitions = partitions.into_iter().map(partition).collect();
            OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions)
        };
        let groups = request.groups.iter().map(|group| {
            let named = group.topics.as_ref();
            let named =
                named.map(|topics| topics.iter().map(|topic| (&topic.name, &*topic.partition_indexes)).collect());
            let topics = self.committed(&group.group_id, named, now).into_iter().map(topic).collect();
            OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_topics(topics)
        });
        (request.groups.len(), OffsetFetchResponse::default().with_groups(groups.collect()))
    }

    /// All that a group has committed, or what of that is named.
    fn committed(&self, group: &GroupId, named: Option<Vec<(&TopicName, &[i32])>>, now: i64) -> Vec<Commits> {
        let Some(group) = self.shape.group(group) else { return Vec::new() };
        let commit = |topic: i32, index: i32| (index, Clock::commit(group, topic * self.shape.partitions + index, now));
        let Some(named) = named else {
            let all = |topic| self.shape.all_partitions().map(|index| commit(topic, index)).collect();
            return self.shape.topics_of(group).map(|topic| (topic_name(topic), all(topic))).collect();
        };
        let answer = |(name, partitions): (&TopicName, &[i32])| {
            let topic = self.shape.topic(name).filter(|topic| self.shape.topics_of(group).any(|own| own == *topic));
            let one = |index: &i32| topic.map_or((*index, -1), |topic| commit(topic, *index));
            (name.clone(), partitions.iter().map(one).collect())
        };
        named.into_iter().map(answer).collect()
    }

    pub(super) fn classic_groups(&self, request: &DescribeGroupsRequest) -> DescribeGroupsResponse {
        let describe = |name: &GroupId| {
            let described = DescribedGroup::default().with_group_id(name.clone());
            let Some(group) = self.shape.group(name).filter(|group| !self.shape.is_of_new_protocol(*group)) else {
                return described.with_group_state(StrBytes::from_static_str("Dead"));
            };
            let member = |member| {
                DescribedGroupMember::default()
                    .with_member_id(text(format!("member-{member}")))
                    .with_client_id(StrBytes::from_static_str("fake"))
                    .with_client_host(StrBytes::from_static_str("/127.0.0.1"))
                    .with_member_assignment(self.assignment(group, member))
            };
            described
                .with_group_state(StrBytes::from_static_str("Stable"))
                .with_protocol_type(StrBytes::from_static_str("consumer"))
                .with_protocol_data(StrBytes::from_static_str("range"))
                .with_members((0..MEMBERS).map(member).collect())
        };
        DescribeGroupsResponse::default().with_groups(request.groups.iter().map(describe).collect())
    }

    fn owned(&self, member: i32) -> impl Iterator<Item = i32> {
        self.shape.all_partitions().filter(move |index| index % MEMBERS == member)
    }

    /// What a member of the classic protocol owns (`ConsumerProtocolAssignment.json`, version 0).
    fn assignment(&self, group: i32, member: i32) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(0);
        out.put_i32(self.shape.topics_of_group);
        for topic in self.shape.topics_of(group) {
            let name = Shape::topic_name(topic);
            out.put_u16(u16::try_from(name.len()).unwrap_or(0));
            out.put_slice(name.as_bytes());
            out.put_i32(i32::try_from(self.owned(member).count()).unwrap_or(0));
            self.owned(member).for_each(|index| out.put_i32(index));
        }
        // No user data.
        out.put_i32(-1);
        out.freeze()
    }

    pub(super) fn new_groups(&self, request: &ConsumerGroupDescribeRequest) -> Outcome<ConsumerGroupDescribeResponse> {
        let describe = |name: &GroupId| {
            let described = NewGroup::default().with_group_id(name.clone());
            let Some(group) = self.shape.group(name).filter(|group| self.shape.is_of_new_protocol(*group)) else {
                return Ok(described.with_error_code(GROUP_ID_NOT_FOUND));
            };
            let topic = |topic: i32, member| -> Outcome<_> {
                Ok(TopicPartitions::default()
                    .with_topic_id(topic_id(topic).parse()?)
                    .with_topic_name(topic_name(topic))
                    .with_partitions(self.owned(member).collect()))
            };
            let member = |member| -> Outcome<_> {
                let topics = self.shape.topics_of(group).map(|of| topic(of, member)).collect::<Outcome<Vec<_>>>()?;
                let assignment = Assignment::default().with_topic_partitions(topics);
                Ok(Member::default()
                    .with_member_id(text(format!("member-{member}")))
                    .with_client_id(StrBytes::from_static_str("fake"))
                    .with_client_host(StrBytes::from_static_str("/127.0.0.1"))
                    .with_subscribed_topic_names(self.shape.topics_of(group).map(topic_name).collect())
                    .with_assignment(assignment.clone())
                    .with_target_assignment(assignment))
            };
            Ok(described
                .with_group_state(StrBytes::from_static_str("Stable"))
                .with_assignor_name(StrBytes::from_static_str("uniform"))
                .with_members((0..MEMBERS).map(member).collect::<Outcome<_>>()?))
        };
        let groups = request.group_ids.iter().map(describe).collect::<Outcome<Vec<_>>>()?;
        Ok(ConsumerGroupDescribeResponse::default().with_groups(groups))
    }
}
