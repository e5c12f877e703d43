//! Stands for a source that needs a feature which this build lacks.

use super::{Look, Pace};
use crate::probe::backup::runs::Seen;
use crate::probe::{Failure, Reason, Shared};
use crate::settings::Section;

/// There is none.
#[derive(Debug, PartialEq)]
pub struct Config {}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        section.ignore_rest();
        section.problem(Some("source"), "`source`: this one is not in this build");
        None
    }

    pub(super) fn pace(&self) -> Option<Pace> {
        None
    }
}

/// Reads nothing: there is no configuration that leads to it.
pub struct Reader {}

impl Reader {
    pub(super) fn new(_config: &Config, _job: &str, _shared: &Shared) -> Result<Self, String> {
        Err("the source is not in this build".to_owned())
    }

    pub(super) async fn read(&self, _look: Look<'_>) -> Result<Seen, Failure> {
        Err(Failure::new(Reason::Internal, "the source is not in this build"))
    }

    pub(super) async fn serve(&self) {
        std::future::pending().await
    }

    pub(super) fn concerns(&self) -> Vec<String> {
        Vec::new()
    }
}
