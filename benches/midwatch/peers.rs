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
    arrivals: Arc<Mutex<Vec<Arrival>>>,
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
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, manner: Manner, arrivals: Arc<Mutex<Vec<Arrival>>>) {
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

/// When somebody connected, and to which alias.
pub type Arrival = (IpAddr, Instant);

/// How late arrivals are, seen from outside: against a grid for each alias whose origin is its earliest arrival. So the
/// smallest delay of each alias counts as none, and the way to the peer is part of all others.
#[derive(Debug)]
pub struct Grid {
    interval: Duration,
    origins: HashMap<IpAddr, Instant>,
}

impl Grid {
    /// The grid of all arrivals that there are: the more, the better.
    pub fn new<'a>(arrivals: impl IntoIterator<Item = &'a Arrival>, interval: Duration) -> Self {
        let mut grid = Self { interval, origins: HashMap::new() };
        for (alias, at) in arrivals {
            let early = grid.offset(*alias, *at).is_none_or(|offset| offset < 0.0);
            if early {
                grid.origins.insert(*alias, *at);
            }
        }
        grid
    }

    /// How late each arrival was.
    pub fn lateness(&self, arrivals: &[Arrival]) -> Vec<Duration> {
        let offsets = arrivals.iter().filter_map(|(alias, at)| self.offset(*alias, *at));
        offsets.map(|offset| Duration::from_secs_f64(offset.max(0.0))).collect()
    }

    /// Seconds from the nearest line of the alias's grid: negative if before it.
    fn offset(&self, alias: IpAddr, at: Instant) -> Option<f64> {
        let (origin, interval) = (*self.origins.get(&alias)?, self.interval.as_secs_f64());
        let since =
            at.saturating_duration_since(origin).as_secs_f64() - origin.saturating_duration_since(at).as_secs_f64();
        Some(since - (since / interval).round() * interval)
    }
}
