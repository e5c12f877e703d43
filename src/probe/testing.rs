//! For tests: a probe from its keys, runs of it, and what they recorded.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cycle, Failure, Probe, Shared};
use crate::metrics::testing::Scrape;
use crate::metrics::{Gauges, Recorder, SeriesSet};
use crate::settings::{Files, Rules, Section, Settings, Source};

/// A probe, and the series of its runs.
pub struct Bench<P> {
    /// The probe.
    pub probe: P,
    /// The series.
    pub set: Arc<SeriesSet>,
}

/// What the keys amount to, or all that is wrong with them. Files are looked for in `folder`.
pub fn config<C: Settings>(folder: &Path, keys: &str, files: &Files) -> Result<C, Vec<String>> {
    let path: Arc<Path> = folder.join("midwatch.toml").into();
    let source = Source::new(&path, keys, Rules::Main, files);
    let config = source.parse().and_then(|table| {
        let mut root = Section::root(&source, table.get_ref());
        let config = C::read(&mut root);
        root.finish();
        config
    });
    let problems: Vec<String> = source.into_problems().iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(config.unwrap()) } else { Err(problems) }
}

impl<P: Probe> Bench<P> {
    /// A probe with these keys, which need no files.
    pub fn new(keys: &str) -> Self {
        Self::within(Path::new("/"), keys, &Shared::default())
    }

    /// A probe with these keys, whose files are in that folder.
    pub fn within(folder: &Path, keys: &str, shared: &Shared) -> Self {
        Self::after(None, folder, keys, shared)
    }

    /// The same, which replaces another probe.
    pub fn after(previous: Option<&P>, folder: &Path, keys: &str, shared: &Shared) -> Self {
        let config = Arc::new(config(folder, keys, &Files::new(false)).unwrap());
        let probe = P::new(&config, shared, previous).unwrap();
        Self { probe, set: SeriesSet::new([("probe", "p")], Default::default()) }
    }

    /// One run of its main cycle of at most that long: the verdict on its first target, or on the run.
    pub async fn run(&self, time: Duration) -> Result<(), Failure> {
        self.cycle(Cycle::MAIN, time).await
    }

    /// The same of a given cycle.
    pub async fn cycle(&self, cycle: Cycle, time: Duration) -> Result<(), Failure> {
        let mut rec = Recorder::default();
        rec.ends_at(Instant::now() + time);
        let result = self.probe.run(cycle, &mut rec).await;
        let trace = rec.trace();
        rec.commit(&self.set, cycle.name, Gauges::Replace);
        result.and_then(|()| trace.targets.into_iter().next().map_or(Ok(()), |target| target.verdict.unwrap()))
    }

    /// The sum of all series with these labels, such as `stage=inside`.
    pub fn sum(&self, name: &str, labels: &str) -> f64 {
        Scrape::from(&*self.set).sum(name, labels)
    }
}
