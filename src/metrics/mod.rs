//! Metrics: how one is declared ([`desc`]), recorded during a run ([`recorder`]), kept ([`store`]) and written
//! ([`exposition`]). Knows nothing of probes.

pub mod daemon;
pub mod desc;
pub mod exposition;
mod histogram;
mod label;
mod native;
mod process;
pub mod recorder;
mod series;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use desc::{Counter, Desc, Gauge, Histogram, Type};
pub use histogram::{BACKUP, Buckets, COARSE, LAN, VPN, WAN};
pub use native::{Native, NativeRule, Sparse};
pub use process::Process;
pub use recorder::{Live, Phase, Phases, Recorder, Target};
pub use series::{BucketRule, CycleId, Gauges, SeriesSet};
pub use store::{Snapshot, Store};

/// Now, in seconds since the Unix epoch: for gauges that hold a time. Durations come from a monotonic clock.
pub fn unix_time() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
