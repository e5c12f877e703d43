//! The keys that every probe has, whatever its type.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::buckets::{Bounds, Native};
use crate::metrics::{MOST_SERIES, NativeRule};
use crate::settings::{Invalid, Item, Labels, Section, Value};

/// How often a probe runs unless the configuration says otherwise.
const INTERVAL: Duration = Duration::from_secs(15);
/// How long a run may take unless the configuration says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest interval: below it the timers of the system are the larger part of what would be measured.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// The longest interval: more is a slip of the unit.
const MAX_INTERVAL: Duration = Duration::from_secs(31 * 86_400);
/// The shortest timeout.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// The keys that every probe has. None of them rebuilds the probe when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// How often the probe runs.
    pub interval: Duration,
    /// How long a run may take; shorter than `interval`.
    pub timeout: Duration,
    /// Who answers for the probe; a label of `midwatch_probe_info`. Empty when nobody was named.
    pub owner: String,
    /// Where its runbook is; a label of `midwatch_probe_info`.
    pub runbook: String,
    /// Free-form team data; further labels of `midwatch_probe_info`.
    pub info: BTreeMap<String, String>,
    /// Labels on every series of the probe: those of `[labels]`, overridden by the probe's own.
    pub labels: BTreeMap<String, String>,
    /// What the probe promises, if anything.
    pub slo: Option<Slo>,
    /// The bounds of the type's own latency histograms in seconds, ascending, without `+Inf`; `None` is each
    /// histogram's default.
    pub buckets: Option<Arc<[f64]>>,
    /// How its native histograms count; `None` is that it has none.
    pub native: Option<NativeRule>,
    /// How many series the probe may have; what does not fit is dropped and counted.
    pub max_series: usize,
    /// How the verdicts of several targets make that of a run.
    pub require: Require,
}

/// A service level objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// The share of good events, between 0 and 1.
    pub objective: f64,
    /// A success that takes longer is not good.
    pub latency: Option<Duration>,
}

/// How the verdicts of several targets make that of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Require {
    /// Every target must succeed.
    #[default]
    All,
    /// One target must succeed.
    Any,
}

impl Value for Require {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[("all", Self::All), ("any", Self::Any)])
    }
}

/// What probes inherit: `[defaults]` and `[labels]` of the main file.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    interval: Duration,
    timeout: Duration,
    owner: Option<String>,
    runbook: Option<String>,
    slo: Option<Slo>,
    buckets: Option<Arc<[f64]>>,
    native: Option<NativeRule>,
    max_series: usize,
    labels: BTreeMap<String, String>,
}

impl Defaults {
    /// What holds without a `[defaults]` table, with the labels of `[labels]`.
    pub fn new(labels: BTreeMap<String, String>) -> Self {
        let (interval, timeout) = (INTERVAL, TIMEOUT);
        let native = Some(NativeRule::DEFAULT);
        let max_series = MOST_SERIES;
        Self { interval, timeout, owner: None, runbook: None, slo: None, buckets: None, native, max_series, labels }
    }

    /// Reads the table `[defaults]` over these.
    pub fn read(self, section: &mut Section<'_>) -> Self {
        let (interval, timeout) = rhythm(section, &self);
        Self {
            interval,
            timeout,
            owner: section.optional("owner"),
            runbook: section.optional("runbook"),
            slo: section.section("slo", Slo::read),
            buckets: section.optional::<Bounds>("buckets").map(|buckets| buckets.0),
            native: section.optional::<Native>("native").map_or(self.native, |native| native.0),
            max_series: section.checked("max_series", is_limit).unwrap_or(self.max_series),
            labels: self.labels,
        }
    }
}

impl Common {
    /// Reads the common keys of a probe's table; problems are in the section.
    pub fn read(section: &mut Section<'_>, defaults: &Defaults) -> Self {
        let (interval, timeout) = rhythm(section, defaults);
        let mut labels = defaults.labels.clone();
        labels.extend(section.optional::<Labels>("labels").unwrap_or_default().0);
        let info = section.optional::<Labels>("info").unwrap_or_default().0;
        if info.keys().any(|name| labels.contains_key(name)) {
            section.problem(Some("info"), "`info`: holds a name that is also one of the probe's labels");
        }
        let inherited =
            |value: Option<String>, default: &Option<String>| value.or_else(|| default.clone()).unwrap_or_default();
        Self {
            interval,
            timeout,
            owner: inherited(section.optional("owner"), &defaults.owner),
            runbook: inherited(section.optional("runbook"), &defaults.runbook),
            info,
            labels,
            slo: section.section("slo", Slo::read).or_else(|| defaults.slo.clone()),
            buckets: section.optional::<Bounds>("buckets").map(|own| own.0).or_else(|| defaults.buckets.clone()),
            native: section.optional::<Native>("native").map_or(defaults.native, |own| own.0),
            max_series: section.checked("max_series", is_limit).unwrap_or(defaults.max_series),
            require: section.or("require", Require::All),
        }
    }
}

/// Interval and timeout. A timeout that is written down must be shorter than the interval; one that is inherited gives
/// way to a shorter interval and becomes four fifths of it, so that setting `interval = "1s"` alone works.
fn rhythm(section: &mut Section<'_>, defaults: &Defaults) -> (Duration, Duration) {
    let (has_interval, has_timeout) = (section.has("interval"), section.has("timeout"));
    let interval = section.checked("interval", |value| within(*value, MIN_INTERVAL, MAX_INTERVAL));
    let timeout = section.checked("timeout", |value| within(*value, MIN_TIMEOUT, MAX_INTERVAL));
    // A bad value is reported already; comparing its default with the other one would only add confusion.
    let comparable = interval.is_some() || !has_interval;
    let interval = interval.unwrap_or(defaults.interval);
    if comparable && has_timeout && timeout.is_some_and(|timeout| timeout >= interval) {
        let which = if has_interval { "`interval`" } else { "the default `interval`" };
        section.problem(Some("timeout"), format!("`timeout`: must be shorter than {which}"));
    }
    let inherited = || if defaults.timeout < interval { defaults.timeout } else { interval * 4 / 5 };
    (interval, timeout.unwrap_or_else(inherited))
}

/// A probe needs some hundred series for what the engine says of it.
fn is_limit(series: &usize) -> Result<(), String> {
    if (1_000..=10_000_000).contains(series) { Ok(()) } else { Err("must be from 1000 to 10000000".to_owned()) }
}

fn within(value: Duration, min: Duration, max: Duration) -> Result<(), String> {
    if value < min {
        return Err(format!("must be at least {min:?}"));
    }
    if value > max {
        return Err(format!("must be at most {} days", max.as_secs() / 86_400));
    }
    Ok(())
}

impl Slo {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let latency = section.checked("latency", |value| within(*value, Duration::from_nanos(1), MAX_INTERVAL));
        let objective = section.required::<f64>("objective")?;
        if objective <= 0.0 || objective >= 1.0 {
            section.problem(Some("objective"), "`objective`: must be more than 0 and less than 1");
        }
        Some(Self { objective, latency })
    }
}
