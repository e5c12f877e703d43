//! Metrics: how one is declared ([`desc`]), recorded during a run ([`Recorder`]), kept ([`Store`]) and written
//! ([`exposition`]). Knows nothing of probes.

mod block;
pub mod daemon;
pub mod desc;
pub mod exposition;
mod family;
mod guard;
mod histogram;
mod label;
mod live;
mod native;
mod process;
mod recorder;
mod run_id;
mod series;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod trace;

pub use desc::{Counter, Desc, Gauge, Histogram, Type};
pub use guard::{Phase, Target};
pub use histogram::{BACKUP, Buckets, COARSE, LAN, VPN, WAN};
pub use live::Live;
pub use native::{Native, NativeRule, Sparse};
pub use process::Process;
pub use recorder::{Phases, Recorder};
pub use run_id::RunId;
pub(crate) use series::DROPPED;
pub use series::{BucketRule, CycleId, Gauges, MOST_SERIES, SeriesSet};
pub use store::{Snapshot, Store};

/// Now, in seconds since the Unix epoch: for gauges that hold a time. Durations come from a monotonic clock.
pub fn unix_time() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
