//! WireGuard servers.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::namespace::{Namespace, command_in, run, unique};
use super::network::Network;
use crate::certificates::write;
use crate::process::{Launch, Scratch, Server};
use crate::{Result, binary, until};

/// Where implementations keep the sockets that `wg` talks to them through.
pub(super) const SOCKETS: &str = "/var/run/wireguard";

/// Which implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// wireguard-go.
    Go,
    /// boringtun-cli.
    Boringtun,
}

/// A WireGuard interface in a namespace, with its process.
#[derive(Debug)]
pub struct WireguardServer {
    // Before the folder: the server first, then its log.
    server: Option<Server>,
    implementation: Implementation,
    interface: String,
    namespace: String,
    public_key: String,
    folder: Scratch,
}

/// What a peer needs to connect.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The file with its private key.
    pub private_key: PathBuf,
    /// Its public key.
    pub public_key: String,
    /// The file with the key that both share.
    pub preshared_key: Option<PathBuf>,
}

impl WireguardServer {
    /// The port it listens on.
    pub const PORT: u16 = 51820;
    /// Its addresses inside: `fd88::1` is the other.
    pub const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

    /// Starts one, without any peer.
    pub async fn start(namespace: &Namespace, implementation: Implementation) -> Result<WireguardServer> {
        let mut server = Self::bare(namespace, implementation).await?;
        let key = server.key("server")?;
        server.public_key = public_key(&key)?;
        server.wg(&["listen-port", &Self::PORT.to_string(), "private-key", &key.display().to_string()])?;
        namespace.ip(&["addr", "add", &format!("{}/24", Self::INSIDE), "dev", &server.interface])?;
        namespace.ip(&["addr", "add", "fd88::1/64", "dev", &server.interface, "nodad"])?;
        namespace.ip(&["link", "set", &server.interface, "up"])?;
        Ok(server)
    }

    /// Starts a client's side of `server` with the peer's key: an interface with the address, which leads to 10.88.0.0/24.
    pub async fn connect(
        network: &Network,
        to: &WireguardServer,
        peer: &Peer,
        address: &str,
    ) -> Result<WireguardServer> {
        let client = Self::bare(&network.client, Implementation::Go).await?;
        let key = peer.private_key.display().to_string();
        let endpoint = format!("{}:{}", Network::SERVER.0, Self::PORT);
        let allowed = "10.88.0.0/24,fd88::/64";
        let mut arguments =
            vec!["private-key", &key, "peer", to.public_key(), "endpoint", &endpoint, "allowed-ips", allowed];
        let shared = peer.preshared_key.as_ref().map(|path| path.display().to_string());
        if let Some(shared) = &shared {
            arguments.extend(["preshared-key", shared]);
        }
        client.wg(&arguments)?;
        network.client.ip(&["addr", "add", address, "dev", &client.interface])?;
        network.client.ip(&["link", "set", &client.interface, "up"])?;
        Ok(client)
    }

    async fn bare(namespace: &Namespace, implementation: Implementation) -> Result<WireguardServer> {
        let folder = Scratch::new()?;
        let interface = unique();
        let launch = match implementation {
            Implementation::Go => Launch::new("wireguard-go", binary::WIREGUARD_GO.find()?)
                .args(["-f", &interface])
                .env("WG_PROCESS_FOREGROUND", "1")
                .env("LOG_LEVEL", "verbose"),
            Implementation::Boringtun => Launch::new("boringtun-cli", binary::BORINGTUN.find()?).args([
                "--foreground",
                "--disable-drop-privileges",
                "--verbosity",
                "debug",
                &interface,
            ]),
        };
        let server = namespace.launch(launch.log(folder.path().join("log")))?.start()?;
        let namespace = namespace.name().to_owned();
        let bare = WireguardServer {
            server: Some(server),
            implementation,
            interface,
            namespace,
            public_key: String::new(),
            folder,
        };
        until("WireGuard to listen to wg", Duration::from_secs(20), async || {
            if let Some(Err(error)) = bare.server.as_ref().map(Server::check_alive) {
                return Ok(Err(error));
            }
            bare.show("listen-port").map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .await??;
        Ok(bare)
    }

    /// Its public key.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Which implementation it is.
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// The name of its interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// What the process printed.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Lets a new peer in, whose packets may come from these addresses inside. `shared` is whether both share a key.
    pub fn add_peer(&self, allowed: &str, shared: bool) -> Result<Peer> {
        let private_key = self.key(&unique())?;
        let public_key = public_key(&private_key)?;
        let preshared_key = shared.then(|| self.key(&unique())).transpose()?;
        let peer = Peer { private_key, public_key, preshared_key };
        self.set_peer(&peer, allowed)?;
        Ok(peer)
    }

    /// Lets a peer in, or changes what it may.
    pub fn set_peer(&self, peer: &Peer, allowed: &str) -> Result<()> {
        if self.implementation == Implementation::Boringtun && self.show("peers")?.contains(&peer.public_key) {
            // It ends rather than to change one.
            self.remove_peer(peer)?;
        }
        let shared = peer.preshared_key.as_ref().map(|path| path.display().to_string());
        let mut arguments = vec!["peer", peer.public_key.as_str(), "allowed-ips", allowed];
        if let Some(shared) = &shared {
            arguments.extend(["preshared-key", shared]);
        }
        self.wg(&arguments)
    }

    /// Has a client send its packets for `server` somewhere else.
    pub fn move_endpoint(&self, server: &WireguardServer, endpoint: &str) -> Result<()> {
        self.wg(&["peer", server.public_key(), "endpoint", endpoint])
    }

    /// Lets it in no more, and forgets when it last came.
    pub fn remove_peer(&self, peer: &Peer) -> Result<()> {
        self.wg(&["peer", &peer.public_key, "remove"])
    }

    /// A new private key that nobody knows, as a file.
    pub fn key(&self, name: &str) -> Result<PathBuf> {
        write(self.folder.path(), &format!("{name}.key"), &generate()?)
    }

    /// A key of the server that is not its own: what a client has after the server got a new one.
    pub fn other_public_key(&self) -> Result<String> {
        public_key(&self.key(&unique())?)
    }

    /// What `wg show` says of the interface.
    pub fn show(&self, what: &str) -> Result<String> {
        run(self.command()?.args(["show", &self.interface, what]), "")
    }

    /// The process, unless it was killed.
    pub fn pid(&self) -> Result<u32> {
        let gone = || crate::Error::Unexpected("the server was killed".to_owned());
        self.server.as_ref().map(Server::pid).ok_or_else(gone)
    }

    /// Stops it (SIGSTOP): packets pile up at its socket.
    pub fn freeze(&self) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), Server::freeze)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), Server::thaw)
    }

    /// Kills it (SIGKILL): its port is closed, its interface gone.
    pub fn kill(&mut self) {
        self.server = None;
    }

    fn wg(&self, arguments: &[&str]) -> Result<()> {
        run(self.command()?.args(["set", &self.interface]).args(arguments), "").map(drop)
    }

    /// `wg`, in the namespace of the interface.
    fn command(&self) -> Result<Command> {
        command_in(&self.namespace, binary::WG.find()?)
    }
}

impl Drop for WireguardServer {
    fn drop(&mut self) {
        self.server = None;
        // One that was killed leaves it behind.
        let _ = std::fs::remove_file(Path::new(SOCKETS).join(format!("{}.sock", self.interface)));
    }
}

fn generate() -> Result<String> {
    run(Command::new(binary::WG.find()?).arg("genkey"), "")
}

fn public_key(private: &Path) -> Result<String> {
    let text = std::fs::read_to_string(private).map_err(crate::Error::io(private.display().to_string()))?;
    Ok(run(Command::new(binary::WG.find()?).arg("pubkey"), &text)?.trim().to_owned())
}
