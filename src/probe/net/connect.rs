//! TCP connections, timed by the kernel.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use super::tcp_info::handshake_time;
use super::udp::bind_to_device;
use super::{Failure, Reason, clean};
use crate::label_values::label_values;

/// How long an attempt may stay unanswered before the next address is tried beside it (RFC 8305, section 5, "Connection
/// Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// A connection and how long its handshake took.
#[derive(Debug)]
pub struct Connected {
    /// The connection, with `TCP_NODELAY` set. Dropping it closes it.
    pub stream: TcpStream,
    /// Which of the addresses answered.
    pub peer: SocketAddr,
    /// The time of this connection's handshake alone; attempts at other addresses are not in it.
    pub handshake: Duration,
    /// Whose time it is.
    pub clock: Clock,
}

label_values! {
    /// The clock that a time was read from.
    pub enum Clock {
        /// The kernel's, right to a few microseconds.
        Kernel = "kernel",
        /// Ours, which also counts the way through the event loop: taken where the kernel has no number or a misleading one.
        User = "user",
    }
}

/// Connects to one address.
///
/// # Errors
/// What the kernel said: `refused`, `unreachable`, `timeout`, `local`. There is no timer here; that is the caller's.
pub async fn connect(addr: SocketAddr) -> Result<Connected, Failure> {
    timed(addr, TcpStream::connect(addr)).await
}

/// The same through that interface, whatever the routes say.
///
/// # Errors
/// Those of [`connect`]; `local` if there is no such interface, or this process may not choose it.
pub async fn connect_through(addr: SocketAddr, interface: &str) -> Result<Connected, Failure> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| Failure::io("open a socket", &error))?;
    bind_to_device(&socket2::SockRef::from(&socket), interface)?;
    timed(addr, socket.connect(addr)).await
}

async fn timed(
    addr: SocketAddr,
    connecting: impl Future<Output = io::Result<TcpStream>>,
) -> Result<Connected, Failure> {
    let what = || format!("connect to {addr}");
    let started = Instant::now();
    let stream = connecting.await.map_err(|error| Failure::io(&what(), &error))?;
    let elapsed = started.elapsed();
    let (handshake, clock) = match handshake_time(&stream) {
        Some(time) => (time, Clock::Kernel),
        None => (elapsed, Clock::User),
    };
    // A peer may be gone again already; that belongs to whoever reads next.
    let _ = stream.set_nodelay(true);
    Ok(Connected { stream, peer: addr, handshake, clock })
}

/// Connects to whichever address answers first, in the given order: the next one is tried when the last one failed, or
/// beside it after 250 ms, so that a dead address of a name with several does not use up the deadline (RFC 8305). The
/// losers are closed.
///
/// # Errors
/// If all fail, the first failure that is about the peer rather than about the way there (a name's IPv6 address is
/// unreachable from a host without IPv6, which says nothing); the detail lists all.
pub async fn connect_any(addrs: &[SocketAddr]) -> Result<Connected, Failure> {
    if let [addr] = addrs {
        return connect(*addr).await;
    }
    let mut waiting = addrs.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        attempts.extend(waiting.next().map(connect));
        tokio::select! {
            biased;
            Some(result) = attempts.next() => match result {
                Ok(connected) => return Ok(connected),
                Err(failure) => failures.push(failure),
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
            else => return Err(summary(&failures)),
        }
    }
}

/// One failure for the failures of all addresses.
fn summary(failures: &[Failure]) -> Failure {
    let of_peer = |failure: &&Failure| !matches!(failure.reason, Reason::Unreachable | Reason::Local);
    let Some(worst) = failures.iter().find(of_peer).or(failures.first()) else {
        return Failure::new(Reason::Resolve, "the name has no address");
    };
    let all: Vec<&str> = failures.iter().map(|failure| failure.detail.as_ref()).collect();
    Failure::new(worst.reason, clean(&all.join("; ")))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// An address of this host where nothing listens.
    async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn the_kernel_times_the_handshake() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        for _ in 0..20 {
            let started = Instant::now();
            let connected = connect(addr).await.unwrap();
            let user = started.elapsed();
            assert!(connected.handshake <= user, "{connected:?} {user:?}");
            assert!(connected.stream.nodelay().unwrap());
            if cfg!(target_os = "linux") && connected.clock == Clock::Kernel {
                assert!(connected.handshake > Duration::ZERO);
            }
        }
    }

    #[tokio::test]
    async fn a_refusing_address_is_passed_over_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let started = Instant::now();
        assert_eq!(connect_any(&[closed().await, addr]).await.unwrap().peer, addr);
        assert!(started.elapsed() < STAGGER);
    }

    #[tokio::test]
    async fn a_silent_address_is_overtaken() {
        // A full backlog drops SYNs: the connections beyond it hang as with a black hole.
        let hole = TcpSocket::new_v4().unwrap();
        hole.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let hole = hole.listen(1).unwrap();
        let dead = hole.local_addr().unwrap();
        let mut fill = Vec::new();
        while let Ok(Ok(connected)) = tokio::time::timeout(Duration::from_millis(100), connect(dead)).await {
            fill.push(connected);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connected = connect_any(&[dead, addr]).await.unwrap();
        assert_eq!(connected.peer, addr);
        assert!(connected.handshake < STAGGER, "the wait for the dead address is not in the time");
    }

    #[tokio::test]
    async fn all_failures_are_told() {
        let (one, two) = (closed().await, closed().await);
        let failure = connect_any(&[one, two]).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Refused);
        assert!(failure.detail.contains(&one.to_string()) && failure.detail.contains(&two.to_string()), "{failure}");
        assert_eq!(connect_any(&[]).await.unwrap_err().reason, Reason::Resolve);
    }

    #[test]
    fn the_way_there_does_not_hide_the_peer() {
        let failures = [Failure::new(Reason::Unreachable, "no route"), Failure::new(Reason::Refused, "refused")];
        assert_eq!(summary(&failures).reason, Reason::Refused);
        assert_eq!(summary(&failures[..1]).reason, Reason::Unreachable);
    }
}
