//! TLS over the control channel, with a server that loses packets.

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use super::super::reliable::Reliable;
use super::*;
use crate::probe::Reason;
use crate::probe::vpn::testing::Identities;

/// The bytes of the wrapped key in `v2_file`.
const WRAPPED: usize = 290;
/// The bytes of TLS in a packet of the fake server: few, so that a flight is several packets.
const PIECE: usize = 150;

/// One side of a session, with real TLS behind it.
struct FakeServer {
    socket: UdpSocket,
    kind: Kind,
    wrap: Wrap,
    reliable: Option<Reliable>,
    /// Whether a packet has acknowledged the reset: until then real servers, which have kept nothing, ignore all others.
    is_known: bool,
    tls: DuplexStream,
    replay: u32,
    /// Counts packets both ways; every so many is lost.
    count: usize,
    loses_every: usize,
}

impl FakeServer {
    /// Begins to serve one session at the port that it gives.
    async fn start(kind: Kind, acceptor: TlsAcceptor, loses_every: usize) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (near, far) = duplex(1 << 16);
        tokio::spawn(async move {
            let Ok(mut session) = acceptor.accept(near).await else { return };
            let _ = session.read(&mut [0; 10]).await;
        });
        let wrap = kind.server(1);
        // The first packet after the resets is among those that are lost.
        let count = if loses_every == usize::MAX { 0 } else { loses_every - 1 };
        let server =
            Self { socket, kind, wrap, reliable: None, is_known: false, tls: far, replay: 1, count, loses_every };
        tokio::spawn(server.serve());
        port
    }

    async fn serve(mut self) {
        let mut buffer = vec![0; 4_096];
        loop {
            let mut piece = vec![0; PIECE];
            let (has_room, due) = match &self.reliable {
                Some(reliable) => (reliable.has_room(), reliable.due()),
                None => (false, None),
            };
            tokio::select! {
                Ok((length, from)) = self.socket.recv_from(&mut buffer) => {
                    self.socket.connect(from).await.unwrap();
                    self.receive(&buffer[..length]).await;
                }
                length = self.tls.read(&mut piece), if has_room => {
                    let Ok(length @ 1..) = length else { return };
                    piece.truncate(length);
                    let body = self.reliable.as_mut().unwrap().push(piece, Instant::now());
                    self.send(Opcode::Control, &body).await;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    for body in self.reliable.as_mut().unwrap().overdue(Instant::now()) {
                        self.send(Opcode::Control, &body).await;
                    }
                }
            }
        }
    }

    fn is_lost(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(self.loses_every)
    }

    async fn send(&mut self, opcode: Opcode, body: &Body) {
        self.replay += 1;
        if self.is_lost() {
            return;
        }
        let packet = self.wrap.seal(Head { opcode, session: THEIRS }, (self.replay, 0), body);
        let _ = self.socket.send(&packet).await;
    }

    async fn receive(&mut self, packet: &[u8]) {
        if self.reliable.is_some() && self.is_lost() {
            return;
        }
        let has_key = self.kind == Kind::CryptV2 && matches!(packet[0] >> 3, 10 | 11);
        let packet = &packet[..packet.len() - if has_key { WRAPPED } else { 0 }];
        let (head, body) = self.wrap.open(packet).ok().unwrap();
        let Some(reliable) = &mut self.reliable else {
            assert!(matches!(head.opcode, Opcode::ClientReset | Opcode::ClientResetV3));
            self.reliable = Some(Reliable::new(THEIRS, head.session, Duration::from_millis(1)));
            self.socket.send(&reset(&self.wrap, head.session)).await.unwrap();
            return;
        };
        if self.kind == Kind::CryptV2 && head.opcode != Opcode::Ack {
            assert_eq!(head.opcode == Opcode::ControlWkc, body.id == Some(1), "the key comes with the first piece");
        }
        self.is_known |= body.acks.contains(&0);
        if !self.is_known {
            return;
        }
        let opcode = if head.opcode == Opcode::ControlWkc { Opcode::Control } else { head.opcode };
        let bytes = reliable.receive(Head { opcode, ..head }, body).unwrap();
        if let Some(body) = reliable.acknowledgement() {
            self.send(Opcode::Ack, &body).await;
        }
        let _ = self.tls.write_all(&bytes).await;
    }
}

#[tokio::test]
async fn the_certificate_is_shown_in_every_mode() {
    let identities = Identities::new(2099);
    for kind in ALL {
        let port = FakeServer::start(kind, identities.server(&TLS13, false), usize::MAX).await;
        let bench = bench_within(identities.folder.path(), kind, port, "tls = { ca_file = \"ca.pem\" }\n");
        bench.run(TIME).await.unwrap();
        assert_eq!(bench.sum("midwatch_vpn_certificate_expiry_timestamp_seconds", ""), 4_098_643_200.0, "{kind:?}");
        assert_eq!(bench.sum("midwatch_vpn_tls_info", "version=TLSv1.3"), 1.0);
        assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=tls"), 1.0);
    }
}

#[tokio::test]
async fn tls_survives_loss_with_a_long_chain_of_ours() {
    let identities = Identities::new(2099);
    let keys = "tls = { ca_file = \"ca.pem\", cert_file = \"client.pem\", key_file = \"client.key\" }\n";
    for (kind, loses_every) in [(Kind::CryptV2, 4), (Kind::Auth(Digest::Sha256), 5)] {
        let port = FakeServer::start(kind, identities.server(&TLS12, true), loses_every).await;
        let bench = bench_within(identities.folder.path(), kind, port, keys);
        bench.run(Duration::from_secs(20)).await.unwrap();
        assert_eq!(bench.sum("midwatch_vpn_tls_info", "version=TLSv1.2"), 1.0);
        assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", ""), 0.0);
    }
}

#[tokio::test]
async fn a_refused_certificate_is_shown_with_its_version() {
    let identities = Identities::new(2021);
    for (version, label) in [(&TLS12, "version=TLSv1.2"), (&TLS13, "version=TLSv1.3")] {
        let port = FakeServer::start(Kind::Crypt, identities.server(version, false), usize::MAX).await;
        let bench = bench_within(identities.folder.path(), Kind::Crypt, port, "tls = { ca_file = \"ca.pem\" }\n");
        let failure = bench.run(TIME).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Certificate, "{failure}");
        assert_eq!(bench.sum("midwatch_vpn_certificate_expiry_timestamp_seconds", ""), 1_637_193_600.0);
        assert_eq!(bench.sum("midwatch_vpn_tls_info", label), 1.0);
        assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=handshake"), 1.0, "the server is there");
        assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=tls"), 0.0);
    }
}

/// As OpenVPN's own clients do, the name is looked at only where there is one to look for.
#[tokio::test]
async fn the_name_matters_only_if_it_is_configured() {
    let identities = Identities::new(2099);
    for (name, is_good) in [("vpn.test", true), ("other.test", false)] {
        let port = FakeServer::start(Kind::None, identities.server(&TLS13, false), usize::MAX).await;
        let keys = format!("tls = {{ ca_file = \"ca.pem\", server_name = \"{name}\" }}\n");
        let bench = bench_within(identities.folder.path(), Kind::None, port, &keys);
        let result = bench.run(TIME).await;
        assert_eq!(result.err().map(|failure| failure.reason), (!is_good).then_some(Reason::Certificate), "{name}");
    }
}

#[tokio::test]
async fn a_server_that_says_no_more_is_a_failure_of_tls() {
    let identities = Identities::new(2099);
    // All after the first packet is lost.
    let port = FakeServer::start(Kind::Crypt, identities.server(&TLS13, false), 1).await;
    let bench = bench_within(identities.folder.path(), Kind::Crypt, port, "tls = { ca_file = \"ca.pem\" }\n");
    let failure = bench.run(Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Timeout);
    assert_eq!(bench.sum("midwatch_vpn_stage_failures_total", "stage=tls reason=timeout"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=handshake"), 1.0);
}
