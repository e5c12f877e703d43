//! A source that this build does not have: its configuration is answered so.

use super::{Attended, Look, Name, Paced};
use crate::probe::backup::runs::Seen;
use crate::probe::{Failure, Shared};
use crate::settings::Section;

/// Its keys, of which nobody can make sense.
#[derive(Debug, PartialEq)]
pub enum Config {}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        if let Some(name) = section.optional::<Name>("source") {
            section.problem(Some("source"), format!("`source`: \"{}\" is not in this build", name.label()));
        }
        section.ignore_rest();
        None
    }
}

impl Paced for Config {}

/// Never exists.
pub enum Reader {}

impl Reader {
    pub(super) fn new(config: &Config, _job: &str, _shared: &Shared) -> Result<Self, String> {
        match *config {}
    }

    pub(super) async fn read(&self, _look: Look<'_>) -> Result<Seen, Failure> {
        match *self {}
    }
}

impl Attended for Reader {}

#[cfg(all(test, not(feature = "kubernetes")))]
mod tests {
    use std::path::Path;

    use crate::probe::backup::config::Config;
    use crate::probe::testing::config;
    use crate::settings::Files;

    #[test]
    fn it_is_answered_that_it_is_not_there() {
        let keys = "source = \"kubernetes\"\ncronjob = \"orders-backup\"";
        let problems = config::<Config>(Path::new("/"), keys, &Files::new(false)).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("`source`: \"kubernetes\" is not in this build"), "{problems:?}");
    }
}
