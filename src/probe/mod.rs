//! What a probe is, and the one list of probe types.
//!
//! A probe type is one file or folder in this module that implements [`Probe`], plus two lines here: its `mod` and its
//! entry in [`KINDS`].

pub mod backup;
mod buckets;
mod common;
mod key_file;
mod kind;
pub mod net;
mod peers;
mod state;
#[cfg(test)]
mod testing;

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(any(feature = "kafka", feature = "mongodb"))]
mod sasl;
mod vpn;
mod words;
/// The readers of what backups leave, for the fuzz targets.
#[doc(hidden)]
pub use backup::fuzz as backup_fuzz;
/// The reader of what an API server of Kubernetes tells, for the fuzz target.
#[cfg(feature = "kubernetes")]
#[doc(hidden)]
pub use backup::kubernetes_fuzz;
/// The readers of the documents of Percona Backup for MongoDB, for the fuzz target.
#[cfg(feature = "mongodb")]
#[doc(hidden)]
pub use backup::pbm_fuzz;
/// The readers of a Kafka broker's bytes, for the fuzz targets.
#[cfg(feature = "kafka")]
#[doc(hidden)]
pub use kafka::client::fuzz as kafka_fuzz;
/// The readers of a MongoDB peer's bytes, for the fuzz targets.
#[cfg(feature = "mongodb")]
#[doc(hidden)]
pub use mongodb::fuzz as mongodb_fuzz;
/// The readers of a VPN server's bytes, for the fuzz targets.
#[doc(hidden)]
pub use vpn::fuzz as vpn_fuzz;

use std::sync::Arc;
use std::time::Duration;

pub use crate::failure::{Failure, Reason};
pub use common::{Common, Defaults, Require, Slo};
pub use kind::{AnyConfig, AnyProbe, BoxFuture, Kind, ProbeId, erase};
pub use peers::{Elsewhere, Peers};
pub use state::State;

use crate::door::Doors;
use crate::metrics::{Desc, Live, Recorder};
use crate::settings::Settings;

/// Every probe type of this build, in the order in which documentation lists them.
pub const KINDS: &[Kind] = &[
    Kind::of::<backup::Backup>(),
    #[cfg(feature = "kafka")]
    Kind::of::<kafka::Kafka>(),
    #[cfg(feature = "kafka")]
    Kind::of::<kafka::KafkaCanary>(),
    #[cfg(feature = "mongodb")]
    Kind::of::<mongodb::Mongodb>(),
    Kind::of::<vpn::Vpn>(),
];

/// Probe types that exist but may be compiled out: a configuration that names one is told "not in this build".
pub const OPTIONAL: &[&str] = &["kafka", "kafka_canary", "mongodb"];

/// A type of synthetic check.
///
/// The scheduler owns due times, deadlines, identity labels, the log span, and the verdict's series (success, reason,
/// duration). An implementation has no timer of its own and does not log its own failure.
pub trait Probe: Send + Sync + Sized + 'static {
    /// The `<type>` in `[probe.<type>.<name>]`, and the value of the label `type`.
    const TYPE: &'static str;
    /// Every metric that a run may record.
    const METRICS: &'static [&'static Desc];
    /// The reasons a run can fail for, besides `timeout` and `internal`, which every run can. Their counters start at 0.
    const REASONS: &'static [Reason];
    /// The type's own keys. Two equal configurations mean the same probe.
    type Config: Settings + PartialEq + Send + Sync + 'static;

    /// Builds the probe. No I/O, no threads, no locks: clients start with the first run, because every check of a
    /// configuration builds every probe. `previous` is the probe this one replaces on a reload; what it knows and still
    /// applies (restart detection, offsets) is taken over.
    ///
    /// # Errors
    /// What is wrong with the configuration, in words, without any secret.
    fn new(config: &Arc<Self::Config>, shared: &Shared, previous: Option<&Self>) -> Result<Self, String>;

    /// The rhythms of this probe. Most have one, at the probe's interval.
    fn cycles(&self) -> Vec<Cycle> {
        vec![Cycle::MAIN]
    }

    /// One run of one cycle. Dropped at the deadline: phases that are open then are recorded as timed out.
    ///
    /// # Errors
    /// Why the run as a whole failed. A probe with several targets leaves a verdict with each
    /// [target](Recorder::target) instead and fails itself only when it could not get that far.
    fn run(&self, cycle: Cycle, rec: &mut Recorder) -> impl Future<Output = Result<(), Failure>> + Send;

    /// For probes that also listen or watch: runs beside the cycles and is ended by drop.
    fn serve(&self, live: Live) -> impl Future<Output = ()> + Send {
        let _ = live;
        std::future::pending()
    }

    /// Another shard runs this probe, and this process does not: what it does for it all the same, until that is dropped. Nothing, for
    /// most probes.
    fn refer(&self, to: &Elsewhere) -> Option<BoxFuture<'static, ()>> {
        let _ = to;
        None
    }

    /// Somebody asked for a reload: what the probe has put off, because it failed in a way that only people can mend, is to be
    /// tried again at once.
    fn reconsider(&self) {}

    /// The shortest interval at which a probe of this configuration does no harm to what it probes, and why; a shorter one is a
    /// problem of the configuration.
    fn floor(config: &Self::Config) -> Option<Floor> {
        let _ = config;
        None
    }

    /// What will not work here, or not well, though the configuration is right: a missing capability, a key that everybody can
    /// read. Asked once after the probe was built, on a thread that may block; said in the log, and by `midwatch check`. Without any secret.
    fn concerns(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the probe has learnt from its runs, for a person: `midwatch probe` prints it after the phases. Texts of peers in it
    /// are [clean](net::clean).
    fn story(&self) -> String {
        String::new()
    }

    /// The values that the label is expected to take, as far as the configuration tells: for predictions of series and
    /// bytes before the first run. `target` is asked for too; an answer of none means the probe has a single target. Of a label with [known](Desc::known)
    /// values, those that this configuration leads to; none means all of them.
    fn expected(&self, label: &str) -> Vec<String> {
        let _ = label;
        Vec::new()
    }
}

/// The shortest interval that a configuration may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The interval.
    pub interval: Duration,
    /// What a shorter one would do, as the end of a sentence: "because …".
    pub why: &'static str,
}

/// What every probe is built with.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Name resolution and trust roots.
    pub net: net::Net,
    /// Where probes keep what must survive a restart.
    pub state: State,
    /// What probes answer over HTTP.
    pub doors: Doors,
}

/// One rhythm of a probe: how often it runs, and what becomes of its gauges when a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Names the cycle within its probe.
    pub name: &'static str,
    /// How often it runs; `None` is the probe's own interval.
    pub interval: Option<Duration>,
    /// Whether its first run is within the probe's own interval, however seldom it runs: what it brings is waited for.
    pub is_soon: bool,
    /// How long a run of it may take; `None` is the probe's own timeout.
    pub timeout: Option<Duration>,
    /// What becomes of the gauges of its last good run.
    pub on_failure: OnFailure,
}

impl Cycle {
    /// The only cycle of most probes.
    pub const MAIN: Cycle = Cycle::named("main");

    /// A cycle at the probe's interval whose gauges go when it fails.
    pub const fn named(name: &'static str) -> Self {
        Self { name, interval: None, is_soon: false, timeout: None, on_failure: OnFailure::Replace }
    }

    /// The same cycle with an interval of its own.
    pub const fn every(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// The same cycle, run once soon after the start.
    pub const fn soon(mut self) -> Self {
        self.is_soon = true;
        self
    }

    /// The same cycle with a timeout of its own.
    pub const fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same cycle with another rule for its gauges.
    pub const fn on_failure(mut self, rule: OnFailure) -> Self {
        self.on_failure = rule;
        self
    }
}

/// What becomes of a cycle's gauges when one of its runs fails. What the failed run itself recorded always shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They are gone.
    Replace,
    /// They stay for that many failed runs in a row.
    Keep(u32),
    /// They stay until a run succeeds again.
    Freeze,
}
