//! What the packets of the control channel are wrapped in, so that a server answers only those who have a key.
//!
//! `--tls-auth` signs a packet, `--tls-crypt` encrypts and signs it; with `--tls-crypt-v2` each client has a key of its own, which
//! goes with the first packet, wrapped for the server (OpenVPN's `doc/tls-crypt-v2.txt`, `tls_crypt.h` and `ssl_pkt.c`).

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::config::Digest;
use super::key::{StaticKey, V2Key};
use super::packet::{Body, HEAD_LENGTH, Head};
use crate::probe::vpn::metrics::Ignored;

/// The bytes of a replay id and its time.
const REPLAY: usize = 8;
/// The bytes of the tag of tls-crypt.
const TAG: usize = 32;
/// The first replay id of a client that can send its key twice (`EARLY_NEG_START` in ssl_pkt.h).
const EARLY_NEGOTIATION: u32 = 0x0f00_0000;

/// How packets are wrapped, with the keys. Those are wiped from memory when dropped, and never shown: there is no `Debug`.
pub(super) enum Wrap {
    /// Not at all.
    None,
    /// Signed.
    Auth { digest: Digest, send: Key, receive: Key },
    /// Encrypted and signed.
    Crypt { send: Pair, receive: Pair, wrapped: Option<Zeroizing<Vec<u8>>> },
}

type Key = Zeroizing<Vec<u8>>;

/// The keys of one direction.
pub(super) struct Pair {
    cipher: Zeroizing<[u8; 32]>,
    hmac: Key,
}

impl Wrap {
    /// The keys of tls-auth. A client with the direction 1 signs with the second pair; without a direction both sides do with the first.
    pub(super) fn auth(key: &StaticKey, digest: Digest, direction: Option<u8>) -> Self {
        let (send, receive) = match direction {
            None => (0, 0),
            Some(0) => (0, 1),
            Some(_) => (1, 0),
        };
        let part = |pair| Zeroizing::new(key.hmac(pair).iter().copied().take(digest.length()).collect());
        Self::Auth { digest, send: part(send), receive: part(receive) }
    }

    /// The keys of tls-crypt: clients send with the second pair.
    pub(super) fn crypt(key: &StaticKey) -> Self {
        Self::Crypt { send: Pair::of(key, 1), receive: Pair::of(key, 0), wrapped: None }
    }

    /// The keys of tls-crypt-v2.
    pub(super) fn crypt_v2(key: V2Key) -> Self {
        Self::Crypt { send: Pair::of(&key.key, 1), receive: Pair::of(&key.key, 0), wrapped: Some(key.wrapped) }
    }

    /// Whether the client's own key goes with first packets.
    pub(super) fn is_v2(&self) -> bool {
        matches!(self, Self::Crypt { wrapped: Some(_), .. })
    }

    /// The replay id before the first one.
    pub(super) fn replay_start(&self) -> u32 {
        if self.is_v2() { EARLY_NEGOTIATION } else { 0 }
    }

    /// How many bytes a packet grows by, at most.
    pub(super) fn overhead(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Auth { digest, .. } => digest.length() + REPLAY,
            Self::Crypt { wrapped, .. } => TAG + REPLAY + wrapped.as_ref().map_or(0, |wrapped| wrapped.len()),
        }
    }

    /// A whole packet. `replay` is the number of the packet in its session, and the time since 1970 in seconds.
    pub(super) fn seal(&self, head: Head, replay: (u32, u32), body: &Body) -> Vec<u8> {
        let (head_bytes, mut body) = (head.bytes(), body.bytes());
        let replay = [replay.0.to_be_bytes(), replay.1.to_be_bytes()].concat();
        match self {
            Self::None => [&head_bytes[..], &body].concat(),
            Self::Auth { digest, send, .. } => {
                let mac = digest.mac(send, &[&replay, &head_bytes, &body]);
                [&head_bytes[..], &mac, &replay, &body].concat()
            }
            Self::Crypt { send, wrapped, .. } => {
                let tag = Digest::Sha256.mac(&send.hmac, &[&head_bytes, &replay, &body]);
                send.crypt(&tag, &mut body);
                let key = wrapped.as_ref().filter(|_| head.opcode.has_key()).map_or(&[][..], |wrapped| wrapped);
                [&head_bytes[..], &replay, &tag, &body, key].concat()
            }
        }
    }

    /// Reads a packet of the server.
    ///
    /// # Errors
    /// `Malformed` if it is none, `Forged` if it was made without the key.
    pub(super) fn open(&self, packet: &[u8]) -> Result<(Head, Body), Ignored> {
        let (head, rest) = Head::read(packet).ok_or(Ignored::Malformed)?;
        let head_bytes = packet.get(..HEAD_LENGTH).unwrap_or_default();
        let body = match self {
            Self::None => rest.to_vec(),
            Self::Auth { digest, receive, .. } => {
                let (mac, rest) = rest.split_at_checked(digest.length()).ok_or(Ignored::Malformed)?;
                let (replay, body) = rest.split_at_checked(REPLAY).ok_or(Ignored::Malformed)?;
                is_same(mac, &digest.mac(receive, &[replay, head_bytes, body]))?;
                body.to_vec()
            }
            Self::Crypt { receive, .. } => {
                let (replay, rest) = rest.split_at_checked(REPLAY).ok_or(Ignored::Malformed)?;
                let (tag, body) = rest.split_at_checked(TAG).ok_or(Ignored::Malformed)?;
                let mut body = body.to_vec();
                receive.crypt(tag, &mut body);
                is_same(tag, &Digest::Sha256.mac(&receive.hmac, &[head_bytes, replay, &body]))?;
                body
            }
        };
        Body::read(head.opcode, &body).map(|body| (head, body)).ok_or(Ignored::Malformed)
    }
}

/// Compares in constant time.
fn is_same(one: &[u8], other: &[u8]) -> Result<(), Ignored> {
    if bool::from(one.ct_eq(other)) { Ok(()) } else { Err(Ignored::Forged) }
}

impl Pair {
    /// The first half of both keys of the pair (`tls_crypt_kt` in tls_crypt.c).
    fn of(key: &StaticKey, pair: usize) -> Self {
        let mut cipher = Zeroizing::new([0; 32]);
        for (to, from) in cipher.iter_mut().zip(key.cipher(pair)) {
            *to = *from;
        }
        Self { cipher, hmac: Zeroizing::new(key.hmac(pair).iter().copied().take(32).collect()) }
    }

    /// Encrypts, or decrypts: AES-256-CTR, from the first half of the tag on.
    fn crypt(&self, tag: &[u8], body: &mut [u8]) {
        if let Some(start) = tag.first_chunk::<16>() {
            Ctr128BE::<Aes256>::new((&*self.cipher).into(), start.into()).apply_keystream(body);
        }
    }
}

impl Digest {
    /// The bytes of the digest, and of the key for it.
    fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The HMAC (RFC 2104) of all the parts.
    fn mac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            // HMAC takes keys of every length; the error cannot occur.
            let Ok(mut mac) = <M as Mac>::new_from_slice(key) else { return Vec::new() };
            for part in parts {
                mac.update(part);
            }
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, parts),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, parts),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, parts),
        }
    }
}

#[cfg(test)]
impl Wrap {
    /// What the other side has.
    pub(super) fn reversed(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Auth { digest, send, receive } => Self::Auth { digest, send: receive, receive: send },
            Self::Crypt { send, receive, wrapped } => Self::Crypt { send: receive, receive: send, wrapped },
        }
    }
}
