//! Who may connect, and how: TLS, users, and the files for both.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;

use crate::Result;
use crate::certificates::{Authority, Identity, SERVER_NAMES};

/// How connections of clients are encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// Always.
    Server,
    /// Always, and clients need a certificate. Without SASL its common name is the user.
    Mutual,
}

/// How a user proves who they are. Every user of the lab may use any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
    /// The password as it is.
    Plain,
    /// A token, which the lab's brokers take without a signature: see [`User::token`].
    OauthBearer,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Mechanism; 4] =
        [Mechanism::ScramSha256, Mechanism::ScramSha512, Mechanism::Plain, Mechanism::OauthBearer];

    /// The name that Kafka, and every client's configuration, has for it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::Plain => "PLAIN",
            Mechanism::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// A user of the lab's brokers.
#[derive(Debug, Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password, for every mechanism that has one.
    pub password: String,
}

impl User {
    /// May do anything.
    pub fn admin() -> User {
        User::new("admin", "admin's password")
    }

    /// May DESCRIBE the cluster, all topics and all groups, and nothing else.
    pub fn midwatch() -> User {
        User::new("midwatch", "midwatch's password")
    }

    /// May create, describe, write and read topics whose name starts with `midwatch`.
    pub fn canary() -> User {
        User::new("canary", "canary's password")
    }

    /// May log in and do nothing.
    pub fn nobody() -> User {
        User::new("nobody", "nobody's password")
    }

    fn new(name: &str, password: &str) -> User {
        User { name: name.to_owned(), password: password.to_owned() }
    }

    fn all() -> [User; 4] {
        [User::admin(), User::midwatch(), User::canary(), User::nobody()]
    }

    /// A token for this user that is good for so many seconds: an unsecured JWS (RFC 7515, appendix A.5).
    pub fn token(&self, seconds: i64) -> String {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let claims = format!(r#"{{"sub":"{}","iat":{now},"exp":{}}}"#, self.name, now + seconds);
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }
}

/// Files that go with a cluster. The certificates exist also if it does not use TLS.
#[derive(Debug)]
pub struct Files {
    /// The authority's certificate, for `ca_file`.
    pub ca: PathBuf,
    /// The certificate of an authority that signed nothing here.
    pub wrong_ca: PathBuf,
    /// A client certificate whose common name is that of [`User::midwatch`].
    pub client: Identity,
    /// A client certificate from the wrong authority.
    pub stranger: Identity,
    server: Identity,
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
            server: authority.issue("servers", "broker", &SERVER_NAMES, YEAR)?,
        })
    }
}

/// Authentication and TLS of the listener for clients.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Access {
    pub(super) sasl: bool,
    pub(super) tls: Tls,
}

impl Access {
    /// What Kafka calls the protocol of the listener.
    pub(super) fn protocol(self) -> &'static str {
        match (self.sasl, self.tls) {
            (false, Tls::Off) => "PLAINTEXT",
            (false, _) => "SSL",
            (true, Tls::Off) => "SASL_PLAINTEXT",
            (true, _) => "SASL_SSL",
        }
    }

    /// Whether brokers know who a client is, and so whether there are rights to check.
    pub(super) fn authorizes(self) -> bool {
        self.sasl || self.tls == Tls::Mutual
    }

    /// The properties of a broker that this takes.
    pub(super) fn properties(self, files: &Files) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut set = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
        if self.authorizes() {
            set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
            // Whoever uses the internal listener is anonymous.
            set("super.users", "User:ANONYMOUS;User:admin");
        }
        if self.tls != Tls::Off {
            let of_client = |name: &str| format!("listener.name.client.ssl.{name}");
            set(&of_client("keystore.type"), "PEM");
            set(&of_client("keystore.location"), &files.server.combined.display().to_string());
            set(&of_client("truststore.type"), "PEM");
            set(&of_client("truststore.location"), &files.ca.display().to_string());
            set(&of_client("client.auth"), if self.tls == Tls::Mutual { "required" } else { "none" });
            set(&of_client("principal.mapping.rules"), "RULE:^CN=([^,]+),.*$/$1/");
        }
        if self.sasl {
            let names = Mechanism::ALL.map(Mechanism::name).join(",");
            set("listener.name.client.sasl.enabled.mechanisms", &names);
            for mechanism in Mechanism::ALL {
                let name = mechanism.name().to_lowercase();
                set(&format!("listener.name.client.{name}.sasl.jaas.config"), &login_module(mechanism));
            }
        }
        all
    }

    /// The arguments with which a broker's folder is formatted, so that it knows the users' SCRAM credentials from the start.
    pub(super) fn format_arguments(self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.sasl {
            for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
                for User { name, password } in User::all() {
                    let credential = format!(r#"{}=[name="{name}",password="{password}"]"#, mechanism.name());
                    arguments.extend(["--add-scram".to_owned(), credential]);
                }
            }
        }
        arguments
    }
}

/// What Java's configuration of logins says on the server's side.
fn login_module(mechanism: Mechanism) -> String {
    const PACKAGE: &str = "org.apache.kafka.common.security";
    match mechanism {
        Mechanism::ScramSha256 | Mechanism::ScramSha512 => format!("{PACKAGE}.scram.ScramLoginModule required;"),
        Mechanism::OauthBearer => format!("{PACKAGE}.oauthbearer.OAuthBearerLoginModule required;"),
        Mechanism::Plain => {
            let users = User::all().map(|User { name, password }| format!(r#" user_{name}="{password}""#));
            format!("{PACKAGE}.plain.PlainLoginModule required{};", users.concat())
        }
    }
}
