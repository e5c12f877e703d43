//! OpenVPN: a hard reset, wrapped as the server wants it, and TLS if that is asked for.

use super::knock::Knock;
use super::metrics;
use crate::probe::{Failure, Reason, Shared};
use crate::settings::Section;

/// The keys of OpenVPN.
#[derive(Debug, PartialEq)]
pub(super) struct Config {}

impl Config {
    pub(super) fn read(_section: &mut Section<'_>) -> Option<Self> {
        Some(Self {})
    }
}

/// Knocks as a client.
pub(super) struct Openvpn;

impl Openvpn {
    pub(super) fn new(_config: &Config, _shared: &Shared) -> Result<Self, String> {
        Ok(Self)
    }

    pub(super) fn stages(&self) -> Vec<&'static str> {
        vec![metrics::HANDSHAKE]
    }

    pub(super) fn concerns(&self) -> Vec<String> {
        Vec::new()
    }

    pub(super) async fn knock(&self, _knock: &Knock<'_>) -> Result<(), Failure> {
        Err(Failure::new(Reason::Internal, "not there yet"))
    }
}
