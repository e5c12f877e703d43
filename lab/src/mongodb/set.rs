//! A replica set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::access::{Files, User};
use super::admin::{self, Connections, command};
use super::member::{Member, Plan, hello};
use super::options::Options;
use crate::ports::Port;
use crate::process::{Scratch, Server};
use crate::{Error, Result, until};

const NAME: &str = "lab";
const PATIENCE: Duration = Duration::from_secs(60);

/// A running replica set named `lab`. Members are given by number, see [`Options`]; a number that does not exist panics.
#[derive(Debug)]
pub struct ReplicaSet {
    // Before the folder: servers first, then their data.
    members: Vec<Member>,
    options: Options,
    files: Files,
    folder: Scratch,
}

impl ReplicaSet {
    /// Starts a set of so many data members, without authentication and TLS.
    pub async fn start(members: usize) -> Result<ReplicaSet> {
        ReplicaSet::with(Options::default().members(members)).await
    }

    /// Starts a set. When this returns there is a primary, every member has its data, and every user can log in to each of them.
    pub async fn with(options: Options) -> Result<ReplicaSet> {
        let folder = Scratch::new()?;
        let files = Files::new(folder.path())?;
        let mut members = Vec::new();
        for index in 0..options.count() {
            let plan = Plan {
                name: format!("member-{index}"),
                folder: folder.path(),
                port: options.ports.get(index).map_or_else(Port::pick, |&port| Port::fixed(port))?,
                set: Some(NAME),
                access: options.access,
                has_users: index < options.data_members(),
                parameters: &options.parameters,
            };
            members.push(Member::start(plan, &files)?);
        }
        let set = ReplicaSet { members, options, files, folder };
        for member in &set.members {
            member.wait_answering(&set.files).await?;
        }
        set.initiate().await?;
        set.wait_settled().await?;
        Ok(set)
    }

    /// The name of the set.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// `127.0.0.1:port` of every member, which are also their names in the set's configuration.
    pub fn hosts(&self) -> Vec<String> {
        self.members.iter().map(Member::host).collect()
    }

    /// The port of a member. It listens on all addresses, so that 127.0.1.7 reaches it too.
    pub fn port(&self, member: usize) -> u16 {
        self.members[member].port()
    }

    /// The process id of a member.
    pub fn pid(&self, member: usize) -> Result<u32> {
        self.members[member].with_server(|server| Ok(server.pid()))
    }

    /// The log of a member.
    pub fn log(&self, member: usize) -> &Path {
        self.members[member].log()
    }

    /// The folder with data, logs and certificates.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Certificates and keys.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The authority's certificate, for `ca_file`.
    pub fn ca_path(&self) -> &Path {
        &self.files.ca
    }

    /// Where a member's data files are.
    pub fn data(&self, member: usize) -> PathBuf {
        // Its log is beside them.
        self.log(member).with_extension("")
    }

    /// Kills a member (SIGKILL). It is gone when this returns.
    pub fn kill(&self, member: usize) {
        self.members[member].kill();
    }

    /// Stops a member (SIGSTOP): its connections stay open and nothing answers.
    pub fn freeze(&self, member: usize) -> Result<()> {
        self.members[member].freeze()
    }

    /// Lets a stopped member go on.
    pub fn thaw(&self, member: usize) -> Result<()> {
        self.members[member].thaw()
    }

    /// Starts a member again, killing it if it runs, with the same port and data. Returns when it answers; it may not yet have caught
    /// up, for that see [`ReplicaSet::wait_settled`].
    pub async fn restart(&self, member: usize) -> Result<()> {
        self.members[member].restart()?;
        self.members[member].wait_answering(&self.files).await
    }

    /// Confines every thread of a member to one CPU.
    pub fn pin(&self, member: usize, cpu: usize) -> Result<()> {
        self.members[member].with_server(|server| Server::pin(server, cpu))
    }

    /// A client of one member, logged in as a user if one is given: the official driver, with a direct connection.
    pub fn client(&self, member: usize, user: Option<&User>) -> Result<Client> {
        self.members[member].client(&self.files, user)
    }

    /// Runs a command on one member's `admin` database as the administrator.
    pub async fn command(&self, member: usize, document: Document) -> Result<Document> {
        command(&self.members[member].admin(&self.files)?, "admin", document).await
    }

    /// Makes the primary step down. Returns when it has: the next one may not be elected yet.
    pub async fn step_down(&self) -> Result<()> {
        let primary = self.wait_primary().await?;
        self.command(primary, doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5 }).await?;
        Ok(())
    }

    /// The number of the primary; an error if there is none now.
    pub async fn primary(&self) -> Result<usize> {
        self.find_primary().await.map_err(|seen| Error::Unexpected(format!("no primary: {seen}")))
    }

    /// Waits until there is a primary that takes writes.
    pub async fn wait_primary(&self) -> Result<usize> {
        until("a primary", PATIENCE, async || self.find_primary().await).await
    }

    /// Waits until there is a primary, every running member is in the state it should be in, all agree on who is primary, and
    /// each has a point to roll back to.
    pub async fn wait_settled(&self) -> Result<usize> {
        until("all members to be settled", PATIENCE, async || {
            let primary = self.find_primary().await?;
            let status =
                self.command(primary, doc! { "replSetGetStatus": 1 }).await.map_err(|error| error.to_string())?;
            self.check_settled(&status)?;
            self.check_agreed(primary).await?;
            self.check_recoverable().await?;
            Ok(primary)
        })
        .await
    }

    /// How many connections a member has and had. Other members and the lab itself have some, so compare, and allow for a few.
    pub async fn connections(&self, member: usize) -> Result<Connections> {
        admin::connections(&self.members[member].admin(&self.files)?).await
    }

    /// How many connections of a given application name a member has now: nobody else's disturb this one.
    pub async fn connections_of(&self, member: usize, application: &str) -> Result<usize> {
        admin::connections_of(&self.members[member].admin(&self.files)?, application).await
    }

    /// Adds a user with midwatch's privileges.
    pub async fn add_user(&self, user: &User) -> Result<()> {
        let client = self.members[self.wait_primary().await?].admin(&self.files)?;
        admin::create_user(&client, user, Some(self.options.data_members())).await
    }

    /// Initiates a set of one, which elects itself at once, creates the users there, and then lets the others copy it all. The usual
    /// way, all at once, waits for an election timeout first, and then for every user to reach every member.
    async fn initiate(&self) -> Result<()> {
        let members: Vec<Document> =
            self.members.iter().enumerate().map(|(i, member)| self.configuration(i, member)).collect();
        let timeout = i64::try_from(self.options.election_timeout.as_millis()).unwrap_or(i64::MAX);
        // Heartbeats well within the election timeout; MongoDB's two seconds go with its ten.
        let settings = doc! { "electionTimeoutMillis": timeout, "heartbeatIntervalMillis": (timeout / 8).max(100) };
        let alone = doc! { "_id": NAME, "members": [members[0].clone()], "settings": settings.clone() };
        let first = self.members[0].client(&self.files, None)?;
        command(&first, "admin", doc! { "replSetInitiate": alone }).await?;
        until("the first primary", PATIENCE, async || writable(&hello(&first).await)).await?;
        if self.options.access.auth {
            admin::create_admin(&first).await?;
            let client = self.members[0].admin(&self.files)?;
            admin::create_users(&client, &self.options.access.users(), None).await?;
        }
        if self.options.arbiter && self.options.data_members() <= members.len() / 2 + 1 {
            // In such a set MongoDB's default is w: 1 instead of majority, but it lets no reconfiguration change a default unsaid.
            self.command(0, doc! { "setDefaultRWConcern": 1, "defaultWriteConcern": { "w": 1 } }).await?;
        }
        if members.len() > 1 {
            let all = doc! { "_id": NAME, "version": 2, "members": members, "settings": settings };
            // By force: otherwise members may be added only one by one.
            self.command(0, doc! { "replSetReconfig": all, "force": true }).await?;
        }
        Ok(())
    }

    fn configuration(&self, index: usize, member: &Member) -> Document {
        let mut configuration = doc! { "_id": i64::try_from(index).unwrap_or(0), "host": member.host() };
        if index >= self.options.data_members() {
            configuration.insert("arbiterOnly", true);
        } else if index >= self.options.members {
            configuration.extend(doc! { "hidden": true, "priority": 0 });
        }
        configuration
    }

    /// The writable primary of the latest election. After a freeze there may be two that believe in themselves.
    async fn find_primary(&self) -> Result<usize, String> {
        let mut best: Option<(ObjectId, usize)> = None;
        let mut seen = Vec::new();
        for (index, member) in
            self.members.iter().enumerate().take(self.options.members).filter(|(_, member)| member.is_up())
        {
            let client = self.members[index].admin(&self.files).map_err(|error| error.to_string())?;
            match writable(&hello(&client).await) {
                Ok(election) => best = best.max(Some((election, index))),
                Err(state) => seen.push(format!("{}: {state}", member.host())),
            }
        }
        best.map(|(_, index)| index).ok_or_else(|| seen.join("; "))
    }

    fn check_settled(&self, status: &Document) -> Result<(), String> {
        let rows: Vec<&Document> =
            status.get_array("members").into_iter().flatten().filter_map(Bson::as_document).collect();
        for (index, member) in self.members.iter().enumerate().filter(|(_, member)| member.is_up()) {
            let row = rows.iter().find(|row| row.get_str("name").is_ok_and(|name| name == member.host()));
            let state = row.and_then(|row| row.get_str("stateStr").ok()).unwrap_or("unknown");
            let good = if index < self.options.data_members() {
                matches!(state, "PRIMARY" | "SECONDARY")
            } else {
                state == "ARBITER"
            };
            if !good {
                return Err(format!("{} is {state}", member.host()));
            }
        }
        Ok(())
    }

    /// A primary that is frozen and replaced rolls back when it is thawed, and aborts if it never had a stable checkpoint
    /// (UnrecoverableRollbackError).
    async fn check_recoverable(&self) -> Result<(), String> {
        let holds_data = |(index, member): &(usize, &Member)| *index < self.options.data_members() && member.is_up();
        for (index, member) in self.members.iter().enumerate().filter(holds_data) {
            let status =
                self.command(index, doc! { "replSetGetStatus": 1 }).await.map_err(|error| error.to_string())?;
            if status.get_timestamp("lastStableRecoveryTimestamp").is_ok_and(|stable| stable.time > 0) {
                continue;
            }
            return Err(format!("{} has no stable checkpoint", member.host()));
        }
        Ok(())
    }

    async fn check_agreed(&self, primary: usize) -> Result<(), String> {
        let primary = self.members[primary].host();
        for member in self.members.iter().filter(|member| member.is_up()) {
            let client = member.admin(&self.files).map_err(|error| error.to_string())?;
            let answer = hello(&client).await.map_err(|error| error.to_string())?;
            if answer.get_str("primary").ok() != Some(primary.as_str()) {
                return Err(format!("{} does not know that {primary} is primary", member.host()));
            }
        }
        Ok(())
    }
}

/// The election that made this server a writable primary, or what it is instead.
fn writable(hello: &Result<Document>) -> Result<ObjectId, String> {
    match hello {
        Ok(answer) if matches!(answer.get_bool("isWritablePrimary"), Ok(true)) => {
            answer.get_object_id("electionId").map_err(|error| error.to_string())
        }
        Ok(_) => Err("not primary".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
