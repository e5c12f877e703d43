//! A consumer that is a member of a group.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::cluster::Cluster;
use super::options::Version;
use crate::{Error, Result, until};

/// How members of a group share partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// One of the members decides.
    Classic,
    /// The broker decides (KIP-848).
    Consumer,
}

/// A live member of a group. It reads its partitions from the first uncommitted record, or from the start, and commits as it goes.
/// Leaves the group when dropped.
#[derive(Debug)]
pub struct Member {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    paused: AtomicBool,
    /// What has become of that.
    is_paused: AtomicBool,
    consumed: AtomicU64,
    assignment: Mutex<Vec<(String, i32)>>,
    failure: Mutex<String>,
}

impl Cluster {
    /// Joins a group. Returns at once: see [`Member::wait_assigned`]. librdkafka speaks [`Protocol::Consumer`] only with Kafka 4.0 and
    /// later: for 3.9 see [`Cluster::join_java`].
    pub fn join(&self, group: &str, topics: &[&str], protocol: Protocol) -> Result<Member> {
        if (protocol, self.version()) == (Protocol::Consumer, Version::V3_9) {
            return Err(Error::Unexpected("librdkafka does not speak the preview of KIP-848 in Kafka 3.9".to_owned()));
        }
        let mut config = self.config();
        config.set("group.id", group).set("auto.offset.reset", "earliest").set("auto.commit.interval.ms", "100");
        match protocol {
            Protocol::Classic => config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "500"),
            // Times are the broker's business.
            Protocol::Consumer => config.set("group.protocol", "consumer"),
        };
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(topics)?;
        let shared = Arc::new(Shared::default());
        let copy = shared.clone();
        let thread = std::thread::Builder::new().name(format!("member of {group}")).spawn(move || copy.run(&consumer));
        Ok(Member { shared, thread: Some(thread.map_err(Error::io("starting a consumer"))?) })
    }
}

impl Member {
    /// How many records it has read.
    pub fn consumed(&self) -> u64 {
        self.shared.consumed.load(Ordering::Relaxed)
    }

    /// Its partitions, sorted.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        self.shared.assignment.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops reading; it stays a member and keeps its partitions. When this returns nothing more is read, unless partitions are
    /// shared out anew: what comes then may bring some records before it is paused too.
    pub async fn pause(&self) -> Result<()> {
        self.shared.paused.store(true, Ordering::Relaxed);
        until("a consumer to pause", Duration::from_secs(30), async || {
            if self.shared.is_paused.load(Ordering::Relaxed) { Ok(()) } else { Err(self.failure()) }
        })
        .await
    }

    /// Reads on.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Relaxed);
    }

    /// Waits until it has so many partitions.
    pub async fn wait_assigned(&self, count: usize) -> Result<()> {
        until("partitions of a consumer", Duration::from_secs(30), async || match self.assignment().len() {
            found if found == count => Ok(()),
            found => Err(format!("{found} of {count} {}", self.failure())),
        })
        .await
    }

    /// Waits until it has read at least so many records.
    pub async fn wait_consumed(&self, count: u64) -> Result<()> {
        until("records to be read", Duration::from_secs(30), async || match self.consumed() {
            found if found >= count => Ok(()),
            found => Err(format!("{found} of {count} {}", self.failure())),
        })
        .await
    }

    fn failure(&self) -> String {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Fails only if it panicked.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Reads until told to stop. The consumer leaves the group when it is dropped, which its owner does then.
    fn run(&self, consumer: &BaseConsumer) {
        let mut paused = false;
        while !self.stop.load(Ordering::Relaxed) {
            match consumer.poll(Duration::from_millis(50)) {
                Some(Ok(_)) => {
                    self.consumed.fetch_add(1, Ordering::Relaxed);
                }
                Some(Err(error)) => *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string(),
                None => {}
            }
            let Ok(assigned) = consumer.assignment() else { continue };
            let mut list: Vec<(String, i32)> =
                assigned.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
            list.sort_unstable();
            let mut known = self.assignment.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = self.paused.load(Ordering::Relaxed);
            // New partitions come unpaused.
            if wanted != paused || (wanted && *known != list) {
                let done = if wanted { consumer.pause(&assigned) } else { consumer.resume(&assigned) };
                if done.is_ok() {
                    paused = wanted;
                    self.is_paused.store(paused, Ordering::Relaxed);
                }
            }
            *known = list;
        }
    }
}
