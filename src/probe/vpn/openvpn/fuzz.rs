//! The readers of a server's packets, callable without a server.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::BytesMut;

use super::config::Digest;
use super::key::StaticKey;
use super::link::next_packet;
use super::reliable::Reliable;
use super::session::Session;
use super::wrap::Wrap;

/// All ways to wrap packets that differ for their reader, with keys of nothing but zeroes. Both directions are the same then, so that
/// packets with a right signature can be made.
static WRAPS: LazyLock<Vec<Wrap>> = LazyLock::new(|| {
    let key = StaticKey::zero();
    vec![Wrap::None, Wrap::auth(&key, Digest::Sha1, None), Wrap::crypt(&key)]
});

/// Reads the bytes as a packet, and as a connection's beginning. Whether they are a packet, wrapped in any way; our session and the
/// server's are nothing but zeroes.
pub(in crate::probe::vpn) fn read(bytes: &[u8]) -> bool {
    let mut arrived = BytesMut::from(bytes);
    while let Ok(Some(packet)) = next_packet(&mut arrived) {
        assert!(!packet.is_empty() && packet.len() < bytes.len());
    }
    WRAPS.iter().fold(false, |is_packet, wrap| {
        let session = Session::of(wrap, [0; 8]);
        let _ = session.judge(&[[1; 8]], bytes);
        let opened = session.open(bytes);
        let is_opened = opened.is_ok();
        if let Ok((head, body)) = opened {
            let mut reliable = Reliable::new([0; 8], [0; 8], Duration::ZERO);
            let _ = reliable.receive(head, body);
            let _ = reliable.acknowledgement();
        }
        is_packet || is_opened
    })
}
