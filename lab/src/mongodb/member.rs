//! One mongod: its process, its port, its data, and the lab's own connection to it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::access::{Access, Files, User};
use super::admin;
use crate::ports::Port;
use crate::process::{Launch, Server};
use crate::{Error, Result, binary, until};

/// How to run a mongod.
pub(super) struct Plan<'a> {
    pub(super) name: String,
    pub(super) folder: &'a Path,
    pub(super) port: Port,
    /// The name of the set, if it is in one.
    pub(super) set: Option<&'a str>,
    pub(super) access: Access,
    /// Whether it holds the users. An arbiter does not: nobody can log in to it.
    pub(super) has_users: bool,
    pub(super) parameters: &'a [(String, String)],
}

#[derive(Debug)]
pub(super) struct Member {
    name: String,
    port: Port,
    log: PathBuf,
    launch: Launch,
    access: Access,
    has_users: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    server: Option<Server>,
    frozen: bool,
    /// Made when first needed, and again after a restart: the driver would take its time to notice.
    client: Option<Client>,
}

impl Member {
    /// Starts it. It does not yet answer when this returns.
    pub(super) fn start(plan: Plan<'_>, files: &Files) -> Result<Member> {
        let data = plan.folder.join(&plan.name);
        fs::create_dir_all(&data).map_err(Error::io(data.display().to_string()))?;
        let log = plan.folder.join(format!("{}.log", plan.name));
        let mut arguments: Vec<OsString> = vec!["--dbpath".into(), data.into()];
        arguments.extend(["--port".into(), plan.port.number().to_string().into()]);
        // Small, because several sets run at once on a build machine; no socket file, because that would be outside of the folder.
        arguments.extend(["--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--bind_ip_all"].map(Into::into));
        if let Some(set) = plan.set {
            // A checkpoint every second instead of every minute: a primary that was frozen and replaced has to roll back to one,
            // and without any it aborts (UnrecoverableRollbackError).
            arguments.extend(["--replSet", set, "--oplogSize", "64", "--syncdelay", "1"].map(Into::into));
        }
        arguments.extend(plan.access.arguments(files, plan.set.is_some()));
        for (name, value) in plan.parameters {
            arguments.extend(["--setParameter".into(), format!("{name}={value}").into()]);
        }
        let launch = Launch::new(plan.name.as_str(), binary::MONGOD.find()?).args(arguments).log(&log);
        let state = State { server: Some(launch.start()?), ..State::default() };
        Ok(Member {
            name: plan.name,
            port: plan.port,
            log,
            launch,
            access: plan.access,
            has_users: plan.has_users,
            state: Mutex::new(state),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(super) fn host(&self) -> String {
        self.port.address()
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it could answer: neither killed nor frozen.
    pub(super) fn is_up(&self) -> bool {
        let state = self.state();
        state.server.is_some() && !state.frozen
    }

    pub(super) fn kill(&self) {
        // Taken out first: waiting for the process to end should not hold the lock.
        let state = std::mem::take(&mut *self.state());
        drop(state);
    }

    pub(super) fn restart(&self) -> Result<()> {
        self.kill();
        self.state().server = Some(self.launch.start()?);
        Ok(())
    }

    pub(super) fn freeze(&self) -> Result<()> {
        self.with_server(Server::freeze)?;
        let mut state = self.state();
        state.frozen = true;
        state.client = None;
        Ok(())
    }

    pub(super) fn thaw(&self) -> Result<()> {
        self.with_server(Server::thaw)?;
        self.state().frozen = false;
        Ok(())
    }

    /// Calls `action` with the running server.
    pub(super) fn with_server<T>(&self, action: impl FnOnce(&Server) -> Result<T>) -> Result<T> {
        match &self.state().server {
            Some(server) => action(server),
            None => Err(Error::Unexpected(format!("{} is not running: it was killed", self.name))),
        }
    }

    /// A new client of this server alone.
    pub(super) fn client(&self, files: &Files, user: Option<&User>) -> Result<Client> {
        self.access.client(files, self.port.number(), user)
    }

    /// The lab's own client: the administrator, where there is one.
    pub(super) fn admin(&self, files: &Files) -> Result<Client> {
        let mut state = self.state();
        if let Some(client) = &state.client {
            return Ok(client.clone());
        }
        let admin = User::admin();
        let client = self.client(files, (self.access.auth && self.has_users).then_some(&admin))?;
        state.client = Some(client.clone());
        Ok(client)
    }

    /// Waits until it answers to anybody.
    pub(super) async fn wait_answering(&self, files: &Files) -> Result<()> {
        let client = self.client(files, None)?;
        until(&format!("{} to answer", self.name), Duration::from_secs(60), async || {
            // A server that cannot start says why in its log: better than waiting for it.
            if let Err(error) = self.with_server(Server::check_alive) {
                return Ok(Err(error));
            }
            hello(&client).await.map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .await?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server says about itself; needs no login.
pub(super) async fn hello(client: &Client) -> Result<Document> {
    admin::command(client, "admin", doc! { "hello": 1 }).await
}
