//! ICMP echoes: RFC 792, and RFC 4443, section 4.

use std::net::IpAddr;

use crate::probe::Failure;
use crate::probe::vpn::random::random;

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// An echo that is told from all others by its token, which comes back: identifiers are few, and kernels change them.
#[derive(Clone, Debug)]
pub(in crate::probe::vpn) struct Echo {
    sequence: u16,
    token: [u8; 32],
}

impl Echo {
    /// A new echo.
    ///
    /// # Errors
    /// `local` without random numbers.
    pub(in crate::probe::vpn) fn new(sequence: u16) -> Result<Self, Failure> {
        Ok(Self { sequence, token: random()? })
    }

    /// The message from one address to the other, without a header of IP.
    pub(in crate::probe::vpn) fn request(&self, from: IpAddr, to: IpAddr) -> Vec<u8> {
        let kind = if to.is_ipv4() { 8 } else { 128 };
        let [a, b, ..] = self.token;
        let mut message = vec![kind, 0, 0, 0, a, b];
        message.extend(self.sequence.to_be_bytes());
        message.extend(self.token);
        let sum = checksum(from, to, &message);
        if let Some(place) = message.get_mut(2..4) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    /// Whether the message, without a header of IP, is the answer to this very echo.
    pub(in crate::probe::vpn) fn is_answered_by(&self, message: &[u8], is_v4: bool) -> bool {
        let kind = if is_v4 { 0 } else { 129 };
        message.get(..2) == Some(&[kind, 0])
            && message.get(6..HEADER) == Some(&self.sequence.to_be_bytes())
            && message.get(HEADER..) == Some(&self.token)
    }
}

/// The checksum of a message of ICMP: in IPv6, addresses and protocol are part of it (RFC 4443, section 2.3).
pub(in crate::probe::vpn) fn checksum(from: IpAddr, to: IpAddr, message: &[u8]) -> u16 {
    let mut sum = 0;
    if let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) {
        add(&mut sum, &from.octets());
        add(&mut sum, &to.octets());
        add(&mut sum, &u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
        add(&mut sum, &[0, 0, 0, 58]);
    }
    add(&mut sum, message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Adds 16 bits at a time (RFC 1071); an odd octet at the end is a high one.
fn add(sum: &mut u64, bytes: &[u8]) {
    for pair in bytes.chunks(2) {
        let [high, low] = [pair.first(), pair.get(1)].map(|byte| u64::from(byte.copied().unwrap_or(0)));
        *sum += (high << 8) | low;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_its_checksum_sums_up_to_nothing() {
        for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let request = Echo::new(7).unwrap().request(from, to);
            assert_eq!(checksum(from, to, &request), 0);
        }
    }

    #[test]
    fn only_its_own_answer_answers_an_echo() {
        let (echo, from) = (Echo::new(7).unwrap(), IpAddr::from([10, 0, 0, 1]));
        let mut answer = echo.request(from, from);
        assert!(!echo.is_answered_by(&answer, true), "a request is no answer");
        answer[0] = 0;
        assert!(echo.is_answered_by(&answer, true));
        // A kernel may have chosen another identifier.
        answer[4] ^= 1;
        assert!(echo.is_answered_by(&answer, true) && !echo.is_answered_by(&answer, false));
        assert!(!Echo::new(8).unwrap().is_answered_by(&answer, true));
        assert!(!Echo::new(7).unwrap().is_answered_by(&answer, true));
        for end in 0..answer.len() {
            assert!(!echo.is_answered_by(&answer[..end], true));
        }
    }
}
