//! Reading what a deployment holds: a connection that lasts, to whichever member lets us in, and cursors on it.
//!
//! Every command carries `$readPreference`, so that secondaries answer too ("Server Selection" of the driver specifications, what a
//! direct connection to a member of a replica set has to send). What is asked has a `maxTimeMS`, so that no member goes on with it after
//! nobody waits for it any more.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use bson::{RawArrayBuf, Timestamp, rawdoc};
use tokio::time::{Instant, timeout};

use super::access::Access;
use super::connect::{Connector, Stream};
use super::hello::MemberState;
use super::wire::Connection;
pub(in crate::probe) use super::wire::number;
use crate::probe::net::{Net, clean};
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;
use crate::sync::lock;

/// So many documents are asked for at a time.
const BATCH: i32 = 500;

/// The members of a deployment, and the connection to one of them.
pub(in crate::probe) struct Deployment {
    access: Arc<Access>,
    net: Net,
    connector: Connector,
    link: Mutex<Link>,
}

/// What is remembered between readings.
#[derive(Default)]
struct Link {
    /// A connection that worked.
    kept: Option<Session>,
    /// The members that are tried, as they were looked up last.
    members: Vec<String>,
    /// Which of them is tried first.
    next: usize,
}

impl Deployment {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with a certificate, a key or the credentials, in words.
    pub(in crate::probe) fn new(access: &Arc<Access>, net: &Net) -> Result<Self, String> {
        let connector = Connector::new(access, net)?;
        Ok(Self { access: Arc::clone(access), net: net.clone(), connector, link: Mutex::default() })
    }

    /// The connection that was [kept](Self::keep), if there is one. Its member may be gone meanwhile.
    pub(in crate::probe) fn kept(&self) -> Option<Session> {
        lock(&self.link).kept.take()
    }

    /// A new connection to the first member that lets us in and holds data. After a failure the search begins with the next one. Each has
    /// its share of the time until `ends`.
    ///
    /// # Errors
    /// What the last member said that was tried; `resolve`.
    pub(in crate::probe) async fn open(&self, ends: Instant) -> Result<Session, Failure> {
        let members = self.access.seeds.look_up(&self.net).await?;
        let first = {
            let mut link = lock(&self.link);
            link.members.clone_from(&members);
            link.next
        };
        let mut failure = Failure::new(Reason::Resolve, "there is no member");
        for tried in 0..members.len() {
            let at = (first + tried) % members.len();
            // Before the attempt, because it may be dropped: a member that hangs is not tried first again.
            lock(&self.link).next = at + 1;
            let share =
                ends.saturating_duration_since(Instant::now()) / u32::try_from(members.len() - tried).unwrap_or(1);
            let late = |_| Failure::new(Reason::Timeout, "no answer in its share of the time");
            let opened = timeout(share, self.enter(&members[at])).await.map_err(late).and_then(|opened| opened);
            match opened {
                Ok(session) => {
                    lock(&self.link).next = at;
                    return Ok(session);
                }
                Err(why) => failure = Failure::new(why.reason, clean(&format!("{}: {}", members[at], why.detail))),
            }
        }
        Err(failure)
    }

    async fn enter(&self, member: &str) -> Result<Session, Failure> {
        let (conn, hello) = self.connector.open(member).await?;
        match hello.state {
            MemberState::Primary
            | MemberState::Secondary
            | MemberState::Hidden
            | MemberState::Standalone
            | MemberState::Mongos => Ok(Session { conn, ends: Instant::now(), applied: None, cluster: None }),
            state => Err(Failure::new(Reason::Mismatch, format!("the member cannot be read: it is {}", state.label()))),
        }
    }

    /// Keeps a connection on which all was well for the next reading.
    pub(in crate::probe) fn keep(&self, mut session: Session) {
        session.conn.rest();
        lock(&self.link).kept = Some(session);
    }

    /// Another member is to be asked next: this one failed.
    pub(in crate::probe) fn pass_on(&self) {
        let mut link = lock(&self.link);
        link.next = link.next.wrapping_add(1);
    }

    /// A `host:port` that the deployment names, as the probe type `mongodb` spells it with the same `hosts`: as it is configured, else in
    /// lower case. `None` for what is no address.
    pub(in crate::probe) fn spell(&self, node: &str) -> Option<String> {
        let node = node.parse::<HostPort>().ok()?.to_string().to_ascii_lowercase();
        let link = lock(&self.link);
        let configured = link.members.iter().find(|member| member.eq_ignore_ascii_case(&node));
        Some(configured.cloned().unwrap_or(node))
    }
}

/// A connection to one member, logged in.
pub(in crate::probe) struct Session {
    conn: Connection<Box<dyn Stream>>,
    ends: Instant,
    applied: Option<Timestamp>,
    cluster: Option<Timestamp>,
}

/// What to find in a collection of `admin`.
pub(in crate::probe) struct Find<'f> {
    /// The collection.
    pub collection: &'f str,
    /// Which documents.
    pub filter: RawDocumentBuf,
    /// Which fields of them.
    pub fields: RawDocumentBuf,
    /// In which order.
    pub sort: RawDocumentBuf,
    /// At most so many.
    pub most: u32,
    /// Whether all of them come in one answer: then no cursor stays at the server if nobody waits any more.
    pub at_once: bool,
}

impl Session {
    /// When the commands that follow must be answered.
    pub(in crate::probe) fn until(&mut self, ends: Instant) {
        self.ends = ends;
    }

    /// How long the commands that follow may take.
    pub(in crate::probe) fn time_left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// Up to when the member knew the deployment's writes at its last answer. `None` for a standalone server.
    pub(in crate::probe) fn applied(&self) -> Option<Timestamp> {
        self.applied
    }

    /// The deployment's time at the last answer, as far as the member has heard of it.
    pub(in crate::probe) fn cluster(&self) -> Option<Timestamp> {
        self.cluster
    }

    /// Hands every document to `each`, and says how many there were.
    ///
    /// # Errors
    /// Those of a command; they name the collection.
    pub(in crate::probe) async fn find(
        &mut self,
        find: Find<'_>,
        each: impl FnMut(&RawDocument) + Send,
    ) -> Result<u64, Failure> {
        let command = rawdoc! {
            "find": find.collection,
            "filter": find.filter,
            "projection": find.fields,
            "sort": find.sort,
            "limit": i64::from(find.most),
            "batchSize": if find.at_once { i64::from(find.most) } else { BATCH.into() },
            "singleBatch": find.at_once,
        };
        self.cursor(find.collection, command, find.most.into(), each).await
    }

    /// The same for what a pipeline makes of a collection: at most so many documents as one batch holds.
    ///
    /// # Errors
    /// Those of a command; they name the collection.
    pub(in crate::probe) async fn aggregate(
        &mut self,
        collection: &str,
        pipeline: RawArrayBuf,
        each: impl FnMut(&RawDocument) + Send,
    ) -> Result<u64, Failure> {
        let command = rawdoc! { "aggregate": collection, "pipeline": pipeline, "cursor": { "batchSize": BATCH } };
        self.cursor(collection, command, BATCH.unsigned_abs().into(), each).await
    }

    /// How many documents a collection has, by the server's own books: nothing is read for it, and after a crash of the server it may be
    /// wrong until the next check of them.
    ///
    /// # Errors
    /// Those of a command; they name the collection.
    pub(in crate::probe) async fn count(&mut self, collection: &str) -> Result<i64, Failure> {
        let command = self.timed(rawdoc! { "count": collection });
        let reply = self.command(command).await.map_err(|failure| named(collection, &failure))?;
        let count = reply.get("n").ok().flatten().and_then(number);
        count.ok_or_else(|| Failure::new(Reason::Protocol, format!("{collection}: a count without a number")))
    }

    async fn cursor(
        &mut self,
        collection: &str,
        command: RawDocumentBuf,
        most: u64,
        mut each: impl FnMut(&RawDocument) + Send,
    ) -> Result<u64, Failure> {
        let command = self.timed(command);
        let reply = self.command(command).await.map_err(|failure| named(collection, &failure))?;
        let (mut id, mut seen) = batch(reply, "firstBatch", most, &mut each);
        while id != 0 && seen < most {
            let command = rawdoc! { "getMore": id, "collection": collection, "batchSize": BATCH };
            let reply = self.command(command).await.map_err(|failure| named(collection, &failure))?;
            let (next, count) = batch(reply, "nextBatch", most - seen, &mut each);
            (id, seen) = (next, seen + count);
            // A peer that sends nothing for ever is none that is believed.
            if count == 0 {
                break;
            }
        }
        if id != 0 {
            // It would stay open for ten minutes.
            let command = rawdoc! { "killCursors": collection, "cursors": [id] };
            self.command(command).await.map_err(|failure| named(collection, &failure))?;
        }
        Ok(seen)
    }

    /// The command with how long the server may take for it.
    fn timed(&self, mut command: RawDocumentBuf) -> RawDocumentBuf {
        let left = self.time_left().max(Duration::from_millis(1));
        command.append(cstr!("maxTimeMS"), i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1));
        command
    }

    async fn command(&mut self, mut command: RawDocumentBuf) -> Result<&RawDocument, Failure> {
        command.append(cstr!("$db"), "admin");
        command.append(cstr!("$readPreference"), rawdoc! { "mode": "secondaryPreferred" });
        let reply = self.conn.command(&command).await?;
        let time = |document: &RawDocument, key| document.get(key).ok().flatten().and_then(RawBsonRef::as_timestamp);
        let gossip = reply.get("$clusterTime").ok().flatten().and_then(RawBsonRef::as_document);
        self.applied = time(reply, "operationTime").or(self.applied);
        self.cluster = gossip.and_then(|gossip| time(gossip, "clusterTime")).or(self.cluster);
        Ok(reply)
    }
}

/// The documents of one batch, no more than `most` of them: the cursor, which is 0 when there is no more, and how many they are.
fn batch(reply: &RawDocument, key: &str, most: u64, each: &mut impl FnMut(&RawDocument)) -> (i64, u64) {
    let cursor = reply.get("cursor").ok().flatten().and_then(RawBsonRef::as_document);
    let field = |key| cursor.and_then(|cursor| cursor.get(key).ok().flatten());
    let documents = field(key).and_then(RawBsonRef::as_array).into_iter().flatten();
    let documents = documents.filter_map(|item| item.ok().and_then(RawBsonRef::as_document));
    let mut seen = 0;
    for document in documents.take(usize::try_from(most).unwrap_or(usize::MAX)) {
        each(document);
        seen += 1;
    }
    (field("id").and_then(number).unwrap_or(0), seen)
}

fn named(collection: &str, failure: &Failure) -> Failure {
    Failure::new(failure.reason, clean(&format!("{collection}: {}", failure.detail)))
}
