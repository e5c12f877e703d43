//! WireGuard probes against a fake server: a second instance of the same crate on a loopback socket. Real servers are asked in
//! tests/it.

mod clock;
mod fake;
mod handshake;
mod inside;
mod keys;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};
use tempfile::TempDir;

use super::Wireguard;
use crate::metrics::testing::text;
use crate::probe::vpn::protocol::Protocol;
use crate::probe::vpn::{Config, Vpn, testing};
use crate::probe::{Failure, Probe as _, Reason, Shared};

/// The keys of both sides.
struct Pair {
    own: [u8; 32],
    server: [u8; 32],
}

impl Pair {
    fn new() -> Self {
        Self { own: random(), server: random() }
    }

    fn own_public(&self) -> PublicKey {
        PublicKey::from(&StaticSecret::from(self.own))
    }

    fn server_public(&self) -> PublicKey {
        PublicKey::from(&StaticSecret::from(self.server))
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// A folder with our private key, and the configuration that names it.
struct Folder {
    dir: TempDir,
    text: String,
}

impl Folder {
    fn new(pair: &Pair, server: SocketAddr, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        key(dir.path(), "own", &pair.own);
        let public = STANDARD.encode(pair.server_public().as_bytes());
        let text = format!(
            "protocol = \"wireguard\"\nserver = \"{server}\"\nprivate_key = {{ file = \"own\" }}\n\
             server_public_key = \"{public}\"\n{more}\n"
        );
        Self { dir, text }
    }

    fn read(&self) -> Result<Config, Vec<String>> {
        testing::config(self.dir.path(), &self.text)
    }
}

fn key(dir: &Path, name: &str, bytes: &[u8]) {
    fs::write(dir.join(name), STANDARD.encode(bytes) + "\n").unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// A probe, and its files.
struct Bench {
    bench: testing::Bench,
    _folder: Folder,
}

impl Bench {
    fn new(pair: &Pair, server: SocketAddr, more: &str) -> Self {
        Self::with(Folder::new(pair, server, more), &Shared::default(), None)
    }

    fn with(folder: Folder, shared: &Shared, previous: Option<&Vpn>) -> Self {
        let bench = testing::Bench::after(previous, folder.dir.path(), &folder.text, shared);
        Self { bench, _folder: folder }
    }

    /// The protocol.
    fn wireguard(&self) -> &Wireguard {
        match &self.bench.probe.protocol {
            Some(Protocol::Wireguard(wireguard)) => wireguard,
            _ => panic!("another protocol"),
        }
    }

    async fn run(&self, most: Duration) -> Result<(), Failure> {
        self.bench.run(most).await
    }

    /// One run that nobody is to keep waiting.
    async fn well(&self) {
        self.run(PLENTY).await.unwrap();
    }

    /// One run that fails, and waits for silence no longer than it must.
    async fn fails(&self) -> Failure {
        self.run(LITTLE).await.unwrap_err()
    }

    fn sum(&self, name: &str, labels: &str) -> f64 {
        self.bench.sum(name, labels)
    }

    fn concerns(&self) -> Vec<String> {
        self.bench.probe.concerns()
    }

    /// All series.
    fn text(&self) -> String {
        text(&*self.bench.set)
    }
}

/// For what happens soon.
const PLENTY: Duration = Duration::from_secs(20);
/// For what never happens.
const LITTLE: Duration = Duration::from_millis(300);
