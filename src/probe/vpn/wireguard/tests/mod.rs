//! WireGuard probes against a fake server: a second instance of the same crate on a loopback socket. Real servers are asked in
//! tests/it.

mod clock;
mod fake;
mod handshake;
mod inside;
mod keys;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::metrics::testing::Scrape;
use crate::metrics::{Gauges, Recorder, SeriesSet};
use crate::probe::vpn::{Config, Vpn};
use crate::probe::{Cycle, Failure, Probe, Reason, Shared};
use crate::settings::{Files, Rules, Section, Settings, Source};

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
        read(self.dir.path(), &self.text, false)
    }
}

fn key(dir: &Path, name: &str, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(dir.join(name), STANDARD.encode(bytes) + "\n").unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Reads a configuration: it, or its problems.
fn read(dir: &Path, text: &str, without_secrets: bool) -> Result<Config, Vec<String>> {
    let (file, files): (Arc<Path>, _) = (dir.join("m.toml").into(), Files::new(without_secrets));
    let source = Source::new(&file, text, Rules::Main, &files);
    let table = source.parse().expect("TOML");
    let mut root = Section::root(&source, table.get_ref());
    let config = Config::read(&mut root);
    root.finish();
    let problems: Vec<_> = source.into_problems().into_iter().map(|problem| problem.message).collect();
    if problems.is_empty() { Ok(config.unwrap()) } else { Err(problems) }
}

/// A probe, and what it has recorded.
struct Bench {
    vpn: Vpn,
    set: Arc<SeriesSet>,
    _folder: Folder,
}

impl Bench {
    fn new(pair: &Pair, server: SocketAddr, more: &str) -> Self {
        Self::with(Folder::new(pair, server, more), &Shared::default(), None)
    }

    fn with(folder: Folder, shared: &Shared, previous: Option<&Vpn>) -> Self {
        let config = Arc::new(folder.read().unwrap());
        let vpn = Vpn::new(&config, shared, previous).unwrap();
        Self { vpn, set: SeriesSet::new([("probe", "p")], Default::default()), _folder: folder }
    }

    /// One run, which may take so long.
    async fn run(&self, most: Duration) -> Result<(), Failure> {
        let mut rec = Recorder::default();
        rec.ends_at(Instant::now() + most);
        self.vpn.run(Cycle::MAIN, &mut rec).await.unwrap();
        let verdict = rec.trace().targets.into_iter().next().unwrap().verdict.unwrap();
        rec.commit(&self.set, "main", Gauges::Replace);
        verdict
    }

    /// One run that nobody is to keep waiting.
    async fn well(&self) {
        self.run(PLENTY).await.unwrap();
    }

    /// The reason of one run that fails, which waits for silence no longer than it must.
    async fn fails(&self) -> Failure {
        self.run(LITTLE).await.unwrap_err()
    }

    /// The sum of a metric's series that have these labels.
    fn sum(&self, name: &str, labels: &str) -> f64 {
        Scrape::from(&*self.set).sum(name, labels)
    }
}

/// For what happens soon.
const PLENTY: Duration = Duration::from_secs(20);
/// For what never happens.
const LITTLE: Duration = Duration::from_millis(300);
