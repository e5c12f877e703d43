//! Kafka: a collector of what a cluster and its consumer groups do, and a canary that behaves like a client.
//!
//! The collector asks brokers about themselves over its own [client], in several rhythms, and keeps what it learns in a
//! [state] that all of them share. A scrape shows what was recorded last: it costs Kafka nothing.

mod access;
mod canary;
pub(super) mod client;
mod config;
mod drain;
mod filter;
mod gather;
mod metrics;
mod moves;
mod report;
mod show;
mod skew;
mod state;
mod timeline;

use std::sync::Arc;

use tokio::time::Instant;

pub(super) use self::canary::KafkaCanary;
use self::config::Config;
use self::gather::Collector;
use self::show::{Shown, View};
use super::{Cycle, Failure, Probe, Reason, Shared};
use crate::metrics::{Desc, Recorder};

/// The offsets of groups and topics: lag.
const OFFSETS: &str = "offsets";
/// Topics, brokers, groups and their members.
const CLUSTER: &str = "cluster";
/// Disks.
const STORAGE: &str = "storage";
/// Partitions that are being moved.
const MOVES: &str = "moves";
/// A client's way to each broker.
const LISTENERS: &str = "listeners";

/// The probe type `kafka`: the collector.
pub(super) struct Kafka {
    collector: Collector,
}

impl Probe for Kafka {
    const TYPE: &'static str = "kafka";
    const METRICS: &'static [&'static Desc] = metrics::ALL;
    const REASONS: &'static [Reason] = &[
        Reason::Resolve,
        Reason::Refused,
        Reason::Unreachable,
        Reason::Closed,
        Reason::Tls,
        Reason::Certificate,
        Reason::Auth,
        Reason::Protocol,
        Reason::Rejected,
        Reason::Overload,
        Reason::Local,
    ];
    type Config = Config;

    fn new(config: &Arc<Config>, shared: &Shared, previous: Option<&Self>) -> Result<Self, String> {
        // Another cluster shares no history with this one.
        let same = previous.filter(|previous| previous.collector.config.access.overlaps(&config.access));
        let state = same.map(|previous| Arc::clone(&previous.collector.state)).unwrap_or_default();
        Ok(Self { collector: Collector::new(config, &shared.net, state)? })
    }

    /// A cycle shows all that is known at the end of each run, whatever became of the run: see [`Shown`].
    fn cycles(&self) -> Vec<Cycle> {
        let config = &self.collector.config;
        vec![
            Cycle::named(CLUSTER).every(config.cluster_interval),
            Cycle::named(OFFSETS),
            Cycle::named(STORAGE).every(config.storage_interval),
            Cycle::named(MOVES).every(config.moves_interval),
            Cycle::named(LISTENERS).every(config.listeners_interval),
        ]
    }

    async fn run(&self, cycle: Cycle, rec: &mut Recorder) -> Result<(), Failure> {
        let (collector, rec) = (&self.collector, &*rec);
        // A broker that does not answer must leave time to show what the others said.
        let time = rec.time_left();
        if time.is_zero() {
            return self.gather(cycle, rec).await;
        }
        collector.client.hurry(time * 3 / 4);
        client::until(Instant::now() + time * 9 / 10, self.gather(cycle, rec)).await
    }

    /// ACLs may have been mended.
    fn reconsider(&self) {
        let mut state = self.collector.state.lock();
        state.forbidden.clear_all();
        // Also for topics of which settings were not told.
        state.settings_asked = None;
    }

    fn story(&self) -> String {
        report::render(&self.collector.state.lock())
    }
}

impl Kafka {
    /// One run of a cycle. What was gathered shows when it ends, however it ends.
    async fn gather(&self, cycle: Cycle, rec: &Recorder) -> Result<(), Failure> {
        let collector = &self.collector;
        let shown = |view| Shown { collector, rec, view };
        match cycle.name {
            OFFSETS => {
                let _shown = shown(View::Offsets);
                collector.gather_offsets().await
            }
            CLUSTER => {
                let _shown = shown(View::Cluster);
                collector.gather_cluster().await
            }
            STORAGE => {
                let _shown = shown(View::Storage);
                collector.gather_storage().await
            }
            MOVES => {
                let _shown = shown(View::Moves);
                collector.measure_moves(rec).await
            }
            _ => collector.try_listeners(rec).await,
        }
    }
}
