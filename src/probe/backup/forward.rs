//! Hands records in this process's spool on to the shard that their job belongs to.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

use tokio::time::sleep;
use zeroize::Zeroizing;

use super::push::PREFIX;
use super::spool::{self, Found, Waiting};
use crate::door::Knock;
use crate::probe::{Elsewhere, State};
use crate::settings::Secret;

/// How often the spool is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// So many records are handed on at a time; the others are next. The owner takes one a second for long.
const AT_ONCE: usize = 20;

/// What it takes to hand on the records of a job.
pub(super) struct Forward {
    pub(super) job: String,
    pub(super) state: State,
    /// What they are told with; without one, there is no way.
    pub(super) token: Option<Secret>,
    pub(super) to: Elsewhere,
}

impl Forward {
    /// Does it now and then, for ever.
    pub(super) async fn repeat(&self) {
        let mut has_warned = false;
        loop {
            let (left, why) = self.hand_on().await;
            if left > 0 && !has_warned {
                let (job, owner) = (&self.job, self.to.owner);
                tracing::warn!(job, %owner, left, why, "records wait in the spool for a job of another shard");
            }
            has_warned = left > 0;
            sleep(EVERY).await;
        }
    }

    /// Hands on those that wait, as many as there is room for. Returns how many stay, and why.
    pub(super) async fn hand_on(&self) -> (usize, String) {
        let waiting = self.look().await;
        let Some(token) = &self.token else { return (waiting.len(), "the job has no token".to_owned()) };
        for (done, Waiting { told, file }) in waiting.iter().take(AT_ONCE).enumerate() {
            let knock = Knock {
                path: format!("{}{}", self.job, told.action()).into(),
                query: told.query(),
                secret: Some(Zeroizing::new(token.expose().as_bytes().to_vec())),
                body: told.note.clone().into_bytes(),
                ..Knock::default()
            };
            let why = match self.to.tell("it", PREFIX, knock).await {
                Ok(answer) if answer.status.is_success() => {
                    // One that stays is told again, and counts once.
                    let _ = spool::remove(file);
                    continue;
                }
                Ok(answer) => format!("it was answered {}", answer.status.as_u16()),
                Err((_, why)) => why,
            };
            return (waiting.len() - done, why);
        }
        (0, String::new())
    }

    async fn look(&self) -> Vec<Waiting> {
        let Some(dir) = self.state.own_dir().map(|dir| dir.join(spool::NAME)) else {
            return Vec::new();
        };
        let job = self.job.clone();
        let look = move || {
            // Of all that writes to the state directory, this may be the first, or the only one: there may be no job of this shard's own.
            let _ = dir.parent().map(|state| DirBuilder::new().recursive(true).mode(0o700).create(state));
            let _ = spool::make(&dir);
            spool::look(&dir, &job)
        };
        let found = tokio::task::spawn_blocking(look).await;
        found.ok().and_then(Result::ok).map_or_else(Vec::new, |Found { waiting, .. }| waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::spool::{Record, leave, make};
    use super::super::told::Told;
    use super::*;
    use crate::shard::Shard;

    #[tokio::test]
    async fn what_cannot_be_handed_on_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (state, dir) = (State::of_daemon(), folder.path().join(spool::NAME));
        state.set_dir(Some(folder.path()));
        make(&dir).unwrap();
        let told = Told { rid: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(), ..Told::default() };
        let file = leave(&dir, &Record { job: "nightly".to_owned(), told }).unwrap();
        let to = Elsewhere { owner: Shard { index: 1, count: 2 }, peers: None };
        let forward = Forward { job: "nightly".to_owned(), state, token: None, to };
        assert_eq!(forward.hand_on().await, (1, "the job has no token".to_owned()));
        let other = Forward { job: "weekly".to_owned(), ..forward };
        assert_eq!(other.hand_on().await.0, 0, "a record of another job");
        assert!(file.exists());
    }
}
