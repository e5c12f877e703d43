//! IKEv2: the first message of a client (RFC 7296).

use super::knock::Knock;
use crate::probe::{Failure, Reason};
use crate::settings::Section;

/// The keys of IKEv2.
#[derive(Debug, PartialEq)]
pub(super) struct Config {}

impl Config {
    pub(super) fn read(_section: &mut Section<'_>) -> Option<Self> {
        Some(Self {})
    }

    /// Whether an accepted knock leaves a half-open SA on the server.
    pub(super) fn leaves_state(&self) -> bool {
        false
    }
}

/// Knocks as an initiator.
pub(super) struct Ikev2;

impl Ikev2 {
    pub(super) fn new(_config: &Config) -> Self {
        Self
    }

    pub(super) async fn knock(&self, _knock: &Knock<'_>) -> Result<(), Failure> {
        Err(Failure::new(Reason::Internal, "not there yet"))
    }
}
