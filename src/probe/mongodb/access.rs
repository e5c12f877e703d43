//! The keys by which a deployment is reached: where its members are, TLS, and who logs in. Whatever talks to MongoDB has them.

use std::collections::HashSet;

use crate::probe::Failure;
use crate::probe::net::{Net, TlsConfig};
use crate::settings::{Endpoint, HostPort, Invalid, Item, Secret, Section, Value};

/// MongoDB's own port, which an address may leave out.
const PORT: u16 = 27017;

/// How a deployment is reached.
#[derive(Debug, PartialEq)]
pub struct Access {
    pub(super) seeds: Seeds,
    pub(super) tls: Option<TlsConfig>,
    pub(super) login: Login,
}

impl Access {
    /// Reads `hosts` or `srv`, `tls`, and the keys of the login.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let seeds = read_seeds(section);
        // What MongoDB's drivers do by default: TLS for `srv` and none for `hosts`.
        let tls = TlsConfig::read(section, section.has("srv"));
        let login = read_login(section, tls.as_ref());
        Some(Self { seeds: seeds?, tls, login: login? })
    }
}

/// Where members are looked for.
#[derive(Debug, PartialEq)]
pub(super) enum Seeds {
    /// These members.
    Hosts(Vec<HostPort>),
    /// Those that the SRV records of this name list at each run.
    Srv(String),
}

impl Seeds {
    /// Whether both are likely to lead to the same deployment.
    pub(super) fn overlap(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hosts(hosts), Self::Hosts(others)) => hosts.iter().any(|host| others.contains(host)),
            _ => self == other,
        }
    }

    /// The members that the operator named, or that the SRV records list now, as `host:port`.
    ///
    /// # Errors
    /// `resolve`.
    pub(super) async fn look_up(&self, net: &Net) -> Result<Vec<String>, Failure> {
        match self {
            Self::Hosts(hosts) => Ok(hosts.iter().map(ToString::to_string).collect()),
            Self::Srv(name) => {
                let hosts = net.resolve_srv(name).await?;
                Ok(hosts.into_iter().map(|(host, port)| format!("{host}:{port}")).collect())
            }
        }
    }
}

/// How a new connection authenticates.
#[derive(Debug, PartialEq)]
pub(super) enum Login {
    /// Not at all.
    None,
    /// With a password.
    Scram { hash: ScramHash, username: String, password: Secret, source: String },
    /// With the client certificate.
    X509,
}

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScramHash {
    Sha256,
    Sha1,
}

/// The values of `auth_mechanism`, spelled as MongoDB spells them.
#[derive(Clone, Copy, PartialEq)]
enum Mechanism {
    Scram(ScramHash),
    X509,
}

impl Value for Mechanism {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[
            ("SCRAM-SHA-256", Self::Scram(ScramHash::Sha256)),
            ("SCRAM-SHA-1", Self::Scram(ScramHash::Sha1)),
            ("MONGODB-X509", Self::X509),
        ])
    }
}

fn read_seeds(section: &mut Section<'_>) -> Option<Seeds> {
    let hosts = section.optional::<Vec<Endpoint<PORT>>>("hosts");
    let srv = section.checked::<String>("srv", |name| {
        let plausible =
            name.split('.').filter(|label| !label.is_empty()).count() >= 3 && !name.contains([':', '/', '@']);
        if plausible {
            Ok(())
        } else {
            Err("expected a name of three or more parts, such as \"cluster.example.net\"".into())
        }
    });
    match (section.has("hosts"), section.has("srv")) {
        (true, true) => section.problem(Some("srv"), "`srv`: use either `hosts` or `srv`"),
        (false, false) => section.problem(None, "missing field `hosts` (or `srv`)"),
        _ => {}
    }
    if hosts.as_ref().is_some_and(Vec::is_empty) {
        section.problem(Some("hosts"), "`hosts`: expected at least one address");
    }
    let hosts = hosts.map(|hosts| {
        let mut all: Vec<HostPort> = hosts.into_iter().map(|endpoint| endpoint.0).collect();
        // Names are equal whatever their case; the first spelling is the label.
        let mut seen = HashSet::new();
        all.retain(|host| seen.insert(host.to_string().to_ascii_lowercase()));
        all.sort();
        Seeds::Hosts(all)
    });
    hosts.or_else(|| srv.map(Seeds::Srv))
}

fn read_login(section: &mut Section<'_>, tls: Option<&TlsConfig>) -> Option<Login> {
    let username = section.optional::<String>("username");
    let password = section.optional::<Secret>("password");
    let source = section.or("auth_source", "admin".to_owned());
    let mechanism = section.optional::<Mechanism>("auth_mechanism");
    if section.has("auth_mechanism") && mechanism.is_none() {
        return None;
    }
    match mechanism {
        Some(Mechanism::X509) => {
            for key in
                ["username", "password", "auth_source"].into_iter().filter(|key| section.has(key)).collect::<Vec<_>>()
            {
                section.problem(
                    Some(key),
                    format!("`{key}`: has no meaning with MONGODB-X509, the certificate says it all"),
                );
            }
            if tls.is_none_or(|tls| tls.client.is_none()) {
                section.problem(Some("auth_mechanism"), "`auth_mechanism`: MONGODB-X509 needs a `cert_file` in `tls`");
            }
            Some(Login::X509)
        }
        None if !section.has("username") && !section.has("password") => {
            if section.has("auth_source") {
                section.problem(Some("auth_source"), "`auth_source`: needs a `username`");
            }
            Some(Login::None)
        }
        None | Some(Mechanism::Scram(_)) => {
            for key in ["username", "password"] {
                if !section.has(key) {
                    section.problem(None, format!("missing field `{key}`"));
                }
            }
            let hash = match mechanism {
                Some(Mechanism::Scram(hash)) => hash,
                _ => ScramHash::Sha256,
            };
            Some(Login::Scram { hash, username: username?, password: password?, source })
        }
    }
}
