//! Packets of OpenVPN's control channel, without what wraps them.
//!
//! Layout: opcode and key id in one byte, the sender's session id, then the body: acknowledgements, the receiver's session id if
//! there are any, the packet's own id, and its payload (OpenVPN's `ssl_pkt.h` and doxygen's "network protocol").

/// The id that one side gives its half of a session.
pub(super) type SessionId = [u8; 8];

/// The most acknowledgements in a packet (`RELIABLE_ACK_SIZE` in reliable.h).
pub(super) const MAX_ACKS: usize = 8;
/// The bytes of a [`Head`].
pub(super) const HEAD_LENGTH: usize = 9;

/// What a packet is, as far as a client and its server have to do with it before data flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// A piece of TLS.
    Control = 4,
    /// Nothing but acknowledgements.
    Ack = 5,
    /// A client begins.
    ClientReset = 7,
    /// The server's answer to that.
    ServerReset = 8,
    /// A client begins that has a tls-crypt-v2 key, which comes with the packet.
    ClientResetV3 = 10,
    /// A piece of TLS, and once more that key.
    ControlWkc = 11,
}

/// What is in clear in front of every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) opcode: Opcode,
    /// The sender's.
    pub(super) session: SessionId,
}

/// What follows, and is encrypted in some modes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    /// Ids of packets that have arrived.
    pub(super) acks: Vec<u32>,
    /// The receiver's session; only with acknowledgements.
    pub(super) peer: SessionId,
    /// The packet's own id; an acknowledgement has none.
    pub(super) id: Option<u32>,
    pub(super) payload: Vec<u8>,
}

impl Opcode {
    fn read(number: u8) -> Option<Self> {
        let all =
            [Self::Control, Self::Ack, Self::ClientReset, Self::ServerReset, Self::ClientResetV3, Self::ControlWkc];
        all.into_iter().find(|opcode| *opcode as u8 == number)
    }

    /// Whether the client's own key follows the packet, where it has one.
    pub(super) fn has_key(self) -> bool {
        matches!(self, Self::ClientResetV3 | Self::ControlWkc)
    }
}

impl Head {
    pub(super) fn bytes(self) -> [u8; HEAD_LENGTH] {
        let mut bytes = [0; HEAD_LENGTH];
        let (first, rest) = bytes.split_at_mut(1);
        first.fill((self.opcode as u8) << 3);
        rest.copy_from_slice(&self.session);
        bytes
    }

    /// Reads the head, and gives what follows. `None` if it is no packet of the first key, or not of the control channel.
    pub(super) fn read(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (first, rest) = packet.split_first()?;
        let (session, rest) = rest.split_first_chunk()?;
        if first & 7 != 0 {
            return None;
        }
        Some((Self { opcode: Opcode::read(first >> 3)?, session: *session }, rest))
    }
}

impl Body {
    /// The bytes. Of acknowledgements there may be no more than [`MAX_ACKS`].
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(self.acks.len()).unwrap_or(u8::MAX)];
        for ack in &self.acks {
            bytes.extend(ack.to_be_bytes());
        }
        if !self.acks.is_empty() {
            bytes.extend(self.peer);
        }
        if let Some(id) = self.id {
            bytes.extend(id.to_be_bytes());
        }
        bytes.extend(&self.payload);
        bytes
    }

    /// Reads the body of a packet with that opcode. `None` if it is cut short, or acknowledges more than a packet can.
    pub(super) fn read(opcode: Opcode, bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = bytes.split_first()?;
        if usize::from(*count) > MAX_ACKS {
            return None;
        }
        let mut body = Self::default();
        for _ in 0..*count {
            body.acks.push(number(&mut rest)?);
        }
        if *count > 0 {
            let (peer, after) = rest.split_first_chunk()?;
            (body.peer, rest) = (*peer, after);
        }
        if opcode != Opcode::Ack {
            body.id = Some(number(&mut rest)?);
            body.payload = rest.to_vec();
        }
        Some(body)
    }
}

/// Takes a number from the front.
fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*bytes))
}

/// Whether the payload of a server's reset asks for the client's key once more: type 1 (flags), length 2, bit 1 (`RESEND_WKC`), which
/// servers do that keep nothing of a first packet (`EARLY_NEG_FLAG_RESEND_WKC` in ssl_pkt.h).
pub(super) fn wants_key_again(payload: &[u8]) -> bool {
    let mut rest = payload;
    while let Some(([type_high, type_low, length_high, length_low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let Some((value, next)) = after.split_at_checked(length) else { return false };
        if let (0x0001, [_, low]) = (u16::from_be_bytes([*type_high, *type_low]), value) {
            return low & 1 != 0;
        }
        rest = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let head = Head { opcode: Opcode::ServerReset, session: [7; 8] };
        let body = Body { acks: vec![0, 0xfffe_fdfc], peer: [9; 8], id: Some(3), payload: vec![1, 2] };
        let bytes = [&head.bytes()[..], &body.bytes()].concat();
        assert_eq!(bytes[0], 0x40);
        let (read, rest) = Head::read(&bytes).unwrap();
        assert_eq!((read, Body::read(read.opcode, rest).unwrap()), (head, body));
        let ack = Body { acks: vec![4], peer: [9; 8], ..Body::default() };
        assert_eq!(Body::read(Opcode::Ack, &ack.bytes()), Some(ack));
        // The first packet of a client is 14 bytes long.
        let first = Body { id: Some(0), ..Body::default() };
        assert_eq!(HEAD_LENGTH + first.bytes().len(), 14);
    }

    #[test]
    fn what_is_no_packet_is_not_read() {
        for bad in [&[0x40; 8][..], &[0x41; 20], &[0x30; 20], &[0x78; 20], &[]] {
            assert_eq!(Head::read(bad), None, "{bad:?}");
        }
        for bad in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7], &[9; 60]] {
            assert_eq!(Body::read(Opcode::ServerReset, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_server_that_keeps_nothing_says_so() {
        assert!(wants_key_again(&[0, 1, 0, 2, 0, 1]));
        assert!(wants_key_again(&[0, 9, 0, 1, 5, 0, 1, 0, 2, 0, 3]));
        for other in
            [&[][..], &[0, 1, 0, 2, 0, 2], &[0, 1, 0, 2, 0], &[0, 2, 0, 2, 0, 1], &[0, 1, 0, 0], &[0, 1, 0, 3, 0, 0, 1]]
        {
            assert!(!wants_key_again(other), "{other:?}");
        }
    }
}
