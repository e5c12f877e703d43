//! Records what the [state](super::state) holds: a file for each cycle. Every round records all that is known well enough, not
//! only what it learnt itself, so that values of a broker that does not answer stay for a while.

mod cluster;
mod moves;
mod offsets;
mod storage;

use super::gather::Collector;
use super::metrics::{
    REQUEST_ERRORS, REQUESTS, SERIES_DROPPED, SOURCE_DURATION, SOURCE_PARTIAL, SOURCE_SUCCESS, SOURCE_TIME,
};
use super::state::{Source, State};
use crate::metrics::{Desc, Gauge, Recorder};

/// Which cycle shows what it knows.
#[derive(Clone, Copy, Debug)]
pub(super) enum View {
    Offsets,
    Cluster,
    Storage,
    Moves,
}

impl View {
    /// The sources that the cycle reports on.
    fn sources(self) -> &'static [Source] {
        match self {
            Self::Offsets => &[Source::Offsets, Source::Commits, Source::TimeLag],
            Self::Cluster => &[Source::Metadata, Source::Groups, Source::Configs],
            Self::Storage => &[Source::LogDirs],
            Self::Moves => &[Source::Reassignments],
        }
    }
}

/// Shows what is known when it is dropped: also when the deadline cuts a run off, what the brokers that did answer said is shown.
pub(super) struct Shown<'r> {
    pub(super) collector: &'r Collector,
    pub(super) rec: &'r Recorder,
    pub(super) view: View,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut state = self.collector.state.lock();
        let mut sink = Sink { rec: self.rec, most: self.collector.config.series_per_metric, series: Vec::new() };
        match self.view {
            View::Offsets => offsets::show(&state, &mut sink, self.collector),
            View::Cluster => cluster::show(&mut state, &mut sink),
            View::Storage => storage::show(&state, &mut sink),
            View::Moves => moves::show(&mut state, &mut sink),
        }
        self.show_sources(&state);
        for Shares { of, dropped, .. } in sink.series.iter().filter(|shares| shares.dropped > 0) {
            self.rec.add(&SERIES_DROPPED, [of.name], *dropped as f64);
        }
        for count in self.collector.client.take_counts() {
            let mut broker = itoa::Buffer::new();
            let labels = [broker.format(count.broker), count.api.label()];
            self.rec.add(&REQUESTS, labels, count.requests as f64);
            self.rec.add(&REQUEST_ERRORS, labels, count.errors as f64);
        }
    }
}

impl Shown<'_> {
    fn show_sources(&self, state: &State) {
        for (source, round) in state.sources.rounds().filter(|(source, _)| self.view.sources().contains(source)) {
            let source = [source.label()];
            self.rec.set(&SOURCE_SUCCESS, source, flag(round.success));
            self.rec.set(&SOURCE_PARTIAL, source, flag(round.partial));
            self.rec.set(&SOURCE_DURATION, source, round.duration.as_secs_f64());
            if let Some(at) = round.last_success {
                self.rec.set(&SOURCE_TIME, source, at);
            }
        }
    }
}

/// Records gauges, so many of each metric and no more.
struct Sink<'r> {
    rec: &'r Recorder,
    most: usize,
    /// Series and dropped ones of each metric that has any: few metrics, and very many values, so that to compare pointers
    /// costs less than to look names up.
    series: Vec<Shares>,
}

/// How much of a metric is recorded.
struct Shares {
    of: &'static Desc,
    series: usize,
    dropped: u64,
}

impl Sink<'_> {
    fn set<const N: usize>(&mut self, metric: &'static Gauge<N>, labels: [&str; N], value: f64) {
        let of = metric.desc();
        let place = self.series.iter().position(|shares| std::ptr::eq(shares.of, of)).unwrap_or_else(|| {
            self.series.push(Shares { of, series: 0, dropped: 0 });
            self.series.len() - 1
        });
        let shares = &mut self.series[place];
        if shares.series < self.most {
            shares.series += 1;
            self.rec.set(metric, labels, value);
        } else {
            shares.dropped += 1;
        }
    }

    fn set_some<const N: usize>(&mut self, metric: &'static Gauge<N>, labels: [&str; N], value: Option<f64>) {
        if let Some(value) = value {
            self.set(metric, labels, value);
        }
    }
}

/// 1 or 0.
fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// An offset or a count as a value.
#[allow(
    clippy::cast_precision_loss,
    reason = "offsets and counts beyond 2^53 are not to be expected, and Prometheus has no others"
)]
pub(super) fn number(value: i64) -> f64 {
    value as f64
}

/// A count of things in memory as a value.
#[allow(clippy::cast_precision_loss, reason = "there are fewer than 2^53 of anything in memory")]
pub(super) fn count(value: usize) -> f64 {
    value as f64
}
