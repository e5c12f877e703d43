//! For tests: a probe from its keys, runs of it, and what they recorded.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::Vpn;
use super::config::Config;
use crate::probe::testing;
use crate::settings::Files;

/// A VPN probe, and the series of its runs.
pub(super) type Bench = testing::Bench<Vpn>;

/// What the keys amount to, or all that is wrong with them. Files are looked for in `folder`.
pub(super) fn config(folder: &Path, keys: &str) -> Result<Config, Vec<String>> {
    testing::config(folder, keys, &Files::new(false))
}

/// The same with missing files replaced, as a check without secrets does.
pub(super) fn config_without_secrets(folder: &Path, keys: &str) -> Result<Config, Vec<String>> {
    testing::config(folder, keys, &Files::new(true))
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
