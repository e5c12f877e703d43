//! The table `tls` of a probe's configuration.

use super::{ClientCertificate, Net, Tls, TlsOptions};
use crate::settings::{FileContent, Section};

/// How a probe's TLS is done: the keys below `tls`.
#[derive(Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// Who is trusted instead of the system's roots.
    pub ca: Option<FileContent>,
    /// A client's chain and key; one file with both is the same file twice.
    pub client: Option<(FileContent, FileContent)>,
    /// The name that the certificate must be for, instead of the host's.
    pub server_name: Option<String>,
    /// Whether every certificate is accepted.
    pub insecure: bool,
}

impl TlsConfig {
    /// Reads the key `tls`: `true`, `false` or a table. `None` is no TLS.
    pub fn read(section: &mut Section<'_>, default: bool) -> Option<Self> {
        if section.has("tls") && !section.is_table("tls") {
            return section.optional::<bool>("tls")?.then(Self::default);
        }
        if !section.has("tls") {
            // Asked for, so that it is one of the keys that are known.
            section.ignore("tls");
            return default.then(Self::default);
        }
        section.section("tls", |tls| {
            let chain = tls.optional::<FileContent>("cert_file");
            let key = tls.optional::<FileContent>("key_file");
            if tls.has("key_file") && !tls.has("cert_file") {
                tls.problem(Some("key_file"), "`key_file`: needs a `cert_file`");
            }
            let client = chain.map(|chain| {
                let key = key.unwrap_or_else(|| chain.clone());
                (chain, key)
            });
            Some(Self {
                ca: tls.optional("ca_file"),
                client,
                server_name: tls.optional("server_name"),
                insecure: tls.or("insecure", false),
            })
        })
    }

    /// The TLS side of a probe. No I/O.
    ///
    /// # Errors
    /// What is wrong with a certificate, a key or the name, in words.
    pub fn build(&self, net: &Net) -> Result<Tls, String> {
        // Where only the configuration is checked, without its secret files, there is nothing to read.
        let there = |file: &FileContent| !file.is_placeholder();
        let client = self.client.as_ref().filter(|(chain, key)| there(chain) && there(key));
        let options = TlsOptions {
            ca: self.ca.as_ref().filter(|file| there(file)).map(FileContent::bytes),
            client: client.map(|(chain, key)| ClientCertificate { chain: chain.bytes(), key: key.bytes() }),
            server_name: self.server_name.as_deref(),
            insecure: self.insecure,
            only: None,
        };
        Tls::new(&options, net)
    }
}
