//! For tests: a probe from its keys, runs of it, and what they recorded.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::config::Config;
use super::{Cycle, Failure, Probe as _, Recorder, Shared, Vpn};
use crate::metrics::testing::Scrape;
use crate::metrics::{Gauges, SeriesSet};
use crate::settings::{Files, Rules, Section, Settings as _, Source};

/// A probe, and the series of its runs.
pub(super) struct Bench {
    pub(super) probe: Vpn,
    pub(super) set: Arc<SeriesSet>,
}

/// What the keys amount to, or all that is wrong with them. Files are looked for in `folder`.
pub(super) fn config(folder: &Path, keys: &str) -> Result<Config, Vec<String>> {
    read(folder, keys, &Files::new(false))
}

/// The same with missing files replaced, as a check without secrets does.
pub(super) fn config_without_secrets(folder: &Path, keys: &str) -> Result<Config, Vec<String>> {
    read(folder, keys, &Files::new(true))
}

fn read(folder: &Path, keys: &str, files: &Files) -> Result<Config, Vec<String>> {
    let path: Arc<Path> = folder.join("midwatch.toml").into();
    let source = Source::new(&path, keys, Rules::Main, files);
    let config = source.parse().and_then(|table| {
        let mut root = Section::root(&source, table.get_ref());
        let config = Config::read(&mut root);
        root.finish();
        config
    });
    let problems: Vec<String> = source.into_problems().iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(config.unwrap()) } else { Err(problems) }
}

impl Bench {
    /// A probe with these keys, which need no files.
    pub(super) fn new(keys: &str) -> Self {
        Self::within(Path::new("/"), keys, &Shared::default())
    }

    /// A probe with these keys, whose files are in that folder.
    pub(super) fn within(folder: &Path, keys: &str, shared: &Shared) -> Self {
        Self::after(None, folder, keys, shared)
    }

    /// The same, which replaces another probe.
    pub(super) fn after(previous: Option<&Vpn>, folder: &Path, keys: &str, shared: &Shared) -> Self {
        let config = Arc::new(config(folder, keys).unwrap());
        let probe = Vpn::new(&config, shared, previous).unwrap();
        Self { probe, set: SeriesSet::new([("probe", "p")], Default::default()) }
    }

    /// One run of at most that long: the verdict on its first target, or on the run.
    pub(super) async fn run(&self, time: Duration) -> Result<(), Failure> {
        let mut rec = Recorder::default();
        rec.ends_at(Instant::now() + time);
        let result = self.probe.run(Cycle::MAIN, &mut rec).await;
        let trace = rec.trace();
        rec.commit(&self.set, "main", Gauges::Replace);
        result.and_then(|()| trace.targets.into_iter().next().and_then(|target| target.verdict).unwrap())
    }

    /// The sum of all series with these labels, such as `stage=inside`.
    pub(super) fn sum(&self, name: &str, labels: &str) -> f64 {
        Scrape::from(&*self.set).sum(name, labels)
    }
}

/// An authority, and a server and a client that have certificates of it.
pub(super) struct Identities {
    /// The folder with `ca.pem`, `client.pem` and `client.key`.
    pub(super) folder: tempfile::TempDir,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: CertificateDer<'static>,
}

impl Identities {
    /// The server is called `vpn.test`, and its certificate is valid until 18 November of that year.
    pub(super) fn new(until: i32) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let signed = |name: &str, until: i32| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(until, 11, 18);
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, key) = signed("vpn.test", until);
        let (client, client_key) = signed("client.test", 2099);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", ca.pem());
        // As long as a chain can be, so that it does not fit into one packet.
        write("client.pem", [client.pem(), ca.pem(), ca.pem(), ca.pem(), ca.pem()].concat());
        write("client.key", client_key.serialize_pem());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Self { folder, chain: vec![server.der().clone()], key, ca: ca.der().clone() }
    }

    /// A server's side, with one version of TLS, that may want a client's certificate.
    pub(super) fn server(&self, version: &'static SupportedProtocolVersion, wants_client: bool) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.ca.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        Arc::new(builder.with_single_cert(self.chain.clone(), self.key.clone_key()).unwrap()).into()
    }
}
