//! Servers that are no replica set: what a probe has to tell apart from one.

use mongodb::Client;
use mongodb::bson::Document;

use super::access::{Access, Files, User};
use super::admin::{self, Connections, command};
use super::member::{Member, Plan};
use crate::Result;
use crate::ports::Port;
use crate::process::Scratch;

/// One mongod without replication.
#[derive(Debug)]
pub struct Standalone(Single);

/// One mongod that was started for a replica set which nobody initiated.
#[derive(Debug)]
pub struct Uninitialised(Single);

#[derive(Debug)]
struct Single {
    // Before the folder: the server first, then its data.
    member: Member,
    files: Files,
    _folder: Scratch,
}

impl Standalone {
    /// Starts one without authentication and TLS.
    pub async fn start() -> Result<Standalone> {
        Standalone::with(Access::default()).await
    }

    /// Starts one; with authentication it has the same users as a replica set.
    pub async fn with(access: Access) -> Result<Standalone> {
        let single = Single::start(None, access).await?;
        if access.auth {
            admin::create_admin(&single.member.client(&single.files, None)?).await?;
            admin::create_users(&single.member.admin(&single.files)?, &access.users(), None).await?;
        }
        Ok(Standalone(single))
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.0.member.host()
    }

    /// Its log.
    pub fn log(&self) -> &std::path::Path {
        self.0.member.log()
    }

    /// Certificates and keys.
    pub fn files(&self) -> &Files {
        &self.0.files
    }

    /// A client of it, logged in as a user if one is given.
    pub fn client(&self, user: Option<&User>) -> Result<Client> {
        self.0.member.client(&self.0.files, user)
    }

    /// Runs a command on its `admin` database as the administrator.
    pub async fn command(&self, document: Document) -> Result<Document> {
        command(&self.0.member.admin(&self.0.files)?, "admin", document).await
    }

    /// How many connections it has and had, the lab's own included.
    pub async fn connections(&self) -> Result<Connections> {
        admin::connections(&self.0.member.admin(&self.0.files)?).await
    }

    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        self.0.member.kill();
    }

    /// Stops it (SIGSTOP).
    pub fn freeze(&self) -> Result<()> {
        self.0.member.freeze()
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.0.member.thaw()
    }

    /// Starts it again, with the same port and data.
    pub async fn restart(&self) -> Result<()> {
        self.0.member.restart()?;
        self.0.member.wait_answering(&self.0.files).await
    }
}

impl Uninitialised {
    /// Starts one.
    pub async fn start() -> Result<Uninitialised> {
        Ok(Uninitialised(Single::start(Some("never"), Access::default()).await?))
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.0.member.host()
    }

    /// A client of it.
    pub fn client(&self) -> Result<Client> {
        self.0.member.client(&self.0.files, None)
    }
}

impl Single {
    async fn start(set: Option<&str>, access: Access) -> Result<Single> {
        let folder = Scratch::new()?;
        let files = Files::new(folder.path())?;
        let parameters = [("diagnosticDataCollectionEnabled".to_owned(), "false".to_owned())];
        let plan = Plan {
            name: "mongod".to_owned(),
            folder: folder.path(),
            port: Port::pick()?,
            set,
            access,
            has_users: true,
            parameters: &parameters,
        };
        let member = Member::start(plan, &files)?;
        member.wait_answering(&files).await?;
        Ok(Single { member, files, _folder: folder })
    }
}
