//! Files of a directory.

mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;

use self::walk::{Folder, Walk};
use super::file::{self, Alone};
use super::selection::{Manifest, Manifests, Rules, Selection};
use super::{Attended, Look, Paced};
use crate::probe::backup::runs::Seen;
use crate::probe::{Failure, Reason, Shared};
use crate::settings::Section;

/// Its keys.
#[derive(Debug, PartialEq)]
pub struct Config {
    path: PathBuf,
    rules: Rules,
    /// What must be in the directory: an empty mount point is no empty directory.
    must_contain: Option<String>,
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let path = section.required::<PathBuf>("path");
        let must_contain = section.checked("must_contain", |name: &String| {
            let is_name = !name.contains('/') && name != "." && name != "..";
            if is_name { Ok(()) } else { Err("must be the name of a file or folder in the directory".to_owned()) }
        });
        let rules = Rules::read(section);
        Some(Self { path: path?, rules: rules?, must_contain })
    }
}

impl Paced for Config {}

/// Reads it.
pub struct Reader {
    config: Arc<Config>,
    memory: Alone<Memory>,
}

/// What is known of the directory.
#[derive(Default)]
struct Memory {
    tree: Folder,
    manifests: Manifests,
    last: Option<Last>,
}

/// What the last reading came to.
struct Last {
    seen: Seen,
    /// Until then it is the same as long as nothing changes, in unix seconds.
    holds_until: f64,
    open: Vec<String>,
}

impl Reader {
    pub(super) fn new(config: &Config, _job: &str, _shared: &Shared) -> Result<Self, String> {
        let Config { path, rules, must_contain } = config;
        let config = Config { path: path.clone(), rules: rules.clone(), must_contain: must_contain.clone() };
        Ok(Self { config: Arc::new(config), memory: Alone::default() })
    }

    pub(super) async fn read(&self, look: Look<'_>) -> Result<Seen, Failure> {
        let config = Arc::clone(&self.config);
        // It gives up before it is cut off, so that it can say how far it came.
        let left = look.ends.saturating_duration_since(Instant::now());
        let (now, stop, open) = (look.now, look.ends - left / 10, look.open.to_vec());
        self.memory.work(move |memory| memory.read(&config, now, stop, open)).await
    }
}

impl Attended for Reader {}

impl Memory {
    fn read(&mut self, config: &Config, now: f64, stop: Instant, open: Vec<String>) -> Result<Seen, Failure> {
        if let Some(name) = &config.must_contain {
            let guard = config.path.join(name).symlink_metadata();
            guard.map_err(|error| failure(&format!("`must_contain`, {name}"), &error))?;
        }
        let mut walk = Walk::new(&config.rules, &config.path, now, stop);
        let done = walk.refresh(&mut self.tree);
        if walk.changed {
            self.last = None;
        }
        done?;
        let holds = |last: &&Last| now < last.holds_until && last.open == open;
        if let Some(last) = self.last.as_ref().filter(holds) {
            return Ok(last.seen.clone());
        }
        let mut selection = Selection::new(&config.rules, now, &open);
        self.tree.tell(&mut selection)?;
        let mut found = selection.finish();
        let mut holds_until = found.holds_until();
        for wanted in self.manifests.missing(&found.manifests()) {
            let read = manifest(&config.path.join(config.rules.manifest_of(&wanted.name)));
            if read.is_err() {
                // It may have been read while it was written.
                holds_until = now;
            }
            self.manifests.put(wanted, read);
        }
        let seen = found.into_seen(|wanted| self.manifests.get(wanted));
        self.last = Some(Last { seen: seen.clone(), holds_until, open });
        Ok(seen)
    }
}

fn manifest(path: &Path) -> Result<Manifest, String> {
    let bytes = file::read(path, Manifest::LARGEST).map_err(|error| error.to_string())?;
    Manifest::read(&bytes)
}

/// Why something of the directory cannot be read: it is not as it should be, or not for us.
fn failure(what: &str, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Reason::Rejected,
        _ => Reason::Local,
    };
    Failure::new(reason, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests;
