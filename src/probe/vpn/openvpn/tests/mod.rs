//! Against FAKE servers, which misbehave as no server does. Real ones are in `tests/it`.

mod deeper;
mod secrets;
mod tcp;
mod udp;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::config::Digest;
use super::key::tests::{static_file, v2_file};
use super::key::{StaticKey, V2Key};
use super::packet::{Body, Head, Opcode, SessionId};
use super::wrap::Wrap;
use crate::probe::Shared;
use crate::probe::vpn::testing::Bench;

const TIME: Duration = Duration::from_secs(3);
/// The fake server's half of a session.
const THEIRS: SessionId = *b"fakefake";

/// A way to wrap packets, with the keys for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    None,
    Auth(Digest),
    Crypt,
    CryptV2,
}

const ALL: [Kind; 6] = [
    Kind::None,
    Kind::Auth(Digest::Sha1),
    Kind::Auth(Digest::Sha256),
    Kind::Auth(Digest::Sha512),
    Kind::Crypt,
    Kind::CryptV2,
];

/// A byte for each place of a key; keys are told apart by `seed`.
fn byte(seed: u8, place: usize) -> u8 {
    (place as u8).wrapping_mul(31) ^ seed
}

impl Kind {
    /// What a server has whose key is of that seed.
    pub(super) fn server(self, seed: u8) -> Wrap {
        let key = || StaticKey::read(static_file(|place| byte(seed, place)).as_bytes()).unwrap();
        match self {
            Self::None => Wrap::None,
            Self::Auth(digest) => Wrap::auth(&key(), digest, Some(0)),
            Self::Crypt => Wrap::crypt(&key()).reversed(),
            Self::CryptV2 => {
                let key = V2Key::read(v2_file(|place| byte(seed, place)).as_bytes()).unwrap();
                Wrap::crypt_v2(key).reversed()
            }
        }
    }

    /// The keys of a probe whose files are in `folder`.
    fn keys(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Auth(digest) => {
                let digest = format!("{digest:?}").to_uppercase();
                format!(
                    "wrap = \"tls-auth\"\nkey_direction = 1\nauth_digest = \"{digest}\"\nwrap_key = \"static.key\"\n"
                )
            }
            Self::Crypt => "wrap = \"tls-crypt\"\nwrap_key = \"static.key\"\n".to_owned(),
            Self::CryptV2 => "wrap = \"tls-crypt-v2\"\nwrap_key = \"v2.key\"\n".to_owned(),
        }
    }
}

/// A probe of the server at that port, with a key of the seed 1.
fn bench(kind: Kind, port: u16, more: &str) -> Bench {
    bench_within(tempfile::tempdir().unwrap().path(), kind, port, more)
}

fn bench_within(dir: &std::path::Path, kind: Kind, port: u16, more: &str) -> Bench {
    std::fs::write(dir.join("static.key"), static_file(|place| byte(1, place))).unwrap();
    std::fs::write(dir.join("v2.key"), v2_file(|place| byte(1, place))).unwrap();
    let keys = format!("protocol = \"openvpn\"\nserver = \"127.0.0.1:{port}\"\n{}{more}", kind.keys());
    Bench::within(dir, &keys, &Shared::default())
}

/// The session of whoever sent the packet.
fn session_of(packet: &[u8]) -> SessionId {
    packet[1..9].try_into().unwrap()
}

/// A packet of the fake server.
fn sealed(wrap: &Wrap, opcode: Opcode, body: &Body) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32;
    wrap.seal(Head { opcode, session: THEIRS }, (1, now), body)
}

/// Its answer to a first packet of that session.
fn reset(wrap: &Wrap, session: SessionId) -> Vec<u8> {
    let payload = if wrap.is_v2() { vec![0, 1, 0, 2, 0, 1] } else { Vec::new() };
    sealed(wrap, Opcode::ServerReset, &Body { acks: vec![0], peer: session, id: Some(0), payload })
}
