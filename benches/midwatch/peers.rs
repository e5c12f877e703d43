//! Targets that cost nothing: what is measured against them is midwatch alone.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Outcome;

/// What a peer does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Closes it at once.
    Close,
    /// Keeps it open and never answers.
    Hold,
}

/// Listens on all addresses of 127.0.0.0/8 and notes when which of them was connected to.
#[derive(Debug)]
pub struct Peer {
    port: u16,
    arrivals: Arc<Mutex<Vec<(IpAddr, Instant)>>>,
    task: JoinHandle<()>,
}

impl Peer {
    /// Starts listening.
    pub async fn start(manner: Manner) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let port = listener.local_addr()?.port();
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(listener, manner, Arc::clone(&arrivals)));
        Ok(Self { port, arrivals, task })
    }

    /// So many different addresses of this peer.
    pub fn aliases(&self, count: usize) -> Vec<String> {
        aliases(&[self.port], count)
    }

    /// Forgets all arrivals so far and returns them.
    pub fn take(&self) -> Vec<(IpAddr, Instant)> {
        std::mem::take(&mut self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, manner: Manner, arrivals: Arc<Mutex<Vec<(IpAddr, Instant)>>>) {
    let mut held: Vec<TcpStream> = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        let now = Instant::now();
        if let Ok(alias) = stream.local_addr() {
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).push((alias.ip(), now));
        }
        if manner == Manner::Hold {
            held.push(stream);
        }
    }
}

/// So many addresses in 127.0.0.0/8, taking turns with the ports: a server that listens on all addresses is reached under
/// each of them, and to midwatch each is a member of its own.
pub fn aliases(ports: &[u16], count: usize) -> Vec<String> {
    let alias = |n: usize| {
        let [_, high, middle, low] = u32::try_from(n).unwrap_or(0).to_be_bytes();
        SocketAddr::from(([127, high, middle.wrapping_add(1), low], ports[n % ports.len()])).to_string()
    };
    (1..=count).map(alias).collect()
}

/// How late each arrival was, seen from outside: against the grid of its alias, whose origin is the alias's earliest
/// arrival. So the smallest delay of each alias counts as none, and the way to this peer is part of all others.
pub fn lateness(arrivals: &[(IpAddr, Instant)], interval: Duration) -> Vec<Duration> {
    let mut by_alias: HashMap<IpAddr, Vec<Instant>> = HashMap::new();
    for (alias, at) in arrivals {
        by_alias.entry(*alias).or_default().push(*at);
    }
    let interval = interval.as_secs_f64();
    let mut late = Vec::new();
    for times in by_alias.values().filter(|times| times.len() > 1) {
        let offsets: Vec<f64> = times
            .iter()
            .map(|at| {
                let since = at.duration_since(times[0]).as_secs_f64();
                since - (since / interval).round() * interval
            })
            .collect();
        let earliest = offsets.iter().copied().fold(f64::INFINITY, f64::min);
        late.extend(offsets.iter().map(|offset| Duration::from_secs_f64((offset - earliest).max(0.0))));
    }
    late
}
