//! Hands records in this process's spool on to the shard that their job belongs to.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::push::PREFIX;
use super::spool::{self, Found, Stuck, Waiting};
use crate::door::Knock;
use crate::probe::{Elsewhere, State};
use crate::settings::Secret;

/// How often the spool is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// What was set aside and is old is removed once in so many times.
const CLEARED: u64 = 360;
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
        for round in 0_u64.. {
            if round % CLEARED == 0 {
                self.clear().await;
            }
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
        for (done, record) in waiting.iter().take(AT_ONCE).enumerate() {
            let told = &record.told;
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
                    let _ = record.remove();
                    continue;
                }
                Ok(answer) if answer.status == StatusCode::BAD_REQUEST => {
                    // It would be refused for ever, and all that come after it would wait.
                    let why = format!("{} refuses it: {}", self.to.owner, answer.text);
                    self.state.common::<Stuck>().set_aside(&[(record.file.clone(), why)]);
                    continue;
                }
                Ok(answer) => format!("it was answered {}", answer.status.as_u16()),
                Err((_, why)) => why,
            };
            return (waiting.len() - done, why);
        }
        (0, String::new())
    }

    fn dir(&self) -> Option<PathBuf> {
        self.state.own_dir().map(|dir| dir.join(spool::NAME))
    }

    /// Removes what was set aside and is old: there may be no job of this shard's own, with which that is done. Records wait for ever.
    async fn clear(&self) {
        let Some(dir) = self.dir() else { return };
        let clear = move || spool::clear(&dir, SystemTime::now(), |_| true);
        let _ = tokio::task::spawn_blocking(clear).await;
    }

    /// What can be read of that which waits. The rest is set aside.
    async fn look(&self) -> Vec<Waiting> {
        let Some(dir) = self.dir() else { return Vec::new() };
        let (job, stuck) = (self.job.clone(), self.state.common::<Stuck>());
        let look = move || {
            // Of all that writes to the state directory, this may be the first, or the only one: there may be no job of this shard's own.
            let _ = dir.parent().map(|state| DirBuilder::new().recursive(true).mode(0o700).create(state));
            let _ = spool::make(&dir);
            let Found { waiting, bad } = spool::look(&dir, &job).unwrap_or_default();
            stuck.set_aside(&bad);
            waiting
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::Config;
    use super::super::spool::{Record, leave, make};
    use super::super::told::Told;
    use super::*;
    use crate::probe::net::Net;
    use crate::probe::peers::Peers;
    use crate::probe::testing::config;
    use crate::settings::Files;
    use crate::shard::Shard;

    fn rid(last: u8) -> String {
        format!("0f8fad5b-d9cb-469f-a165-70867728950{last}")
    }

    fn record(dir: &Path, rid: String, duration: f64) -> PathBuf {
        let told = Told { rid, duration: Some(duration), ..Told::default() };
        leave(dir, &Record { job: "nightly".to_owned(), told }).unwrap()
    }

    fn forward(folder: &Path, token: Option<Secret>, peers: Option<Arc<Peers>>) -> (Forward, PathBuf) {
        let (state, dir) = (State::of_daemon(), folder.join(spool::NAME));
        state.set_dir(Some(folder));
        make(&dir).unwrap();
        let to = Elsewhere { owner: Shard { index: 1, count: 2 }, peers };
        (Forward { job: "nightly".to_owned(), state, token, to }, dir)
    }

    #[tokio::test]
    async fn what_cannot_be_handed_on_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (forward, dir) = forward(folder.path(), None, None);
        let file = record(&dir, rid(1), 1.0);
        assert_eq!(forward.hand_on().await, (1, "the job has no token".to_owned()));
        let other = Forward { job: "weekly".to_owned(), ..forward };
        assert_eq!(other.hand_on().await.0, 0, "a record of another job");
        assert!(file.exists());
    }

    /// Answers each request for itself: 400 where the query has a negative duration, 503 where the `rid` ends in 4. Ends with the latter.
    async fn owner(listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
            }
            let (got, down) = (String::from_utf8(got).unwrap(), format!("rid={}", rid(4)));
            let status = if got.contains("duration=-1") {
                "400 Bad Request"
            } else if got.contains(&down) {
                "503 Service Unavailable"
            } else {
                "200 OK"
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if got.contains(&down) {
                return;
            }
        }
    }

    #[tokio::test]
    async fn a_record_that_is_refused_or_cannot_be_read_keeps_back_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://127.0.0.1:{}/{{shard}}", listener.local_addr().unwrap().port());
        let peers = Arc::new(Peers::new(&url, &Net::default()).unwrap());
        std::fs::write(folder.path().join("token"), "a-token-of-20-letters").unwrap();
        let keys = "source = \"push\"\ntoken = { file = \"token\" }";
        let config: Config = config(folder.path(), keys, &Files::new(false)).unwrap();
        let token = config.source.told().unwrap().token.clone();
        let (forward, dir) = forward(folder.path(), token, Some(peers));
        let unreadable = dir.join(format!("nightly.{}.json", rid(0)));
        std::fs::write(&unreadable, "{").unwrap();
        let files =
            [-1.0, -1.0, 5.0, 6.0, 7.0].into_iter().zip(1..).map(|(duration, n)| record(&dir, rid(n), duration));
        let files: Vec<_> = files.collect();
        let (left, ()) = tokio::join!(forward.hand_on(), owner(listener));
        assert_eq!(left, (2, "it was answered 503".to_owned()), "what comes after one that may be taken later waits");
        let is_bad = |file: &PathBuf| file.with_extension("bad").exists();
        assert_eq!(files.iter().map(|file| file.exists()).collect::<Vec<_>>(), [false, false, false, true, true]);
        assert_eq!(files.iter().map(is_bad).collect::<Vec<_>>(), [true, true, false, false, false]);
        assert!(is_bad(&unreadable));
    }
}
