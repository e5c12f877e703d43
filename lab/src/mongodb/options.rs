//! What a replica set should be like.

use std::time::Duration;

use super::access::{Access, Tls};

/// The shape of a replica set. Members are numbered: data members first, then the hidden one, then the arbiter.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) members: usize,
    pub(super) hidden: bool,
    pub(super) arbiter: bool,
    pub(super) access: Access,
    pub(super) election_timeout: Duration,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) ports: Vec<u16>,
}

impl Default for Options {
    /// Three data members, no authentication, no TLS.
    fn default() -> Options {
        Options {
            members: 3,
            hidden: false,
            arbiter: false,
            access: Access::default(),
            election_timeout: Duration::from_secs(2),
            // The recorder writes to disk and wakes up every second: noise that nobody asked for.
            parameters: vec![("diagnosticDataCollectionEnabled".to_owned(), "false".to_owned())],
            ports: Vec::new(),
        }
    }
}

impl Options {
    /// How many members that vote, hold data and may become primary.
    #[must_use]
    pub fn members(mut self, count: usize) -> Options {
        self.members = count;
        self
    }

    /// Adds a hidden member: data, a vote, priority 0, not in what clients are told.
    #[must_use]
    pub fn hidden(mut self) -> Options {
        self.hidden = true;
        self
    }

    /// Adds an arbiter.
    #[must_use]
    pub fn arbiter(mut self) -> Options {
        self.arbiter = true;
        self
    }

    /// Turns authentication on, with the users of [`super::User`].
    #[must_use]
    pub fn auth(mut self) -> Options {
        self.access.auth = true;
        self
    }

    /// Chooses TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Options {
        self.access.tls = tls;
        self
    }

    /// How long members miss a primary before they elect another one: two seconds, unlike MongoDB's own ten.
    #[must_use]
    pub fn election_timeout(mut self, timeout: Duration) -> Options {
        self.election_timeout = timeout;
        self
    }

    /// Sets a server parameter. A later one wins: `diagnosticDataCollectionEnabled` is `false` unless set here.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Options {
        self.parameters.retain(|(present, _)| present != name);
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Fixed ports, one per member in the order of their numbers. Members beyond get picked ones.
    #[must_use]
    pub fn ports(mut self, ports: &[u16]) -> Options {
        self.ports = ports.to_vec();
        self
    }

    pub(super) fn count(&self) -> usize {
        self.members + usize::from(self.hidden) + usize::from(self.arbiter)
    }

    pub(super) fn data_members(&self) -> usize {
        self.members + usize::from(self.hidden)
    }
}
