//! The keys of the configuration that say how a cluster is reached.

use std::collections::HashSet;

use crate::probe::net::TlsConfig;
use crate::settings::{Endpoint, HostPort, Section};

/// Kafka's own port, which an address may leave out.
const PORT: u16 = 9092;

/// How a cluster is reached, and as whom.
#[derive(Debug, PartialEq)]
pub struct Access {
    /// Addresses to begin with; the brokers behind them say where all others are. At least one.
    pub bootstrap: Vec<HostPort>,
    /// How TLS is done, if at all.
    pub tls: Option<TlsConfig>,
}

impl Access {
    /// Reads the keys `bootstrap` and `tls`.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let bootstrap = section.required::<Vec<Endpoint<PORT>>>("bootstrap");
        let tls = TlsConfig::read(section, false);
        if bootstrap.as_ref().is_some_and(Vec::is_empty) {
            section.problem(Some("bootstrap"), "`bootstrap`: expected at least one address");
        }
        let mut bootstrap: Vec<HostPort> = bootstrap?.into_iter().map(|endpoint| endpoint.0).collect();
        // Names are equal whatever their case. The order is kept: it is the order in which they are tried.
        let mut seen = HashSet::new();
        bootstrap.retain(|address| seen.insert(address.to_string().to_ascii_lowercase()));
        Some(Self { bootstrap, tls })
    }

    /// Whether both are likely to lead to the same cluster.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.bootstrap.iter().any(|address| other.bootstrap.contains(address))
    }
}
