//! Recording outside of runs.

use std::sync::Arc;

use super::Recorder;
use super::series::{CycleId, Gauges, SeriesSet};

/// Records outside of runs, for a probe that also listens or watches.
#[derive(Clone, Debug)]
pub struct Live {
    set: Arc<SeriesSet>,
}

impl Live {
    /// For a probe whose series are `set`.
    pub fn new(set: Arc<SeriesSet>) -> Self {
        Self { set }
    }

    /// Shows at once what `record` records, all of it or none. Gauges stay until they are set again.
    pub fn record(&self, record: impl FnOnce(&Recorder)) {
        let recorder = Recorder::default();
        record(&recorder);
        recorder.commit_as(&self.set, CycleId::Live, Gauges::Keep);
    }
}
