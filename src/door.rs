//! What something else than the HTTP server answers over HTTP: doors, each under the beginning of a path. A probe opens one while it
//! serves, and the server hands requests there without knowing whose it is.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::sync::lock;

/// So long a door is still found after it was shut. A probe that changes opens its door again in a moment, and until then it is the
/// door that can say so; at the shutdown, nobody is told that there never was one.
pub const LINGER: Duration = Duration::from_secs(10);

/// The header of a request that one shard hands on to another.
pub const HANDED_ON: &str = "midwatch-handed-on";

/// A request at a door. All of it is what anybody may send.
#[derive(Default)]
pub struct Knock {
    /// Who is at the other end of the connection: a proxy, if there is one in front.
    pub peer: Option<IpAddr>,
    /// The path behind the beginning that the door was found by, not decoded. It may hold a secret.
    pub path: Zeroizing<String>,
    /// What comes after the question mark, not decoded.
    pub query: String,
    /// What the header `Authorization` presents: the token of `Bearer`, or the password of `Basic`.
    pub secret: Option<Zeroizing<Vec<u8>>>,
    /// The end of the body.
    pub body: Vec<u8>,
    /// Whether another shard handed it on: then it goes no further.
    pub is_handed_on: bool,
}

/// Shows only what is no secret.
impl fmt::Debug for Knock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Knock").field("peer", &self.peer).field("body", &self.body.len()).finish_non_exhaustive()
    }
}

/// What a request at a door is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, as plain text.
    pub text: Cow<'static, str>,
    /// After how long the client may try again.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// An answer that there is nothing to add to.
    pub const fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text: Cow::Borrowed(text), retry_after: None }
    }

    /// The same in words that are made up as they are needed.
    pub fn in_words(status: StatusCode, text: String) -> Self {
        Self { status, text: Cow::Owned(text), retry_after: None }
    }

    /// An answer to somebody who is to come again.
    #[must_use]
    pub fn again_after(self, time: Duration) -> Self {
        Self { retry_after: Some(time), ..self }
    }
}

/// Who answers requests under one beginning. Logins of the server do not apply: a door knows by itself whom to let in.
pub trait Door: Send + Sync + 'static {
    /// Answers a request. The future is dropped when the client goes away.
    fn answer(self: Arc<Self>, knock: Knock) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

    /// The server refused a request before it got here: its body is too large or does not come, or its method is none.
    fn turned_away(&self, peer: IpAddr);
}

/// The doors of a process.
#[derive(Clone, Default)]
pub struct Doors(Arc<Mutex<Vec<Entry>>>);

struct Entry {
    prefix: &'static str,
    door: Arc<dyn Door>,
    /// How many hold it open.
    open: usize,
    /// When the last of them shut it.
    shut: Instant,
}

impl Entry {
    fn is(&self, prefix: &str, door: &Arc<dyn Door>) -> bool {
        self.prefix == prefix && Arc::ptr_eq(&self.door, door)
    }

    fn is_found(&self) -> bool {
        self.open > 0 || self.shut.elapsed() < LINGER
    }
}

impl Doors {
    /// Opens a door to all paths that begin so, for as long as the result lives. Several may hold the same door open.
    pub fn open(&self, prefix: &'static str, door: Arc<dyn Door>) -> Opened {
        let mut entries = lock(&self.0);
        entries.retain(Entry::is_found);
        match entries.iter_mut().find(|entry| entry.is(prefix, &door)) {
            Some(entry) => entry.open += 1,
            None => entries.push(Entry { prefix, door: Arc::clone(&door), open: 1, shut: Instant::now() }),
        }
        drop(entries);
        Opened { doors: self.clone(), prefix, door }
    }

    /// The door to a path, and the path behind its beginning.
    pub fn find<'p>(&self, path: &'p str) -> Option<(Arc<dyn Door>, &'p str)> {
        let entries = lock(&self.0);
        let found = |entry: &Entry| Some((Arc::clone(&entry.door), path.strip_prefix(entry.prefix)?));
        entries.iter().filter(|entry| entry.is_found()).find_map(found)
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(lock(&self.0).iter().map(|entry| entry.prefix)).finish()
    }
}

/// Holds a door open; dropped, it lets go of it.
#[must_use]
pub struct Opened {
    doors: Doors,
    prefix: &'static str,
    door: Arc<dyn Door>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut entries = lock(&self.doors.0);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.is(self.prefix, &self.door)) {
            (entry.open, entry.shut) = (entry.open.saturating_sub(1), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Door for Nobody {
        fn answer(self: Arc<Self>, _: Knock) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
            Box::pin(std::future::pending())
        }

        fn turned_away(&self, _: IpAddr) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_is_open_while_anybody_holds_it_and_found_a_while_longer() {
        let (doors, door) = (Doors::default(), Arc::new(Nobody));
        let path = || doors.find("/a/b").map(|(_, path)| path);
        assert_eq!(path(), None);
        let first = doors.open("/a/", Arc::clone(&door) as Arc<dyn Door>);
        let second = doors.open("/a/", Arc::clone(&door) as Arc<dyn Door>);
        assert_eq!(path(), Some("b"));
        drop(first);
        tokio::time::advance(2 * LINGER).await;
        assert_eq!(path(), Some("b"));
        drop(second);
        assert_eq!(path(), Some("b"));
        tokio::time::advance(LINGER).await;
        assert_eq!(path(), None);
        let again = doors.open("/a/", door);
        assert_eq!((path(), lock(&doors.0).len()), (Some("b"), 1));
        drop(again);
    }
}
