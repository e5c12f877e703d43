//! What the codec crate writes for a broker, every reader reads to its end, in every version; broken, it is survived.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self, BrokerId, GroupId, TopicName};
use kafka_protocol::messages::{
    api_versions_response as versions, consumer_group_describe_response as modern, describe_configs_response as config,
    describe_groups_response as classic, describe_log_dirs_response as dirs, describe_quorum_response as voters,
    fetch_response as fetched, find_coordinator_response as coordinator, list_groups_response as list,
    list_offsets_response as offsets, list_partition_reassignments_response as moves, metadata_response as meta,
    offset_fetch_response as commits,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::super::api::api_versions::AskVersions;
use super::super::api::sasl::{Authenticate, Handshake};
use super::*;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic(name: &'static str) -> TopicName {
    text(name).into()
}

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

fn encode(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).unwrap();
    out.freeze()
}

/// A response with at least one element in every array, as a broker of that version would send it.
fn sample(api: Api, version: i16) -> Bytes {
    let v = version;
    match api {
        Api::Fetch => {
            let mut partition = fetched::PartitionData::default().with_high_watermark(9).with_last_stable_offset(8);
            partition.records = Some(Bytes::from_static(b"records"));
            let topic =
                fetched::FetchableTopicResponse::default().with_topic(topic("t")).with_partitions(vec![partition]);
            encode(&messages::FetchResponse::default().with_responses(vec![topic]), v)
        }
        Api::Metadata => encode(&metadata(v), v),
        Api::ListOffsets => encode(&list_offsets(v), v),
        Api::OffsetFetch => encode(&offset_fetch(v), v),
        Api::FindCoordinator => encode(&find_coordinator(v), v),
        Api::DescribeGroups => encode(&describe_groups(v), v),
        Api::ListGroups => {
            let mut group =
                list::ListedGroup::default().with_group_id(GroupId(text("g"))).with_protocol_type(text("consumer"));
            if v >= 4 {
                group.group_state = text("Stable");
            }
            if v >= 5 {
                group.group_type = text("classic");
            }
            encode(&messages::ListGroupsResponse::default().with_groups(vec![group.clone(), group]), v)
        }
        Api::SaslHandshake => encode(
            &messages::SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN"), text("SCRAM-SHA-512")]),
            v,
        ),
        Api::ApiVersions => {
            let api = |key| versions::ApiVersion::default().with_api_key(key).with_min_version(1).with_max_version(9);
            encode(&messages::ApiVersionsResponse::default().with_api_keys(vec![api(3), api(69)]), v)
        }
        Api::DescribeConfigs => encode(&describe_configs(v), v),
        Api::DescribeLogDirs => encode(&describe_log_dirs(v), v),
        Api::SaslAuthenticate => {
            let mut step = messages::SaslAuthenticateResponse::default()
                .with_error_code(58)
                .with_error_message(Some(text("no")))
                .with_auth_bytes(Bytes::from_static(b"v=abc"));
            if v >= 1 {
                step.session_lifetime_ms = 3_600_000;
            }
            encode(&step, v)
        }
        Api::ListPartitionReassignments => {
            let partition = moves::OngoingPartitionReassignment::default()
                .with_replicas(brokers(&[1, 2, 3]))
                .with_adding_replicas(brokers(&[3]))
                .with_removing_replicas(brokers(&[1]));
            let topic =
                moves::OngoingTopicReassignment::default().with_name(topic("t")).with_partitions(vec![partition]);
            encode(&messages::ListPartitionReassignmentsResponse::default().with_topics(vec![topic]), v)
        }
        Api::DescribeQuorum => encode(&describe_quorum(v), v),
        Api::ConsumerGroupDescribe => encode(&consumer_group_describe(v), v),
    }
}

fn metadata(version: i16) -> messages::MetadataResponse {
    let mut partition = meta::MetadataResponsePartition::default()
        .with_leader_id(BrokerId(1))
        .with_replica_nodes(brokers(&[1, 2]))
        .with_isr_nodes(brokers(&[1]));
    if version >= 5 {
        partition.offline_replicas = brokers(&[2]);
    }
    if version >= 7 {
        partition.leader_epoch = 7;
    }
    let topic = meta::MetadataResponseTopic::default()
        .with_name(Some(topic("t")))
        .with_partitions(vec![partition.clone(), partition.with_partition_index(1)]);
    let broker =
        meta::MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_host(text("k1")).with_port(9092);
    messages::MetadataResponse::default()
        .with_brokers(vec![broker.clone().with_rack(Some(text("r"))), broker])
        .with_cluster_id((version >= 2).then(|| text("c")))
        .with_controller_id(BrokerId(1))
        .with_topics(vec![topic])
}

fn list_offsets(version: i16) -> messages::ListOffsetsResponse {
    let mut partition =
        offsets::ListOffsetsPartitionResponse::default().with_timestamp(1_700_000_000_000).with_offset(42);
    if version >= 4 {
        partition.leader_epoch = 3;
    }
    let topic = offsets::ListOffsetsTopicResponse::default().with_name(topic("t")).with_partitions(vec![partition]);
    messages::ListOffsetsResponse::default().with_topics(vec![topic])
}

fn offset_fetch(version: i16) -> messages::OffsetFetchResponse {
    if version >= 8 {
        let partition =
            commits::OffsetFetchResponsePartitions::default().with_committed_offset(42).with_metadata(Some(text("m")));
        let topic =
            commits::OffsetFetchResponseTopics::default().with_name(topic("t")).with_partitions(vec![partition]);
        let group =
            commits::OffsetFetchResponseGroup::default().with_group_id(GroupId(text("g"))).with_topics(vec![topic]);
        return messages::OffsetFetchResponse::default().with_groups(vec![group.clone(), group]);
    }
    let mut partition = commits::OffsetFetchResponsePartition::default().with_committed_offset(42);
    if version >= 5 {
        partition.committed_leader_epoch = 3;
    }
    let topic = commits::OffsetFetchResponseTopic::default().with_name(topic("t")).with_partitions(vec![partition]);
    messages::OffsetFetchResponse::default().with_topics(vec![topic])
}

fn find_coordinator(version: i16) -> messages::FindCoordinatorResponse {
    if version >= 4 {
        let one =
            coordinator::Coordinator::default().with_key(text("g")).with_node_id(BrokerId(2)).with_host(text("k2"));
        return messages::FindCoordinatorResponse::default().with_coordinators(vec![one.clone(), one]);
    }
    messages::FindCoordinatorResponse::default().with_node_id(BrokerId(2)).with_host(text("k2")).with_port(9092)
}

fn describe_groups(version: i16) -> messages::DescribeGroupsResponse {
    // Version 0, one topic, two partitions, no data of the user's.
    let assignment = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff");
    let mut member = classic::DescribedGroupMember::default()
        .with_member_id(text("m-1"))
        .with_client_id(text("m"))
        .with_client_host(text("/10.0.0.1"))
        .with_member_metadata(Bytes::from_static(b"\0\x01"))
        .with_member_assignment(assignment);
    if version >= 4 {
        member.group_instance_id = Some(text("i"));
    }
    let group = classic::DescribedGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_group_state(text("Stable"))
        .with_protocol_type(text("consumer"))
        .with_protocol_data(text("range"))
        .with_members(vec![member]);
    messages::DescribeGroupsResponse::default().with_groups(vec![group])
}

fn describe_configs(version: i16) -> messages::DescribeConfigsResponse {
    let synonym = config::DescribeConfigsSynonym::default().with_name(text("s")).with_value(Some(text("1")));
    let mut one = config::DescribeConfigsResourceResult::default()
        .with_name(text("min.insync.replicas"))
        .with_value(Some(text("2")))
        .with_synonyms(vec![synonym]);
    if version >= 3 {
        one.config_type = 3;
        one.documentation = Some(text("d"));
    }
    let result = config::DescribeConfigsResult::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![one]);
    messages::DescribeConfigsResponse::default().with_results(vec![result])
}

fn describe_log_dirs(version: i16) -> messages::DescribeLogDirsResponse {
    let partition = dirs::DescribeLogDirsPartition::default().with_partition_size(1 << 40).with_offset_lag(5);
    let topic = dirs::DescribeLogDirsTopic::default().with_name(topic("t")).with_partitions(vec![partition]);
    let mut dir = dirs::DescribeLogDirsResult::default().with_log_dir(text("/data")).with_topics(vec![topic]);
    if version >= 4 {
        (dir.total_bytes, dir.usable_bytes) = (1 << 41, 1 << 40);
    }
    messages::DescribeLogDirsResponse::default().with_results(vec![dir])
}

fn describe_quorum(version: i16) -> messages::DescribeQuorumResponse {
    let mut voter = voters::ReplicaState::default().with_replica_id(BrokerId(1)).with_log_end_offset(9);
    if version >= 1 {
        voter.last_fetch_timestamp = 1;
    }
    let partition = voters::PartitionData::default()
        .with_leader_id(BrokerId(1))
        .with_current_voters(vec![voter.clone()])
        .with_observers(vec![voter]);
    let topic =
        voters::TopicData::default().with_topic_name(topic("__cluster_metadata")).with_partitions(vec![partition]);
    messages::DescribeQuorumResponse::default().with_topics(vec![topic])
}

fn consumer_group_describe(version: i16) -> messages::ConsumerGroupDescribeResponse {
    let partitions = modern::TopicPartitions::default().with_topic_name(topic("t")).with_partitions(vec![0, 1]);
    let assignment = modern::Assignment::default().with_topic_partitions(vec![partitions]);
    let mut member = modern::Member::default()
        .with_member_id(text("m"))
        .with_subscribed_topic_names(vec![topic("t")])
        .with_assignment(assignment.clone())
        .with_target_assignment(assignment);
    if version >= 1 {
        member.member_type = 1;
    }
    let group = modern::DescribedGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_group_state(text("Stable"))
        .with_assignor_name(text("uniform"))
        .with_members(vec![member]);
    messages::ConsumerGroupDescribeResponse::default().with_groups(vec![group])
}

fn all_samples() -> Vec<(Api, i16, Bytes)> {
    let of = |api: &Api| {
        let api = *api;
        api.versions().map(move |version| (api, version, sample(api, version)))
    };
    Api::ALL.iter().flat_map(of).collect()
}

#[test]
fn every_version_is_read_to_its_end() {
    for (api, version, body) in all_samples() {
        let left = decode_any(api, version, &body).unwrap();
        // The last byte may be the number of tagged fields at the very end, which some readers leave alone.
        let may_be_left = match api {
            // Where the coordinator listens, which Metadata says of every broker.
            Api::FindCoordinator if version < 4 => 8,
            // Its voters: only the leader is asked for.
            Api::DescribeQuorum => body.len(),
            _ => usize::from(api.is_flexible(version)),
        };
        assert!(left <= may_be_left, "{api:?} {version}: {left}");
    }
}

/// The seeds of the fuzz target are these samples: it takes `MIDWATCH_WRITE_SEEDS=1` to write them anew.
#[test]
fn the_seeds_are_what_brokers_send() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kafka_response");
    for (api, version, body) in all_samples() {
        let place = Api::ALL.iter().position(|other| *other == api).unwrap() as u8;
        let seed = [&[place, (version - api.versions().start()) as u8], &*body].concat();
        let path = folder.join(format!("{}-{version}", api.label()));
        if std::env::var_os("MIDWATCH_WRITE_SEEDS").is_some() {
            std::fs::write(&path, &seed).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap_or_default(), seed, "{}", path.display());
        assert!(response(&seed), "{api:?} {version}");
    }
}

#[test]
fn broken_answers_are_survived() {
    let (seeds, read) = crate::corpus::each("kafka_response", response);
    assert!(seeds >= all_samples().len() && read > seeds, "{seeds} {read}");
}

#[test]
fn what_we_read_is_what_was_written() {
    for version in Api::ApiVersions.versions() {
        let body = sample(Api::ApiVersions, version);
        let read = AskVersions::decode(&mut Reader::new(&body, version >= 3), version).unwrap();
        assert!(read.error.is_ok());
        assert_eq!((read.pick(Api::Metadata), read.pick(Api::ConsumerGroupDescribe)), (Some(9), Some(1)));
        assert_eq!(read.pick(Api::ListGroups), None);
    }
    let body = sample(Api::SaslHandshake, 1);
    let offer = Handshake::decode(&mut Reader::new(&body, false), 1).unwrap();
    assert_eq!(offer.mechanisms.iter().map(|name| &**name).collect::<Vec<_>>(), ["PLAIN", "SCRAM-SHA-512"]);
    for version in Api::SaslAuthenticate.versions() {
        let body = sample(Api::SaslAuthenticate, version);
        let step = Authenticate::decode(&mut Reader::new(&body, version >= 2), version).unwrap();
        assert_eq!((step.error.0, step.explanation.as_deref(), &*step.message), (58, Some("no"), &b"v=abc"[..]));
        assert_eq!(step.lifetime_ms, if version >= 1 { 3_600_000 } else { 0 });
    }
}
