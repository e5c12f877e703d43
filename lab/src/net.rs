//! Peers that misbehave: what a probe meets when things go wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ports::Port;
use crate::{Error, Result};

/// An address whose packets are dropped: connecting neither succeeds nor fails.
///
/// A listener whose queue of finished connections is full, and that never accepts: Linux then ignores further SYNs. Needs no
/// privileges, unlike a firewall rule.
#[derive(Debug)]
pub struct Blackhole {
    address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Blackhole {
    /// Opens one, and makes sure that it is one.
    pub async fn open() -> Result<Blackhole> {
        const ENOUGH: usize = 16;
        let what = "opening a black hole";
        let socket = TcpSocket::new_v4().map_err(Error::io(what))?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).map_err(Error::io(what))?;
        let listener = socket.listen(0).map_err(Error::io(what))?;
        let address = listener.local_addr().map_err(Error::io(what))?;
        let mut queue = Vec::new();
        // How many connections fit is the kernel's business. On loopback one that fits is there at once.
        while queue.len() < ENOUGH {
            match timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
                Ok(stream) => queue.push(stream.map_err(Error::io(what))?),
                Err(_) => return Ok(Blackhole { address, _listener: listener, _queue: queue }),
            }
        }
        Err(Error::Unexpected(format!("{address} took {ENOUGH} connections: it is no black hole")))
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An address where nobody listens, and nobody of the lab will while this exists.
#[derive(Debug)]
pub struct Refused {
    port: Port,
}

impl Refused {
    /// Picks one.
    pub fn pick() -> Result<Refused> {
        Ok(Refused { port: Port::pick()? })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }
}

/// What a [`Peer`] does with a connection after it has said what it had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Keeps it open, reads nothing.
    Hold,
    /// Closes it in the orderly way.
    Close,
    /// Resets it.
    Reset,
}

/// A TCP server that accepts, says something fixed, and never listens to what it is told.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Peer {
    /// Accepts and never answers.
    pub async fn silent() -> Result<Peer> {
        Peer::scripted(Vec::new(), Then::Hold).await
    }

    /// Answers what no protocol would: a valid length in no byte order, no TLS record, no line end.
    pub async fn garbage() -> Result<Peer> {
        Peer::scripted((0..=255).rev().cycle().take(1024).collect::<Vec<u8>>(), Then::Hold).await
    }

    /// Sends `bytes` to everybody who connects.
    pub async fn scripted(bytes: impl Into<Vec<u8>>, then: Then) -> Result<Peer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::io("starting a peer"))?;
        let address = listener.local_addr().map_err(Error::io("starting a peer"))?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(listener, bytes.into(), then, Arc::clone(&accepted)));
        Ok(Peer { address, accepted, task })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, bytes: Vec<u8>, then: Then, accepted: Arc<AtomicUsize>) {
    let mut held = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::SeqCst);
        // The other side may be gone already: its business.
        let _ = stream.write_all(&bytes).await;
        match then {
            Then::Hold => {
                // Without this a peer of a long test runs out of descriptors.
                held.retain(|stream| !has_gone(stream));
                held.push(stream);
            }
            Then::Close => {
                let _ = stream.shutdown().await;
            }
            Then::Reset => {
                let _ = stream.set_zero_linger();
            }
        }
    }
}

/// Whether the other side has closed the connection. What it said before stays unread.
fn has_gone(stream: &TcpStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_black_hole_neither_accepts_nor_refuses() {
        let hole = Blackhole::open().await.unwrap();
        for _ in 0..3 {
            timeout(Duration::from_millis(200), TcpStream::connect(hole.address())).await.expect_err("must hang");
        }
    }

    #[tokio::test]
    async fn a_refused_port_refuses() {
        let refused = Refused::pick().unwrap();
        let error = TcpStream::connect(refused.address()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_silent_peer_accepts_and_says_nothing() {
        let peer = Peer::silent().await.unwrap();
        let mut stream = TcpStream::connect(peer.address()).await.unwrap();
        stream.write_all(b"hello?").await.unwrap();
        timeout(Duration::from_millis(200), stream.read_u8()).await.expect_err("must say nothing");
        assert_eq!(peer.accepted(), 1);
    }

    #[tokio::test]
    async fn a_scripted_peer_says_its_bytes_and_ends_as_told() {
        let closing = Peer::scripted("220 ready\r\n", Then::Close).await.unwrap();
        let mut text = String::new();
        TcpStream::connect(closing.address()).await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "220 ready\r\n");

        let resetting = Peer::scripted("", Then::Reset).await.unwrap();
        let mut stream = TcpStream::connect(resetting.address()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);

        let garbage = Peer::garbage().await.unwrap();
        let mut stream = TcpStream::connect(garbage.address()).await.unwrap();
        let mut bytes = [0; 1024];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes[..3], [255, 254, 253]);
    }
}
