//! A fake WireGuard server.

use std::net::SocketAddr;
use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use tokio::net::UdpSocket;

use super::Pair;

/// A server with one peer.
pub(super) struct Fake {
    pub(super) socket: UdpSocket,
    pub(super) address: SocketAddr,
    tunn: Tunn,
}

impl Fake {
    pub(super) async fn new(pair: &Pair) -> Self {
        Self::with(pair, None, None).await
    }

    pub(super) async fn with(pair: &Pair, preshared: Option<[u8; 32]>, limiter: Option<RateLimiter>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let limiter = limiter.unwrap_or_else(|| Self::limiter(pair, u64::MAX));
        let own = StaticSecret::from(pair.server);
        let tunn = Tunn::new(own, pair.own_public(), preshared, None, 7, Some(Arc::new(limiter)));
        Self { socket, address, tunn }
    }

    /// A limiter that takes so many handshakes without cookies.
    pub(super) fn limiter(pair: &Pair, most: u64) -> RateLimiter {
        RateLimiter::new(&PublicKey::from(&StaticSecret::from(pair.server)), most)
    }

    pub(super) async fn next(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_535];
        let (length, from) = self.socket.recv_from(&mut buffer).await.unwrap();
        buffer.truncate(length);
        (buffer, from)
    }

    pub(super) async fn send(&self, packet: &[u8], to: SocketAddr) {
        self.socket.send_to(packet, to).await.unwrap();
    }

    /// What a packet is answered with, and what came through the tunnel in it.
    pub(super) fn hear(&mut self, packet: &[u8], from: SocketAddr) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let mut buffer = vec![0; 65_535];
        match self.tunn.decapsulate(Some(from.ip()), packet, &mut buffer) {
            TunnResult::WriteToNetwork(answer) => (Some(answer.to_vec()), None),
            TunnResult::WriteToTunnelV4(inner, _) | TunnResult::WriteToTunnelV6(inner, _) => {
                (None, Some(inner.to_vec()))
            }
            TunnResult::Done | TunnResult::Err(_) => (None, None),
        }
    }

    /// What answers the next packet, which is to be an initiation.
    pub(super) async fn answer(&mut self) -> (Vec<u8>, SocketAddr) {
        let (packet, from) = self.next().await;
        let answer = self.hear(&packet, from).0.expect("an initiation of the peer's");
        (answer, from)
    }

    pub(super) fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; 65_535];
        match self.tunn.encapsulate(inner, &mut buffer) {
            TunnResult::WriteToNetwork(packet) => packet.to_vec(),
            _ => panic!("no session"),
        }
    }

    /// Serves for ever; `inside` answers what comes through the tunnel.
    pub(super) async fn serve(mut self, mut inside: impl FnMut(&[u8]) -> Vec<Vec<u8>>) {
        loop {
            let (packet, from) = self.next().await;
            let (answer, inner) = self.hear(&packet, from);
            if let Some(answer) = answer {
                self.send(&answer, from).await;
            }
            for reply in inner.map(|inner| inside(&inner)).unwrap_or_default() {
                let sealed = self.seal(&reply);
                self.send(&sealed, from).await;
            }
        }
    }

    /// The same beside the test; nothing inside answers.
    pub(super) fn start(self) -> SocketAddr {
        self.start_with(|_| Vec::new())
    }

    /// The same beside the test.
    pub(super) fn start_with(self, inside: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let address = self.address;
        tokio::spawn(self.serve(inside));
        address
    }
}
