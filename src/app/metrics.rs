//! What the daemon says of itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::metrics::daemon::{
    BUILD_INFO, CONFIG_HASH, FILE_OK, PROBES_LOADED, PROBES_OWNED, RELOAD_SUCCESSFUL, RELOAD_TIME, RELOADS,
    SCRAPE_DURATION, SERIES, SHARD_EXPECTED, SHARD_INFO,
};
use crate::metrics::{BucketRule, Gauges, Process, Recorder, SeriesSet, Store, unix_time};
use crate::settings::Problems;
use crate::shard::Shard;

/// The state of the configuration after an attempt to load it.
pub(super) struct Loaded<'a> {
    /// Whether any file has a problem.
    pub(super) good: bool,
    /// The hash of what is in force.
    pub(super) hash: u64,
    /// Each file, and whether its present content is in force.
    pub(super) files: Vec<(&'a str, bool)>,
    /// How many probes are in force, those of all shards.
    pub(super) probes: usize,
    /// How many of them run here.
    pub(super) owned: usize,
}

/// Records what the daemon says of itself.
pub(super) struct AppMetrics {
    store: Arc<Store>,
    set: Arc<SeriesSet>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    process: Process,
    last_good: Option<f64>,
}

impl AppMetrics {
    /// Starts with the metrics that never change.
    pub(super) fn new(store: Arc<Store>, shard: Option<Shard>) -> Self {
        let set = SeriesSet::new([], BucketRule::default());
        store.add(&set);
        let rec = Recorder::default();
        rec.set(&BUILD_INFO, [env!("CARGO_PKG_VERSION")], 1.0);
        rec.start(&RELOADS, &[]);
        if let Some(Shard { index, count }) = shard {
            let shards = count.to_string();
            rec.set(&SHARD_INFO, [&index.to_string(), &shards], 1.0);
            // Every shard names all: so the one that is not there is known by its number, also if it never was.
            for shard in 0..count {
                rec.set(&SHARD_EXPECTED, [&shard.to_string(), &shards], 1.0);
            }
        }
        rec.commit(&set, "build", Gauges::Keep);
        Self { store, set, state: Mutex::default() }
    }

    /// The series of the daemon itself, for those of the scheduler that belong to no probe.
    pub(super) fn set(&self) -> &Arc<SeriesSet> {
        &self.set
    }

    /// Records an attempt to load the configuration. The first one is no reload.
    pub(super) fn loaded(&self, loaded: &Loaded<'_>, is_reload: bool) {
        let rec = Recorder::default();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.good {
            state.last_good = Some(unix_time());
        }
        if is_reload {
            rec.add(&RELOADS, [result(loaded.good)], 1.0);
        }
        rec.set(&RELOAD_SUCCESSFUL, [], f64::from(u8::from(loaded.good)));
        if let Some(time) = state.last_good {
            rec.set(&RELOAD_TIME, [], time);
        }
        #[allow(clippy::cast_precision_loss, reason = "48 bits fit into a double")]
        rec.set(&CONFIG_HASH, [], loaded.hash as f64);
        for (gauge, count) in [(&PROBES_LOADED, loaded.probes), (&PROBES_OWNED, loaded.owned)] {
            #[allow(clippy::cast_precision_loss, reason = "a count of probes stays far below 2^52")]
            rec.set(gauge, [], count as f64);
        }
        for (file, good) in &loaded.files {
            rec.set(&FILE_OK, [file], f64::from(u8::from(*good)));
        }
        rec.commit(&self.set, "config", Gauges::Replace);
    }

    /// Records that a reload was asked for and found what the last one had found.
    pub(super) fn reloaded(&self, good: bool) {
        let rec = Recorder::default();
        rec.add(&RELOADS, [result(good)], 1.0);
        rec.commit(&self.set, "config", Gauges::Keep);
    }

    /// Records that the configuration was refused, so that what is in force is what was.
    pub(super) fn refused(&self, problems: &Problems) {
        let rec = Recorder::default();
        rec.add(&RELOADS, [result(false)], 1.0);
        rec.set(&RELOAD_SUCCESSFUL, [], 0.0);
        for problem in problems.iter() {
            rec.set(&FILE_OK, [&problem.file.display().to_string()], 0.0);
        }
        rec.commit(&self.set, "config", Gauges::Keep);
    }

    /// Records what is read at the moment of a scrape.
    pub(super) fn before_scrape(&self) {
        let rec = Recorder::default();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.process.record(&rec);
        #[allow(clippy::cast_precision_loss, reason = "a count of series stays far below 2^52")]
        rec.set(&SERIES, [], self.store.size() as f64);
        rec.commit(&self.set, "scrape", Gauges::Replace);
    }

    /// Records how long a scrape took.
    pub(super) fn scraped(&self, took: Duration) {
        let rec = Recorder::default();
        rec.observe(&SCRAPE_DURATION, [], took.as_secs_f64());
        rec.commit(&self.set, "scraped", Gauges::Keep);
    }
}

/// The value of the label `result`.
fn result(good: bool) -> &'static str {
    if good { "success" } else { "failure" }
}
