//! Who may connect, and how: TLS, users, and the files for both.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::{AuthMechanism, ClientOptions, Credential, ServerAddress, Tls as DriverTls, TlsOptions};

use crate::Result;
use crate::certificates::{Authority, Identity, SERVER_NAMES, write};

/// The database in which [`User::midwatch`] may write.
pub const PROBE_DATABASE: &str = "midwatch";

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// Always. A client certificate is not asked for, but one that is presented is verified, and may be used to log in.
    Server,
    /// Always, and clients need a certificate.
    Mutual,
}

/// Authentication and TLS of a server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Access {
    /// Whether users have to log in.
    pub auth: bool,
    /// Encryption.
    pub tls: Tls,
}

/// How a user proves who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256, and no other.
    ScramSha256,
    /// SCRAM-SHA-1, and no other.
    ScramSha1,
    /// The certificate of the TLS connection.
    X509,
}

/// A user of the lab's servers. All but [`User::admin`] have exactly the privileges that midwatch asks for in its documentation.
#[derive(Debug, Clone)]
pub struct User {
    /// The name; for X.509 the certificate's subject.
    pub name: String,
    /// The password; empty for X.509.
    pub password: String,
    /// How they log in.
    pub mechanism: Mechanism,
}

impl User {
    /// May do anything.
    pub fn admin() -> User {
        User::new("admin", "admin's password", Mechanism::ScramSha256)
    }

    /// Logs in with SCRAM-SHA-256.
    pub fn midwatch() -> User {
        User::new("midwatch", "midwatch's password", Mechanism::ScramSha256)
    }

    /// Has only SCRAM-SHA-1 credentials.
    pub fn legacy() -> User {
        User::new("legacy", "legacy's password", Mechanism::ScramSha1)
    }

    /// Logs in with the client certificate in [`Files::client`]. Exists if the server has TLS.
    pub fn x509() -> User {
        User::new("CN=midwatch,OU=clients,O=midwatch lab", "", Mechanism::X509)
    }

    /// Any other user, to be made with `add_user`.
    pub fn new(name: &str, password: &str, mechanism: Mechanism) -> User {
        User { name: name.to_owned(), password: password.to_owned(), mechanism }
    }

    fn credential(&self) -> Credential {
        let mechanism = match self.mechanism {
            Mechanism::X509 => return Credential::builder().mechanism(AuthMechanism::MongoDbX509).build(),
            Mechanism::ScramSha256 => AuthMechanism::ScramSha256,
            Mechanism::ScramSha1 => AuthMechanism::ScramSha1,
        };
        Credential::builder()
            .username(self.name.clone())
            .password(self.password.clone())
            .source("admin".to_owned())
            .mechanism(mechanism)
            .build()
    }

    /// The database to create the user in, and the command that does it, with `roles`.
    pub(super) fn creation(&self, roles: &Document) -> (&'static str, Document) {
        let roles = roles.get("roles").cloned().unwrap_or_else(|| Vec::<Document>::new().into());
        let mechanism = match self.mechanism {
            Mechanism::X509 => return ("$external", doc! { "createUser": &self.name, "roles": roles }),
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha1 => "SCRAM-SHA-1",
        };
        ("admin", doc! { "createUser": &self.name, "pwd": &self.password, "mechanisms": [mechanism], "roles": roles })
    }
}

/// Files that go with a server. The certificates exist also if it does not use TLS.
#[derive(Debug)]
pub struct Files {
    /// The authority's certificate, for `ca_file`.
    pub ca: PathBuf,
    /// The certificate of an authority that signed nothing here.
    pub wrong_ca: PathBuf,
    /// The client certificate of [`User::x509`].
    pub client: Identity,
    /// A client certificate from the wrong authority.
    pub stranger: Identity,
    server: Identity,
    key_file: PathBuf,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Result<Files> {
        const YEAR: time::Duration = time::Duration::days(365);
        let authority = Authority::new(folder, "ca")?;
        let other = Authority::new(folder, "wrong-ca")?;
        Ok(Files {
            ca: authority.certificate().to_owned(),
            wrong_ca: other.certificate().to_owned(),
            client: authority.issue("clients", "midwatch", &[], YEAR)?,
            stranger: other.issue("clients", "stranger", &[], YEAR)?,
            server: authority.issue("servers", "mongod", &SERVER_NAMES, YEAR)?,
            key_file: write(folder, "keyfile", "bWlkd2F0Y2ggbGFiIG1lbWJlcnMK\n")?,
        })
    }
}

impl Access {
    /// The users that a server has, beside the administrator.
    pub(super) fn users(self) -> Vec<User> {
        let mut users = vec![User::midwatch(), User::legacy()];
        if self.tls != Tls::Off {
            users.push(User::x509());
        }
        users
    }

    /// The command line options of a member of a set.
    pub(super) fn arguments(self, files: &Files, in_set: bool) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        if self.auth && in_set {
            arguments.extend(["--keyFile".into(), files.key_file.clone().into()]);
        } else if self.auth {
            arguments.push("--auth".into());
        }
        if self.tls != Tls::Off {
            arguments.extend(["--tlsMode".into(), "requireTLS".into()]);
            arguments.extend(["--tlsCertificateKeyFile".into(), files.server.combined.clone().into()]);
            arguments.extend(["--tlsCAFile".into(), files.ca.clone().into()]);
        }
        if self.tls == Tls::Server {
            arguments.push("--tlsAllowConnectionsWithoutCertificates".into());
        }
        arguments
    }

    /// A client of one server. It is lazy: nothing is sent before the first command.
    pub(super) fn client(self, files: &Files, port: u16, user: Option<&User>) -> Result<Client> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let tls = (self.tls != Tls::Off).then(|| {
            let mut options = TlsOptions::builder().ca_file_path(files.ca.clone()).build();
            options.cert_key_file_path = Some(files.client.combined.clone());
            DriverTls::Enabled(options)
        });
        let mut options = ClientOptions::builder()
            .hosts(vec![ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: Some(port) }])
            .app_name("lab".to_owned())
            .direct_connection(true)
            .connect_timeout(PATIENCE)
            .server_selection_timeout(PATIENCE)
            .build();
        options.tls = tls;
        options.credential = user.map(User::credential);
        Ok(Client::with_options(options)?)
    }
}
