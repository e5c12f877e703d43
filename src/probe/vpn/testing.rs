//! For tests: a probe from its keys, runs of it, and what they recorded.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::Config;
use super::{Cycle, Failure, Probe as _, Recorder, Shared, Vpn};
use crate::metrics::testing::Scrape;
use crate::metrics::{Gauges, SeriesSet};
use crate::settings::{Files, Rules, Section, Settings as _, Source};

/// A probe, and the series of its runs.
pub(super) struct Bench {
    pub(super) probe: Vpn,
    set: Arc<SeriesSet>,
}

/// What the keys amount to, or all that is wrong with them. Files are looked for in `folder`.
pub(super) fn config(folder: &Path, keys: &str) -> Result<Config, Vec<String>> {
    let (path, files): (Arc<Path>, _) = (folder.join("midwatch.toml").into(), Files::new(false));
    let source = Source::new(&path, keys, Rules::Main, &files);
    let config = source.parse().and_then(|table| {
        let mut root = Section::root(&source, table.get_ref());
        let config = Config::read(&mut root);
        root.finish();
        config
    });
    let problems: Vec<String> = source.into_problems().iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(config.unwrap()) } else { Err(problems) }
}

impl Bench {
    /// A probe with these keys, which need no files.
    pub(super) fn new(keys: &str) -> Self {
        Self::within(Path::new("/"), keys, &Shared::default())
    }

    /// A probe with these keys, whose files are in that folder.
    pub(super) fn within(folder: &Path, keys: &str, shared: &Shared) -> Self {
        let config = Arc::new(config(folder, keys).unwrap());
        let probe = Vpn::new(&config, shared, None).unwrap();
        Self { probe, set: SeriesSet::new([("probe", "p")], Default::default()) }
    }

    /// One run of at most that long: the verdict on its first target, or on the run.
    pub(super) async fn run(&self, time: Duration) -> Result<(), Failure> {
        let mut rec = Recorder::default();
        rec.ends_at(Instant::now() + time);
        let result = self.probe.run(Cycle::MAIN, &mut rec).await;
        let trace = rec.trace();
        rec.commit(&self.set, "main", Gauges::Replace);
        result.and_then(|()| trace.targets.into_iter().next().and_then(|target| target.verdict).unwrap())
    }

    /// The sum of all series with these labels, such as `stage=inside`.
    pub(super) fn sum(&self, name: &str, labels: &str) -> f64 {
        Scrape::from(&*self.set).sum(name, labels)
    }
}
