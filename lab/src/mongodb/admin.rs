//! Commands that the lab gives to its servers.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use tokio::time::timeout;

use super::access::{PROBE_DATABASE, User};
use crate::{Error, Result};

/// A role for the one privilege that no role of MongoDB's own gives: listing the databases' change streams.
const STREAM_ROLE: &str = "midwatchChangeStreams";

/// What a server says about its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Open now. Includes the lab's own and those of the other members.
    pub current: i64,
    /// Opened since the server started.
    pub total_created: i64,
}

/// Runs a command on one server, but not for ever: the driver itself would wait for a frozen one without end.
pub(super) async fn command(client: &Client, database: &str, command: Document) -> Result<Document> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let name = command.keys().next().cloned().unwrap_or_default();
    let late = |_| Error::Late {
        what: format!("the answer to {name}"),
        seconds: PATIENCE.as_secs(),
        last: "nothing".to_owned(),
    };
    Ok(timeout(PATIENCE, client.database(database).run_command(command.clone())).await.map_err(late)??)
}

/// Creates the administrator. On a server with authentication and without users, this is allowed from its own machine.
pub(super) async fn create_admin(client: &Client) -> Result<()> {
    let (database, creation) = User::admin().creation(&doc! { "roles": ["root"] });
    command(client, database, creation).await?;
    Ok(())
}

/// Creates the role and the users, on `copies` members before this returns, so that they can log in to any of them at once.
pub(super) async fn create_users(client: &Client, users: &[User], copies: Option<usize>) -> Result<()> {
    let role = doc! {
        "createRole": STREAM_ROLE,
        "privileges": [{ "resource": { "db": "admin", "collection": "" }, "actions": ["find"] }],
        "roles": [],
    };
    command(client, "admin", with_concern(role, copies)).await?;
    for user in users {
        create_user(client, user, copies).await?;
    }
    Ok(())
}

/// Creates one user with midwatch's privileges.
pub(super) async fn create_user(client: &Client, user: &User, copies: Option<usize>) -> Result<()> {
    let roles = doc! { "roles": [
        { "role": "clusterMonitor", "db": "admin" },
        { "role": "read", "db": "local" },
        { "role": "readWrite", "db": PROBE_DATABASE },
        { "role": STREAM_ROLE, "db": "admin" },
    ] };
    let (database, creation) = user.creation(&roles);
    command(client, database, with_concern(creation, copies)).await?;
    Ok(())
}

fn with_concern(mut command: Document, copies: Option<usize>) -> Document {
    if let Some(copies) = copies.and_then(|copies| i32::try_from(copies).ok()) {
        command.insert("writeConcern", doc! { "w": copies, "wtimeout": 20_000 });
    }
    command
}

pub(super) async fn connections(client: &Client) -> Result<Connections> {
    let status = command(client, "admin", doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "wiredTiger": 0 }).await?;
    let count = |name: &str| {
        status.get_document("connections").ok().and_then(|connections| connections.get(name)).and_then(integer)
    };
    match (count("current"), count("totalCreated")) {
        (Some(current), Some(total_created)) => Ok(Connections { current, total_created }),
        _ => Err(Error::Unexpected("serverStatus without connections".to_owned())),
    }
}

pub(super) async fn connections_of(client: &Client, application: &str) -> Result<usize> {
    let pipeline = vec![
        doc! { "$currentOp": { "allUsers": true, "idleConnections": true } },
        doc! { "$match": { "appName": application } },
        doc! { "$count": "count" },
    ];
    let aggregate = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": {} };
    let answer = command(client, "admin", aggregate).await?;
    let batch = answer.get_document("cursor").ok().and_then(|cursor| cursor.get_array("firstBatch").ok());
    let count = batch.and_then(|batch| batch.first()).and_then(Bson::as_document).and_then(|first| first.get("count"));
    Ok(count.and_then(integer).and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
}

fn integer(value: &Bson) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}
