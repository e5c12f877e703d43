//! Packets inside the tunnel: IP, echoes, UDP, and what routers say of them. Fragments and extension headers are not read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::probe::{Failure, Reason};

/// Protocol numbers (IANA's registry).
const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The types of echoes (RFC 792; RFC 4443, section 4).
const ECHO: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

/// Flags of TCP (RFC 9293, section 3.1).
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const HOPS: u8 = 64;
/// Of a packet, what an error quotes at least (RFC 792).
const QUOTED: usize = 8;

/// A packet as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inner<'p> {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: u8,
    pub(super) payload: &'p [u8],
}

impl<'p> Inner<'p> {
    /// Reads a packet (RFC 791, section 3.1; RFC 8200, section 3); `None` if it is none, is a fragment, or its checksum is wrong.
    pub(super) fn read(packet: &'p [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::read_v4(packet),
            6 => Self::read_v6(packet, true),
            _ => None,
        }
    }

    fn read_v4(packet: &'p [u8]) -> Option<Self> {
        let (_, length, header) = Self::v4_header(packet)?;
        let is_fragment = u16_at(packet, 6)? & 0x3fff != 0;
        if is_fragment || !is_summed(packet.get(..header)?, 0) {
            return None;
        }
        let inner = Self::v4(packet, header)?;
        Some(Self { payload: packet.get(header..length)?, ..inner })
    }

    /// The version, the whole length and the header's.
    fn v4_header(packet: &[u8]) -> Option<(u8, usize, usize)> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        (header >= V4_HEADER).then_some((4, usize::from(u16_at(packet, 2)?), header))
    }

    /// The same of a packet that may be cut off.
    fn v4(packet: &'p [u8], header: usize) -> Option<Self> {
        let ip = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        Some(Self { from: ip(12)?, to: ip(16)?, protocol: *packet.get(9)?, payload: packet.get(header..)? })
    }

    fn read_v6(packet: &'p [u8], is_whole: bool) -> Option<Self> {
        let ip = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
        let length = usize::from(u16_at(packet, 4)?);
        let payload = if is_whole { packet.get(V6_HEADER..V6_HEADER + length)? } else { packet.get(V6_HEADER..)? };
        Some(Self { from: ip(8)?, to: ip(24)?, protocol: *packet.get(6)?, payload })
    }

    /// What an error quotes: the beginning of a packet.
    fn read_quote(packet: &'p [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::v4(packet, Self::v4_header(packet)?.2),
            6 => Self::read_v6(packet, false),
            _ => None,
        }
    }

    /// Whether the checksum of what it carries is right.
    fn is_right(&self) -> bool {
        let pseudo = match self.protocol {
            ICMP => 0,
            _ => pseudo(self.from, self.to, self.protocol, self.payload.len()),
        };
        is_summed(self.payload, pseudo)
    }

    /// Whether this answers an echo of ours: the same number, and what was said comes back.
    pub(super) fn is_echo_of(&self, sent: &Inner<'_>) -> bool {
        let types = if self.from.is_ipv4() { ECHO } else { ECHO_V6 };
        let is_icmp = self.protocol == icmp(self.from);
        is_icmp
            && (self.from, self.to) == (sent.to, sent.from)
            && self.payload.get(..2) == Some(&[types.1, 0])
            && self.payload.get(4..) == sent.payload.get(4..)
            && self.is_right()
    }

    /// The number of the echo that it answers, whoever sent that.
    pub(super) fn echo_answered(&self) -> Option<u32> {
        let types = if self.from.is_ipv4() { ECHO } else { ECHO_V6 };
        let is_answer = self.protocol == icmp(self.from) && *self.payload.first()? == types.1 && self.is_right();
        is_answer.then(|| u32_at(self.payload, 4))?
    }

    /// The port of the connection on our side to which a segment belongs that nobody sends of his own accord.
    pub(super) fn connection_answered(&self) -> Option<u16> {
        let is_answer = self.protocol == TCP && self.payload.get(13)? & ACK != 0 && self.is_right();
        is_answer.then(|| u16_at(self.payload, 2))?
    }

    /// What it says over UDP, if it comes from there and is for that port.
    pub(super) fn datagram(&self, from: SocketAddr, to: SocketAddr) -> Option<&'p [u8]> {
        let is_ours = self.protocol == UDP && (self.from, self.to) == (from.ip(), to.ip());
        if !is_ours || u16_at(self.payload, 0)? != from.port() || u16_at(self.payload, 2)? != to.port() {
            return None;
        }
        // Over IPv4, a checksum of zero is none (RFC 768).
        let has_none = u16_at(self.payload, 6)? == 0 && self.from.is_ipv4();
        let length = usize::from(u16_at(self.payload, 4)?);
        (length == self.payload.len() && (has_none || self.is_right())).then(|| self.payload.get(8..))?
    }

    /// Whether it belongs to that connection.
    pub(super) fn is_of_connection(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.protocol == TCP
            && (self.from, self.to) == (from.ip(), to.ip())
            && u16_at(self.payload, 0) == Some(from.port())
            && u16_at(self.payload, 2) == Some(to.port())
    }

    /// What a router or the host says of a packet of ours, if that is what this is.
    pub(super) fn error_about(&self, sent: &Inner<'_>) -> Option<Failure> {
        if self.protocol != icmp(self.from) || self.to != sent.from || !self.is_right() {
            return None;
        }
        let (kind, code) = (*self.payload.first()?, *self.payload.get(1)?);
        let (reason, words) = if self.from.is_ipv4() { meaning(kind, code) } else { meaning_v6(kind, code) }?;
        let quote = Inner::read_quote(self.payload.get(8..)?)?;
        // A port is enough of UDP and TCP; of an echo its number is, which follows.
        let compared = if sent.protocol == icmp(sent.from) { QUOTED } else { 4 };
        let is_ours = (quote.from, quote.to, quote.protocol) == (sent.from, sent.to, sent.protocol)
            && quote.payload.get(..compared)? == sent.payload.get(..compared)?;
        is_ours.then(|| Failure::new(reason, format!("{} answered: {words}", self.from)))
    }
}

/// RFC 792 and RFC 1812, section 5.2.7.1.
fn meaning(kind: u8, code: u8) -> Option<(Reason, &'static str)> {
    Some(match (kind, code) {
        (3, 0 | 6 | 11) => (Reason::Unreachable, "network unreachable"),
        (3, 1 | 5 | 7 | 8 | 12) => (Reason::Unreachable, "host unreachable"),
        (3, 2) => (Reason::Refused, "protocol unreachable"),
        (3, 3) => (Reason::Refused, "port unreachable"),
        (3, 9 | 10 | 13) => (Reason::Unreachable, "administratively prohibited"),
        (11, 0) => (Reason::Unreachable, "time to live exceeded"),
        _ => return None,
    })
}

/// RFC 4443, section 3.
fn meaning_v6(kind: u8, code: u8) -> Option<(Reason, &'static str)> {
    Some(match (kind, code) {
        (1, 0 | 2) => (Reason::Unreachable, "no route"),
        (1, 3) => (Reason::Unreachable, "address unreachable"),
        (1, 4) => (Reason::Refused, "port unreachable"),
        (1, 1 | 5 | 6) => (Reason::Unreachable, "administratively prohibited"),
        (3, 0) => (Reason::Unreachable, "hop limit exceeded"),
        (4, 1) => (Reason::Refused, "protocol unreachable"),
        _ => return None,
    })
}

/// An echo with a number of 32 bits (which the protocol has as two of 16) and a text that comes back.
pub(super) fn echo(from: IpAddr, to: IpAddr, number: u32, text: &[u8]) -> Option<Vec<u8>> {
    let kind = if to.is_ipv4() { ECHO.0 } else { ECHO_V6.0 };
    let mut payload = vec![kind, 0, 0, 0];
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend_from_slice(text);
    wrapped(from, to, icmp(to), (&mut payload, 2))
}

/// A datagram (RFC 768).
pub(super) fn datagram(from: SocketAddr, to: SocketAddr, text: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(text.len() + 8).ok()?;
    let mut payload = Vec::with_capacity(text.len() + 8);
    for number in [from.port(), to.port(), length, 0] {
        payload.extend_from_slice(&number.to_be_bytes());
    }
    payload.extend_from_slice(text);
    wrapped(from.ip(), to.ip(), UDP, (&mut payload, 6))
}

/// What a TCP segment of ours does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// It asks for a connection.
    Syn,
    /// It carries data.
    Data,
    /// Neither.
    Other,
}

/// What a TCP segment does (RFC 9293, section 3.1).
pub(super) fn segment(packet: &[u8]) -> Segment {
    let Some(inner) = Inner::read(packet).filter(|inner| inner.protocol == TCP) else { return Segment::Other };
    let header = inner.payload.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    match inner.payload.get(13).map(|flags| flags & SYN != 0) {
        Some(true) => Segment::Syn,
        Some(false) if inner.payload.len() > header => Segment::Data,
        _ => Segment::Other,
    }
}

/// A packet around a payload, whose checksum is at that place and is still zero. `None` for two families, or one that is too long.
pub(super) fn wrapped(from: IpAddr, to: IpAddr, protocol: u8, (payload, at): (&mut [u8], usize)) -> Option<Vec<u8>> {
    let pseudo = if protocol == ICMP { 0 } else { pseudo(from, to, protocol, payload.len()) };
    let sum = match !folded(pseudo + sum(payload)) {
        // Zero would be no checksum (RFC 768).
        0 if protocol == UDP => 0xffff,
        sum => sum,
    };
    payload.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => v4_header(from, to, protocol, payload.len())?,
        (IpAddr::V6(from), IpAddr::V6(to)) => v6_header(from, to, protocol, payload.len())?,
        _ => return None,
    };
    packet.extend_from_slice(payload);
    Some(packet)
}

fn v4_header(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: usize) -> Option<Vec<u8>> {
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&u16::try_from(V4_HEADER + payload).ok()?.to_be_bytes());
    // No identification, as nothing may be fragmented (RFC 6864), and the checksum's place.
    header.extend_from_slice(&[0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
    header.extend_from_slice(&from.octets());
    header.extend_from_slice(&to.octets());
    let sum = !folded(sum(&header));
    header.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    Some(header)
}

fn v6_header(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload: usize) -> Option<Vec<u8>> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend_from_slice(&u16::try_from(payload).ok()?.to_be_bytes());
    header.extend_from_slice(&[protocol, HOPS]);
    header.extend_from_slice(&from.octets());
    header.extend_from_slice(&to.octets());
    Some(header)
}

/// The family's ICMP.
fn icmp(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { ICMP } else { ICMPV6 }
}

/// What a checksum covers besides the payload (RFC 768; RFC 8200, section 8.1).
fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> u64 {
    let ip = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    };
    ip(from) + ip(to) + u64::from(protocol) + length as u64
}

/// The sum of all words of 16 bits (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    let word = |two: &[u8]| match two {
        [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
        [high] => u64::from(*high) << 8,
        _ => 0,
    };
    bytes.chunks(2).map(word).sum()
}

/// The sum with its carries added in.
fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Whether bytes that include their checksum have the right one.
fn is_summed(bytes: &[u8], pseudo: u64) -> bool {
    folded(pseudo + sum(bytes)) == 0xffff
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
