//! Files of a directory.

use super::{Look, Pace};
use crate::probe::backup::runs::Seen;
use crate::probe::{Failure, Reason, Shared};
use crate::settings::Section;

/// Its keys.
#[derive(Debug, PartialEq)]
pub struct Config {}

impl Config {
    pub(super) fn read(_section: &mut Section<'_>) -> Option<Self> {
        Some(Self {})
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
        Err(Failure::new(Reason::Internal, "not there yet"))
    }

    pub(super) async fn serve(&self) {
        std::future::pending().await
    }

    pub(super) fn concerns(&self) -> Vec<String> {
        Vec::new()
    }
}
