//! The keys of `[probe.kafka.<name>]`.

use std::time::Duration;

use super::access::Access;
use super::filter::Filter;
use crate::settings::{Invalid, Item, Section, Settings, Value};

/// The shortest of the collector's own intervals.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest of them: series must not become older than alerts can wait.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// The keys of a Kafka collector.
#[derive(Debug, PartialEq)]
pub struct Config {
    pub(super) access: Access,
    pub(super) groups: Filter,
    pub(super) topics: Filter,
    /// How often topics, groups and their members are looked at.
    pub(super) cluster_interval: Duration,
    /// How often disks are looked at.
    pub(super) storage_interval: Duration,
    /// How often moves are measured while there are any.
    pub(super) moves_interval: Duration,
    /// How often a client's way to each broker is tried.
    pub(super) listeners_interval: Duration,
    /// How long a broker may take to answer one request.
    pub(super) request_timeout: Duration,
    pub(super) time_lag: TimeLag,
    /// Groups with more partitions show the most lagging only.
    pub(super) partitions_per_group: usize,
    /// How many series one metric may have.
    pub(super) series_per_metric: usize,
}

/// How lag in seconds is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TimeLag {
    /// By asking for offsets by timestamp.
    #[default]
    Offsets,
    /// By reading the first record that the group has not read.
    Fetch,
    /// Not at all.
    Off,
}

impl Value for TimeLag {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[("offsets", Self::Offsets), ("fetch", Self::Fetch), ("off", Self::Off)])
    }
}

impl Settings for Config {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let access = Access::read(section);
        let groups = Filter::read(section, "groups");
        let topics = Filter::read(section, "topics");
        let interval = |section: &mut Section<'_>, key, seconds| {
            section.checked(key, is_interval).unwrap_or(Duration::from_secs(seconds))
        };
        let cluster_interval = interval(section, "cluster_interval", 30);
        let storage_interval = interval(section, "storage_interval", 60);
        let moves_interval = interval(section, "moves_interval", 10);
        let listeners_interval = interval(section, "listeners_interval", 30);
        let request_timeout = section.checked("request_timeout", is_timeout).unwrap_or(Duration::from_secs(3));
        let time_lag = section.or("time_lag", TimeLag::default());
        let partitions_per_group = section.checked("partitions_per_group", is_count).unwrap_or(500);
        let series_per_metric = section.checked("series_per_metric", is_count).unwrap_or(200_000);
        Some(Self {
            access: access?,
            groups,
            topics,
            cluster_interval,
            storage_interval,
            moves_interval,
            listeners_interval,
            request_timeout,
            time_lag,
            partitions_per_group,
            series_per_metric,
        })
    }
}

fn is_interval(interval: &Duration) -> Result<(), String> {
    if (MIN_INTERVAL..=MAX_INTERVAL).contains(interval) { Ok(()) } else { Err("must be from 1s to 1h".to_owned()) }
}

fn is_timeout(timeout: &Duration) -> Result<(), String> {
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(60));
    if (least..=most).contains(timeout) { Ok(()) } else { Err("must be from 10ms to 60s".to_owned()) }
}

fn is_count(count: &usize) -> Result<(), String> {
    if (20..=1_000_000).contains(count) { Ok(()) } else { Err("must be from 20 to 1000000".to_owned()) }
}
