//! Percona Backup for MongoDB: its collections in `admin` say which backups and restores there were, which go on and where, which agents
//! are there, and which points of time the saved oplog covers.
//!
//! Only what changed is read again: backups that began lately or go on, and chunks behind the last known ones. Whether anything else
//! changed (backups or chunks were deleted) is seen by how many there are; then, and once an hour, all of it is read.

mod coverage;
mod documents;
pub mod fuzz;
mod gather;
mod queries;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use self::documents::Kind;
use self::gather::{Gathering, State};
use super::{Attended, Look, Paced};
use crate::probe::backup::runs::Seen;
use crate::probe::mongodb::{Access, Deployment, Session};
use crate::probe::{Failure, Shared};
use crate::settings::Section;

/// Its keys.
#[derive(Debug, PartialEq)]
pub struct Config {
    access: Arc<Access>,
    kind: Kind,
}

impl Config {
    /// Reads the keys by which a deployment is reached. A job that restores reads restores.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let kind = if section.has("restores") { Kind::Restores } else { Kind::Backups };
        Some(Self { access: Arc::new(Access::read(section)?), kind })
    }
}

impl Paced for Config {}

/// Reads it.
pub struct Reader {
    deployment: Deployment,
    kind: Kind,
    state: Mutex<State>,
}

impl Reader {
    pub(super) fn new(config: &Config, _job: &str, shared: &Shared) -> Result<Self, String> {
        Ok(Self {
            deployment: Deployment::new(&config.access, &shared.net)?,
            kind: config.kind,
            state: Mutex::default(),
        })
    }

    /// One connection serves reading after reading. One that fails is replaced within the reading, by another member if there is one.
    pub(super) async fn read(&self, look: Look<'_>) -> Result<Seen, Failure> {
        let mut state = self.state.lock().await;
        if let Some(session) = self.deployment.kept() {
            // A member that hangs must leave time for another.
            let half = look.ends.saturating_duration_since(Instant::now()) / 2;
            if let Ok(Ok(seen)) = timeout(half, self.gather(session, &mut state, look)).await {
                return Ok(seen);
            }
            self.deployment.pass_on();
        }
        let session = self.deployment.open(look.ends).await?;
        let seen = self.gather(session, &mut state, look).await;
        if seen.is_err() {
            self.deployment.pass_on();
        }
        seen
    }

    async fn gather(&self, mut session: Session, state: &mut State, look: Look<'_>) -> Result<Seen, Failure> {
        session.until(look.ends);
        let gathering = Gathering { deployment: &self.deployment, kind: self.kind, now: look.now };
        let seen = gathering.all(&mut session, state).await?;
        self.deployment.keep(session);
        Ok(seen)
    }
}

impl Attended for Reader {}
