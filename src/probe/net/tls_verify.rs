//! Who judges a peer's certificate, and what is seen of a handshake meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, KeyLog, SignatureScheme};

/// What has been seen of a handshake, which a handshake that fails does not say afterwards.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) leaf: OnceLock<Vec<u8>>,
    is_tls13: AtomicBool,
}

impl Seen {
    /// The version, once there is a certificate. There are only two of which `builder` in tls.rs lets the peer choose.
    pub(super) fn version(&self) -> Option<&'static str> {
        self.leaf.get()?;
        Some(if self.is_tls13.load(Ordering::Relaxed) { "TLSv1.3" } else { "TLSv1.2" })
    }
}

/// Asked for a secret by its name before there is a certificate to judge, only TLS 1.3 having one then (RFC 8446, section 7.1).
/// No secret is ever taken.
impl KeyLog for Seen {
    fn log(&self, _label: &str, _client_random: &[u8], _secret: &[u8]) {}

    fn will_log(&self, label: &str) -> bool {
        if label == "SERVER_HANDSHAKE_TRAFFIC_SECRET" {
            self.is_tls13.store(true, Ordering::Relaxed);
        }
        false
    }
}

/// Keeps the peer's certificate before anybody judges it.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) verifier: Arc<dyn ServerCertVerifier>,
    pub(super) seen: Arc<Seen>,
    /// Whether the certificate must be for the name.
    pub(super) is_named: bool,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.leaf.get_or_init(|| end_entity.to_vec());
        let verdict = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The verifier looks at the name last, when all else is good (`WebPkiServerVerifier` in rustls).
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.is_named => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Accepts a certificate whose key the peer holds, whoever signed it: every one, or only one; see
/// [`TlsOptions::insecure`](super::TlsOptions::insecure) and [`TlsOptions::only`](super::TlsOptions::only).
#[derive(Debug)]
pub(super) struct Unsigned {
    pub(super) provider: Arc<CryptoProvider>,
    /// The one; `None` is every one.
    pub(super) only: Option<CertificateDer<'static>>,
}

impl ServerCertVerifier for Unsigned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.only.as_ref().is_some_and(|only| only != end_entity) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
