//! A certificate authority for tests: certificates in PEM files, as servers and configurations want them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::{Error, Result};

/// The names that a server's certificate is good for. 127.0.2.1 and above reach the same server and are *not* among them, for tests
/// of a certificate that does not fit.
pub const SERVER_NAMES: [&str; 11] = [
    "localhost",
    "127.0.0.1",
    "127.0.1.1",
    "127.0.1.2",
    "127.0.1.3",
    "127.0.1.4",
    "127.0.1.5",
    "127.0.1.6",
    "127.0.1.7",
    "127.0.1.8",
    "127.0.1.9",
];

/// An authority. Its key is only in memory.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    certificate: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The subject as RFC 2253 writes it, which is what MongoDB calls the user.
    pub subject: String,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, PKCS #8.
    pub key: PathBuf,
    /// Both in one file, as MongoDB's own tools want them.
    pub combined: PathBuf,
}

impl Authority {
    /// Makes an authority and writes its certificate to `NAME.pem` in `folder`.
    pub fn new(folder: &Path, name: &str) -> Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name("authorities", name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let certificate = write(folder, &format!("{name}.pem"), &issuer.pem())?;
        Ok(Authority { issuer, folder: folder.to_owned(), certificate })
    }

    /// The authority's own certificate, for `ca_file`.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Issues a certificate, good for servers and clients, that ends `valid` from now (in the past, if negative). `names` are host
    /// names and addresses.
    pub fn issue(&self, unit: &str, name: &str, names: &[&str], valid: Duration) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = distinguished_name(unit, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = OffsetDateTime::now_utc() + valid;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        Ok(Identity {
            subject: format!("CN={name},OU={unit},O=midwatch lab"),
            combined: write(&self.folder, &format!("{unit}-{name}.pem"), &format!("{certificate}{key}"))?,
            certificate: write(&self.folder, &format!("{unit}-{name}.crt"), &certificate)?,
            key: write(&self.folder, &format!("{unit}-{name}.key"), &key)?,
        })
    }
}

/// MongoDB takes a client for a member of the set if O and OU are those of the server's certificate: hence the unit.
fn distinguished_name(unit: &str, name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::OrganizationName, "midwatch lab");
    full.push(DnType::OrganizationalUnitName, unit);
    full.push(DnType::CommonName, name);
    full
}

/// Writes a file that only the owner may read: mongod refuses keys that others can.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
        .map_err(Error::io(path.display().to_string()))?;
    Ok(path)
}
