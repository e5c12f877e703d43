//! OpenVPN servers, and OpenVPN's own client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::namespace::Namespace;
use super::network::Network;
use crate::certificates::{Authority, Identity};
use crate::process::{Launch, Scratch, Server};
use crate::{Result, binary, until};

/// How packets are wrapped before TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wrap {
    /// Not at all.
    #[default]
    None,
    /// `--tls-auth`, with a direction.
    Auth,
    /// `--tls-crypt`.
    Crypt,
    /// `--tls-crypt-v2`.
    CryptV2,
}

/// What a server should be like.
#[derive(Debug, Clone)]
pub struct OpenvpnOptions {
    wrap: Wrap,
    tcp: bool,
    port: u16,
    valid: time::Duration,
    more: Vec<String>,
}

impl OpenvpnOptions {
    /// Over UDP, with a certificate that is good for 30 days.
    pub fn new(wrap: Wrap) -> OpenvpnOptions {
        OpenvpnOptions {
            wrap,
            tcp: false,
            port: OpenvpnServer::PORT,
            valid: time::Duration::days(30),
            more: Vec::new(),
        }
    }

    /// Over TCP.
    #[must_use]
    pub fn tcp(mut self) -> OpenvpnOptions {
        self.tcp = true;
        self
    }

    /// On another port, for several servers in one namespace.
    #[must_use]
    pub fn port(mut self, port: u16) -> OpenvpnOptions {
        self.port = port;
        self
    }

    /// When its certificate expires, from now.
    #[must_use]
    pub fn valid(mut self, valid: time::Duration) -> OpenvpnOptions {
        self.valid = valid;
        self
    }

    /// A further argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> OpenvpnOptions {
        self.more.push(argument.to_owned());
        self
    }
}

/// A running OpenVPN server.
#[derive(Debug)]
pub struct OpenvpnServer {
    // Before the folder: the server first, then its files.
    server: Option<Server>,
    options: OpenvpnOptions,
    ca: PathBuf,
    client: Identity,
    folder: Scratch,
}

/// A client of OpenVPN's own.
#[derive(Debug)]
pub struct OpenvpnClient {
    server: Server,
    log: PathBuf,
}

impl OpenvpnServer {
    /// The port it listens on unless told otherwise.
    pub const PORT: u16 = 1194;

    /// Starts one at all addresses of the namespace. It listens when this returns.
    pub async fn start(namespace: &Namespace, options: OpenvpnOptions) -> Result<OpenvpnServer> {
        let folder = Scratch::new()?;
        let authority = Authority::new(folder.path(), "ca")?;
        let identity = authority.issue("servers", "vpn", &["vpn.lab.example", "10.77.0.1"], options.valid)?;
        let client = authority.issue("clients", "client", &["client"], time::Duration::days(1))?;
        keys(folder.path())?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let port = options.port.to_string();
        // A device and a network of its own for each server of a namespace.
        let (device, inside) = (format!("ovn{port}"), format!("10.99.{}.0", options.port % 256));
        let mut arguments = vec!["--dev", &device, "--dev-type", "tun"];
        arguments.extend(["--topology", "subnet", "--server", &inside, "255.255.255.0", "--dh", "none"]);
        // One server process, one client's certificate, many clients.
        arguments.extend(["--duplicate-cn", "--keepalive", "10", "60", "--verb", "4"]);
        let ca = authority.certificate().to_owned();
        arguments.extend(["--proto", if options.tcp { "tcp6-server" } else { "udp6" }, "--lport", &port]);
        if !options.tcp {
            // For answers to come from the address that was asked.
            arguments.push("--multihome");
        }
        let mut launch = Launch::new("openvpn", binary::OPENVPN.find()?).args(&arguments);
        for (name, path) in [("--ca", &ca), ("--cert", &identity.certificate), ("--key", &identity.key)] {
            launch = launch.arg(name).arg(path);
        }
        launch = match options.wrap {
            Wrap::None => launch,
            Wrap::Auth => launch.args(["--tls-auth", &file("static.key"), "0"]),
            Wrap::Crypt => launch.args(["--tls-crypt", &file("static.key")]),
            Wrap::CryptV2 => launch.args(["--tls-crypt-v2", &file("v2-server.key")]),
        };
        let launch = launch.args(&options.more).log(folder.path().join("log"));
        let server = namespace.launch(launch)?.start()?;
        let started = OpenvpnServer { server: Some(server), options, ca, client, folder };
        until("OpenVPN to listen", Duration::from_secs(30), async || {
            if let Some(Err(error)) = started.server.as_ref().map(Server::check_alive) {
                return Ok(Err(error));
            }
            let text = read(&started.log());
            if text.contains("Initialization Sequence Completed") { Ok(Ok(())) } else { Err(text) }
        })
        .await??;
        Ok(started)
    }

    /// Where it listens: `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", Network::SERVER.0, self.options.port)
    }

    /// The file with the key that wraps packets: that of a client, where the two differ.
    pub fn wrap_key(&self) -> Option<PathBuf> {
        let name = match self.options.wrap {
            Wrap::None => return None,
            Wrap::Auth | Wrap::Crypt => "static.key",
            Wrap::CryptV2 => "v2-client.key",
        };
        Some(self.folder.path().join(name))
    }

    /// The file with another key of the same kind, which the server does not know.
    pub fn foreign_key(&self) -> Option<PathBuf> {
        let name = match self.options.wrap {
            Wrap::None => return None,
            Wrap::Auth | Wrap::Crypt => "foreign.key",
            Wrap::CryptV2 => "foreign-v2-client.key",
        };
        Some(self.folder.path().join(name))
    }

    /// The authority of the server's certificate, which is for `vpn.lab.example` and 10.77.0.1.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// What it printed.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Starts OpenVPN's own client there.
    pub async fn connect(&self, namespace: &Namespace) -> Result<OpenvpnClient> {
        let log = self.folder.path().join(format!("client-{}.log", super::namespace::unique()));
        let host = Network::SERVER.0.to_string();
        let proto = if self.options.tcp { "tcp4-client" } else { "udp4" };
        let mut launch = Launch::new("openvpn's client", binary::OPENVPN.find()?)
            .args(["--client", "--dev", "tun", "--nobind", "--remote-cert-tls", "server", "--verb", "4"])
            .args(["--proto", proto, "--remote", &host, &self.options.port.to_string()]);
        for (name, path) in [("--ca", &self.ca), ("--cert", &self.client.certificate), ("--key", &self.client.key)] {
            launch = launch.arg(name).arg(path);
        }
        if let Some(key) = self.wrap_key() {
            launch = match self.options.wrap {
                Wrap::Auth => launch.arg("--tls-auth").arg(key).arg("1"),
                Wrap::CryptV2 => launch.arg("--tls-crypt-v2").arg(key),
                Wrap::Crypt | Wrap::None => launch.arg("--tls-crypt").arg(key),
            };
        }
        let server = namespace.launch(launch.log(&log))?.start()?;
        let client = OpenvpnClient { server, log };
        client.wait().await?;
        Ok(client)
    }

    /// Stops it (SIGSTOP).
    pub fn freeze(&self) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), Server::freeze)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), Server::thaw)
    }

    /// Kills it (SIGKILL): its port is closed.
    pub fn kill(&mut self) {
        self.server = None;
    }
}

impl OpenvpnClient {
    async fn wait(&self) -> Result<()> {
        until("OpenVPN's client to connect", Duration::from_secs(30), async || {
            if let Err(error) = self.server.check_alive() {
                return Ok(Err(error));
            }
            let text = read(&self.log);
            if text.contains("Initialization Sequence Completed") { Ok(Ok(())) } else { Err(text) }
        })
        .await?
    }

    /// How often it gave up and began anew.
    pub fn restarts(&self) -> usize {
        read(&self.log).matches("process restarting").count()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Makes keys of every kind, by OpenVPN itself.
fn keys(folder: &Path) -> Result<()> {
    let openvpn = binary::OPENVPN.find()?;
    let genkey = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&openvpn);
        super::namespace::run(command.current_dir(folder).args(arguments), "").map(drop)
    };
    for name in ["static.key", "foreign.key"] {
        genkey(&["--genkey", "secret", name])?;
    }
    for prefix in ["", "foreign-"] {
        let (server, client) = (format!("{prefix}v2-server.key"), format!("{prefix}v2-client.key"));
        genkey(&["--genkey", "tls-crypt-v2-server", &server])?;
        genkey(&["--tls-crypt-v2", &server, "--genkey", "tls-crypt-v2-client", &client])?;
    }
    Ok(())
}
