//! `tls_server_config`: from keys and PEM files to what a server's handshakes follow.

use std::sync::Arc;

use rustls::crypto::ring::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    ConfigBuilder, InconsistentKeys, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    WantsVerifier,
};

use super::client::{AllowedNames, AnyClient};
use super::fields::{Fields, one_of};
use crate::settings::Content;

/// The names of Go for the suites of TLS 1.2 that rustls has.
const SUITES: [(&str, SupportedCipherSuite); 6] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Those of TLS 1.3, which Go accepts in the list and always offers, whatever the list says.
const SUITES_13: [(&str, SupportedCipherSuite); 3] = [
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// The versions in order.
const VERSIONS: [(&str, u8); 2] = [("TLS12", 2), ("TLS13", 3)];

/// Versions that the toolkit knows and that are not spoken here.
const OLD_VERSIONS: [&str; 2] = ["TLS10", "TLS11"];

/// Go's policies for certificates of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientAuth {
    None,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl ClientAuth {
    const NAMES: [(&'static str, Self); 5] = [
        ("NoClientCert", Self::None),
        ("RequestClientCert", Self::Request),
        ("RequireAnyClientCert", Self::RequireAny),
        ("VerifyClientCertIfGiven", Self::VerifyIfGiven),
        ("RequireAndVerifyClientCert", Self::RequireAndVerify),
    ];

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }

    fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }
}

/// A PEM text, and where the key is that names or holds it.
struct Pem<'n> {
    key: &'static str,
    offset: usize,
    bytes: Bytes<'n>,
}

enum Bytes<'n> {
    File(Arc<Content>),
    Inline(&'n str),
}

impl Pem<'_> {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::File(content) => content.bytes(),
            Bytes::Inline(text) => text.as_bytes(),
        }
    }
}

/// What was found under two keys of which one is to be given.
enum Found<'n> {
    Nothing,
    /// Something that cannot be used, which is recorded, or that may be missing and is.
    Unusable,
    Pem(Pem<'n>),
}

/// Reads the table. `None` if it is empty, has problems, which are then recorded, or names a file that may be missing
/// and is. The hashes of the files are added to `hashes`. The second value is what clients are shown.
pub(super) fn read(
    fields: &mut Fields<'_, '_>,
    hashes: &mut Vec<[u8; 32]>,
) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
    let before = fields.source().count();
    let cert = pem(fields, ("cert_file", "cert"), hashes);
    let key = pem(fields, ("key_file", "key"), hashes);
    let ca = pem(fields, ("client_ca_file", "client_ca"), hashes);
    let auth = client_auth(fields, &ca);
    let names = allowed_names(fields, auth);
    let versions = versions(fields);
    let (suites, groups) = (suites(fields), groups(fields));
    let in_our_order = fields.boolean("prefer_server_cipher_suites").unwrap_or(true);
    fields.finish();
    if fields.entries().is_empty() {
        return None;
    }
    for (found, file, inline) in [(&cert, "cert_file", "cert"), (&key, "key_file", "key")] {
        if matches!(found, Found::Nothing) {
            fields.problem(fields.offset(), format!("missing field `{file}` or `{inline}`"));
        }
    }
    let chain = match &cert {
        Found::Pem(pem) => certificates(fields, pem),
        _ => None,
    };
    let roots = match &ca {
        Found::Pem(pem) => roots(fields, pem),
        _ => None,
    };
    let key = match &key {
        Found::Pem(pem) => private_key(fields, pem),
        _ => None,
    };
    // Without the authority, which may be missing in a check, nothing is built that would trust nobody or anybody.
    if fields.source().count() > before || matches!(ca, Found::Unusable) {
        return None;
    }
    let provider = CryptoProvider { cipher_suites: suites, kx_groups: groups, ..ring::default_provider() };
    let offset = fields.offset();
    let problem = |error: rustls::Error| fields.problem(offset, explain(&error));
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions);
    let builder = builder.map_err(problem).ok()?;
    let verifier = verifier(auth, roots, names, &provider).map_err(|why| fields.problem(offset, why)).ok()?;
    let chain = chain?;
    let leaf = chain.first()?.clone();
    let mut config = finish(builder, verifier, chain, key?).map_err(problem).ok()?;
    config.ignore_client_order = in_our_order;
    Some((Arc::new(config), leaf))
}

fn finish(
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let verifies = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if verifies {
        // A resumed session would not look at the client's certificate again, which may have expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// In words that repeat nothing of the files.
fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the private key does not belong to the certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(_) => {
            "the certificate is broken or of a kind that is not supported".to_owned()
        }
        other => format!("certificate, key, versions and cipher suites cannot be used together: {other}"),
    }
}

/// What one of two keys names or holds.
fn pem<'n>(
    fields: &mut Fields<'n, '_>,
    (file, inline): (&'static str, &'static str),
    hashes: &mut Vec<[u8; 32]>,
) -> Found<'n> {
    match (fields.text(file), fields.text(inline)) {
        (Some(_), Some(text)) => {
            fields.invalid(inline, text.offset, &format!("either this or `{file}`, not both"));
            Found::Unusable
        }
        (Some(path), None) => {
            let source = fields.source();
            match source.read(&source.resolve(path.text)) {
                Ok(Some(content)) => {
                    hashes.push(*content.hash());
                    Found::Pem(Pem { key: file, offset: path.offset, bytes: Bytes::File(content) })
                }
                Ok(None) => Found::Unusable,
                Err(why) => {
                    fields.invalid(file, path.offset, &why);
                    Found::Unusable
                }
            }
        }
        (None, Some(text)) => Found::Pem(Pem { key: inline, offset: text.offset, bytes: Bytes::Inline(text.text) }),
        (None, None) => Found::Nothing,
    }
}

/// The parser's own errors are not shown, here and below: they could quote the file.
fn certificates(fields: &Fields<'_, '_>, pem: &Pem<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.bytes()).collect();
    let why = match chain {
        Ok(chain) if !chain.is_empty() => return Some(chain),
        Ok(_) => "holds no certificate in PEM",
        Err(_) => "is not PEM",
    };
    fields.invalid(pem.key, pem.offset, why);
    None
}

fn private_key(fields: &Fields<'_, '_>, pem: &Pem<'_>) -> Option<PrivateKeyDer<'static>> {
    let key = PrivateKeyDer::from_pem_slice(pem.bytes());
    if key.is_err() {
        let why = "holds no usable private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)";
        fields.invalid(pem.key, pem.offset, why);
    }
    key.ok()
}

fn roots(fields: &Fields<'_, '_>, pem: &Pem<'_>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(fields, pem)? {
        if roots.add(cert).is_err() {
            fields.invalid(pem.key, pem.offset, "holds a certificate that cannot be an authority");
            return None;
        }
    }
    Some(roots)
}

fn client_auth(fields: &mut Fields<'_, '_>, ca: &Found<'_>) -> ClientAuth {
    let Some(text) = fields.text("client_auth_type") else {
        if !matches!(ca, Found::Nothing) {
            let why = "an authority for clients without `client_auth_type`, which would not ask for certificates";
            fields.problem(fields.offset(), why);
        }
        return ClientAuth::None;
    };
    // The toolkit's old name.
    let name = if text.text == "RequireClientCert" { "RequireAnyClientCert" } else { text.text };
    match one_of(name, &ClientAuth::NAMES) {
        Ok(auth) => {
            let has_ca = !matches!(ca, Found::Nothing);
            if auth.verifies() && !has_ca {
                // Go would verify with the system's authorities, which vouch for anybody who has a domain.
                fields.invalid("client_auth_type", text.offset, "needs `client_ca_file` or `client_ca`");
            } else if auth == ClientAuth::None && has_ca {
                let why = "an authority for clients is given, but this does not ask for certificates";
                fields.invalid("client_auth_type", text.offset, why);
            }
            auth
        }
        Err(why) => {
            fields.invalid("client_auth_type", text.offset, &why);
            ClientAuth::None
        }
    }
}

fn allowed_names(fields: &mut Fields<'_, '_>, auth: ClientAuth) -> Option<Vec<String>> {
    const KEY: &str = "client_allowed_sans";
    let offset = fields.node(KEY)?.offset;
    let names = fields.texts(KEY)?;
    if !auth.requires() {
        let why = "needs `client_auth_type` RequireAndVerifyClientCert or RequireAnyClientCert";
        fields.invalid(KEY, offset, why);
    }
    if names.is_empty() {
        fields.invalid(KEY, offset, "an empty list allows nobody");
    }
    Some(names.iter().map(|name| name.text.to_owned()).collect())
}

fn verifier(
    auth: ClientAuth,
    roots: Option<RootCertStore>,
    names: Option<Vec<String>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let any = |roots: Option<&RootCertStore>, mandatory| -> Arc<dyn ClientCertVerifier> {
        Arc::new(AnyClient::new(mandatory, roots, provider.signature_verification_algorithms))
    };
    let verifier = match auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::Request => any(roots.as_ref(), false),
        ClientAuth::RequireAny => any(roots.as_ref(), true),
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let roots = Arc::new(roots.unwrap_or_else(RootCertStore::empty));
            let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            let builder = if auth.requires() { builder } else { builder.allow_unauthenticated() };
            builder.build().map_err(|error| format!("clients' certificates cannot be verified: {error}"))?
        }
    };
    Ok(Some(match names {
        Some(names) => Arc::new(AllowedNames::new(verifier, names)),
        None => verifier,
    }))
}

fn versions(fields: &mut Fields<'_, '_>) -> Vec<&'static SupportedProtocolVersion> {
    let mut bound = |key: &'static str, default| {
        let Some(text) = fields.text(key) else { return default };
        let version = if OLD_VERSIONS.contains(&text.text) {
            Err("expected TLS12 or TLS13; older versions are not spoken here".to_owned())
        } else {
            one_of(text.text, &VERSIONS)
        };
        version.map_err(|why| fields.invalid(key, text.offset, &why)).unwrap_or(default)
    };
    let (min, max) = (bound("min_version", 2), bound("max_version", 3));
    if min > max {
        fields.problem(fields.offset(), "`min_version` is above `max_version`");
    }
    let all = [(2, &rustls::version::TLS12), (3, &rustls::version::TLS13)];
    all.into_iter().filter(|(n, _)| (min..=max).contains(n)).map(|(_, version)| version).collect()
}

fn suites(fields: &mut Fields<'_, '_>) -> Vec<SupportedCipherSuite> {
    const KEY: &str = "cipher_suites";
    let listed = fields.texts(KEY).unwrap_or_default();
    if listed.is_empty() {
        return ring::default_provider().cipher_suites;
    }
    let mut suites: Vec<_> = SUITES_13.iter().map(|(_, suite)| *suite).collect();
    for text in &listed {
        let known = || SUITES.iter().chain(&SUITES_13).copied().collect::<Vec<_>>();
        match known().iter().find(|(name, _)| *name == text.text) {
            Some((_, suite)) if suites.contains(suite) => {}
            Some((_, suite)) => suites.push(*suite),
            None => {
                let hint = crate::settings::nearest(text.text, known().iter().map(|(name, _)| *name));
                let hint = hint.map_or(String::new(), |name| format!("; did you mean {name}?"));
                let why = format!("not a cipher suite that is spoken here{hint}");
                fields.invalid(KEY, text.offset, &why);
            }
        }
    }
    suites
}

fn groups(fields: &mut Fields<'_, '_>) -> Vec<&'static dyn SupportedKxGroup> {
    const KEY: &str = "curve_preferences";
    let known: [(&str, &'static dyn SupportedKxGroup); 3] =
        [("X25519", kx_group::X25519), ("CurveP256", kx_group::SECP256R1), ("CurveP384", kx_group::SECP384R1)];
    let listed = fields.texts(KEY).unwrap_or_default();
    if listed.is_empty() {
        return ring::default_provider().kx_groups;
    }
    let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for text in &listed {
        match one_of(text.text, &known) {
            Ok(group) if groups.iter().any(|known| known.name() == group.name()) => {}
            Ok(group) => groups.push(group),
            Err(why) => fields.invalid(KEY, text.offset, &why),
        }
    }
    groups
}
