//! strongSwan.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::namespace::Namespace;
use super::network::Network;
use crate::certificates::write;
use crate::process::{Launch, Scratch, Server};
use crate::{Result, binary, until};

/// What both sides of the lab's connection know. Not a secret.
const SHARED: &str = "0sbWlkd2F0Y2ggbGFi";

/// What a responder should be like.
#[derive(Debug, Clone)]
pub struct IkeOptions {
    proposals: String,
    settings: Vec<(String, String)>,
}

impl Default for IkeOptions {
    /// With strongSwan's own limits.
    fn default() -> IkeOptions {
        IkeOptions { proposals: "aes256gcm16-prfsha256-ecp256".to_owned(), settings: Vec::new() }
    }
}

impl IkeOptions {
    /// What it accepts, in strongSwan's words: `aes128-sha256-modp2048`.
    #[must_use]
    pub fn proposals(mut self, proposals: &str) -> IkeOptions {
        proposals.clone_into(&mut self.proposals);
        self
    }

    /// How many half-open SAs there may be until everybody has to show a cookie first.
    #[must_use]
    pub fn cookie_threshold(self, count: u32) -> IkeOptions {
        self.setting("cookie_threshold", count)
    }

    /// How many half-open SAs an address may have until it is not answered any more. strongSwan's own is five.
    #[must_use]
    pub fn block_threshold(self, count: u32) -> IkeOptions {
        self.setting("block_threshold", count)
    }

    /// After how many seconds a half-open SA is gone. strongSwan's own is 30.
    #[must_use]
    pub fn half_open_timeout(self, seconds: u32) -> IkeOptions {
        self.setting("half_open_timeout", seconds)
    }

    fn setting(mut self, name: &str, value: u32) -> IkeOptions {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A running strongSwan with one connection.
#[derive(Debug)]
pub struct Ike {
    // Before the folder: the server first, then its files.
    server: Option<Server>,
    folder: Scratch,
}

impl Ike {
    /// Starts a responder at all addresses of the namespace, ports 500 and 4500.
    pub async fn start(namespace: &Namespace, options: &IkeOptions) -> Result<Ike> {
        Self::with(namespace, options, None).await
    }

    /// Starts an initiator there, which connects to the lab's server when it is asked to.
    pub async fn client(namespace: &Namespace, options: &IkeOptions) -> Result<Ike> {
        Self::with(namespace, options, Some(Network::SERVER.0)).await
    }

    async fn with(namespace: &Namespace, options: &IkeOptions, remote: Option<Ipv4Addr>) -> Result<Ike> {
        let folder = Scratch::new()?;
        let socket = format!("unix://{}", folder.path().join("vici").display());
        let mut text = String::from("charon-systemd {\n");
        for (name, value) in &options.settings {
            let _ = writeln!(text, "  {name} = {value}");
        }
        let _ = write!(
            text,
            "  install_routes = no\n  filelog {{\n    stdout {{\n      default = 1\n    }}\n  }}\n  plugins {{\n    vici {{\n      \
             socket = {socket}\n    }}\n  }}\n}}\n"
        );
        let configuration = write(folder.path(), "strongswan.conf", &text)?;
        let (remote, addresses) = match remote {
            Some(remote) => (format!("    remote_addrs = {remote}\n"), "client server"),
            None => (String::new(), "server client"),
        };
        let (own, other) = addresses.split_once(' ').unwrap_or_default();
        let connection = format!(
            "connections {{\n  lab {{\n    version = 2\n{remote}    proposals = {}\n    local {{\n      auth = psk\n      id = {own}\n    \
             }}\n    remote {{\n      auth = psk\n      id = {other}\n    }}\n    children {{\n      lab {{\n        \
             esp_proposals = aes128gcm16\n      }}\n    }}\n  }}\n}}\nsecrets {{\n  ike {{\n    secret = {SHARED}\n  }}\n}}\n",
            options.proposals
        );
        let connection = write(folder.path(), "swanctl.conf", &connection)?;
        let launch = Launch::new("strongSwan", binary::CHARON.find()?)
            .env("STRONGSWAN_CONF", configuration)
            .env("SWANCTL_DIR", folder.path())
            .log(folder.path().join("log"));
        let server = namespace.launch(launch)?.start()?;
        let ike = Ike { server: Some(server), folder };
        until("strongSwan to listen to swanctl", Duration::from_secs(20), async || {
            if let Some(Err(error)) = ike.server.as_ref().map(Server::check_alive) {
                return Ok(Err(error));
            }
            let file = connection.display().to_string();
            ike.swanctl(&["--load-all", "--file", &file]).map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .await??;
        Ok(ike)
    }

    /// Connects, as a client does: until both know each other. There is no tunnel.
    pub async fn initiate(&self) -> Result<()> {
        let uri = self.uri();
        let mut command = self.command()?;
        command.args(["--initiate", "--uri", &uri, "--ike", "lab", "--timeout", "20"]);
        let task = tokio::task::spawn_blocking(move || super::namespace::run(&mut command, "").map(drop));
        task.await.map_err(|error| crate::Error::Unexpected(error.to_string()))?
    }

    /// How many half-open SAs there are.
    pub fn half_open(&self) -> Result<usize> {
        let stats = self.swanctl(&["--stats"])?;
        // `IKE_SAs: 3 total, 2 half-open`
        let words = stats.lines().find_map(|line| line.trim().strip_prefix("IKE_SAs:"));
        let count = words.and_then(|words| words.rsplit_once("total,")?.1.split_whitespace().next()?.parse().ok());
        count.ok_or_else(|| crate::Error::Unexpected(format!("swanctl --stats: {stats}")))
    }

    /// What it knows of its connections: `swanctl --list-sas`.
    pub fn connections(&self) -> Result<String> {
        self.swanctl(&["--list-sas"])
    }

    /// What it printed.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Stops it (SIGSTOP).
    pub fn freeze(&self) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), Server::freeze)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), Server::thaw)
    }

    /// Kills it (SIGKILL): its ports are closed.
    pub fn kill(&mut self) {
        self.server = None;
    }

    fn swanctl(&self, arguments: &[&str]) -> Result<String> {
        let (action, rest) = arguments.split_first().map_or(("--stats", arguments), |(first, rest)| (*first, rest));
        super::namespace::run(self.command()?.args([action, "--uri", &self.uri()]).args(rest), "")
    }

    fn command(&self) -> Result<std::process::Command> {
        let mut command = std::process::Command::new(binary::SWANCTL.find()?);
        command
            .env("STRONGSWAN_CONF", self.folder.path().join("strongswan.conf"))
            .env("SWANCTL_DIR", self.folder.path());
        Ok(command)
    }

    fn uri(&self) -> String {
        format!("unix://{}", self.folder.path().join("vici").display())
    }
}
