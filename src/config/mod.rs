//! From the text of configuration files to a [`Config`] whose probes are built: includes with their fall-back, and
//! watching for changes.
//!
//! A configuration is read, checked and built whole before anything running is touched; see [`Loader`].

mod clash;
mod load;
mod read;
mod redact;
mod server;
mod single;
mod state;
mod watch;
mod web;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use load::{Loaded, Loader, Running};
pub use read::is_probe_name;
pub use server::Server;
pub use single::{Single, single};
pub use watch::{Requests, Trigger, Watcher};
pub use web::{RateLimit, Web};

use crate::probe::{AnyConfig, AnyProbe, ProbeId};
use crate::scheduler::Spec;

/// A probe's configuration and the probe that was built from it.
pub type Built = (Arc<dyn AnyConfig>, Arc<dyn AnyProbe>);

/// A configuration that is valid and built.
#[derive(Debug)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[labels]`.
    pub labels: BTreeMap<String, String>,
    /// The enabled probes of all files, ordered by identity.
    pub probes: Vec<Spec>,
    /// What will not work well of probes that are not in force yet, though nothing is wrong with it.
    pub concerns: Vec<(ProbeId, String)>,
    /// 48 bits of a hash of the text in effect, which a float holds exactly. Secrets do not go into it: it is public.
    pub hash: u64,
    /// The main file, then the included ones in the order of their names.
    pub files: Vec<FileStatus>,
    texts: Vec<(Arc<Path>, Arc<str>)>,
}

impl Config {
    /// The configuration in effect, for people: rendered from the values, because comments may hold what they should
    /// not. Secrets appear as the files and variables that name them.
    pub fn redacted(&self) -> String {
        redact::render(&self.texts)
    }
}

/// A configuration file and whether it is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// The file, spelled as it was given or found.
    pub path: Arc<Path>,
    /// False if the file is bad, so that its last good version, or nothing, is in effect in its place.
    pub ok: bool,
}

#[cfg(test)]
mod tests;
