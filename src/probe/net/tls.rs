//! TLS handshakes that end in the right reason and show the peer's certificate even when it is refused.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, InvalidMessage, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::certificate::{CertInfo, explain};
use super::tls_verify::{Seen, Unsigned, Witness};
use super::{Failure, Net, Reason, clean};

/// A TLS session, over TCP unless something else carries it.
pub type TlsStream<S = TcpStream> = tokio_rustls::client::TlsStream<S>;

/// What a handshake showed.
pub struct Shown<S> {
    /// What became of it.
    pub result: Result<TlsStream<S>, Failure>,
    /// The peer's certificate, as soon as the peer showed one.
    pub leaf: Option<CertInfo>,
    /// Which version of TLS the peer chose, as soon as it showed its certificate.
    pub version: Option<&'static str>,
}

/// How a probe wants its TLS.
#[derive(Default)]
pub struct TlsOptions<'a> {
    /// The trusted roots as PEM; `None` is the system's store.
    pub ca: Option<&'a [u8]>,
    /// What to show to a peer that asks for a certificate.
    pub client: Option<ClientCertificate<'a>>,
    /// The name that the certificate must be for, instead of the host's.
    pub server_name: Option<&'a str>,
    /// Accept every certificate. The connection can then be read and answered by anybody on the way, credentials
    /// included; the expiry is still reported.
    pub insecure: bool,
    /// Accept this certificate (DER) and no other, whoever signed it and whatever its name: that of a server on this machine.
    pub only: Option<&'a [u8]>,
}

/// A client's certificate chain and its key, both as PEM. MongoDB's custom of one file with both works: pass it twice.
#[derive(Clone, Copy)]
pub struct ClientCertificate<'a> {
    /// The chain, leaf first.
    pub chain: &'a [u8],
    /// The key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: &'a [u8],
}

/// The TLS side of a probe. Every handshake is a full one: resumption is off, because a new connection is what is
/// measured.
pub struct Tls {
    net: Net,
    parts: Parts,
    server_name: Option<ServerName<'static>>,
    /// Whether the name in the certificate matters where none is configured.
    is_named: bool,
    /// Made at the first use, because it may need the system's roots.
    ready: OnceCell<Ready>,
}

/// What was read from the options.
struct Parts {
    roots: Option<Arc<RootCertStore>>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    insecure: bool,
    only: Option<CertificateDer<'static>>,
}

struct Ready {
    config: ClientConfig,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).field("insecure", &self.parts.insecure).finish()
    }
}

impl Tls {
    /// Reads the options. No I/O: the system's roots, if they are needed, are read at the first use.
    ///
    /// # Errors
    /// What is wrong with a PEM text or the server name, in words.
    pub fn new(options: &TlsOptions<'_>, net: &Net) -> Result<Self, String> {
        let roots = options.ca.map(roots_from_pem).transpose()?.map(Arc::new);
        let client = options.client.map(client_from_pem).transpose()?;
        if let Some((chain, key)) = &client {
            // Found out now rather than at the first run: a key that does not belong to the certificate.
            let store = RootCertStore::empty();
            builder()?
                .with_root_certificates(store)
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| format!("the client certificate cannot be used: {error}"))?;
        }
        let server_name = options.server_name.map(server_name).transpose()?;
        let only = options.only.map(|only| CertificateDer::from(only.to_vec()));
        let parts = Parts { roots, client, insecure: options.insecure, only };
        Ok(Self { net: net.clone(), parts, server_name, is_named: true, ready: OnceCell::new() })
    }

    /// The same for a protocol whose clients do not look at the name in a certificate unless they are told one: whoever has a
    /// certificate of the authority is believed. Nor is the host's name sent.
    pub fn of_any_name(self) -> Self {
        Self { is_named: false, ..self }
    }

    /// Does what is done once, so that it is not part of a measured handshake: reads the system's roots.
    ///
    /// # Errors
    /// `local` if the system has no roots and the options name none.
    pub async fn prepare(&self) -> Result<(), Failure> {
        self.ready().await.map(|_| ())
    }

    /// A handshake with `host` over a fresh connection. The second value is the peer's certificate as soon as the peer
    /// showed one, whatever became of the handshake.
    pub async fn handshake(&self, stream: TcpStream, host: &str) -> (Result<TlsStream, Failure>, Option<CertInfo>) {
        let shown = self.examine(stream, host, None).await;
        (shown.result, shown.leaf)
    }

    /// The same over any stream, with all that the handshake showed. One that is not done at its end is a `timeout`, and
    /// what it showed is not lost.
    pub async fn examine<S>(&self, stream: S, host: &str, ends: Option<Instant>) -> Shown<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |failure| Shown { result: Err(failure), leaf: None, version: None };
        let ready = match self.ready().await {
            Ok(ready) => ready,
            Err(failure) => return failed(failure),
        };
        let name = match self.server_name.clone().map_or_else(|| server_name(host), Ok) {
            Ok(name) => name,
            Err(words) => return failed(Failure::new(Reason::Tls, words)),
        };
        let seen = Arc::new(Seen::default());
        // All parts of a configuration are shared; a copy costs well under a microsecond.
        let mut config = ready.config.clone();
        let is_named = self.is_named || self.server_name.is_some();
        let witness = Witness { verifier: ready.verifier.clone(), seen: seen.clone(), is_named };
        config.dangerous().set_certificate_verifier(Arc::new(witness));
        config.key_log = seen.clone();
        config.enable_sni = is_named;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let result = match ends {
            Some(ends) => timeout_at(ends, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => connecting.await,
        };
        let leaf = seen.leaf.get().and_then(|der| CertInfo::from_der(der));
        let result = result.map_err(|error| handshake_failure(host, leaf.as_ref(), &error));
        Shown { result, leaf, version: seen.version() }
    }

    async fn ready(&self) -> Result<&Ready, Failure> {
        self.ready.get_or_try_init(|| self.build()).await
    }

    async fn build(&self) -> Result<Ready, Failure> {
        let internal = |words: String| Failure::new(Reason::Internal, clean(&words));
        let verifier: Arc<dyn ServerCertVerifier> = if self.parts.insecure || self.parts.only.is_some() {
            Arc::new(Unsigned { provider: provider(), only: self.parts.only.clone() })
        } else {
            let roots = match &self.parts.roots {
                Some(roots) => roots.clone(),
                None => self.net.roots().await?.clone(),
            };
            WebPkiServerVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| internal(error.to_string()))?
        };
        let builder = builder().map_err(internal)?.dangerous().with_custom_certificate_verifier(verifier.clone());
        let mut config = match &self.parts.client {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| internal(error.to_string()))?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Ready { config, verifier })
    }
}

/// Classifies an error of reading or writing, which over TLS can also be an alert: a peer of TLS 1.3 refuses a client's
/// certificate only after the handshake.
pub fn read_failure(what: &str, error: &io::Error) -> Failure {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => {
            Failure::new(Reason::Tls, format!("{what}: the peer ended TLS with the alert {alert:?}"))
        }
        Some(error) => Failure::new(Reason::Tls, clean(&format!("{what}: {error}"))),
        None => Failure::io(what, error),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn handshake_failure(host: &str, leaf: Option<&CertInfo>, error: &io::Error) -> Failure {
    let words = match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(error)) => {
            return Failure::new(Reason::Certificate, explain(host, leaf, error));
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            return Failure::new(Reason::Certificate, clean(&format!("{host} showed no certificate")));
        }
        Some(rustls::Error::AlertReceived(alert)) => format!("{host} refused the handshake with the alert {alert:?}"),
        Some(rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        )) => format!("{host} does not speak TLS on this port"),
        Some(rustls::Error::PeerIncompatible(why)) => format!("{host} has no TLS in common with us: {why:?}"),
        Some(other) => format!("TLS handshake with {host}: {other}"),
        None => {
            let failure = Failure::io("TLS handshake", error);
            let hint = match failure.reason {
                Reason::Closed => format!("{host} closed the connection during the TLS handshake; does it speak TLS?"),
                _ => failure.detail.into_owned(),
            };
            return Failure::new(failure.reason, clean(&hint));
        }
    };
    Failure::new(Reason::Tls, clean(&words))
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider())).clone()
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(|e| e.to_string())
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.trim_end_matches('.').to_owned())
        .map_err(|_| clean(&format!("{host:?} is not a name that a certificate can be for")))
}

fn roots_from_pem(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem) {
        let cert = cert.map_err(|error| format!("the CA file is not PEM: {error}"))?;
        roots.add(cert).map_err(|error| format!("the CA file holds something that cannot be a root: {error}"))?;
    }
    if roots.is_empty() {
        return Err("the CA file holds no certificate".to_owned());
    }
    Ok(roots)
}

fn client_from_pem(
    client: ClientCertificate<'_>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(client.chain)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the client certificate is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the client certificate file holds no certificate".to_owned());
    }
    // The parser's own errors are not shown: they could quote the file.
    let key = PrivateKeyDer::from_pem_slice(client.key)
        .map_err(|_| "the client key file holds no usable private key (PKCS#8, PKCS#1 or SEC1, not encrypted)")?;
    Ok((chain, key))
}

/// Reads the system's roots. Blocks.
pub(super) fn native_roots() -> Result<Arc<RootCertStore>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        let words = format!("this system has no trusted root certificates{why}: install them or name a CA file");
        return Err(Failure::new(Reason::Local, clean(&words)));
    }
    Ok(Arc::new(roots))
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
