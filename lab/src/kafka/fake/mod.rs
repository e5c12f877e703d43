//! A FAKE Kafka cluster: it answers questions about topics, groups and offsets that it makes up, holds no record, and takes none.
//!
//! It exists because ten thousand partitions and a thousand groups on a real cluster need more machine than there is, and because
//! only the side that is asked can say independently how often it is asked. Everything else is tested on real brokers
//! ([`super::Cluster`]).
//!
//! Requests are read and responses written by the codec crate `kafka-protocol`, in every version that it knows. Answers that
//! stay the same are encoded once.

mod answers;
mod groups;
mod logs;
mod served;
mod shape;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::{Error, Result};

pub use shape::Shape;

/// What a request was for, named as Kafka names its APIs; a question for offsets by what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Topics and brokers.
    Metadata,
    /// The ends of logs.
    Ends,
    /// The beginnings of logs.
    Starts,
    /// The first record after a time.
    ByTime,
    /// What groups have committed.
    OffsetFetch,
    /// Who coordinates a group.
    FindCoordinator,
    /// Which groups there are.
    ListGroups,
    /// Classic groups in detail.
    DescribeGroups,
    /// Groups of the new protocol in detail.
    ConsumerGroupDescribe,
    /// Settings.
    DescribeConfigs,
    /// Disks.
    DescribeLogDirs,
    /// The controllers.
    DescribeQuorum,
    /// Partitions that are being moved.
    ListPartitionReassignments,
    /// Which versions a broker speaks: the first request on every connection.
    ApiVersions,
}

/// How often something was asked, and how much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Requests.
    pub requests: usize,
    /// The most requests that one broker had.
    pub most: usize,
    /// What they asked about, all together: partitions, groups, or topics, whatever the API is about. 0 where it takes no names.
    pub things: usize,
    /// The most of these in one request.
    pub most_things: usize,
    /// Bytes of all requests.
    pub bytes_in: usize,
    /// Bytes of all responses.
    pub bytes_out: usize,
}

/// Requests by what they asked.
pub type Counts = BTreeMap<Question, Asked>;

/// One request, as it is noted.
#[derive(Clone, Copy, Debug)]
struct Noted {
    broker: i32,
    question: Question,
    things: usize,
    bytes: (usize, usize),
}

/// A FAKE cluster with a thread of its own. Dropping it closes everything.
#[derive(Debug)]
pub struct FakeCluster {
    addresses: Vec<SocketAddr>,
    notes: Arc<Mutex<Vec<Noted>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeCluster {
    /// Starts one, each broker on a loopback port of its own.
    ///
    /// # Errors
    /// The operating system refuses a socket or a thread.
    pub fn start(shape: Shape) -> Result<Self> {
        let io = Error::io("starting a fake Kafka cluster");
        let start = || -> std::io::Result<Self> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut listeners = Vec::new();
            for _ in 0..shape.brokers {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                listener.set_nonblocking(true)?;
                listeners.push(listener);
            }
            let addresses = listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<Vec<_>>>()?;
            let notes = Arc::<Mutex<Vec<Noted>>>::default();
            let (stop, stopped) = oneshot::channel::<()>();
            let cluster = answers::Answers::new(shape, addresses.clone());
            let log = Arc::clone(&notes);
            let work = move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = served::serve_all(listeners, cluster, log) => {}
                        _ = stopped => {}
                    }
                });
            };
            let thread = std::thread::Builder::new().name("fake-kafka".to_owned()).spawn(work)?;
            Ok(Self { addresses, notes, stop: Some(stop), thread: Some(thread) })
        };
        start().map_err(io)
    }

    /// Where the brokers listen, by id from 1 on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was asked since the last call.
    pub fn take_counts(&self) -> Counts {
        counts(&std::mem::take(&mut *lock(&self.notes)))
    }

    /// What was asked since the last call of [`Self::take_counts`].
    pub fn counts(&self) -> Counts {
        counts(&lock(&self.notes))
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the fake has been printed.
            let _ = thread.join();
        }
    }
}

fn counts(notes: &[Noted]) -> Counts {
    let mut counts = Counts::new();
    let mut by_broker: BTreeMap<(Question, i32), usize> = BTreeMap::new();
    for noted in notes {
        let asked = counts.entry(noted.question).or_default();
        let of_broker = by_broker.entry((noted.question, noted.broker)).or_default();
        *of_broker += 1;
        asked.requests += 1;
        asked.most = asked.most.max(*of_broker);
        asked.things += noted.things;
        asked.most_things = asked.most_things.max(noted.things);
        asked.bytes_in += noted.bytes.0;
        asked.bytes_out += noted.bytes.1;
    }
    counts
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
