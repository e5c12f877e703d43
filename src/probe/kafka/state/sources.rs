//! What the collector's sources brought and when, and what they may not ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::client::api::Api;
use crate::label_values::label_values;

label_values! {
    /// A source of what is shown; each has a freshness of its own.
    pub enum Source {
        /// The last and first offsets of partitions.
        Offsets = "offsets",
        /// What groups have committed.
        Commits = "commits",
        /// Offsets by timestamp.
        TimeLag = "time_lag",
        /// Topics, partitions, brokers.
        Metadata = "metadata",
        /// Groups and their members.
        Groups = "groups",
        /// Partitions that are being moved.
        Reassignments = "reassignments",
        /// Settings of topics.
        Configs = "configs",
        /// Disks of brokers.
        LogDirs = "log_dirs",
    }
}

/// How a round of a source went.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Round {
    /// Whether it brought anything.
    pub(in super::super) success: bool,
    /// Whether something is missing.
    pub(in super::super) partial: bool,
    /// How long it took.
    pub(in super::super) duration: Duration,
    /// When it last brought anything, in Unix seconds.
    pub(in super::super) last_success: Option<f64>,
}

/// The last round of each source.
#[derive(Debug, Default)]
pub(in super::super) struct Sources(BTreeMap<Source, Round>);

impl Sources {
    /// Notes a round: of `asked` brokers, `failed` brought nothing.
    pub(in super::super) fn note(
        &mut self,
        source: Source,
        (asked, failed): (usize, usize),
        duration: Duration,
        wall: f64,
    ) {
        let round = self.0.entry(source).or_default();
        round.success = failed < asked || asked == 0;
        round.partial = failed > 0;
        round.duration = duration;
        if round.success {
            round.last_success = Some(wall);
        }
    }

    /// The last round of each source that had one.
    pub(in super::super) fn rounds(&self) -> impl Iterator<Item = (Source, Round)> {
        self.0.iter().map(|(source, round)| (*source, *round))
    }

    /// Whether the source ever brought anything.
    pub(in super::super) fn has_brought(&self, source: Source) -> bool {
        self.0.get(&source).is_some_and(|round| round.last_success.is_some())
    }
}

/// How long an API that an ACL forbids is left alone.
const PATIENCE: Duration = Duration::from_secs(600);

/// The APIs that ACLs forbid.
#[derive(Debug, Default)]
pub(in super::super) struct Forbidden(BTreeMap<Api, Instant>);

impl Forbidden {
    /// Notes that an ACL forbids the API; true if that is news.
    pub(in super::super) fn note(&mut self, api: Api) -> bool {
        self.0.insert(api, Instant::now()).is_none()
    }

    /// Notes that the API is allowed after all.
    pub(in super::super) fn clear(&mut self, api: Api) {
        self.0.remove(&api);
    }

    /// Forgets what was forbidden: all of it is tried again, and said again.
    pub(in super::super) fn clear_all(&mut self) {
        self.0.clear();
    }

    /// Whether the API is not to be used now.
    pub(in super::super) fn holds(&self, api: Api) -> bool {
        self.0.get(&api).is_some_and(|since| since.elapsed() < PATIENCE)
    }

    /// The APIs that are known to be forbidden.
    pub(in super::super) fn all(&self) -> impl Iterator<Item = Api> {
        self.0.keys().copied()
    }
}
