//! The keys of OpenVPN.

use std::path::PathBuf;

use super::key::{StaticKey, V2Key};
use super::wrap::Wrap;
use crate::probe::net::TlsConfig;
use crate::settings::{FileContent, Invalid, Item, Section, Value};

/// The keys of OpenVPN.
#[derive(Debug, PartialEq)]
pub(in crate::probe::vpn) struct Config {
    pub(super) transport: Transport,
    pub(super) mode: Mode,
    /// The file of the key that packets are wrapped with.
    wrap_key: Option<FileContent>,
    /// Which half of a tls-auth key is ours; `None` is both.
    key_direction: Option<u8>,
    auth_digest: Digest,
    /// The deeper stage, which shows the server's certificate.
    pub(super) tls: Option<TlsConfig>,
}

/// What carries the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Transport {
    #[default]
    Udp,
    Tcp,
}

/// What packets are wrapped in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    None,
    TlsAuth,
    TlsCrypt,
    TlsCryptV2,
}

/// With what tls-auth signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Digest {
    #[default]
    Sha1,
    Sha256,
    Sha512,
}

impl Value for Transport {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[("udp", Self::Udp), ("tcp", Self::Tcp)])
    }
}

impl Value for Mode {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[
            ("none", Self::None),
            ("tls-auth", Self::TlsAuth),
            ("tls-crypt", Self::TlsCrypt),
            ("tls-crypt-v2", Self::TlsCryptV2),
        ])
    }
}

impl Value for Digest {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[("SHA1", Self::Sha1), ("SHA256", Self::Sha256), ("SHA512", Self::Sha512)])
    }
}

impl Config {
    /// Reads the keys.
    pub(in crate::probe::vpn) fn read(section: &mut Section<'_>) -> Option<Self> {
        let transport = section.or("transport", Transport::default());
        let mode = match section.has("wrap") {
            true => section.optional("wrap"),
            false => Some(Mode::default()),
        };
        let wrap_key = section.optional("wrap_key");
        let key_direction = section.checked("key_direction", |direction: &u8| match direction {
            0 | 1 => Ok(()),
            _ => Err("must be 0 or 1, and is the opposite of the server's".to_owned()),
        });
        let auth_digest = section.or("auth_digest", Digest::default());
        let tls = TlsConfig::read(section, false);
        let mode = mode?;
        for key in ["key_direction", "auth_digest"] {
            if mode != Mode::TlsAuth && section.has(key) {
                section.problem(Some(key), format!("`{key}`: has a meaning only with wrap = \"tls-auth\""));
            }
        }
        match (mode, section.has("wrap_key")) {
            (Mode::None, true) => section.problem(
                Some("wrap_key"),
                "`wrap_key`: has a meaning only with wrap = \"tls-auth\", \"tls-crypt\" or \"tls-crypt-v2\"",
            ),
            (Mode::TlsAuth | Mode::TlsCrypt | Mode::TlsCryptV2, false) => {
                section.problem(Some("wrap"), "missing field `wrap_key`, which this `wrap` needs");
            }
            _ => {}
        }
        let config = Self { transport, mode, wrap_key, key_direction, auth_digest, tls };
        if let Err(words) = config.wrap() {
            section.problem(Some("wrap_key"), format!("`wrap_key`: {words}"));
            return None;
        }
        Some(config)
    }

    /// The keys as packets need them. Without the file, where only the configuration is checked, nothing is wrapped.
    ///
    /// # Errors
    /// What is wrong with the file, without anything of it.
    pub(super) fn wrap(&self) -> Result<Wrap, String> {
        let Some(file) = self.wrap_key.as_ref().filter(|file| !file.is_placeholder()) else { return Ok(Wrap::None) };
        Ok(match self.mode {
            Mode::None => Wrap::None,
            Mode::TlsAuth => Wrap::auth(&StaticKey::read(file.bytes())?, self.auth_digest, self.key_direction),
            Mode::TlsCrypt => Wrap::crypt(&StaticKey::read(file.bytes())?),
            Mode::TlsCryptV2 => Wrap::crypt_v2(V2Key::read(file.bytes())?),
        })
    }

    /// The files that nobody else should read.
    pub(super) fn key_files(&self) -> Vec<PathBuf> {
        let client = self.tls.as_ref().and_then(|tls| tls.client.as_ref()).map(|(_, key)| key);
        self.wrap_key.iter().chain(client).map(|file| file.path().to_owned()).collect()
    }

    /// Whether a knock goes on to TLS, which leaves a session on the server until its time for handshakes is over.
    pub(in crate::probe::vpn) fn leaves_session(&self) -> bool {
        self.tls.is_some()
    }
}
