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
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use self::documents::Kind;
use self::gather::{Gathering, State};
use super::{Attended, Look, Paced};
use crate::probe::backup::runs::Seen;
use crate::probe::mongodb::{Access, Deployment, Session};
use crate::probe::{Failure, Reason, Shared};
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
        let left = || look.ends.saturating_duration_since(Instant::now());
        if let Some(session) = self.deployment.kept() {
            // A member that hangs must leave time for another.
            if let Ok(seen) = self.gather(session, &mut state, (look, left() / 2)).await {
                return Ok(seen);
            }
        }
        let session = self.deployment.open(look.ends).await?;
        // Already now, because this may be dropped: if this member hangs or fails, it is not tried first again.
        self.deployment.pass_on();
        self.gather(session, &mut state, (look, left())).await
    }

    /// One reading by a member, which has to say something within `patience`. What takes long may take all the time there is.
    async fn gather(
        &self,
        mut session: Session,
        state: &mut State,
        (look, patience): (Look<'_>, Duration),
    ) -> Result<Seen, Failure> {
        session.until(look.ends);
        let gathering = Gathering { deployment: &self.deployment, kind: self.kind, now: look.now };
        let late = |_| Failure::new(Reason::Timeout, "no answer in half of the time");
        let work = timeout(patience, gathering.work(&mut session)).await.map_err(late)??;
        let seen = gathering.all(&mut session, state, work).await?;
        self.deployment.keep(session);
        Ok(seen)
    }
}

impl Attended for Reader {}
