//! Handshakes: what is an answer, and what is said of those that are none.

use tokio::net::UdpSocket;

use super::fake::Fake;
use super::{Bench, LITTLE, PLENTY, Pair, Reason, random};
use crate::probe::vpn::metrics::Ignored;
use crate::probe::vpn::wireguard::config::Keys;
use crate::probe::vpn::wireguard::session::{Data, Handshake, Session};

const IGNORED: &str = "midwatch_vpn_ignored_packets_total";
const REPLIES: &str = "midwatch_vpn_replies_total";

#[tokio::test]
async fn a_server_that_knows_us_is_up() {
    let pair = Pair::new();
    let bench = Bench::new(&pair, Fake::new(&pair).await.start(), "");
    // More than ten, after which the crate's own limiter would take answers for an attack.
    for _ in 0..15 {
        bench.well().await;
    }
    assert_eq!(bench.sum("midwatch_vpn_up", ""), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=handshake"), 1.0);
    assert_eq!(bench.sum(REPLIES, "reply=response"), 15.0);
    assert_eq!(bench.sum("midwatch_vpn_stage_duration_seconds_count", "stage=handshake"), 15.0);
    assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", ""), 0.0);
    assert_eq!(bench.sum(IGNORED, ""), 0.0);
}

#[tokio::test]
async fn the_server_learns_that_we_have_heard() {
    let pair = Pair::new();
    let mut fake = Fake::new(&pair).await;
    let bench = Bench::new(&pair, fake.address, "");
    let server = async {
        let (answer, from) = fake.answer().await;
        fake.send(&answer, from).await;
        let (packet, from) = fake.next().await;
        assert_eq!((packet[0], packet.len()), (4, 32), "an empty packet through the tunnel");
        assert_eq!(fake.hear(&packet, from), (None, None));
        // It has confirmed the session: the server can send now.
        fake.seal(b"");
    };
    tokio::join!(bench.well(), server);
}

#[tokio::test]
async fn a_pre_shared_key_that_differs_is_told() {
    let (pair, key) = (Pair::new(), random());
    let bench = Bench::new(&pair, Fake::with(&pair, Some(key), None).await.start(), "");
    let failure = bench.run(PLENTY).await.unwrap_err();
    assert_eq!(failure.reason, Reason::PskMismatch);
    assert!(failure.detail.contains("none is configured"), "{failure}");
    assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", ""), 0.0, "it was answered");

    let files = super::Folder::new(&pair, Fake::new(&pair).await.start(), "preshared_key = { file = \"psk\" }");
    super::key(files.dir.path(), "psk", &key);
    let bench = Bench::with(files, &Default::default(), None);
    let failure = bench.run(PLENTY).await.unwrap_err();
    assert_eq!(failure.reason, Reason::PskMismatch);
    assert!(failure.detail.contains("another pre-shared key"), "{failure}");

    let server = Fake::with(&pair, Some(key), None).await.start();
    let files = super::Folder::new(&pair, server, "preshared_key = { file = \"psk\" }");
    super::key(files.dir.path(), "psk", &key);
    Bench::with(files, &Default::default(), None).well().await;
}

#[tokio::test]
async fn silence_names_what_cannot_be_told_apart() {
    let pair = Pair::new();
    let unknown = Pair { own: random(), server: pair.server };
    let wrong_server = Pair { own: pair.own, server: random() };
    for (what, server) in [("our key", unknown), ("the server's", wrong_server)] {
        let bench = Bench::new(&pair, Fake::new(&server).await.start(), "attempts = 2");
        let failure = bench.fails().await;
        assert_eq!(failure.reason, Reason::Timeout, "{what}");
        assert!(
            failure.detail.contains("to 2 packets") && failure.detail.contains("cannot be told apart"),
            "{failure}"
        );
        assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", ""), 2.0);
        assert_eq!(bench.sum("midwatch_vpn_up", ""), 0.0);
    }
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let pair = Pair::new();
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(Bench::new(&pair, closed, "").run(PLENTY).await.unwrap_err().reason, Reason::Refused);
}

#[tokio::test]
async fn a_cookie_is_brought_back() {
    let pair = Pair::new();
    let fake = Fake::with(&pair, None, Some(Fake::limiter(&pair, 0))).await;
    let bench = Bench::new(&pair, fake.start(), "attempts = 1");
    bench.well().await;
    assert_eq!((bench.sum(REPLIES, "reply=cookie"), bench.sum(REPLIES, "reply=response")), (1.0, 1.0));
    assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", ""), 0.0);
    assert_eq!(bench.sum("midwatch_vpn_handshake_retries_total", ""), 0.0);
}

#[tokio::test]
async fn cookies_without_end_are_overload() {
    let pair = Pair::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(&pair, socket.local_addr().unwrap(), "");
    let server = async {
        loop {
            let (mut buffer, mut answer) = ([0; 2_000], [0; 2_000]);
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            // Each one with a secret of its own: what came before is worth nothing.
            let limiter = Fake::limiter(&pair, 0);
            let said = limiter.verify_packet(Some(from.ip()), &buffer[..length], &mut answer);
            let Err(boringtun::noise::TunnResult::WriteToNetwork(cookie)) = said else { panic!("no cookie") };
            socket.send_to(cookie, from).await.unwrap();
        }
    };
    let failure = tokio::select! { result = bench.run(PLENTY) => result.unwrap_err(), () = server => unreachable!() };
    assert_eq!(failure.reason, Reason::Overload, "{failure}");
    assert_eq!(bench.sum(REPLIES, "reply=cookie"), 4.0);
}

#[tokio::test]
async fn silence_after_a_cookie_has_fewer_causes() {
    let pair = Pair::new();
    let mut fake = Fake::with(&pair, None, Some(Fake::limiter(&pair, 0))).await;
    let bench = Bench::new(&pair, fake.address, "attempts = 1");
    let server = async {
        let (cookie, from) = fake.answer().await;
        fake.send(&cookie, from).await;
        std::future::pending::<()>().await;
    };
    let failure = tokio::select! { failure = bench.fails() => failure, () = server => unreachable!() };
    assert_eq!(failure.reason, Reason::Timeout);
    assert!(failure.detail.contains("a cookie came"), "{failure}");
}

#[tokio::test]
async fn an_answer_to_an_earlier_attempt_is_late() {
    let pair = Pair::new();
    let mut fake = Fake::new(&pair).await;
    let bench = Bench::new(&pair, fake.address, "attempts = 2");
    let server = async {
        let (first, _) = fake.answer().await;
        let (second, from) = fake.answer().await;
        fake.send(&first, from).await;
        fake.send(&second, from).await;
    };
    let (result, ()) = tokio::join!(bench.run(LITTLE * 4), server);
    result.unwrap();
    assert_eq!(bench.sum(IGNORED, "why=late"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", ""), 1.0);

    let mut fake = Fake::new(&pair).await;
    let bench = Bench::new(&pair, fake.address, "attempts = 2");
    let server = async {
        let (first, _) = fake.answer().await;
        let (_, from) = fake.answer().await;
        fake.send(&first, from).await;
        std::future::pending::<()>().await;
    };
    let failure = tokio::select! { failure = bench.fails() => failure, () = server => unreachable!() };
    assert_eq!(failure.reason, Reason::Timeout, "it is no success");
    assert!(failure.detail.contains("none that answers ours"), "{failure}");
}

#[tokio::test]
async fn what_another_address_sends_is_not_heard() {
    let pair = Pair::new();
    let mut fake = Fake::new(&pair).await;
    let bench = Bench::new(&pair, fake.address, "attempts = 1");
    let spoofer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = async {
        let (answer, from) = fake.answer().await;
        spoofer.send_to(&answer, from).await.unwrap();
        std::future::pending::<()>().await;
    };
    let failure = tokio::select! { failure = bench.fails() => failure, () = server => unreachable!() };
    assert_eq!(failure.reason, Reason::Timeout);
    assert_eq!(bench.sum(IGNORED, ""), 0.0);
}

#[tokio::test]
async fn packets_that_are_no_answer_are_counted_by_what_they_are() {
    let pair = Pair::new();
    let mut fake = Fake::new(&pair).await;
    let bench = Bench::new(&pair, fake.address, "attempts = 1");
    let server = async {
        let (answer, from) = fake.answer().await;
        let mut foreign = answer.clone();
        foreign[11] ^= 1;
        let mut forged = answer.clone();
        forged[50] ^= 1;
        let mut data = [0; 32];
        (data[0], data[7]) = (4, !foreign[11]);
        for packet in [&foreign[..], &forged, &data, b"", b"x", &answer[..91], &[0; 2_000]] {
            fake.send(packet, from).await;
        }
        fake.send(&answer, from).await;
    };
    tokio::join!(bench.well(), server);
    assert_eq!(bench.sum(IGNORED, "why=foreign_session"), 2.0);
    assert_eq!(bench.sum(IGNORED, "why=forged"), 1.0);
    assert_eq!(bench.sum(IGNORED, "why=malformed"), 4.0);
}

/// A session with these keys, and the server's side of it.
async fn sides() -> (std::sync::Arc<Session>, Fake) {
    let pair = Pair::new();
    let keys = Keys::of(pair.own, pair.server_public().to_bytes());
    (Session::of(&keys, || None).unwrap(), Fake::new(&pair).await)
}

#[tokio::test]
async fn no_flipped_bit_is_an_answer_or_blames_the_pre_shared_key() {
    let (session, mut fake) = sides().await;
    let turn = session.turn().await;
    let answer = fake.hear(&turn.initiation().unwrap(), fake.address).0.unwrap();
    // The last 16 bytes are the second checksum, which only a server under load looks at.
    for at in 0..answer.len() - 16 {
        for bit in 0..8 {
            let mut flipped = answer.clone();
            flipped[at] ^= 1 << bit;
            assert!(matches!(turn.handshake(&flipped), Handshake::Not(_)), "byte {at}, bit {bit}");
        }
    }
    assert!(matches!(turn.handshake(&answer), Handshake::Accepted(_)));
    assert!(matches!(turn.handshake(&answer), Handshake::Not(Ignored::Late)), "only once");
}

#[tokio::test]
async fn no_flipped_bit_passes_through_the_tunnel() {
    let (session, mut fake) = sides().await;
    let turn = session.turn().await;
    let answer = fake.hear(&turn.initiation().unwrap(), fake.address).0.unwrap();
    let Handshake::Accepted(keepalive) = turn.handshake(&answer) else { panic!("not accepted") };
    fake.hear(&keepalive, fake.address);
    let inner = crate::probe::vpn::wireguard::packet::echo(
        "10.88.0.1".parse().unwrap(),
        "10.88.0.2".parse().unwrap(),
        1,
        b"text",
    )
    .unwrap();
    let packet = fake.seal(&inner);
    for at in 0..packet.len() {
        for bit in 0..8 {
            let mut flipped = packet.clone();
            flipped[at] ^= 1 << bit;
            assert!(matches!(turn.open(&flipped), Data::Not(_)), "byte {at}, bit {bit}");
        }
    }
    assert!(matches!(turn.open(&packet), Data::Inner(found) if found == inner));
    assert!(matches!(turn.open(&packet), Data::Not(Ignored::Late)), "only once");
    // The session before is not listened to any more once there is another.
    let old = fake.seal(&inner);
    let answer = fake.hear(&turn.initiation().unwrap(), fake.address).0.unwrap();
    assert!(matches!(turn.handshake(&answer), Handshake::Accepted(_)));
    assert!(matches!(turn.open(&old), Data::Not(Ignored::Late)));
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_and_not_too_fast() {
    use tokio::time::{Instant, timeout};
    let (session, _) = sides().await;
    let turn = session.turn().await;
    turn.initiation().unwrap();
    let began = Instant::now();
    assert!(timeout(PLENTY, session.turn()).await.is_err(), "somebody else has it");
    drop(turn);
    let turn = session.turn().await;
    turn.initiation().unwrap();
    drop(turn);
    let before = Instant::now();
    let _turn = session.turn().await;
    assert!(before.elapsed() >= std::time::Duration::from_millis(20));
    assert!(began.elapsed() >= PLENTY);
}

#[tokio::test]
async fn probes_with_the_same_keys_share_a_session_also_across_reloads() {
    let pair = Pair::new();
    let server = Fake::new(&pair).await.start();
    let one = Bench::new(&pair, server, "");
    let session = |bench: &Bench| std::sync::Arc::as_ptr(bench.wireguard().session().unwrap());
    let first = session(&one);
    let two = Bench::new(&pair, server, "attempts = 1");
    assert_eq!(session(&two), first);
    drop(two);
    let files = super::Folder::new(&pair, server, "attempts = 2");
    let three = Bench::with(files, &Default::default(), Some(&one.bench.probe));
    drop(one);
    assert_eq!(session(&three), first, "the successor keeps what the probe before it knew");
    let other = Pair { own: random(), server: pair.server };
    assert_ne!(session(&Bench::new(&other, server, "")), first);
}

#[tokio::test]
async fn others_with_the_same_keys_may_take_all_the_time() {
    let pair = Pair::new();
    let bench = Bench::new(&pair, Fake::new(&pair).await.start(), "");
    let keys = Keys::of(pair.own, pair.server_public().to_bytes());
    let session = Session::of(&keys, || None).unwrap();
    let _turn = session.turn().await;
    let failure = bench.fails().await;
    assert_eq!(failure.reason, Reason::RateLimited);
    assert_eq!(bench.sum("midwatch_vpn_packets_sent_total", ""), 0.0);
}
