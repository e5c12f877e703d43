//! Objects of a bucket, by the S3 API.
//!
//! A bucket with a few pages is listed whole at every reading. Of one with many, where names follow times, only the last pages are: what
//! is new comes last. What is deleted is then seen when it is listed whole again, which it is from time to time. A listing that does
//! not get to its end within one reading goes on in the next.

mod client;
mod config;
mod listing;
mod sign;
mod xml;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use self::client::{Client, Line};
pub use self::config::Config;
use self::config::Credentials;
use self::listing::{Mark, Tail, Walk};
use super::selection::{Found, Manifest, Manifests, Rules};
use super::{Attended, Look};
use crate::probe::backup::runs::Seen;
use crate::probe::{Failure, Reason, Shared};
use crate::settings::HttpUrl;

/// A bucket with so many pages is listed whole every time: to look for what is new takes as many requests.
const FEW: u64 = 4;

/// Reads it.
pub struct Reader {
    client: Client,
    endpoint: HttpUrl,
    credentials: Option<Credentials>,
    rules: Arc<Rules>,
    prefix: String,
    full_interval: Duration,
    /// Locked during a reading, which may be given up at any time.
    state: Mutex<State>,
}

/// What is remembered from one reading to the next.
#[derive(Default)]
struct State {
    /// A listing from the first key on that is not done.
    full: Option<Walk>,
    known: Option<Known>,
    manifests: Manifests,
}

/// A listing that was done.
struct Known {
    tail: Tail,
    /// When it was listed from the first key on.
    listed: Instant,
}

impl Known {
    /// Whether the last pages tell what is new.
    fn is_enough(&self, now: f64) -> bool {
        self.tail.is_ordered && self.tail.pages > FEW && self.tail.from.rests(now)
    }
}

impl Reader {
    pub(super) fn new(config: &Config, _job: &str, shared: &Shared) -> Result<Self, String> {
        let Config { prefix, rules, full_interval, .. } = config;
        Ok(Self {
            client: Client::new(config, format!("{prefix}{}", rules.prefix()), &shared.net)?,
            endpoint: config.endpoint.clone(),
            credentials: config.credentials.clone(),
            rules: Arc::clone(rules),
            prefix: prefix.clone(),
            full_interval: *full_interval,
            state: Mutex::default(),
        })
    }

    pub(super) async fn read(&self, look: Look<'_>) -> Result<Seen, Failure> {
        let mut state = self.state.lock().await;
        let mut line = Line::default();
        // What is left is for judging what was listed.
        let left = look.ends.saturating_duration_since(Instant::now());
        let look = Look { ends: look.ends - left / 20, ..look };
        let found = self.list(&mut state, &mut line, &look).await?;
        let mut seen = self.describe(found, &mut state.manifests, (&mut line, &look)).await?;
        if let Some(known) = &state.known {
            seen.notes.push(self.note(known, line.requests));
        }
        Ok(seen)
    }

    /// What the bucket holds now: by its last pages if they tell it, else by all.
    async fn list(&self, state: &mut State, line: &mut Line, look: &Look<'_>) -> Result<Found, Failure> {
        let mut recent = None;
        if let Some(known) = state.known.as_mut().filter(|known| known.is_enough(look.now)) {
            let mut walk = Walk::from(known.tail.from.clone());
            match self.walk(&mut walk, line, look).await {
                Ok(()) => {
                    let (found, tail) = walk.finish(&self.rules, look);
                    known.tail = tail;
                    recent = Some(found);
                }
                Err(failure) => {
                    if failure.reason == Reason::Protocol {
                        state.known = None;
                    }
                    let late = Failure::new(Reason::Timeout, "the last pages of the listing were not read in time");
                    return Err(if failure.reason == Reason::Timeout { late } else { failure });
                }
            }
        }
        let listed = state.known.as_ref().map(|known| known.listed);
        if let Some(found) = recent.take_if(|_| listed.is_some_and(|at| at.elapsed() < self.full_interval)) {
            return Ok(found);
        }
        let walk = state.full.take().filter(|walk| walk.touched().elapsed() < self.full_interval);
        let walk = state.full.insert(walk.unwrap_or_else(|| Walk::from(Mark::default())));
        match (self.walk(walk, line, look).await, recent) {
            (Ok(()), _) => {}
            // The last pages tell what is new; the rest has time.
            (Err(failure), Some(recent)) if failure.reason == Reason::Timeout => return Ok(recent),
            (Err(failure), _) => {
                if failure.reason == Reason::Protocol {
                    state.full = None;
                }
                return Err(failure);
            }
        }
        let walk = state.full.take().unwrap_or_else(|| Walk::from(Mark::default()));
        let (found, tail) = walk.finish(&self.rules, look);
        state.known = Some(Known { tail, listed: Instant::now() });
        Ok(found)
    }

    /// Lists to the end. What came before a failure is not lost.
    async fn walk(&self, walk: &mut Walk, line: &mut Line, look: &Look<'_>) -> Result<(), Failure> {
        walk.rest();
        loop {
            let page = timeout_at(look.ends, self.client.page(line, walk.next())).await;
            let page = page.unwrap_or_else(|_| Err(late(walk.here())))?;
            if !walk.add(&self.rules, look, &self.prefix, page)? {
                return Ok(());
            }
        }
    }

    /// What was found, with the manifests that can be read in time.
    async fn describe(
        &self,
        mut found: Found,
        manifests: &mut Manifests,
        (line, look): (&mut Line, &Look<'_>),
    ) -> Result<Seen, Failure> {
        for wanted in manifests.missing(&found.manifests()) {
            let key = format!("{}{}", self.prefix, self.rules.manifest_of(&wanted.name));
            let limit = Manifest::LARGEST;
            let read = if wanted.size > limit as u64 {
                Ok(Err("it is larger than 64 KiB".to_owned()))
            } else {
                timeout_at(look.ends, self.client.object(line, &key, limit))
                    .await
                    .map(|read| {
                        let read = read?;
                        Ok(read.map_or_else(|| Err("it is gone".to_owned()), |bytes| Manifest::read(&bytes)))
                    })
                    .unwrap_or_else(|_| Err(late(&Mark::default())))
            };
            match read {
                Ok(read) => manifests.put(wanted, read),
                Err(failure) if failure.reason == Reason::Timeout => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(found.into_seen(|wanted| manifests.get(wanted)))
    }

    /// What it costs to watch the bucket, for a person.
    fn note(&self, known: &Known, requests: u64) -> String {
        let Tail { is_ordered, pages, objects, .. } = &known.tail;
        let how = match (*pages <= FEW, is_ordered) {
            (true, _) => "listed whole at every reading".to_owned(),
            (_, true) => format!("only the last pages are listed, and all every {} s", self.full_interval.as_secs()),
            (_, false) => "listed whole at every reading, because names do not follow times".to_owned(),
        };
        format!("{objects} objects on {pages} pages, {how}; {requests} requests this time")
    }
}

impl Attended for Reader {
    fn concerns(&self) -> Vec<String> {
        let endpoint = &self.endpoint;
        let host = endpoint.address.host.as_str();
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let mut concerns = Vec::new();
        if let Some(credentials) = &self.credentials {
            if !endpoint.is_https && !is_here {
                concerns.push(format!(
                    "{} is asked over http: whoever is on the way can read and change what it answers, and ask it the same again",
                    endpoint.address
                ));
            }
            concerns.extend(credentials.secrets().filter_map(|secret| crate::probe::key_file::concern(secret.path()?)));
        }
        concerns
    }
}

/// Reads an answer as a page and as an error. How many objects it lists.
///
/// # Errors
/// Why it is no page.
pub fn fuzz(bytes: &[u8]) -> Result<usize, &'static str> {
    let _ = xml::refusal(bytes);
    xml::page(bytes).map(|page| page.objects.len())
}

/// The reading is over and the listing is not.
fn late(here: &Mark) -> Failure {
    let Mark { objects, pages, .. } = here;
    Failure::new(
        Reason::Timeout,
        format!(
            "the listing is not done: {objects} objects on {pages} pages so far, and the next reading goes on from there; a longer \
             `listing_timeout` or a narrower `prefix` would do it at once"
        ),
    )
}

#[cfg(test)]
mod tests;
