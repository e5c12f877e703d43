//! Two namespaces with a cable between them, and what is inside a tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use super::namespace::{Namespace, unique};
use crate::binary::{self, Program};
use crate::{Error, Result};

/// A server's namespace and a client's, each with an address of either family towards the other.
#[derive(Debug)]
pub struct Network {
    /// Where servers run.
    pub server: Namespace,
    /// Where clients run.
    pub client: Namespace,
}

impl Network {
    /// The server's addresses.
    pub const SERVER: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 77, 0, 1), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
    /// The client's.
    pub const CLIENT: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 77, 0, 2), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));

    /// Makes both.
    pub fn new() -> Result<Network> {
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        let (near, far) = (unique(), unique());
        server.ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", client.name()])?;
        for (namespace, link, (v4, v6)) in [(&server, &near, Self::SERVER), (&client, &far, Self::CLIENT)] {
            namespace.ip(&["addr", "add", &format!("{v4}/24"), "dev", link])?;
            // Without the second in which the kernel looks for others with that address.
            namespace.ip(&["addr", "add", &format!("{v6}/64"), "dev", link, "nodad"])?;
            namespace.ip(&["link", "set", link, "up"])?;
        }
        Ok(Network { server, client })
    }
}

/// The path that [`Inside`] serves.
pub const PAGE: &str = "/x";
/// The name that [`Inside`] knows.
pub const SERVED_NAME: &str = "inside.lab.example";

/// What can be asked at an address inside a tunnel: a page at port 8080, of which only [`PAGE`] is there, and a name server, which
/// knows [`SERVED_NAME`] only.
#[derive(Debug)]
pub struct Inside(Vec<JoinHandle<()>>);

impl Inside {
    /// Serves at an address of that namespace. To be called on a runtime.
    pub fn serve(namespace: &Namespace, address: IpAddr) -> Result<Inside> {
        let pages = namespace.listen(SocketAddr::new(address, 8080))?;
        let names = namespace.bind(SocketAddr::new(address, 53))?;
        Ok(Inside(vec![tokio::spawn(serve_pages(pages)), tokio::spawn(serve_names(names))]))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

async fn serve_pages(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut first = String::new();
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|length| length > 2) {
                if first.is_empty() {
                    first.clone_from(&line);
                }
                line.clear();
            }
            let status = if first.split(' ').nth(1) == Some(PAGE) { "200 OK" } else { "404 Not Found" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // Whoever has gone away needs no answer.
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

async fn serve_names(socket: UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = buffer.get(..length).and_then(answer) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// The answer to a question (RFC 1035, section 4): one address, or NXDOMAIN.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let (id, rest) = (question.get(..2)?, question.get(12..)?);
    let name_length = rest.iter().position(|byte| *byte == 0)? + 1;
    let (name, asked) = (rest.get(..name_length)?, rest.get(..name_length + 4)?);
    let wanted: Vec<u8> = SERVED_NAME
        .split('.')
        .flat_map(|label| u8::try_from(label.len()).into_iter().chain(label.bytes()))
        .chain([0])
        .collect();
    let is_known = name.eq_ignore_ascii_case(&wanted);
    let mut bytes = id.to_vec();
    bytes.extend([0x81, if is_known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(is_known), 0, 0, 0, 0]);
    bytes.extend(asked);
    if is_known {
        // The name again, by its place; A, IN, a minute, four bytes.
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 88, 0, 1]);
    }
    Some(bytes)
}

/// Whether tests of VPNs can run. Where they cannot, that is an error, unless `MIDWATCH_WITHOUT_VPN=1` says that this is known: then
/// it is printed, for the test to end without having tested anything.
///
/// # Errors
/// What is missing, in words.
pub fn available() -> Result<bool> {
    let Some(missing) = missing() else { return Ok(true) };
    if std::env::var_os("MIDWATCH_WITHOUT_VPN").is_some_and(|value| value == "1") {
        #[allow(clippy::print_stderr, reason = "for the person who runs the tests")]
        {
            eprintln!("skipped, because MIDWATCH_WITHOUT_VPN=1: {missing}");
        }
        return Ok(false);
    }
    Err(Error::Unexpected(format!(
        "tests of VPNs cannot run here: {missing}. With MIDWATCH_WITHOUT_VPN=1 they are skipped"
    )))
}

fn missing() -> Option<String> {
    const PROGRAMS: [Program; 10] = [
        binary::IP,
        binary::NFT,
        binary::SETPRIV,
        binary::WG,
        binary::WIREGUARD_GO,
        binary::BORINGTUN,
        binary::OPENVPN,
        binary::CHARON,
        binary::SWANCTL,
        binary::OCSERV,
    ];
    let absent: Vec<_> = PROGRAMS.into_iter().filter(|program| program.find().is_err()).map(Program::name).collect();
    if !absent.is_empty() {
        return Some(format!("there is no {}; `scripts/setup.sh test` installs them", absent.join(", no ")));
    }
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces take root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun, which tunnels need".to_owned());
    }
    Namespace::new().err().map(|error| format!("no network namespace can be made: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_name_is_known() {
        let question = |name: &str| {
            let mut bytes = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                bytes.push(u8::try_from(label.len()).unwrap());
                bytes.extend(label.bytes());
            }
            bytes.extend([0, 0, 1, 0, 1]);
            bytes
        };
        let known = answer(&question(SERVED_NAME)).unwrap();
        assert_eq!((&known[..2], known[3] & 15, known[7]), (&[7, 9][..], 0, 1));
        let unknown = answer(&question("lab.example")).unwrap();
        assert_eq!((unknown[3] & 15, unknown[7]), (3, 0));
        assert_eq!(answer(&[0; 13]).map(|bytes| bytes.len()), None);
    }
}
