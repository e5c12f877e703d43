//! VPNs over TLS: AnyConnect (ocserv) and SSTP.

use super::knock::Knock;
use crate::probe::{Failure, Reason, Shared};
use crate::settings::Section;

/// The keys of both.
#[derive(Debug, PartialEq)]
pub(super) struct Config {}

impl Config {
    pub(super) fn read(_section: &mut Section<'_>) -> Option<Self> {
        Some(Self {})
    }
}

/// Asks an AnyConnect server how to log in.
pub(super) struct Anyconnect;

impl Anyconnect {
    pub(super) fn new(_config: &Config, _shared: &Shared) -> Result<Self, String> {
        Ok(Self)
    }

    pub(super) async fn knock(&self, _knock: &Knock<'_>) -> Result<(), Failure> {
        Err(Failure::new(Reason::Internal, "not there yet"))
    }
}

/// Opens SSTP's duplex channel.
pub(super) struct Sstp;

impl Sstp {
    pub(super) fn new(_config: &Config, _shared: &Shared) -> Result<Self, String> {
        Ok(Self)
    }

    pub(super) async fn knock(&self, _knock: &Knock<'_>) -> Result<(), Failure> {
        Err(Failure::new(Reason::Internal, "not there yet"))
    }
}
