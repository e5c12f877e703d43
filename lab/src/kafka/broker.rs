//! One node: its process, its ports, its data.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ports::Port;
use crate::process::{Launch, Server};
use crate::{Error, Result};

/// The ports of a node.
#[derive(Debug)]
pub(super) struct Ports {
    /// Of the listener for clients.
    pub(super) client: Port,
    /// Of the listener for the other brokers and for the lab.
    pub(super) internal: Port,
    /// Of the listener for controllers.
    pub(super) controller: Port,
}

impl Ports {
    pub(super) fn pick(client: Option<u16>) -> Result<Ports> {
        let client = client.map_or_else(Port::pick, Port::fixed)?;
        Ok(Ports { client, internal: Port::pick()?, controller: Port::pick()? })
    }
}

#[derive(Debug)]
pub(super) struct Broker {
    id: i32,
    ports: Ports,
    log: PathBuf,
    properties: PathBuf,
    launch: Launch,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    server: Option<Server>,
    frozen: bool,
}

impl Broker {
    /// Writes its properties to `folder`. It does not run yet.
    pub(super) fn prepare(id: i32, ports: Ports, folder: &Path, text: &str, java: Launch) -> Result<Broker> {
        let properties = folder.join(format!("broker-{id}.properties"));
        fs::write(&properties, text).map_err(Error::io(properties.display().to_string()))?;
        let log = folder.join(format!("broker-{id}.log"));
        let launch = java.arg("kafka.Kafka").arg(&properties).log(&log);
        Ok(Broker { id, ports, log, properties, launch, state: Mutex::default() })
    }

    pub(super) fn id(&self) -> i32 {
        self.id
    }

    pub(super) fn name(&self) -> String {
        format!("broker {}", self.id)
    }

    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn properties(&self) -> &Path {
        &self.properties
    }

    /// Whether it could answer: neither killed nor frozen.
    pub(super) fn is_up(&self) -> bool {
        let state = self.state();
        state.server.is_some() && !state.frozen
    }

    /// Starts it, killing it if it runs. It does not yet answer when this returns.
    pub(super) fn start(&self) -> Result<()> {
        self.kill();
        self.state().server = Some(self.launch.start()?);
        Ok(())
    }

    pub(super) fn kill(&self) {
        // Taken out first: waiting for the process to end should not hold the lock.
        let state = std::mem::take(&mut *self.state());
        drop(state);
    }

    pub(super) fn freeze(&self) -> Result<()> {
        self.with_server(Server::freeze)?;
        self.state().frozen = true;
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
            None => Err(Error::Unexpected(format!("{} is not running: it was killed", self.name()))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
