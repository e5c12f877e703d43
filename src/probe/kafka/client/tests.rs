//! The client against fake brokers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::list_groups_response::{ListGroupsResponse, ListedGroup};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::api::groups::{ListGroups, Listing};
use super::fake::{Asked, Fake, Reply};
use super::*;

const LIMIT: Duration = Duration::from_secs(5);

pub(super) fn access(bootstrap: &[&HostPort]) -> Access {
    Access { bootstrap: bootstrap.iter().map(|&address| address.clone()).collect(), tls: None, sasl: None }
}

fn client(bootstrap: &[&HostPort]) -> Client {
    Client::new(&access(bootstrap), &Net::default(), LIMIT).unwrap()
}

/// A client that knows these as the brokers 0, 1, ….
fn knowing(brokers: &[&Fake]) -> Client {
    let client = client(&brokers.iter().map(|fake| &fake.address).collect::<Vec<_>>());
    client.learn(&addresses(brokers));
    client
}

fn addresses(brokers: &[&Fake]) -> Vec<BrokerAddress> {
    let ids = 0..;
    ids.zip(brokers)
        .map(|(id, fake)| BrokerAddress { id, host: fake.address.host.as_str().into(), port: fake.address.port })
        .collect()
}

/// An answer that names the request it is for.
fn listing(asked: &Asked) -> Reply {
    asked.answer(&groups(&asked.correlation.to_string()))
}

fn groups(name: &str) -> ListGroupsResponse {
    let group = ListedGroup::default().with_group_id(StrBytes::from_string(name.to_owned()).into());
    ListGroupsResponse::default().with_groups(vec![group])
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.groups.iter().map(|group| &*group.group).collect()
}

fn bytes_of(reply: Reply) -> Bytes {
    match reply {
        Reply::Bytes(bytes) | Reply::Close(bytes) => bytes,
        Reply::Silence => Bytes::new(),
    }
}

#[tokio::test]
async fn requests_share_a_connection_and_do_not_wait_for_each_other() {
    // Answers only when all have arrived.
    let kept = Mutex::new(Vec::new());
    let fake = Fake::start(move |asked| {
        let mut kept = kept.lock().unwrap();
        kept.push(bytes_of(listing(asked)));
        if kept.len() < 20 { Reply::Silence } else { Reply::Bytes(kept.concat().into()) }
    })
    .await;
    let client = knowing(&[&fake]);
    let all = futures_util::future::join_all((0..20).map(|_| client.ask(0, Lane::Main, &ListGroups))).await;
    let mut seen: Vec<String> = all.into_iter().map(|answer| names(&answer.unwrap())[0].to_owned()).collect();
    assert_eq!(seen.len(), 20);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20, "everybody has an answer of their own");
    assert_eq!(fake.connections(), 1);
    assert_eq!(client.is_up(0), Some(true));
    let counts = client.take_counts();
    let count = |api| counts.iter().find(|count| count.api == api).map(|count| (count.requests, count.errors));
    assert_eq!((count(Api::ListGroups), count(Api::ApiVersions)), (Some((20, 0)), Some((1, 0))));
    assert!(client.take_counts().is_empty());
    // Slow requests have a connection of their own.
    assert!(client.ask(0, Lane::Storage, &ListGroups).await.is_ok());
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn who_we_are_is_told() {
    let fake = Fake::start(listing).await;
    knowing(&[&fake]).ask(0, Lane::Main, &ListGroups).await.unwrap();
    let asked = fake.asked();
    let versions: ApiVersionsRequest = asked[0].body();
    assert_eq!(versions.client_software_name.as_str(), "midwatch");
    assert_eq!(versions.client_software_version.as_str(), env!("CARGO_PKG_VERSION"));
    assert_eq!((asked[0].version, asked[1].version), (3, 5));
    assert!(asked.iter().all(|asked| asked.client == "midwatch"));
}

#[tokio::test]
async fn the_newest_common_version_is_used() {
    let fake = Fake::with(None, |asked| match asked.api {
        // As a broker does that knows no such version: in the form of version 0.
        Api::ApiVersions if asked.version > 0 => {
            let old = Asked { version: 0, ..asked.clone() };
            old.answer(&ApiVersionsResponse::default().with_error_code(35))
        }
        Api::ApiVersions => {
            asked.versions([(Api::ListGroups, 0..=2), (Api::Metadata, 0..=0), (Api::OffsetFetch, 40..=50)])
        }
        _ => listing(asked),
    })
    .await;
    let client = knowing(&[&fake]);
    client.ask(0, Lane::Main, &ListGroups).await.unwrap();
    assert_eq!(fake.asked().last().unwrap().version, 2);
    assert_eq!(client.version(0, Lane::Main, Api::ListGroups).await, Ok(Some(2)));
    for api in [Api::Metadata, Api::OffsetFetch, Api::DescribeLogDirs] {
        assert_eq!(client.version(0, Lane::Main, api).await, Ok(None), "{api:?}");
    }
    let failure =
        client.ask(0, Lane::Main, &api::reassignments::ListReassignments { timeout_ms: 1_000 }).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Rejected, "{failure}");
    assert!(failure.detail.contains("ListPartitionReassignments"), "{failure}");
}

#[tokio::test]
async fn nonsense_closes_the_connection() {
    type Nonsense = fn(&Asked) -> Reply;
    let table: [(Nonsense, Reason); 7] = [
        (|asked| asked.answer_to(asked.correlation + 1, &groups("a")), Reason::Protocol),
        (|_| Reply::Bytes(Bytes::from_static(&[0xff; 8])), Reason::Protocol),
        (|_| Reply::Bytes(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0])), Reason::Protocol),
        (|_| Reply::Bytes(Bytes::from_static(&[0, 0, 0, 3, 1, 2, 3])), Reason::Protocol),
        (|_| Reply::Bytes(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n")), Reason::Protocol),
        // Within an answer.
        (|asked| Reply::Close(bytes_of(listing(asked)).slice(..9)), Reason::Closed),
        // The right frame and number, and nothing that is a listing.
        (
            |asked| {
                let mut frame = vec![0, 0, 0, 6];
                frame.extend_from_slice(&asked.correlation.to_be_bytes());
                frame.extend_from_slice(&[0xff, 0xff]);
                Reply::Bytes(frame.into())
            },
            Reason::Protocol,
        ),
    ];
    for (nth, (nonsense, reason)) in table.into_iter().enumerate() {
        let first = AtomicBool::new(true);
        let fake = Fake::start(
            move |asked| if first.swap(false, Ordering::SeqCst) { nonsense(asked) } else { listing(asked) },
        )
        .await;
        let client = knowing(&[&fake]);
        let failure = client.ask(0, Lane::Main, &ListGroups).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{nth}: {failure}");
        assert!(failure.detail.contains(&fake.address.to_string()), "{nth}: {failure}");
        assert_eq!(client.is_up(0), Some(false), "{nth}");
        // It did answer: nothing keeps us from trying again.
        client.ask(0, Lane::Main, &ListGroups).await.unwrap();
        assert_eq!(fake.connections(), 2, "{nth}");
        assert_eq!(client.is_up(0), Some(true), "{nth}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    // Every second request finds a broker that closes the connection instead of answering it.
    let fake = Fake::start(|asked| match asked.correlation {
        1 => listing(asked),
        _ => Reply::Close(Bytes::new()),
    })
    .await;
    let client = knowing(&[&fake]);
    for nth in 1..=3 {
        client.ask(0, Lane::Main, &ListGroups).await.unwrap();
        assert_eq!(fake.connections(), nth);
    }
}

#[tokio::test]
async fn a_new_connection_that_closes_is_not_tried_again() {
    let fake = Fake::start(|_| Reply::Close(Bytes::new())).await;
    let failure = knowing(&[&fake]).ask(0, Lane::Main, &ListGroups).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Closed);
    assert!(failure.detail.contains("want a login?"), "{failure}");
    assert_eq!(fake.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_costs_one_timeout() {
    let is_silent = Arc::new(AtomicBool::new(true));
    let silent = Arc::clone(&is_silent);
    let fake =
        Fake::start(move |asked| if silent.load(Ordering::SeqCst) { Reply::Silence } else { listing(asked) }).await;
    let client = knowing(&[&fake]);
    let started = Instant::now();
    let all = futures_util::future::join_all((0..10).map(|_| client.ask(0, Lane::Main, &ListGroups))).await;
    assert!(all.iter().all(|answer| answer.as_ref().is_err_and(|failure| failure.reason == Reason::Timeout)));
    assert_eq!(started.elapsed().as_secs(), LIMIT.as_secs());
    // Left alone for a while.
    let failure = client.ask(0, Lane::Main, &ListGroups).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Timeout);
    assert!(failure.detail.contains("not tried again"), "{failure}");
    assert_eq!(started.elapsed().as_secs(), LIMIT.as_secs(), "at once");
    assert_eq!(fake.connections(), 1);
    // And then tried again.
    is_silent.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(1)).await;
    client.ask(0, Lane::Main, &ListGroups).await.unwrap();
    assert_eq!((fake.connections(), client.is_up(0)), (2, Some(true)));
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_does_no_harm() {
    let nth = AtomicUsize::new(0);
    let late = Mutex::new(None);
    let fake = Fake::start(move |asked| match nth.fetch_add(1, Ordering::SeqCst) {
        // The answer to the first request comes with that to the second.
        0 => {
            *late.lock().unwrap() = Some(bytes_of(listing(asked)));
            Reply::Silence
        }
        1 => Reply::Bytes([late.lock().unwrap().take().unwrap(), bytes_of(listing(asked))].concat().into()),
        _ => Reply::Silence,
    })
    .await;
    let client = knowing(&[&fake]);
    let ask = || tokio::time::timeout(Duration::from_secs(1), client.ask(0, Lane::Main, &ListGroups));
    ask().await.unwrap_err();
    assert_eq!(names(&ask().await.unwrap().unwrap()), ["2"]);
    assert_eq!(fake.connections(), 1);
    // Nobody waits for this one when its time is over: the connection is closed, and the broker left alone.
    ask().await.unwrap_err();
    assert_eq!(client.is_up(0), Some(true));
    sleep(LIMIT - Duration::from_millis(900)).await;
    assert_eq!(client.is_up(0), Some(false));
    assert!(client.ask(0, Lane::Main, &ListGroups).await.unwrap_err().detail.contains("not tried again"));
}

#[tokio::test]
async fn what_is_gone_is_forgotten() {
    let (one, two) = (Fake::start(listing).await, Fake::start(listing).await);
    let client = knowing(&[&one, &two]);
    client.ask(1, Lane::Main, &ListGroups).await.unwrap();
    client.learn(&addresses(&[&one]));
    assert_eq!(client.ask(1, Lane::Main, &ListGroups).await.unwrap_err().reason, Reason::Mismatch);
    assert_eq!(client.is_up(1), None);
    let counts = client.take_counts();
    assert!(counts.iter().any(|count| (count.broker, count.api, count.requests) == (1, Api::ListGroups, 1)));
    // Broker 0 moves to where 1 was.
    client.learn(&addresses(&[&two]));
    client.ask(0, Lane::Main, &ListGroups).await.unwrap();
    assert_eq!((one.connections(), two.connections()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn somebody_always_answers() {
    // Refuses, stays silent, answers.
    let refuses = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refuses = HostPort { host: refuses.ip().to_string(), port: refuses.port() };
    let silent = Fake::with(None, |_| Reply::Silence).await;
    let good = Fake::start(listing).await;
    let client = client(&[&refuses, &silent.address, &good.address]);
    let started = Instant::now();
    client.ask_any(&ListGroups).await.unwrap();
    assert!(started.elapsed() <= STAGGER + Duration::from_millis(100), "{:?}", started.elapsed());
    let counts = client.take_counts();
    assert!(counts.iter().all(|count| count.broker == -1));
    // The good one turns out to be broker 7, and the connection to it stays.
    let address = BrokerAddress { id: 7, host: good.address.host.as_str().into(), port: good.address.port };
    client.learn(&[address]);
    client.ask(7, Lane::Main, &ListGroups).await.unwrap();
    client.ask_any(&ListGroups).await.unwrap();
    assert_eq!(good.connections(), 1);
    assert_eq!(good.count(Api::ListGroups), 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_answers() {
    let silent = Fake::with(None, |_| Reply::Silence).await;
    let client = client(&[&silent.address]);
    for connections in 1..=2 {
        let started = Instant::now();
        let failure = client.ask_any(&ListGroups).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Timeout, "{failure}");
        assert_eq!(started.elapsed().as_secs(), LIMIT.as_secs());
        // Nobody else is there to be asked, so that it is tried at once again.
        assert_eq!(silent.connections(), connections);
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_client() {
    let fake = Fake::start(|_| Reply::Silence).await;
    let client = knowing(&[&fake]);
    let copy = client.clone();
    let asking = tokio::spawn(async move { copy.ask(0, Lane::Main, &ListGroups).await });
    while fake.count(Api::ListGroups) == 0 {
        tokio::task::yield_now().await;
    }
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    asking.abort();
    drop(client);
    // The request, the client's connection, and the fake's side of it.
    while tasks() > before - 3 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_wrong_kind_of_listener_is_named() {
    // A listener that wants TLS answers what is none with an alert, or closes the connection.
    for (answer, reason) in [(&b"\x15\x03\x03\x00\x02\x02\x46"[..], Reason::Protocol), (b"", Reason::Closed)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = HostPort { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            let _ = stream.try_read(&mut [0; 1024]);
            stream.write_all(answer).await.unwrap();
        });
        let failure = client(&[&address]).ask_any(&ListGroups).await.unwrap_err();
        peer.await.unwrap();
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.detail.contains("want TLS?"), "{failure}");
    }
    // The other way round: a broker takes the handshake for a frame that is too long.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HostPort { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    let peer = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let _ = stream.try_read(&mut [0; 4096]);
    });
    let tls = crate::probe::net::TlsConfig { insecure: true, ..Default::default() };
    let access = Access { tls: Some(tls), ..access(&[&address]) };
    let client = Client::new(&access, &Net::default(), LIMIT).unwrap();
    let failure = client.ask_any(&ListGroups).await.unwrap_err();
    peer.await.unwrap();
    assert!(matches!(failure.reason, Reason::Tls | Reason::Closed), "{failure}");
    assert!(failure.detail.contains("does it speak TLS?"), "{failure}");
}
