//! Against a FAKE responder, which misbehaves as no server does. Real ones are in `tests/it`.

use std::time::Duration;

use tokio::net::UdpSocket;

use crate::probe::Reason;
use crate::probe::vpn::testing::Bench;

const TIME: Duration = Duration::from_secs(2);

/// A response to the request: what it says of the request's SPI is up to `spi`.
fn response(spi: &[u8], notify: u16, data: &[u8]) -> Vec<u8> {
    let body =
        [&[0, 0][..], &u16::try_from(8 + data.len()).unwrap().to_be_bytes(), &[0, 0], &notify.to_be_bytes(), data];
    let body = body.concat();
    let length = u32::try_from(28 + body.len()).unwrap().to_be_bytes();
    [spi, &[9; 8], &[41, 0x20, 34, 0x20], &[0; 4], &length, &body].concat()
}

/// A responder that answers each request, by its number, with what `answer` makes of it. Gives the port and the requests.
async fn responder(
    answer: impl FnMut(usize, &[Vec<u8>]) -> Vec<Vec<u8>> + Send + 'static,
) -> (u16, tokio::task::JoinHandle<Vec<Vec<u8>>>) {
    responder_at("127.0.0.1", answer).await
}

/// The same at another address, for a budget of its own.
async fn responder_at(
    host: &str,
    mut answer: impl FnMut(usize, &[Vec<u8>]) -> Vec<Vec<u8>> + Send + 'static,
) -> (u16, tokio::task::JoinHandle<Vec<Vec<u8>>>) {
    let socket = UdpSocket::bind((host, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut buffer, mut requests) = (vec![0; 4_096], Vec::new());
        let silence = Duration::from_secs(3);
        while let Ok(Ok((length, from))) = tokio::time::timeout(silence, socket.recv_from(&mut buffer)).await {
            requests.push(buffer[..length].to_vec());
            for packet in answer(requests.len(), &requests) {
                socket.send_to(&packet, from).await.unwrap();
            }
        }
        requests
    });
    (port, task)
}

fn bench(port: u16, more: &str) -> Bench {
    bench_at("127.0.0.1", port, more)
}

fn bench_at(host: &str, port: u16, more: &str) -> Bench {
    Bench::new(&format!("protocol = \"ikev2\"\nserver = \"{host}:{port}\"\n{more}"))
}

fn spi(request: &[u8]) -> Vec<u8> {
    request[..8].to_vec()
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    let (port, _) = responder(|_, all| vec![response(&spi(all.last().unwrap()), 14, &[])]).await;
    let bench = bench(port, "");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_vpn_replies_total", "reply=no_proposal_chosen"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_up", ""), 1.0);
}

#[tokio::test]
async fn a_cookie_is_sent_back_with_all_else_as_it_was() {
    let (port, requests) = responder(|number, all| {
        let of = spi(&all[number - 1]);
        vec![if number == 1 { response(&of, 16390, b"cookie") } else { response(&of, 14, &[]) }]
    })
    .await;
    let bench = bench(port, "");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_vpn_replies_total", "reply=cookie"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_handshake_retries_total", ""), 0.0);
    let requests = requests.await.unwrap();
    // A notification of 14 octets is put before what follows the header.
    assert_eq!(requests[0][28..], requests[1][28 + 14..]);
    assert_eq!(requests[0][..8], requests[1][..8]);
}

#[tokio::test]
async fn what_the_network_delivers_twice_is_heeded_once() {
    let (port, requests) = responder_at("127.0.0.3", |number, all| {
        let of = spi(&all[number - 1]);
        let cookie = || response(&of, 16390, b"cookie");
        let group = || response(&of, 17, &14_u16.to_be_bytes());
        match number {
            1 => vec![cookie(), cookie()],
            2 => vec![group(), group()],
            _ => vec![cookie(), group(), response(&of, 14, &[])],
        }
    })
    .await;
    let bench = bench_at("127.0.0.3", port, "mode = \"full\"\n");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_vpn_replies_total", "reply=cookie"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_replies_total", "reply=invalid_ke_payload"), 1.0);
    assert_eq!(requests.await.unwrap().len(), 3);
    assert!(bench.sum("midwatch_vpn_ignored_packets_total", "why=late") >= 2.0);
}

#[tokio::test]
async fn cookie_after_cookie_is_overload() {
    let (port, _) = responder(|number, all| vec![response(&spi(&all[number - 1]), 16390, &[number as u8; 8])]).await;
    assert_eq!(bench(port, "").run(TIME).await.unwrap_err().reason, Reason::Overload);
}

#[tokio::test]
async fn only_the_answer_to_the_last_packet_counts() {
    // To the second packet comes the answer to the first one, one to nobody's packet, rubbish, and a request.
    let (port, _) = responder(|number, all| match number {
        1 => Vec::new(),
        _ => vec![
            response(&spi(&all[0]), 14, &[]),
            response(&[7; 8], 14, &[]),
            b"rubbish".to_vec(),
            all[number - 1].clone(),
        ],
    })
    .await;
    let bench = bench(port, "attempts = 2\n");
    let failure = bench.run(Duration::from_millis(800)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Timeout, "{failure}");
    assert!(failure.detail.contains("none that answers"), "{failure}");
    for (why, count) in [("late", 1.0), ("foreign_session", 1.0), ("malformed", 2.0), ("forged", 0.0)] {
        assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", &format!("why={why}")), count, "{why}");
    }
    assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", "stage=handshake"), 2.0);
    assert_eq!(bench.sum("midwatch_vpn_loss_ratio", "stage=handshake"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_up", ""), 0.0);
}

#[tokio::test]
async fn a_full_knock_repeats_itself_and_takes_the_group_that_is_wanted() {
    let (port, requests) = responder(|number, all| match number {
        1 => Vec::new(),
        2 => vec![response(&spi(&all[1]), 17, &14_u16.to_be_bytes())],
        _ => vec![response(&spi(&all[number - 1]), 14, &[])],
    })
    .await;
    let bench = bench(port, "mode = \"full\"\nattempts = 2\n");
    for _ in 0..2 {
        bench.run(Duration::from_millis(1_500)).await.unwrap();
    }
    let requests = requests.await.unwrap();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0], requests[1], "one half-open SA, not two");
    assert_eq!(requests[2].len() - requests[1].len(), 256 - 32, "a public value of the group that is wanted");
    assert_eq!(requests[3].len(), requests[2].len(), "which is remembered");
}

#[tokio::test]
async fn four_zero_octets_are_in_front_where_they_belong() {
    let (port, requests) = responder(|number, all| {
        let of = spi(&all[number - 1][4..]);
        vec![response(&of, 14, &[]), [&[0; 4][..], &response(&of, 14, &[])].concat()]
    })
    .await;
    let bench = bench(port, "nat_traversal = true\n");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", "why=malformed"), 1.0);
    assert!(requests.await.unwrap()[0].starts_with(&[0; 4]));
}

#[tokio::test]
async fn knocks_stay_within_the_budget() {
    let (port, requests) =
        responder_at("127.0.0.2", |number, all| vec![response(&spi(&all[number - 1]), 14, &[])]).await;
    let bench = bench_at("127.0.0.2", port, "mode = \"full\"\n");
    let mut limited = 0;
    for _ in 0..20 {
        if let Err(failure) = bench.run(Duration::from_millis(50)).await {
            assert_eq!(failure.reason, Reason::RateLimited);
            limited += 1;
        }
    }
    let asked = requests.await.unwrap().len();
    assert!(asked == 4 && asked + limited == 20, "{asked} asked, {limited} limited");
}
