//! IKE_SA_INIT: the request as it is written and the response as it is read (RFC 7296, sections 3.1 to 3.10).

use std::net::{IpAddr, SocketAddr};

use sha1::{Digest, Sha1};

/// The longest header and payload header.
const HEADER: usize = 28;
const PAYLOAD_HEADER: usize = 4;
/// More payloads than any responder sends.
const MAX_PAYLOADS: usize = 64;

const SA: u8 = 33;
const KE: u8 = 34;
const NONCE: u8 = 40;
const NOTIFY: u8 = 41;
const IKE_SA_INIT: u8 = 34;
const INFORMATIONAL: u8 = 37;
/// The major version of IKEv1, and the part of the octet that holds it.
const VERSION_1: u8 = 0x10;
const MAJOR: u8 = 0xf0;
const VERSION: u8 = 0x20;
const INITIATOR: u8 = 0x08;
const RESPONSE: u8 = 0x20;

const INVALID_MAJOR_VERSION: u16 = 5;
const NO_PROPOSAL_CHOSEN: u16 = 14;
const INVALID_KE_PAYLOAD: u16 = 17;
const NAT_DETECTION_SOURCE: u16 = 16388;
const NAT_DETECTION_DESTINATION: u16 = 16389;
const COOKIE: u16 = 16390;
/// Notifications below are errors, the others say something about the status.
const FIRST_STATUS: u16 = 16384;

const ENCRYPTION: u8 = 1;
const PRF: u8 = 2;
const INTEGRITY: u8 = 3;
const DIFFIE_HELLMAN: u8 = 4;
const AES_CBC: u16 = 12;
const AES_GCM_16: u16 = 20;
const PRF_SHA1: u16 = 2;
const PRF_SHA2_256: u16 = 5;
const PRF_SHA2_384: u16 = 6;
const HMAC_SHA1_96: u16 = 2;
const HMAC_SHA2_256_128: u16 = 12;
/// From the numbers that are for private use (RFC 7296, section 3.3.2): no server has such a cipher.
const NOBODYS_CIPHER: u16 = 65_001;

/// A group of which we have public values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Modp2048 = 14,
    Modp3072 = 15,
    Modp4096 = 16,
    Ecp256 = 19,
    Ecp384 = 20,
    Curve25519 = 31,
}

impl Group {
    const ALL: [Self; 6] =
        [Self::Curve25519, Self::Ecp256, Self::Ecp384, Self::Modp2048, Self::Modp3072, Self::Modp4096];

    pub(super) fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|group| *group as u16 == number)
    }

    /// The length of a public value.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Modp2048 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
            Self::Curve25519 => 32,
        }
    }
}

/// What a responder wants to see again: 1 to 64 octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie(Vec<u8>);

/// A request.
#[derive(Debug)]
pub(super) struct Initiation {
    /// Whether it proposes what servers accept.
    pub(super) is_acceptable: bool,
    pub(super) spi: [u8; 8],
    pub(super) nonce: [u8; 32],
    pub(super) group: Group,
    /// Whether that is the one that the responder wanted instead of another.
    pub(super) has_other_group: bool,
    pub(super) public: Vec<u8>,
    pub(super) cookie: Option<Cookie>,
}

impl Initiation {
    /// The packet from one address to the other.
    pub(super) fn packet(&self, (from, to): (SocketAddr, SocketAddr)) -> Vec<u8> {
        let mut payloads = Vec::new();
        if let Some(Cookie(cookie)) = &self.cookie {
            payloads.push((NOTIFY, notify(COOKIE, cookie)));
        }
        payloads.push((SA, self.proposals()));
        let group = (self.group as u16).to_be_bytes();
        payloads.push((KE, [&group[..], &[0; 2], &self.public].concat()));
        payloads.push((NONCE, self.nonce.to_vec()));
        payloads.push((NOTIFY, notify(NAT_DETECTION_SOURCE, &self.detection(from))));
        payloads.push((NOTIFY, notify(NAT_DETECTION_DESTINATION, &self.detection(to))));
        let first = payloads.first().map_or(0, |(kind, _)| *kind);
        let mut body = Vec::new();
        for (place, (_, content)) in payloads.iter().enumerate() {
            body.extend([payloads.get(place + 1).map_or(0, |(next, _)| *next), 0]);
            body.extend(length(PAYLOAD_HEADER + content.len()));
            body.extend(content);
        }
        let whole = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let header = [&self.spi[..], &[0; 8], &[first, VERSION, IKE_SA_INIT, INITIATOR], &[0; 4], &whole.to_be_bytes()];
        [&header.concat()[..], &body].concat()
    }

    /// The proposals. Those with authenticated encryption are apart from those without (RFC 5282, section 8).
    fn proposals(&self) -> Vec<u8> {
        let groups: Vec<_> = Group::ALL.iter().map(|group| (DIFFIE_HELLMAN, *group as u16, None)).collect();
        let authenticated = [
            (ENCRYPTION, AES_GCM_16, Some(256)),
            (ENCRYPTION, AES_GCM_16, Some(128)),
            (PRF, PRF_SHA2_256, None),
            (PRF, PRF_SHA2_384, None),
        ];
        let others = [
            (ENCRYPTION, AES_CBC, Some(256)),
            (ENCRYPTION, AES_CBC, Some(128)),
            (PRF, PRF_SHA2_256, None),
            (PRF, PRF_SHA1, None),
            (INTEGRITY, HMAC_SHA2_256_128, None),
            (INTEGRITY, HMAC_SHA1_96, None),
        ];
        let nobodys =
            [(ENCRYPTION, NOBODYS_CIPHER, None), (PRF, PRF_SHA2_256, None), (INTEGRITY, HMAC_SHA2_256_128, None)];
        if self.is_acceptable {
            [
                proposal(1, &[&authenticated[..], &groups].concat(), false),
                proposal(2, &[&others[..], &groups].concat(), true),
            ]
            .concat()
        } else {
            proposal(1, &[&nobodys[..], &groups].concat(), true)
        }
    }

    /// RFC 7296, section 2.23: over the SPIs, the address and the port.
    fn detection(&self, address: SocketAddr) -> Vec<u8> {
        let mut hash = Sha1::new();
        hash.update(self.spi);
        hash.update([0; 8]);
        match address.ip() {
            IpAddr::V4(ip) => hash.update(ip.octets()),
            IpAddr::V6(ip) => hash.update(ip.octets()),
        }
        hash.update(address.port().to_be_bytes());
        hash.finalize().to_vec()
    }
}

/// A transform: its type, its number, the length of its key in bits.
type Transform = (u8, u16, Option<u16>);

fn proposal(number: u8, transforms: &[Transform], is_last: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for (place, (kind, id, bits)) in transforms.iter().enumerate() {
        let is_last = place + 1 == transforms.len();
        body.extend([if is_last { 0 } else { 3 }, 0]);
        body.extend(length(if bits.is_some() { 12 } else { 8 }));
        body.extend([*kind, 0]);
        body.extend(id.to_be_bytes());
        if let Some(bits) = bits {
            // The attribute "key length", in the short form.
            body.extend([0x80, 0x0e]);
            body.extend(bits.to_be_bytes());
        }
    }
    let count = u8::try_from(transforms.len()).unwrap_or(u8::MAX);
    let header = [if is_last { 0 } else { 2 }, 0];
    [&header[..], &length(8 + body.len()), &[number, 1, 0, count], &body].concat()
}

fn notify(kind: u16, data: &[u8]) -> Vec<u8> {
    [&[0; 2][..], &kind.to_be_bytes(), data].concat()
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An SA, a public value and a nonce.
    Accepted,
    /// Come again with this.
    Cookie(Cookie),
    /// Come again with a public value of this group.
    InvalidKe(u16),
    /// None of the proposals.
    NoProposal,
    /// Another version.
    InvalidVersion,
    /// Another error.
    Other,
}

/// Reads a response: the initiator's SPI that it answers, and what it says. `None` if it is no response to IKE_SA_INIT. That a
/// version is not spoken, responders say in an informational exchange, or in the version that they speak (strongSwan's receiver.c).
pub fn read(packet: &[u8]) -> Option<([u8; 8], Answer)> {
    let header = packet.get(..HEADER)?;
    let spi: [u8; 8] = header.get(..8)?.try_into().ok()?;
    let claimed = u32::from_be_bytes(header.get(24..28)?.try_into().ok()?);
    let is_whole = usize::try_from(claimed).ok()? == packet.len();
    let [first, version, exchange, flags] = header.get(16..20)?.try_into().ok()?;
    let is_response = flags & RESPONSE != 0 && flags & INITIATOR == 0;
    let is_first = header.get(20..24)? == [0; 4];
    if is_whole && version & MAJOR == VERSION_1 {
        return Some((spi, Answer::InvalidVersion));
    }
    let is_known = matches!(exchange, IKE_SA_INIT | INFORMATIONAL);
    if !is_whole || version & MAJOR != VERSION || !is_known || !is_response || !is_first {
        return None;
    }
    let mut seen = Seen::default();
    let (mut kind, mut rest) = (first, packet.get(HEADER..)?);
    for _ in 0..MAX_PAYLOADS {
        if kind == 0 {
            let answer = rest.is_empty().then(|| seen.answer()).flatten();
            let fits = |answer: &Answer| exchange == IKE_SA_INIT || *answer == Answer::InvalidVersion;
            return answer.filter(fits).map(|answer| (spi, answer));
        }
        let length = usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?));
        let content = rest.get(PAYLOAD_HEADER..length)?;
        seen.payload(kind, content)?;
        kind = *rest.first()?;
        rest = rest.get(length..)?;
    }
    None
}

/// What the payloads of a response amount to.
#[derive(Default)]
struct Seen {
    has_sa: bool,
    has_ke: bool,
    has_nonce: bool,
    notified: Option<Answer>,
}

impl Seen {
    /// `None` if the payload is malformed.
    fn payload(&mut self, kind: u8, content: &[u8]) -> Option<()> {
        match kind {
            SA => self.has_sa = true,
            KE => self.has_ke = true,
            NONCE => self.has_nonce = true,
            NOTIFY => {
                let spi = usize::from(*content.get(1)?);
                let kind = u16::from_be_bytes(content.get(2..4)?.try_into().ok()?);
                let data = content.get(4 + spi..)?;
                let answer = match kind {
                    COOKIE => (1..=64).contains(&data.len()).then(|| Answer::Cookie(Cookie(data.to_vec())))?,
                    INVALID_KE_PAYLOAD => Answer::InvalidKe(u16::from_be_bytes(data.try_into().ok()?)),
                    NO_PROPOSAL_CHOSEN => Answer::NoProposal,
                    INVALID_MAJOR_VERSION => Answer::InvalidVersion,
                    FIRST_STATUS.. => return Some(()),
                    _ => Answer::Other,
                };
                self.notified.get_or_insert(answer);
            }
            _ => {}
        }
        Some(())
    }

    fn answer(self) -> Option<Answer> {
        let is_accepted = self.has_sa && self.has_ke && self.has_nonce;
        self.notified.or(is_accepted.then_some(Answer::Accepted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    /// A response with these payloads.
    fn response(payloads: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (place, (_, content)) in payloads.iter().enumerate() {
            body.extend([payloads.get(place + 1).map_or(0, |(next, _)| *next), 0]);
            body.extend(length(4 + content.len()));
            body.extend(content);
        }
        let first = payloads.first().map_or(0, |(kind, _)| *kind);
        let mut packet = [&OURS[..], &[9; 8], &[first, 0x20, 34, 0x20], &[0; 4]].concat();
        packet.extend(u32::try_from(28 + body.len()).unwrap().to_be_bytes());
        packet.extend(body);
        packet
    }

    #[test]
    fn responses_are_told_apart() {
        let said = |payloads: &[(u8, Vec<u8>)]| {
            read(&response(payloads)).map(|(spi, answer)| {
                assert_eq!(spi, OURS);
                answer
            })
        };
        assert_eq!(said(&[(41, notify(14, &[]))]), Some(Answer::NoProposal));
        assert_eq!(said(&[(41, notify(17, &[0, 19]))]), Some(Answer::InvalidKe(19)));
        assert_eq!(said(&[(41, notify(16390, b"cake"))]), Some(Answer::Cookie(Cookie(b"cake".to_vec()))));
        assert_eq!(said(&[(41, notify(5, &[]))]), Some(Answer::InvalidVersion));
        assert_eq!(said(&[(41, notify(43, &[]))]), Some(Answer::Other));
        let accepted = [(33, vec![0; 40]), (34, vec![0; 36]), (40, vec![0; 32]), (41, notify(16388, &[0; 20]))];
        assert_eq!(said(&accepted), Some(Answer::Accepted));
        // A status alone is no answer, and neither is an empty response, a cookie without octets or a group that is cut.
        assert_eq!(said(&[(41, notify(16388, &[0; 20]))]), None);
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[(41, notify(16390, &[]))]), None);
        assert_eq!(said(&[(41, notify(17, &[0]))]), None);
    }

    #[test]
    fn what_is_no_response_to_the_first_message_is_not_read() {
        let good = response(&[(41, notify(14, &[]))]);
        assert!(read(&good).is_some());
        // The major version, the exchange, the flags, the message's number, the length.
        for (place, value) in
            [(17, 0x30), (18, 35), (18, 37), (19, 0x08), (19, 0x28), (23, 1), (27, 99), (31, 3), (31, 200)]
        {
            let mut bad = good.clone();
            bad[place] = value;
            assert_eq!(read(&bad), None, "{place} {value}");
        }
        let mut version = response(&[(41, notify(5, &[]))]);
        version[18] = INFORMATIONAL;
        assert_eq!(read(&version), Some((OURS, Answer::InvalidVersion)));
        let mut older = good.clone();
        (older[17], older[18], older[23]) = (0x10, 5, 9);
        assert_eq!(read(&older), Some((OURS, Answer::InvalidVersion)));
        for end in 0..good.len() {
            assert_eq!(read(&good[..end]), None);
        }
        assert_eq!(read(&[&good[..], &[0]].concat()), None);
    }

    #[test]
    fn a_request_is_well_formed() {
        let address = "10.0.0.1:500".parse().unwrap();
        for is_acceptable in [false, true] {
            let cookie = is_acceptable.then(|| Cookie(vec![7; 20]));
            let group = Group::Curve25519;
            let request = Initiation {
                is_acceptable,
                spi: OURS,
                nonce: [3; 32],
                group,
                has_other_group: false,
                public: vec![5; 32],
                cookie,
            };
            let mut packet = request.packet((address, address));
            assert_eq!(u32::from_be_bytes(packet[24..28].try_into().unwrap()) as usize, packet.len());
            assert_eq!(packet[16], if is_acceptable { NOTIFY } else { SA });
            // Our own reader finds the payloads, once it is told that they are a response's.
            packet[19] = RESPONSE;
            let expected = if is_acceptable { Answer::Cookie(Cookie(vec![7; 20])) } else { Answer::Accepted };
            assert_eq!(read(&packet), Some((OURS, expected)));
        }
    }
}
