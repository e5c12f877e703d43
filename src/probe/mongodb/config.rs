//! The keys of `[probe.mongodb.<name>]`.

use super::access::Access;
use crate::settings::{Section, Settings};

/// The keys of a MongoDB probe.
#[derive(Debug, PartialEq)]
pub struct Config {
    pub(super) access: Access,
    /// Whether members that the configured ones name are probed as well.
    pub(super) discover: bool,
}

impl Settings for Config {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let access = Access::read(section);
        let discover = section.or("discover", true);
        Some(Self { access: access?, discover })
    }
}
