//! Over TCP: lengths in front, ends, and what is no OpenVPN.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::probe::{Failure, Reason};

/// The verdict on a server that does this with its connection, with the first packet.
async fn against<F>(
    kind: Kind,
    serve: impl FnOnce(TcpStream, Vec<u8>) -> F + Send + 'static,
) -> (Result<(), Failure>, Bench)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = bench(kind, listener.local_addr().unwrap().port(), "transport = \"tcp\"\n");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut packet).await.unwrap();
        serve(stream, packet).await;
    });
    let result = bench.run(Duration::from_secs(1)).await;
    server.await.unwrap();
    (result, bench)
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat()
}

/// Waits until the other side has closed.
async fn end(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn an_answer_may_come_in_pieces_and_after_others() {
    for kind in ALL {
        let (result, bench) = against(kind, move |mut stream, packet| async move {
            stream.set_nodelay(true).unwrap();
            let wrap = kind.server(1);
            let foreign = framed(&reset(&wrap, *b"somebody"));
            let good = framed(&reset(&wrap, session_of(&packet)));
            for piece in [&foreign[..], &good[..1], &good[1..20], &good[20..]] {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            end(stream).await;
        })
        .await;
        result.unwrap();
        assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", "why=foreign_session"), 1.0, "{kind:?}");
        assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=connect"), 1.0);
        assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=handshake"), 1.0);
    }
}

#[tokio::test]
async fn a_server_that_closes_has_a_reason_of_its_own() {
    let (result, bench) = against(Kind::Crypt, |stream, _| async { drop(stream) }).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.reason, Reason::Closed, "{failure}");
    assert!(failure.detail.contains("whose key is another one (or"), "{failure}");
    assert_eq!(bench.sum("midwatch_vpn_stage_failures_total", "stage=handshake reason=closed"), 1.0);
    let (result, _) = against(Kind::None, |stream, _| async { drop(stream) }).await;
    let failure = result.unwrap_err();
    assert!(failure.detail.contains("wants packets that are wrapped"), "{failure}");
}

#[tokio::test]
async fn what_is_no_openvpn_is_told_at_once() {
    let strangers: [&[u8]; 4] =
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", &[0x15, 3, 3, 0, 2, 2, 40], &[0, 0, 0]];
    for stranger in strangers {
        let (result, _) = against(Kind::None, move |mut stream, _| async move {
            stream.write_all(stranger).await.unwrap();
            end(stream).await;
        })
        .await;
        assert_eq!(result.unwrap_err().reason, Reason::Protocol, "{stranger:?}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_visit() {
    let (result, bench) = against(Kind::None, |stream, _| end(stream)).await;
    assert_eq!(result.unwrap_err().reason, Reason::Timeout);
    assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", "stage=handshake"), 1.0);
    // The end of a packet that never comes.
    let (result, _) = against(Kind::None, |mut stream, packet| async move {
        stream.write_all(&framed(&reset(&Wrap::None, session_of(&packet)))[..20]).await.unwrap();
        end(stream).await;
    })
    .await;
    assert_eq!(result.unwrap_err().reason, Reason::Timeout);
}

#[tokio::test]
async fn a_plain_server_is_told_over_tcp_too() {
    let (result, _) = against(Kind::Crypt, |mut stream, packet| async move {
        stream.write_all(&framed(&reset(&Wrap::None, session_of(&packet)))).await.unwrap();
        end(stream).await;
    })
    .await;
    assert_eq!(result.unwrap_err().reason, Reason::WrapMismatch);
}
