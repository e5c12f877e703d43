//! ocserv, a server for AnyConnect clients.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::namespace::Namespace;
use super::network::Network;
use crate::certificates::{Authority, write};
use crate::process::{Launch, Scratch, Server};
use crate::{Result, binary, until};

/// The password of its one user, as ocserv's file has it (crypt(3)). Not a secret.
const CRYPTED: &str = "$5$midwatchlab$k3ZtdsgyT0Fo3Yn5sryMQHTEkk8IKLhFIt2h6QMKhs5";

/// A running ocserv.
#[derive(Debug)]
pub struct Ocserv {
    // Before the folder: the server first, then its files.
    server: Option<Server>,
    ca: PathBuf,
    folder: Scratch,
}

impl Ocserv {
    /// The port it listens on.
    pub const PORT: u16 = 443;

    /// Starts one at all addresses of the namespace, with a certificate that expires `valid` from now.
    pub async fn start(namespace: &Namespace, valid: time::Duration) -> Result<Ocserv> {
        let folder = Scratch::new()?;
        let authority = Authority::new(folder.path(), "ca")?;
        let identity = authority.issue("servers", "vpn", &["vpn.lab.example", "10.77.0.1"], valid)?;
        let users = write(folder.path(), "users", &format!("lab:*:{CRYPTED}\n"))?;
        let text = format!(
            "auth = \"plain[passwd={}]\"\ntcp-port = {port}\nudp-port = {port}\nrun-as-user = root\nrun-as-group = root\n\
             socket-file = {}\nserver-cert = {}\nserver-key = {}\nisolate-workers = false\nuse-occtl = false\nmax-clients = 0\n\
             max-same-clients = 0\nkeepalive = 300\ntry-mtu-discovery = false\ndevice = vpns\nipv4-network = 10.98.0.0/24\n\
             auth-timeout = 60\nmax-ban-score = 0\nrate-limit-ms = 0\ndefault-domain = lab.example\ncisco-client-compat = true\n",
            users.display(),
            folder.path().join("socket").display(),
            identity.certificate.display(),
            identity.key.display(),
            port = Self::PORT,
        );
        let configuration = write(folder.path(), "ocserv.conf", &text)?;
        let launch = Launch::new("ocserv", binary::OCSERV.find()?)
            .args(["-f", "-d", "3", "-c"])
            .arg(configuration)
            .log(folder.path().join("log"));
        let server = namespace.launch(launch)?.start()?;
        let ca = authority.certificate().to_owned();
        let ocserv = Ocserv { server: Some(server), ca, folder };
        until("ocserv to listen", Duration::from_secs(20), async || {
            if let Some(Err(error)) = ocserv.server.as_ref().map(Server::check_alive) {
                return Ok(Err(error));
            }
            let address = (Network::SERVER.0, Self::PORT).into();
            namespace.connect(address).await.map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .await??;
        Ok(ocserv)
    }

    /// The authority of its certificate, which is for `vpn.lab.example` and 10.77.0.1.
    pub fn ca_file(&self) -> &Path {
        &self.ca
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

    /// Kills it (SIGKILL): its port is closed.
    pub fn kill(&mut self) {
        self.server = None;
    }
}
