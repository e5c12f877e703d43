//! Runs that are told from outside: over HTTP, or by a record in the spool.

use std::sync::Arc;

use futures_util::future::join;

use super::{Attended, Look, Name, Paced};
use crate::door::Doors;
use crate::probe::backup::clerk::Clerk;
use crate::probe::backup::forward::Forward;
use crate::probe::backup::push::Desk;
use crate::probe::backup::runs::Seen;
use crate::probe::{BoxFuture, Elsewhere, Failure, Shared, State};
use crate::settings::{Secret, Section};

/// Its keys.
#[derive(Debug, PartialEq)]
pub struct Config {
    /// What messages over HTTP have to show.
    pub(in crate::probe::backup) token: Option<Secret>,
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let token = section.checked("token", is_token);
        if section.optional::<Name>("source") == Some(Name::Push) && !section.has("token") {
            section.required::<Secret>("token");
        }
        Some(Self { token })
    }
}

impl Paced for Config {}

/// Whether it can be part of a path, and takes for ever to guess.
fn is_token(token: &Secret) -> Result<(), String> {
    let text = token.expose();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if token.is_placeholder() || (16..=128).contains(&text.len()) && text.bytes().all(good) {
        return Ok(());
    }
    Err("the token must have 16 to 128 letters, digits, -, ., _ or ~".to_owned())
}

/// Reads it.
pub struct Reader {
    token: Option<Secret>,
    doors: Doors,
    desk: Arc<Desk>,
}

impl Reader {
    pub(super) fn new(config: &Config, _job: &str, shared: &Shared) -> Result<Self, String> {
        Ok(Self { token: config.token.clone(), doors: shared.doors.clone(), desk: shared.state.common() })
    }

    /// What is told is in the books already.
    pub(super) async fn read(&self, _look: Look<'_>) -> Result<Seen, Failure> {
        Ok(Seen::default())
    }

    /// Takes messages over HTTP and has them entered, for ever.
    pub(in crate::probe::backup) async fn listen(&self, clerk: &Clerk) {
        // In place of a secret that is not there, nothing opens the door.
        let Some(token) = self.token.as_ref().filter(|token| !token.is_placeholder()) else {
            return std::future::pending().await;
        };
        let _attended = self.desk.attend(&self.doors, clerk, token.expose());
        self.desk.report().await;
    }

    /// Has messages about the job told to the shard that it belongs to, for ever: those over HTTP, and records in the spool.
    pub(in crate::probe::backup) fn refer(&self, job: &str, state: &State, to: &Elsewhere) -> BoxFuture<'static, ()> {
        let token = self.token.clone().filter(|token| !token.is_placeholder());
        let forward = Forward { job: job.to_owned(), state: state.clone(), token: token.clone(), to: to.clone() };
        let (doors, desk) = (self.doors.clone(), Arc::clone(&self.desk));
        Box::pin(async move {
            let _referred = token.map(|token| desk.refer(&doors, (&forward.job, token.expose()), &forward.to));
            join(desk.report(), forward.repeat()).await;
        })
    }
}

impl Attended for Reader {}
