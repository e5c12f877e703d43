//! Runs that are told from outside.

use super::{Look, Pace};
use crate::probe::backup::runs::Seen;
use crate::probe::{Failure, Shared};
use crate::settings::{Secret, Section};

/// Its keys.
#[derive(Debug, PartialEq)]
pub struct Config {
    /// What messages over HTTP have to show.
    pub(in crate::probe::backup) token: Option<Secret>,
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        Some(Self { token: section.optional("token") })
    }

    pub(super) fn pace(&self) -> Option<Pace> {
        None
    }
}

/// Reads it.
pub struct Reader {}

impl Reader {
    pub(super) fn new(_config: &Config, _job: &str, _shared: &Shared) -> Result<Self, String> {
        Ok(Self {})
    }

    pub(super) async fn read(&self, _look: Look<'_>) -> Result<Seen, Failure> {
        Ok(Seen::default())
    }

    pub(super) async fn serve(&self) {
        std::future::pending().await
    }

    pub(super) fn concerns(&self) -> Vec<String> {
        Vec::new()
    }
}
