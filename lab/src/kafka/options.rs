//! What a cluster should be like.

use super::access::{Access, Tls};
use crate::binary::{self, Library};

/// Which Kafka.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// The current one.
    #[default]
    Current,
    /// The last line that also knew ZooKeeper; here it runs without, as the current one does. Its new consumer protocol (KIP-848) is
    /// a preview.
    V3_9,
}

impl Version {
    pub(super) fn library(self) -> Library {
        match self {
            Version::Current => binary::KAFKA,
            Version::V3_9 => binary::KAFKA_3_9,
        }
    }
}

/// The shape of a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) brokers: usize,
    pub(super) version: Version,
    pub(super) access: Access,
    pub(super) properties: Vec<(String, String)>,
    pub(super) advertised: Vec<String>,
    pub(super) ports: Vec<u16>,
}

impl Default for Options {
    /// Three brokers of the current version, no authentication, no TLS.
    fn default() -> Options {
        Options {
            brokers: 3,
            version: Version::default(),
            access: Access::default(),
            properties: Vec::new(),
            advertised: Vec::new(),
            ports: Vec::new(),
        }
    }
}

impl Options {
    /// How many brokers, each of them a controller too.
    #[must_use]
    pub fn brokers(mut self, count: usize) -> Options {
        self.brokers = count;
        self
    }

    /// Chooses the version.
    #[must_use]
    pub fn version(mut self, version: Version) -> Options {
        self.version = version;
        self
    }

    /// Makes clients log in, with the users of [`super::User`], each with the rights that it is described with.
    #[must_use]
    pub fn sasl(mut self) -> Options {
        self.access.sasl = true;
        self
    }

    /// Chooses TLS for clients.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Options {
        self.access.tls = tls;
        self
    }

    /// Sets a broker's property. Wins over the lab's own, and over an earlier one.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Options {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What brokers tell clients to connect to (`host:port`), one per broker in the order of their ids; others tell the truth.
    #[must_use]
    pub fn advertised<T: Into<String>>(mut self, addresses: impl IntoIterator<Item = T>) -> Options {
        self.advertised = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// Fixed ports for clients, one per broker in the order of their ids. Brokers beyond get picked ones.
    #[must_use]
    pub fn ports(mut self, ports: &[u16]) -> Options {
        self.ports = ports.to_vec();
        self
    }
}
