//! Runs probes when they are due, and replaces them on a reload without disturbing what did not change.

mod cycle;
mod history;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{join, join_all};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::metrics::{BucketRule, Desc, Histogram, Live, Process, Recorder, RunId, SeriesSet, Store, daemon};
use crate::probe::{AnyConfig, AnyProbe, Common, Cycle, Kind, ProbeId, Shared};

pub use history::{History, LeftOut, NOTEWORTHY, PastRun, RECENT};
pub use verdict::{Run, Standing, on_target};

pub(crate) static START_DELAY: Histogram<1> = Histogram::new(
    "midwatch_probe_start_delay_seconds",
    "Delay between the time a run was due and the time it started.",
    &["type"],
    crate::metrics::COARSE,
)
.fixed();

/// Every metric that belongs to the process and to no probe: its series have the labels of `[labels]`.
pub fn process_metrics() -> impl Iterator<Item = &'static Desc> {
    daemon::METRICS.iter().copied().chain([START_DELAY.desc()]).chain(Process::METRICS.iter().copied())
}

/// A probe that is built and ready to run.
#[derive(Clone)]
pub struct Spec {
    /// Who it is.
    pub id: ProbeId,
    /// Its type.
    pub kind: &'static Kind,
    /// The keys that every probe has.
    pub common: Arc<Common>,
    /// The keys of its type; the very value of the running probe if they are equal.
    pub config: Arc<dyn AnyConfig>,
    /// The probe. The running one if its configuration is the same, and otherwise one that has taken over its state.
    pub probe: Arc<dyn AnyProbe>,
    /// The file that defines it.
    pub file: Arc<Path>,
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("id", &self.id).field("file", &self.file).finish_non_exhaustive()
    }
}

/// What applying a configuration did, by number of probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Probes that are new.
    pub added: usize,
    /// Probes that go on with other settings.
    pub changed: usize,
    /// Probes that are gone.
    pub removed: usize,
    /// Probes that were not touched.
    pub kept: usize,
}

/// Owns one task for each probe.
pub struct Scheduler {
    store: Arc<Store>,
    engine: Arc<SeriesSet>,
    shared: Shared,
    /// All due times count from here.
    origin: Instant,
    running: BTreeMap<ProbeId, Entry>,
}

struct Entry {
    watch: Arc<Watch>,
    task: JoinHandle<()>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task of one probe works with.
pub(crate) struct Watch {
    pub(crate) id: ProbeId,
    pub(crate) kind: &'static Kind,
    pub(crate) common: Arc<Common>,
    config: Arc<dyn AnyConfig>,
    /// The probe as it is now: a probe that panicked is replaced by a new one.
    probe: watch::Sender<Arc<dyn AnyProbe>>,
    shared: Shared,
    pub(crate) set: Arc<SeriesSet>,
    /// The series that are no single probe's.
    engine: Arc<SeriesSet>,
    kept: Kept,
}

/// What a probe's task hands to the one that replaces it when the probe changes.
#[derive(Clone, Default)]
struct Kept {
    /// What is known of each target from earlier runs.
    health: Arc<verdict::Health>,
    turn: Arc<cycle::Turn>,
    history: Arc<History>,
}

impl Scheduler {
    /// A scheduler without probes. Series of probes go to `store`, those that are no single probe's to `engine`.
    pub fn new(store: Arc<Store>, engine: Arc<SeriesSet>, shared: Shared) -> Self {
        Self { store, engine, shared, origin: Instant::now(), running: BTreeMap::new() }
    }

    /// The running probe of that identity with its configuration, for a new one to take over from.
    pub fn find(&self, id: &ProbeId) -> Option<(Arc<dyn AnyConfig>, Arc<dyn AnyProbe>)> {
        let watch = &self.running.get(id)?.watch;
        Some((Arc::clone(&watch.config), Arc::clone(&watch.probe.borrow())))
    }

    /// The probes that run, in the order of their identities, each with what is remembered of its runs.
    pub fn histories(&self) -> impl Iterator<Item = (&ProbeId, &Arc<History>)> {
        self.running.iter().map(|(id, entry)| (id, &entry.watch.kept.history))
    }

    /// Has every probe try again what it has put off.
    pub fn reconsider(&self) {
        for entry in self.running.values() {
            entry.watch.probe.borrow().reconsider();
        }
    }

    /// Makes the given probes, and no others, run. Cannot fail: everything that could was done when they were built.
    /// A probe whose settings are what they were is not touched in any way.
    pub fn apply(&mut self, specs: Vec<Spec>) -> Changes {
        let mut changes = Changes::default();
        let mut before = std::mem::take(&mut self.running);
        for spec in specs {
            let id = spec.id.clone();
            let entry = match before.remove(&id) {
                Some(entry) if entry.watch.is(&spec) => {
                    changes.kept += 1;
                    entry
                }
                Some(entry) => {
                    changes.changed += 1;
                    entry.task.abort();
                    self.replace(&entry.watch, spec)
                }
                None => {
                    changes.added += 1;
                    let set = self.new_set(&spec);
                    self.start(spec, set, Kept::default())
                }
            };
            self.running.insert(id, entry);
        }
        changes.removed = before.len();
        self.store.remove(before.values().map(|entry| &entry.watch.set));
        changes
    }

    fn replace(&self, old: &Watch, mut spec: Spec) -> Entry {
        if old.config.same(&*spec.config) {
            // A panic may have replaced the probe since the configuration was loaded.
            spec.probe = Arc::clone(&old.probe.borrow());
        }
        let kept = old.kept.clone();
        if old.common.labels != spec.common.labels {
            self.store.remove([&old.set]);
            let set = self.new_set(&spec);
            // Health says which series there are already, and these are new.
            return self.start(spec, set, Kept { health: Arc::default(), ..kept });
        }
        old.set.set_buckets(bucket_rule(&spec.common));
        old.set.limit(spec.common.max_series);
        let cycles: Vec<_> = spec.probe.cycles().iter().map(|cycle| cycle.name).collect();
        old.set.keep_cycles(&cycles);
        kept.health.keep_cycles(&cycles);
        self.start(spec, Arc::clone(&old.set), kept)
    }

    fn new_set(&self, spec: &Spec) -> Arc<SeriesSet> {
        let set = spec.series_set();
        self.store.add(&set);
        set
    }

    fn start(&self, spec: Spec, set: Arc<SeriesSet>, kept: Kept) -> Entry {
        verdict::describe(&spec, &set);
        let watch = Arc::new(Watch {
            id: spec.id,
            kind: spec.kind,
            common: spec.common,
            config: spec.config,
            probe: watch::Sender::new(spec.probe),
            shared: self.shared.clone(),
            set,
            engine: Arc::clone(&self.engine),
            kept,
        });
        Entry { task: tokio::spawn(keep_watch(Arc::clone(&watch), self.origin)), watch }
    }
}

/// One run of a probe outside of any schedule.
pub async fn run_once(spec: &Spec, cycle: Cycle) -> Run {
    cycle::run(&*spec.probe, cycle, spec.common.timeout, (RunId::next(), &mut Recorder::default())).await
}

impl Spec {
    /// An empty set of series with the identity labels of this probe.
    pub fn series_set(&self) -> Arc<SeriesSet> {
        let identity = [("probe", &*self.id.name), ("type", self.id.kind)];
        let labels = self.common.labels.iter().map(|(name, value)| (&**name, &**value));
        let set = SeriesSet::new(identity.into_iter().chain(labels), bucket_rule(&self.common));
        set.limit(self.common.max_series);
        set
    }
}

fn bucket_rule(common: &Common) -> BucketRule {
    let latency = common.slo.as_ref().and_then(|slo| slo.latency);
    let always = latency.map(|latency| latency.as_secs_f64());
    BucketRule { bounds: common.buckets.clone(), always, native: common.native }
}

impl Watch {
    fn is(&self, spec: &Spec) -> bool {
        self.common == spec.common && self.config.same(&*spec.config)
    }

    /// Replaces the probe after a panic. Nothing of the old one is taken over: its state may be what caused the panic.
    fn rebuild(&self) {
        let build = AssertUnwindSafe(|| self.config.build(&self.shared, None));
        match std::panic::catch_unwind(build).unwrap_or_else(|_panic| Err("that panicked too".into())) {
            Ok(probe) => {
                self.probe.send_replace(probe);
            }
            Err(problem) => {
                tracing::error!(probe = %self.id, problem, "cannot rebuild the probe after a panic");
                // Then the one that there is goes on, and serves again.
                self.probe.send_modify(|_| ());
            }
        }
    }
}

/// The life of a probe: its cycles and what it serves, until the task is aborted.
async fn keep_watch(watch: Arc<Watch>, origin: Instant) {
    let _turn = watch.kept.turn.running.lock().await;
    let cycles = watch.probe.borrow().cycles();
    let all = join_all(cycles.into_iter().map(|cycle| cycle::repeat(&watch, cycle, origin)));
    join(all, serve(&watch)).await;
}

/// Runs what the probe serves, anew whenever the probe is replaced.
async fn serve(watch: &Watch) {
    let mut current = watch.probe.subscribe();
    loop {
        let probe = Arc::clone(&current.borrow_and_update());
        let live = Live::new(Arc::clone(&watch.set));
        let served = async {
            let ended = AssertUnwindSafe(async { probe.serve(live).await }).catch_unwind().await;
            if ended.is_err() {
                verdict::count_panic(watch);
                // Not at once: a probe that panics as it starts would keep a core busy.
                tokio::time::sleep(watch.common.interval).await;
                watch.rebuild();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = served => {}
            changed = current.changed() => if changed.is_err() { return },
        }
    }
}
