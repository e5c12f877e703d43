//! The lab's Kafka brokers do what the lab says.

use std::time::Duration;

use lab::kafka::driver::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use lab::kafka::driver::client::{ClientContext, DefaultClientContext, OAuthToken};
use lab::kafka::driver::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use lab::kafka::driver::error::KafkaError;
use lab::kafka::driver::types::RDKafkaErrorCode;
use lab::kafka::driver::{Offset, TopicPartitionList};
use lab::kafka::{Cluster, GroupOffset, Mechanism, Move, Options, Protocol, Record, Resource, Tls, User, Version};
use lab::ports::Port;
use tokio::net::TcpStream;

/// Some time in 2023, in milliseconds.
const THEN: i64 = 1_700_000_000_000;
const PATIENCE: Duration = Duration::from_secs(10);

fn lag(committed: i64, end: i64) -> GroupOffset {
    GroupOffset { committed: Some(committed), end: Some(end), lag: Some(end - committed), member: None }
}

fn key(group: &str, topic: &str, partition: i32) -> (String, String, i32) {
    (group.to_owned(), topic.to_owned(), partition)
}

/// The offset of the first record that is not older than `time`.
fn offset_at(cluster: &Cluster, topic: &str, partition: i32, time: i64) -> Result<Option<i64>, KafkaError> {
    let consumer: BaseConsumer = cluster.client(None).set("group.id", "none").create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(time))?;
    let found = consumer.offsets_for_times(list, PATIENCE)?;
    Ok(found.elements()[0].offset().to_raw())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_survives_what_is_done_to_it() {
    let cluster = Cluster::start(3).await.unwrap();
    assert_eq!(cluster.ids(), [1, 2, 3]);
    cluster.create_topic("orders", 3, 3, &[]).await.unwrap();
    let records = (0..30).map(|i| Record::new(i % 3).key(format!("{i}")).timestamp(THEN + i64::from(i)));
    let places = cluster.produce("orders", records).await.unwrap();
    assert_eq!((places.len(), places[29]), (30, (2, 9)));
    assert_eq!(offset_at(&cluster, "orders", 2, THEN + 14).unwrap(), Some(4));

    // Kafka's own tool sees what was committed, and a member of each protocol that is at work.
    cluster.commit("billing", &[("orders", 0, 7), ("orders", 1, 0)]).await.unwrap();
    let classic = cluster.join("classic", &["orders"], Protocol::Classic).unwrap();
    let modern = cluster.join("modern", &["orders"], Protocol::Consumer).unwrap();
    for member in [&classic, &modern] {
        member.wait_assigned(3).await.unwrap();
        member.wait_consumed(30).await.unwrap();
    }
    modern.pause().await.unwrap();
    let groups = lab::until("commits of the members", Duration::from_secs(30), async || {
        let groups = cluster.describe_groups().await.map_err(|error| error.to_string())?;
        let done = |group| (0..3).all(|i| groups.get(&key(group, "orders", i)).is_some_and(|row| row.lag == Some(0)));
        if done("classic") && done("modern") { Ok(groups) } else { Err(format!("{groups:?}")) }
    });
    let groups = groups.await.unwrap();
    assert_eq!(groups[&key("billing", "orders", 0)], lag(7, 10));
    assert_eq!(groups[&key("billing", "orders", 1)], lag(0, 10));
    assert!(!groups.contains_key(&key("billing", "orders", 2)));
    assert!(
        groups[&key("classic", "orders", 0)].member.is_some() && groups[&key("modern", "orders", 0)].member.is_some()
    );
    cluster.produce("orders", [Record::new(0)]).await.unwrap();
    classic.wait_consumed(31).await.unwrap();
    assert_eq!(modern.consumed(), 30);
    modern.resume();
    modern.wait_consumed(31).await.unwrap();
    drop((classic, modern));

    // A frozen broker keeps its connections, is replaced, and comes back.
    let leader = |cluster: &Cluster| {
        let consumer: BaseConsumer = cluster.client(None).create().unwrap();
        let metadata = consumer.fetch_metadata(Some("orders"), PATIENCE).unwrap();
        metadata.topics()[0].partitions()[0].leader()
    };
    let first = leader(&cluster);
    cluster.freeze(first).unwrap();
    TcpStream::connect(cluster.address(first)).await.unwrap();
    cluster.wait_up().await.unwrap();
    assert_ne!(leader(&cluster), first);
    cluster.thaw(first).unwrap();
    cluster.wait_settled().await.unwrap();

    // A killed one refuses, and comes back with its data.
    let (second, pid) = (leader(&cluster), cluster.pid(leader(&cluster)).unwrap());
    cluster.kill(second);
    TcpStream::connect(cluster.address(second)).await.unwrap_err();
    cluster.pid(second).unwrap_err();
    cluster.wait_up().await.unwrap();
    assert_eq!(cluster.produce("orders", [Record::new(0)]).await.unwrap(), [(0, 11)]);
    cluster.restart(second).await.unwrap();
    cluster.wait_settled().await.unwrap();
    assert_ne!(cluster.pid(second).unwrap(), pid);
    assert_eq!(cluster.watermarks("orders", 0).await.unwrap(), (0, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_change_and_partitions_move() {
    let cluster = Cluster::start(3).await.unwrap();
    cluster.create_topic_at("moving", &[&[1, 2], &[2, 1]], &[]).await.unwrap();
    cluster.produce("moving", (0..200).map(|_| Record::new(0).size(50_000))).await.unwrap();

    // 10 MB at 1 MB/s: long enough to be seen under way.
    let moves = [Move { topic: "moving", partition: 0, replicas: &[1, 3] }];
    cluster.reassign(&moves, Some(1_000_000)).await.unwrap();
    let lines = cluster.moves_under_way().await.unwrap();
    assert_eq!(lines, ["moving-0: replicas: 1,3,2. adding: 3. removing: 2."]);
    cluster.reassign(&moves, Some(100_000_000)).await.unwrap();
    cluster.finish_moves(&moves, Duration::from_secs(60)).await.unwrap();
    let consumer: BaseConsumer = cluster.client(None).create().unwrap();
    let replicas = |topic: &str| {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        metadata.topics()[0].partitions().iter().map(|one| one.replicas().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(replicas("moving"), [vec![1, 3], vec![2, 1]]);

    // Between disks of one broker.
    let place = |disk: usize| std::path::Path::new(&cluster.log_dirs(1)[disk]).join("moving-1").exists();
    let from_first = place(0);
    let one = Move { topic: "moving", partition: 1, replicas: &[2, 1] };
    cluster.move_to_second_disk(&one, 1, None).await.unwrap();
    lab::until("the second disk", PATIENCE, async || {
        if place(1) && !place(0) { Ok(()) } else { Err(format!("from the first: {from_first}")) }
    })
    .await
    .unwrap();

    cluster.add_partitions("moving", 5).await.unwrap();
    lab::until("more partitions", PATIENCE, async || match replicas("moving").len() {
        5 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await
    .unwrap();

    cluster.delete_records("moving", 0, 150).await.unwrap();
    assert_eq!(cluster.watermarks("moving", 0).await.unwrap(), (150, 200));
    cluster.set_topic("moving", &[("retention.ms", "60000")]).await.unwrap();
    cluster.commit("gone", &[("moving", 0, 160)]).await.unwrap();
    cluster.delete_group("gone").await.unwrap();
    assert!(cluster.describe_groups().await.unwrap().is_empty());

    // Records of an open transaction are in the log, and not for those who read what is committed.
    let open = cluster.transaction("payer", "moving", [Record::new(3), Record::new(3)]).await.unwrap();
    assert_eq!(open.places, [(3, 0), (3, 1)]);
    assert_eq!(cluster.watermarks("moving", 3).await.unwrap(), (0, 2));
    let reader = cluster.join("reader", &["moving"], Protocol::Classic).unwrap();
    reader.wait_consumed(50).await.unwrap();
    assert_eq!(reader.consumed(), 50);
    open.commit().await.unwrap();
    reader.wait_consumed(52).await.unwrap();
    drop(reader);
    cluster.delete_topic("moving").await.unwrap();
}

fn describe(cluster: &Cluster, user: &User, mechanism: Mechanism) -> Result<usize, KafkaError> {
    let consumer: BaseConsumer = cluster.client(Some((user, mechanism))).create()?;
    consumer.fetch_metadata(None, Duration::from_secs(5)).map(|metadata| metadata.topics().len())
}

/// Gives librdkafka the token of a user.
struct Token(User);

impl ClientContext for Token {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let lifetime_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() + 60_000;
        let principal_name = self.0.name.clone();
        Ok(OAuthToken { token: self.0.token(60), principal_name, lifetime_ms: lifetime_ms.try_into()? })
    }
}

impl ConsumerContext for Token {}

#[tokio::test(flavor = "multi_thread")]
async fn users_log_in_over_tls_and_do_what_they_may() {
    let cluster = Cluster::with(Options::default().brokers(1).sasl().tls(Tls::Server)).await.unwrap();
    cluster.create_topic("orders", 1, 1, &[]).await.unwrap();
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512, Mechanism::Plain] {
        assert_eq!(describe(&cluster, &User::midwatch(), mechanism).unwrap(), 1, "{mechanism:?}");
    }
    let user = User::midwatch();
    let mut config = cluster.client(Some((&user, Mechanism::OauthBearer)));
    let consumer: BaseConsumer<Token> = config.set("group.id", "none").create_with_context(Token(user)).unwrap();
    // The token is asked for in here.
    assert!(consumer.poll(Duration::from_millis(100)).is_none());
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    assert!(metadata.topics().iter().any(|topic| topic.name() == "orders"));
    // Who may not describe a topic does not see it.
    assert_eq!(describe(&cluster, &User::nobody(), Mechanism::ScramSha256).unwrap(), 0);
    let stranger = User { password: "wrong".to_owned(), ..User::midwatch() };
    describe(&cluster, &stranger, Mechanism::ScramSha512).unwrap_err();

    let create = async |user: &User, name: &str| {
        let config = cluster.client(Some((user, Mechanism::ScramSha256)));
        let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        let outcome = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
        outcome.into_iter().next().unwrap().map_err(|(_, code)| code)
    };
    let refused = create(&User::midwatch(), "midwatch-canary").await.unwrap_err();
    assert_eq!(refused, RDKafkaErrorCode::TopicAuthorizationFailed);
    create(&User::canary(), "midwatch-canary").await.unwrap();
    cluster.allow("midwatch", &["Create"], &[Resource::TopicPrefix("more")]).await.unwrap();
    create(&User::midwatch(), "more-1").await.unwrap();
    cluster.disallow("midwatch", &["Create"], &[Resource::TopicPrefix("more")]).await.unwrap();
    create(&User::midwatch(), "more-2").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_version_does_the_same() {
    let options = Options::default().brokers(1).version(Version::V3_9).tls(Tls::Mutual);
    let port = Port::pick().unwrap();
    let alias = format!("127.0.1.5:{}", port.number());
    let cluster = Cluster::with(options.ports(&[port.number()]).advertised([alias])).await.unwrap();
    cluster.create_topic("orders", 2, 1, &[]).await.unwrap();
    cluster.produce("orders", (0..10).map(|_| Record::new(0))).await.unwrap();
    // The certificate's user sees the topic.
    let consumer: BaseConsumer = cluster.client(None).create().unwrap();
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    assert_eq!(metadata.topics().len(), 1);
    assert_eq!(metadata.brokers()[0].host(), "127.0.1.5");
    cluster.join("modern", &["orders"], Protocol::Consumer).unwrap_err();
    let modern = cluster.join_java("modern", "orders", Protocol::Consumer).unwrap();
    let classic = cluster.join("classic", &["orders"], Protocol::Classic).unwrap();
    classic.wait_consumed(10).await.unwrap();
    drop(classic);
    cluster.commit("billing", &[("orders", 0, 4)]).await.unwrap();
    let groups = lab::until("a commit of Kafka's own consumer", Duration::from_secs(40), async || {
        modern.check_alive().map_err(|error| error.to_string())?;
        let groups = cluster.describe_groups().await.map_err(|error| error.to_string())?;
        let row = groups.get(&key("modern", "orders", 0));
        if row.is_some_and(|row| row.lag == Some(0) && row.member.is_some()) {
            Ok(groups)
        } else {
            Err(format!("{row:?}"))
        }
    });
    let groups = groups.await.unwrap();
    assert_eq!(groups[&key("billing", "orders", 0)], lag(4, 10));
    assert_eq!(groups[&key("classic", "orders", 0)], lag(10, 10));
    let arguments = ["--list", "--type", "consumer"];
    let text = cluster.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &arguments).await.unwrap();
    assert!(text.lines().any(|line| line.split_whitespace().eq(["modern", "Consumer"])), "{text}");
}
