//! Over UDP: what is taken for an answer, and what is not.

use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::*;
use crate::probe::Reason;

/// After so long a silence the server has heard all.
const SILENCE: Duration = Duration::from_secs(1);

/// A server that answers each packet, by its number from 1 on, with what `answer` makes of all packets. Gives its port and, when it has
/// heard nothing for a while, the packets.
async fn server(
    mut answer: impl FnMut(usize, &[Vec<u8>]) -> Vec<Vec<u8>> + Send + 'static,
) -> (u16, JoinHandle<Vec<Vec<u8>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut buffer, mut packets) = (vec![0; 4_096], Vec::new());
        while let Ok(Ok((length, from))) = tokio::time::timeout(SILENCE, socket.recv_from(&mut buffer)).await {
            packets.push(buffer[..length].to_vec());
            for packet in answer(packets.len(), &packets) {
                socket.send_to(&packet, from).await.unwrap();
            }
        }
        packets
    });
    (port, task)
}

/// A server that answers as it should.
async fn good_server(kind: Kind) -> (u16, JoinHandle<Vec<Vec<u8>>>) {
    let wrap = kind.server(1);
    server(move |_, packets| vec![reset(&wrap, session_of(packets.last().unwrap()))]).await
}

#[tokio::test]
async fn each_way_to_wrap_packets_is_answered() {
    for kind in ALL {
        let (port, packets) = good_server(kind).await;
        let bench = bench(kind, port, "");
        bench.run(TIME).await.unwrap();
        assert_eq!(bench.sum("midwatch_vpn_up", ""), 1.0, "{kind:?}");
        assert_eq!(bench.sum("midwatch_vpn_replies_total", "reply=server_reset"), 1.0);
        assert_eq!(bench.sum("midwatch_vpn_packets_sent_total", "stage=handshake"), 1.0);
        packets.abort();
    }
}

/// The lengths are those of real clients and servers.
#[tokio::test]
async fn packets_are_as_long_as_openvpn_s() {
    let kinds = [(Kind::None, 14, 26), (Kind::Auth(Digest::Sha1), 42, 54), (Kind::Crypt, 54, 66)];
    for (kind, request, answer) in kinds {
        let (port, packets) = good_server(kind).await;
        bench(kind, port, "").run(TIME).await.unwrap();
        let packets = packets.await.unwrap();
        assert_eq!(
            (packets.len(), packets[0].len()),
            (1, request),
            "{kind:?}: one packet, and nothing after the answer"
        );
        assert_eq!(reset(&kind.server(1), [0; 8]).len(), answer, "{kind:?}");
    }
    assert_eq!(reset(&Kind::CryptV2.server(1), [0; 8]).len(), 72);
}

/// What `spoil` makes of good answers, `count` packets, is no answer, and is counted under that word.
async fn never_counts(
    kind: Kind,
    (why, count): (&str, u32),
    spoil: impl Fn(&Wrap, SessionId) -> Vec<Vec<u8>> + Send + 'static,
) {
    let wrap = kind.server(1);
    let (port, packets) = server(move |_, packets| spoil(&wrap, session_of(packets.last().unwrap()))).await;
    let bench = bench(kind, port, "attempts = 2\n");
    let failure = bench.run(Duration::from_millis(400)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Timeout, "{kind:?} {why}: {failure}");
    assert!(failure.detail.contains("none that answers ours"), "{failure}");
    let ignored = |labels: &str| bench.sum("midwatch_vpn_ignored_packets_total", labels);
    assert_eq!(ignored(&format!("why={why}")), f64::from(2 * count), "{kind:?} {why}");
    assert_eq!(ignored(""), f64::from(2 * count), "{kind:?} {why}");
    assert_eq!(bench.sum("midwatch_vpn_up", ""), 0.0);
    assert_eq!(bench.sum("midwatch_vpn_loss_ratio", "stage=handshake"), 1.0);
    packets.abort();
}

fn with(wrap: &Wrap, opcode: Opcode, change: impl Fn(&mut Body), session: SessionId) -> Vec<u8> {
    let mut body = Body { acks: vec![0], peer: session, id: Some(0), payload: Vec::new() };
    change(&mut body);
    sealed(wrap, opcode, &body)
}

#[tokio::test]
async fn answers_to_other_sessions_never_count() {
    for kind in ALL {
        never_counts(kind, ("foreign_session", 1), |wrap, _| vec![reset(wrap, *b"somebody")]).await;
    }
}

#[tokio::test]
async fn answers_that_are_none_never_count() {
    for kind in [Kind::None, Kind::Auth(Digest::Sha1), Kind::Crypt] {
        never_counts(kind, ("malformed", 5), |wrap, to| {
            vec![
                with(wrap, Opcode::Control, |_| {}, to),
                with(wrap, Opcode::ClientReset, |_| {}, to),
                with(wrap, Opcode::ServerReset, |body| body.acks = vec![1], to),
                with(wrap, Opcode::ServerReset, |body| body.acks.clear(), to),
                reset(wrap, to)[..8].to_vec(),
            ]
        })
        .await;
    }
    never_counts(Kind::None, ("malformed", 2), |wrap, to| {
        vec![reset(wrap, to)[..25].to_vec(), b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]
    })
    .await;
}

#[tokio::test]
async fn answers_without_the_key_never_count() {
    for kind in &ALL[1..] {
        let other = kind.server(2);
        never_counts(*kind, ("forged", 3), move |wrap, to| {
            let (mut end, mut session) = (reset(wrap, to), reset(wrap, to));
            *end.last_mut().unwrap() ^= 1;
            // The session in front is signed, too.
            session[8] ^= 1;
            vec![reset(&other, to), end, session]
        })
        .await;
    }
    // What we signed ourselves cannot be sent back.
    let ours = Kind::Crypt.server(1).reversed();
    never_counts(Kind::Crypt, ("forged", 1), move |_, to| vec![reset(&ours, to)]).await;
}

#[tokio::test]
async fn a_late_answer_never_counts() {
    for kind in ALL {
        let wrap = kind.server(1);
        // The first attempt is answered during the second.
        let (port, packets) = server(move |number, packets| match number {
            1 => Vec::new(),
            _ => vec![reset(&wrap, session_of(&packets[0]))],
        })
        .await;
        let bench = bench(kind, port, "attempts = 2\n");
        let failure = bench.run(Duration::from_millis(400)).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Timeout, "{kind:?}: {failure}");
        assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", "why=late"), 1.0, "{kind:?}");
        assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", ""), 2.0);
        packets.abort();
    }
}

#[tokio::test]
async fn a_lost_packet_is_sent_again_in_another_session() {
    let wrap = Kind::Crypt.server(1);
    let (port, packets) = server(move |number, packets| match number {
        1 => Vec::new(),
        // What is late comes first, and does not hide what is right.
        _ => vec![reset(&wrap, session_of(&packets[0])), reset(&wrap, session_of(&packets[1]))],
    })
    .await;
    let bench = bench(Kind::Crypt, port, "attempts = 2\n");
    bench.run(Duration::from_secs(1)).await.unwrap();
    assert_eq!(bench.sum("midwatch_vpn_handshake_retries_total", ""), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_loss_ratio", "stage=handshake"), 0.5);
    let packets = packets.await.unwrap();
    assert_eq!(packets.len(), 2);
    assert_ne!(session_of(&packets[0]), session_of(&packets[1]));
}

#[tokio::test]
async fn a_server_that_wraps_nothing_is_told_from_one_that_is_down() {
    for kind in &ALL[1..] {
        let (port, packets) = server(|_, packets| vec![reset(&Wrap::None, session_of(packets.last().unwrap()))]).await;
        let bench = bench(*kind, port, "");
        let failure = bench.run(TIME).await.unwrap_err();
        assert_eq!(failure.reason, Reason::WrapMismatch, "{kind:?}: {failure}");
        let failures = bench.sum("midwatch_vpn_stage_failures_total", "stage=handshake reason=wrap_mismatch");
        assert_eq!(failures, 1.0, "{kind:?}");
        packets.abort();
    }
    // One that does not know our session says nothing.
    let spoil = |_: &Wrap, _| vec![[&reset(&Wrap::None, *b"somebody")[..], &[0; 40]].concat()];
    never_counts(Kind::Crypt, ("forged", 1), spoil).await;
}

#[tokio::test]
async fn a_no_that_anybody_can_say_does_not_hide_the_true_answer() {
    let wrap = Kind::Crypt.server(1);
    let (port, _) = server(move |_, packets| {
        let session = session_of(packets.last().unwrap());
        vec![reset(&Wrap::None, session), reset(&Wrap::None, session), reset(&wrap, session)]
    })
    .await;
    let bench = bench(Kind::Crypt, port, "");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_vpn_stage_failures_total", "reason=wrap_mismatch"), 0.0);
    assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", "why=late"), 1.0);
}

#[tokio::test]
async fn silence_says_what_it_can_mean() {
    let (port, packets) = server(|_, _| Vec::new()).await;
    let failure = bench(Kind::None, port, "").run(Duration::from_millis(300)).await.unwrap_err();
    assert!(failure.detail.contains("or wants packets that are wrapped"), "{failure}");
    let failure = bench(Kind::Crypt, port, "").run(Duration::from_millis(300)).await.unwrap_err();
    assert!(failure.detail.contains("or has another key"), "{failure}");
    packets.abort();
    let _ = packets.await;
    let failure = bench(Kind::None, port, "").run(TIME).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Refused, "{failure}");
}

/// All probes of one server together keep within its budget, and are told so.
#[tokio::test]
async fn a_server_is_asked_no_more_than_it_may_be() {
    let (port, packets) = good_server(Kind::None).await;
    let bench = Arc::new(bench(Kind::None, port, ""));
    let mut limited = 0;
    for _ in 0..30 {
        match bench.run(Duration::from_millis(500)).await {
            Ok(()) => {}
            Err(failure) => {
                assert_eq!(failure.reason, Reason::RateLimited, "{failure}");
                limited += 1;
            }
        }
    }
    assert_eq!(limited, 10);
    assert_eq!(packets.await.unwrap().len(), 20);
}
