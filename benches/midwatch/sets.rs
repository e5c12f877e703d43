//! Real replica sets, and the sections that make midwatch probe them.

use lab::mongodb::{Options, ReplicaSet, Tls, User};

use super::Outcome;
use super::peers::aliases;

/// A replica set of three with what a probe's section needs to log in to it.
#[derive(Debug)]
pub struct Set {
    /// The servers.
    pub servers: ReplicaSet,
    keys: String,
}

impl Set {
    /// Without TLS and authentication.
    pub async fn plain() -> Outcome<Self> {
        Ok(Self { servers: ReplicaSet::start(3).await?, keys: String::new() })
    }

    /// With TLS and SCRAM-SHA-256.
    pub async fn secure() -> Outcome<Self> {
        let servers = ReplicaSet::with(Options::default().auth().tls(Tls::Server)).await?;
        let (user, password) = (User::midwatch(), servers.folder().join("password"));
        std::fs::write(&password, &user.password)?;
        let keys = format!(
            "tls.ca_file = \"{}\"\ntls.server_name = \"127.0.0.1\"\nusername = \"{}\"\npassword = {{ file = \"{}\" }}\n",
            servers.ca_path().display(),
            user.name,
            password.display()
        );
        Ok(Self { servers, keys })
    }

    /// A probe of the three members.
    pub fn probe(&self, further: &str) -> String {
        probe("set", &self.servers.hosts(), &format!("{}{further}", self.keys))
    }

    /// A probe of the first member alone.
    pub fn probe_one(&self, further: &str) -> String {
        probe("one", &self.servers.hosts()[..1], &format!("{}{further}", self.keys))
    }

    /// Probes of three members each, so many members in all: aliases of the real ones.
    pub fn many(&self, members: usize, further: &str) -> String {
        let ports = [0, 1, 2].map(|member| self.servers.port(member));
        let hosts = aliases(&ports, members);
        let keys = format!("{}{further}", self.keys);
        hosts.chunks(3).enumerate().map(|(n, hosts)| probe(&format!("set-{n}"), hosts, &keys)).collect()
    }
}

/// A probe of exactly these members.
pub fn probe(name: &str, hosts: &[String], further: &str) -> String {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    format!("[probe.mongodb.{name}]\nhosts = [{}]\ndiscover = false\n{further}\n", hosts.join(", "))
}

/// A probe for each of these members.
pub fn probe_each(hosts: &[String], further: &str) -> String {
    let probe = |(n, host): (usize, &String)| probe(&format!("p-{n}"), std::slice::from_ref(host), further);
    hosts.iter().enumerate().map(probe).collect()
}
