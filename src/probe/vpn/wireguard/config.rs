//! The keys of WireGuard, in both senses.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::settings::{Invalid, Item, Secret, Section, Value};

/// The length of every key.
const LENGTH: usize = 32;
/// What a decoder is given to write to: whole groups of three bytes.
const DECODED: usize = 36;
/// How many characters of our public key are shown, to tell keys apart.
const SHOWN: usize = 8;

/// The keys of a probe that knocks at a WireGuard server.
#[derive(Debug, PartialEq)]
pub(in crate::probe::vpn) struct Config {
    private_key: Secret,
    server_public_key: PublicKey,
    preshared_key: Option<Secret>,
    pub(super) inside_address: Option<IpAddr>,
}

impl Config {
    pub(in crate::probe::vpn) fn read(section: &mut Section<'_>) -> Option<Self> {
        if !section.has("private_key") {
            section.problem(None, "missing field `private_key`");
        }
        let private_key = section.checked("private_key", is_key);
        let own =
            private_key.as_ref().filter(|secret| !secret.is_placeholder()).and_then(|secret| decoded(secret.expose()));
        if !section.has("server_public_key") {
            section.problem(None, "missing field `server_public_key`");
        }
        let server_public_key =
            section.checked("server_public_key", |key: &PublicKey| match own.map(|own| PublicKey::of(&own)) {
                Some(ours) if ours == *key => Err("is our own public key, not the server's".to_owned()),
                _ => Ok(()),
            });
        let preshared_key = section.checked("preshared_key", is_key);
        let inside_address = section.checked("inside_address", |Inside(ip)| can_be_ours(*ip)).map(|Inside(ip)| ip);
        let is_whole = preshared_key.is_some() == section.has("preshared_key")
            && inside_address.is_some() == section.has("inside_address");
        let (private_key, server_public_key) = (private_key?, server_public_key?);
        is_whole.then_some(Self { private_key, server_public_key, preshared_key, inside_address })
    }

    /// Whether its tunnel has an address of ours inside.
    pub(in crate::probe::vpn) fn is_for_inside(&self) -> bool {
        self.inside_address.is_some()
    }

    /// Whether we have an address inside of the same family, if we have one at all.
    pub(in crate::probe::vpn) fn reaches(&self, ip: IpAddr) -> bool {
        self.inside_address.is_none_or(|ours| ours.is_ipv4() == ip.is_ipv4())
    }

    /// The files that hold our secrets.
    pub(super) fn key_files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.private_key), self.preshared_key.as_ref()].into_iter().flatten().filter_map(Secret::path)
    }

    /// The keys, decoded.
    pub(super) fn keys(&self) -> Keys {
        // A configuration that is checked without secrets builds its probe too, and never runs it.
        let own = decoded(self.private_key.expose()).unwrap_or_default();
        let preshared = self.preshared_key.as_ref().and_then(|secret| decoded(secret.expose()));
        Keys { public: PublicKey::of(&own), own, server: self.server_public_key, preshared }
    }
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PublicKey([u8; LENGTH]);

impl PublicKey {
    fn of(own: &Zeroizing<[u8; LENGTH]>) -> Self {
        Self(x25519::PublicKey::from(&x25519::StaticSecret::from(**own)).to_bytes())
    }

    /// The first characters as `wg` prints them.
    pub(super) fn beginning(&self) -> String {
        STANDARD.encode(self.0).chars().take(SHOWN).collect()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl Value for PublicKey {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let expected = "the server's public key: 32 bytes in base64, as `wg show` prints it";
        let text = item.text(expected)?;
        let bytes = decoded(text).filter(|bytes| **bytes != [0; LENGTH]);
        bytes.map(|bytes| Self(*bytes)).ok_or_else(|| Invalid::new(format!("expected {expected}")))
    }
}

/// What a handshake needs. Secrets are wiped from memory with it, and are in no output.
#[derive(Clone)]
pub(super) struct Keys {
    own: Zeroizing<[u8; LENGTH]>,
    pub(super) public: PublicKey,
    server: PublicKey,
    preshared: Option<Zeroizing<[u8; LENGTH]>>,
}

impl Keys {
    /// Keys from their bytes: ours and the server's public one.
    pub(super) fn of(own: [u8; LENGTH], server: [u8; LENGTH]) -> Self {
        let own = Zeroizing::new(own);
        Self { public: PublicKey::of(&own), own, server: PublicKey(server), preshared: None }
    }

    /// Our private key.
    pub(super) fn own(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(*self.own)
    }

    /// The server's public key.
    pub(super) fn server(&self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.server.0)
    }

    /// The pre-shared key.
    pub(super) fn preshared(&self) -> Option<[u8; LENGTH]> {
        self.preshared.as_deref().copied()
    }

    /// A name for this peer of this server, of which neither key can be told: hexadecimal digits.
    pub(super) fn name(&self) -> String {
        let hash = Sha256::new().chain_update(self.public.0).chain_update(self.server.0).finalize();
        hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A name that is the same if all keys are.
    pub(super) fn id(&self) -> [u8; 32] {
        let hash = Sha256::new().chain_update(*self.own).chain_update(self.server.0);
        match &self.preshared {
            Some(preshared) => hash.chain_update(**preshared).finalize().into(),
            None => hash.finalize().into(),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("public", &self.public).field("server", &self.server).finish_non_exhaustive()
    }
}

/// A key as `wg genkey` and `wg genpsk` print it.
fn decoded(text: &str) -> Option<Zeroizing<[u8; LENGTH]>> {
    let mut room = Zeroizing::new([0; DECODED]);
    let length = STANDARD.decode_slice(text, &mut *room).ok()?;
    let bytes = room.get(..length)?.try_into().ok()?;
    Some(Zeroizing::new(bytes))
}

/// Whether it is one. The message holds nothing of it.
fn is_key(secret: &Secret) -> Result<(), String> {
    if secret.is_placeholder() || decoded(secret.expose()).is_some() {
        return Ok(());
    }
    Err("expected a key of 32 bytes in base64, as `wg genkey` and `wg genpsk` print it, and nothing else".to_owned())
}

/// An address inside, for [`Section::checked`].
struct Inside(IpAddr);

impl Value for Inside {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let expected = "our IP address in the tunnel, without a prefix length";
        // Replicas with keys of their own need addresses of their own: a server sends an address's packets to one peer.
        item.text_of_host(expected)?.parse().map(Self).map_err(|_| Invalid::new(format!("expected {expected}")))
    }
}

/// Whether a host can have the address.
fn can_be_ours(ip: IpAddr) -> Result<(), String> {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_broadcast {
        return Err("is not an address that a peer can have".to_owned());
    }
    Ok(())
}
