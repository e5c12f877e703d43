//! All readers of a peer's bytes, behind one door.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use super::config::Keys;
use super::packet::{self, Inner};
use super::session::{Data, Handshake, Session, Turn};
use super::stream::{Stage, Stream};
use crate::probe::vpn::metrics::Ignored;

/// Both ends, so that seeds know them.
pub(super) const OURS: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 88, 0, 2), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
pub(super) const THEIRS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 88, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
pub(super) const PORTS: (u16, u16) = (50_000, 53);
pub(super) const NUMBER: u32 = 0x0102_0304;
pub(super) const TEXT: &[u8] = b"sixteen bytes.\r\n";

/// Reads what the first byte says: a packet of the server, one through its tunnel, or those of a connection. Says whether any
/// was of use.
pub fn read(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, outer)) => of_server(outer),
        Some((1, inner)) => through_tunnel(inner),
        Some((2, packets)) => of_connection(packets),
        _ => false,
    }
}

/// A packet that arrives while we wait for an answer, or are in the tunnel.
fn of_server(packet: &[u8]) -> bool {
    static TURN: OnceLock<Option<Turn>> = OnceLock::new();
    let waiting = || {
        let turn = Session::of(&Keys::of([1; 32], [2; 32]), || None).ok()?.try_turn()?;
        turn.initiation().ok()?;
        Some(turn)
    };
    let Some(turn) = TURN.get_or_init(waiting) else { return false };
    let is_known = !matches!(turn.handshake(packet), Handshake::Not(Ignored::Malformed));
    assert!(!matches!(turn.handshake(packet), Handshake::Accepted(_)), "nobody has these keys");
    assert!(!matches!(turn.open(packet), Data::Inner(_)), "no tunnel is open");
    is_known
}

/// A packet while we wait for an echo, for a name server and for a connection.
fn through_tunnel(bytes: &[u8]) -> bool {
    let Some(inner) = Inner::read(bytes) else { return false };
    let ends: [(IpAddr, IpAddr); 2] = [(OURS.0.into(), THEIRS.0.into()), (OURS.1.into(), THEIRS.1.into())];
    ends.into_iter().any(|(ours, theirs)| {
        let (from, to) = (SocketAddr::new(ours, PORTS.0), SocketAddr::new(theirs, PORTS.1));
        let sent = [packet::echo(ours, theirs, NUMBER, TEXT), packet::datagram(from, to, TEXT)];
        let about = |packet: &Vec<u8>| {
            Inner::read(packet).is_some_and(|sent| inner.is_echo_of(&sent) || inner.error_about(&sent).is_some())
        };
        sent.iter().flatten().any(about) || inner.datagram(to, from).is_some()
    })
}

/// Packets of a connection, each behind its length.
fn of_connection(mut bytes: &[u8]) -> bool {
    let (ours, to) = (SocketAddr::new(OURS.0.into(), PORTS.0), SocketAddr::new(THEIRS.0.into(), PORTS.1));
    let Ok(mut stream) = Stream::connect(ours, to, (1, TEXT.len())) else { return false };
    let (mut heard, mut is_open, mut since) = (Vec::new(), false, Duration::ZERO);
    stream.go_on(since, None);
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (packet, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        bytes = rest;
        since += Duration::from_millis(300);
        if Inner::read(packet).is_some_and(|inner| stream.takes(&inner)) {
            stream.go_on(since, Some(packet.to_vec()));
        }
        if stream.stage() == Stage::Open && !is_open {
            is_open = true;
            stream.say(TEXT);
        }
        stream.hear(&mut heard);
        while stream.outgoing().is_some() {}
    }
    is_open
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_packet_makes_a_reader_panic() {
        let (seeds, of_use) = crate::corpus::each("wireguard", crate::probe::vpn::fuzz::wireguard);
        assert!(seeds >= 14 && of_use > seeds, "{seeds} seeds, {of_use} of use");
    }

    #[test]
    fn every_seed_is_of_use_but_two() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wireguard");
        let mut useless: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !super::read(&std::fs::read(path).unwrap()))
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        useless.sort_unstable();
        // An initiation of the server's own is not answered; a connection that is reset never opens.
        assert_eq!(useless, ["initiation", "reset"]);
    }
}
