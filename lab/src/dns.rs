//! A real name server, dnsmasq, with the records that a test gives it.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Launch, Scratch, Server};
use crate::{Error, Result, binary, until};

/// A name server on a loopback address of its own. Killed on drop.
#[derive(Debug)]
pub struct Dns {
    // Before the folder: the server first, then its files.
    server: Server,
    address: Ipv4Addr,
    folder: Scratch,
}

impl Dns {
    /// Starts a server that knows these records and nothing else. Each is a line of dnsmasq's configuration, for example
    /// `host-record=db1.lab.example,127.0.0.1` or `srv-host=_mongodb._tcp.lab.example,db1.lab.example,27017`.
    ///
    /// It listens on port 53, because a resolv.conf cannot name another: that takes root.
    pub async fn start(records: &[String]) -> Result<Dns> {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low.clamp(1, 254));
        let folder = Scratch::new()?;
        let configuration = folder.path().join("dnsmasq.conf");
        write(&configuration, &records.join("\n"))?;
        write(&folder.path().join("resolv.conf"), &format!("nameserver {address}\noptions timeout:1 attempts:1\n"))?;
        let launch = Launch::new("dnsmasq", binary::DNSMASQ.find()?)
            .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=", "--pid-file="])
            .arg(format!("--listen-address={address}"))
            .arg(format!("--conf-file={}", configuration.display()))
            .log(folder.path().join("dnsmasq.log"));
        let dns = Dns { server: launch.start()?, address, folder };
        until("dnsmasq to listen", Duration::from_secs(20), async || dns.listens()).await?;
        Ok(dns)
    }

    /// A resolv.conf that names this server. Programs read it in place of the system's if it is mounted over that.
    pub fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    /// Stops answering (SIGSTOP).
    pub fn freeze(&self) -> Result<()> {
        self.server.freeze()
    }

    /// Answers again.
    pub fn thaw(&self) -> Result<()> {
        self.server.thaw()
    }

    /// The address is taken once the server listens on it.
    fn listens(&self) -> std::result::Result<(), String> {
        self.server.check_alive().map_err(|error| error.to_string())?;
        match UdpSocket::bind((self.address, 53)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("nobody listens yet".to_owned()),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(path.display().to_string()))
}
