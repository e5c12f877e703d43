//! The `hello` command: who a member is and what it knows of its replica set. Needs no privileges.
//!
//! Source: `rsHello` of the server and "Server Discovery and Monitoring" of the driver specifications. The oldest server
//! that this works with is MongoDB 3.6, which knows `hello` only by its old name.

use bson::oid::ObjectId;
use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use bson::rawdoc;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::{Connection, ServerError};
use crate::label_values::label_values;
use crate::probe::Failure;
use crate::settings::HostPort;

/// A replica set has at most 50 members; more than twice that is not an answer but an attack on our memory.
const MAX_HOSTS: usize = 100;
/// The server's number for a command that it does not know.
const COMMAND_NOT_FOUND: i64 = 59;
/// The upper half of an `electionId`; the lower half is the election's term (`OID::fromTerm` in the server's source).
const TERM_PREFIX: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];

label_values! {
    /// What a member is, as a probe sees it.
    pub enum MemberState {
        /// Accepts writes.
        Primary = "primary",
        /// Replicates and can be read.
        Secondary = "secondary",
        /// A secondary that applications do not see: where backups run.
        Hidden = "hidden",
        /// Votes and holds no data.
        Arbiter = "arbiter",
        /// In a replica set and none of the above: starting, recovering, rolling back, removed.
        Other = "other",
        /// Not in a replica set.
        Standalone = "standalone",
        /// Started for a replica set that was never initiated.
        Uninitialized = "uninitialized",
        /// A router of a sharded cluster.
        Mongos = "mongos",
        /// Gave no answer. Never parsed: set by who asked.
        Unreachable = "unreachable",
    }
}

impl MemberState {
    /// Whether a member in this state holds no users, so that nobody can log in there.
    pub const fn is_without_users(self) -> bool {
        matches!(self, Self::Arbiter | Self::Uninitialized)
    }
}

/// An answer to `hello`. Fields that are missing or of the wrong type are as if not there: nothing is believed that is
/// not well-formed, and nothing is refused because of it.
#[derive(Clone, Debug)]
pub struct Hello {
    /// What the member is.
    pub state: MemberState,
    /// The name of its replica set.
    pub set_name: Option<String>,
    /// Its own address as the replica set's configuration spells it.
    pub me: Option<String>,
    /// The members that applications see and the arbiters as `host:port` in lower case, sorted. Hidden members are in
    /// nobody's list.
    pub hosts: Vec<String>,
    /// Who it believes is the primary.
    pub primary: Option<String>,
    /// The election that made this member the primary; only primaries send it.
    pub election_id: Option<ObjectId>,
    /// The term of that election.
    pub election_term: Option<i64>,
    /// Drawn at every start of the process: another value means a restart. From MongoDB 4.4 on.
    pub process_id: Option<ObjectId>,
    /// The answer to the speculative authentication, if the server took it up.
    pub speculative: Option<RawDocumentBuf>,
}

/// Asks a member who it is; `speculative` is the first step of the authentication that is to follow.
///
/// # Errors
/// Those of [`Connection::command`].
pub(super) async fn hello<S>(conn: &mut Connection<S>, speculative: Option<&RawDocument>) -> Result<Hello, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reply = conn.round_trip(&command(Spelling::Modern, speculative)).await?;
    match ServerError::of(reply) {
        None => Ok(Hello::parse(reply)),
        Some(error) if error.code == COMMAND_NOT_FOUND => {
            conn.command(&command(Spelling::Legacy, speculative)).await.map(Hello::parse)
        }
        Some(error) => Err(error.failure("hello")),
    }
}

/// What the command is called: servers before 4.4.2 (and the 3.6 to 4.2 of that time) know the old name only.
#[derive(Clone, Copy)]
enum Spelling {
    Modern,
    Legacy,
}

fn command(spelling: Spelling, speculative: Option<&RawDocument>) -> RawDocumentBuf {
    let mut command = match spelling {
        Spelling::Modern => rawdoc! { "hello": 1 },
        Spelling::Legacy => rawdoc! { "isMaster": 1, "helloOk": true },
    };
    let client = rawdoc! {
        "application": { "name": "midwatch" },
        "driver": { "name": "midwatch", "version": env!("CARGO_PKG_VERSION") },
        "os": { "type": std::env::consts::OS },
    };
    command.append(bson::raw::cstr!("client"), client);
    if let Some(speculative) = speculative {
        command.append(bson::raw::cstr!("speculativeAuthenticate"), speculative);
    }
    command.append(bson::raw::cstr!("$db"), "admin");
    command
}

impl Hello {
    /// Reads a reply.
    pub fn parse(reply: &RawDocument) -> Self {
        let primary_flag = truth(reply, "isWritablePrimary") || truth(reply, "ismaster");
        let election_id = field(reply, "electionId").and_then(RawBsonRef::as_object_id);
        let inner = |outer, key| field(reply, outer).and_then(RawBsonRef::as_document).and_then(|doc| field(doc, key));
        Self {
            state: state(reply, primary_flag),
            set_name: text(reply, "setName"),
            me: field(reply, "me").and_then(RawBsonRef::as_str).and_then(host),
            hosts: hosts(reply),
            primary: field(reply, "primary").and_then(RawBsonRef::as_str).and_then(host),
            election_id,
            election_term: election_id.and_then(term),
            process_id: inner("topologyVersion", "processId").and_then(RawBsonRef::as_object_id),
            speculative: field(reply, "speculativeAuthenticate")
                .and_then(RawBsonRef::as_document)
                .map(ToOwned::to_owned),
        }
    }
}

/// The order matters: a member that leaves its set keeps some of the fields.
fn state(reply: &RawDocument, primary: bool) -> MemberState {
    if field(reply, "msg").and_then(RawBsonRef::as_str) == Some("isdbgrid") {
        MemberState::Mongos
    } else if truth(reply, "isreplicaset") {
        MemberState::Uninitialized
    } else if field(reply, "setName").and_then(RawBsonRef::as_str).is_none() {
        MemberState::Standalone
    } else if primary {
        MemberState::Primary
    } else if truth(reply, "arbiterOnly") {
        MemberState::Arbiter
    } else if truth(reply, "secondary") {
        if truth(reply, "hidden") { MemberState::Hidden } else { MemberState::Secondary }
    } else {
        MemberState::Other
    }
}

/// The members of all three lists, without those that are not an address.
fn hosts(reply: &RawDocument) -> Vec<String> {
    let mut hosts: Vec<String> = ["hosts", "passives", "arbiters"]
        .into_iter()
        .filter_map(|key| field(reply, key).and_then(RawBsonRef::as_array))
        .flatten()
        .filter_map(|item| item.ok().and_then(RawBsonRef::as_str).and_then(host))
        .take(MAX_HOSTS)
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// A `host:port` in lower case, as the specification of discovery wants it compared; it becomes a label and a target.
fn host(text: &str) -> Option<String> {
    let address: HostPort = text.parse().ok()?;
    Some(address.to_string().to_ascii_lowercase())
}

/// The term of an election, from MongoDB 3.2's election protocol on.
fn term(id: ObjectId) -> Option<i64> {
    let bytes = id.bytes();
    let (prefix, term) = bytes.split_first_chunk::<4>()?;
    let term = i64::from_be_bytes(term.try_into().ok()?);
    (*prefix == TERM_PREFIX && term >= 0).then_some(term)
}

fn field<'a>(document: &'a RawDocument, key: &str) -> Option<RawBsonRef<'a>> {
    document.get(key).ok().flatten()
}

fn truth(document: &RawDocument, key: &str) -> bool {
    field(document, key).and_then(RawBsonRef::as_bool).unwrap_or(false)
}

/// A short text of the peer's, cleaned.
fn text(document: &RawDocument, key: &str) -> Option<String> {
    field(document, key).and_then(RawBsonRef::as_str).map(crate::probe::net::clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_apart() {
        for (reply, state) in [
            (rawdoc! { "setName": "rs0", "isWritablePrimary": true, "secondary": false }, "primary"),
            (rawdoc! { "setName": "rs0", "ismaster": true }, "primary"),
            (rawdoc! { "setName": "rs0", "isWritablePrimary": false, "secondary": true }, "secondary"),
            (rawdoc! { "setName": "rs0", "secondary": true, "passive": true, "hidden": true }, "hidden"),
            (rawdoc! { "setName": "rs0", "secondary": false, "arbiterOnly": true }, "arbiter"),
            (rawdoc! { "setName": "rs0", "isWritablePrimary": false, "secondary": false }, "other"),
            (rawdoc! { "isWritablePrimary": true }, "standalone"),
            (rawdoc! { "isWritablePrimary": false, "isreplicaset": true }, "uninitialized"),
            (rawdoc! { "isWritablePrimary": true, "msg": "isdbgrid" }, "mongos"),
            (rawdoc! { "setName": 7, "secondary": "yes", "msg": [] }, "standalone"),
            (rawdoc! {}, "standalone"),
        ] {
            assert_eq!(Hello::parse(&reply).state.label(), state, "{reply:?}");
        }
    }

    #[test]
    fn only_addresses_become_hosts() {
        let long = format!("{}:1", "a".repeat(5_000));
        let reply = rawdoc! {
            "hosts": ["DB1:27017", "db1:27017", "db2", "db3:0", "db4:70000", ":1", "a\nb:1", "a b:1", long, 7, "[::1]:27017"],
            "passives": "db9:1",
            "arbiters": ["arb:27017"],
        };
        assert_eq!(Hello::parse(&reply).hosts, ["[::1]:27017", "arb:27017", "db1:27017"]);
        let mut many = bson::RawArrayBuf::new();
        for i in 0..5_000 {
            many.push(format!("db{i}:27017"));
        }
        assert_eq!(Hello::parse(&rawdoc! { "hosts": many }).hosts.len(), MAX_HOSTS);
    }

    /// Here bytes of a peer become text, and texts become label values: what is not UTF-8 is no text, and so no label.
    #[test]
    fn bytes_that_are_no_text_become_no_label() {
        let reply = rawdoc! {
            "setName": "rsX", "me": "meX:1", "primary": "db1:27017", "hosts": ["dbX:27017", "db1:27017", "\"\\\n:1"],
        };
        let bytes = reply.into_bytes().into_iter().map(|byte| if byte == b'X' { 0xff } else { byte });
        let hello = Hello::parse(&RawDocumentBuf::from_bytes(bytes.collect()).unwrap());
        assert_eq!((hello.set_name, hello.me, hello.primary.as_deref()), (None, None, Some("db1:27017")));
        assert_eq!(hello.hosts, ["db1:27017"]);
    }

    #[test]
    fn the_term_is_in_the_election_id() {
        let id = |hex: &str| rawdoc! { "electionId": ObjectId::parse_str(hex).unwrap() };
        assert_eq!(Hello::parse(&id("7fffffff000000000000002a")).election_term, Some(42));
        assert_eq!(Hello::parse(&id("5f0000000000000000000001")).election_term, None);
        assert_eq!(Hello::parse(&id("7fffffffffffffffffffffff")).election_term, None);
    }

    #[test]
    fn labels_are_unique() {
        let mut labels: Vec<_> = MemberState::ALL.iter().map(|state| state.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), MemberState::ALL.len());
    }
}
