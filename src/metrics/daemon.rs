//! What the daemon says of itself. Declared down here, and recorded by the application, because a configuration must not
//! give these series a label that they have already.

use super::{COARSE, Counter, Desc, Gauge, Histogram};

pub(crate) static BUILD_INFO: Gauge<1> =
    Gauge::new("midwatch_build_info", "Always 1; says which version runs.", &["version"]);
pub(crate) static RELOAD_SUCCESSFUL: Gauge<0> = Gauge::new(
    "midwatch_config_last_reload_successful",
    "Whether the last attempt to load the configuration found no problem in any file.",
    &[],
);
pub(crate) static RELOAD_TIME: Gauge<0> = Gauge::new(
    "midwatch_config_last_reload_success_timestamp_seconds",
    "Unix time of the last load of the configuration that found no problem.",
    &[],
);
pub(crate) static RELOADS: Counter<1> = Counter::new(
    "midwatch_config_reloads_total",
    "Number of times the configuration was loaded because something changed or asked for it, by result.",
    &["result"],
)
.known(&[&["success"], &["failure"]]);
pub(crate) static CONFIG_HASH: Gauge<0> = Gauge::new(
    "midwatch_config_hash",
    "The first 48 bits of the hash of the configuration that is in force, as a number.",
    &[],
);
pub(crate) static FILE_OK: Gauge<1> = Gauge::new(
    "midwatch_config_file_ok",
    "Whether the file's present content is in force; 0 while its last good content, or none, is.",
    &["file"],
);
pub(crate) static PROBES_LOADED: Gauge<0> = Gauge::new(
    "midwatch_probes_loaded",
    "Number of probes of the configuration that is in force, those of other shards included.",
    &[],
);
pub(crate) static PROBES_OWNED: Gauge<0> =
    Gauge::new("midwatch_probes_owned", "Number of probes that this instance runs.", &[]);
pub(crate) static SHARD_INFO: Gauge<2> = Gauge::new(
    "midwatch_shard_info",
    "Always 1; says which shard this is, counted from 0, and of how many; absent if it is the only one.",
    &["shard", "shards"],
);
pub(crate) static SHARD_EXPECTED: Gauge<2> = Gauge::new(
    "midwatch_shard_expected",
    "Always 1, for each of all shards; one that no instance has is missing.",
    &["shard", "shards"],
);
pub(crate) static SERIES: Gauge<0> =
    Gauge::new("midwatch_series", "Number of series that the next scrape exposes.", &[]);
pub(crate) static SCRAPE_DURATION: Histogram<0> = Histogram::new(
    "midwatch_scrape_duration_seconds",
    "Duration of scrapes of /metrics, from the request to the last byte handed to the connection.",
    &[],
    COARSE,
)
.fixed();

/// Every metric of this list.
pub const METRICS: &[&Desc] = &[
    BUILD_INFO.desc(),
    RELOAD_SUCCESSFUL.desc(),
    RELOAD_TIME.desc(),
    RELOADS.desc(),
    CONFIG_HASH.desc(),
    FILE_OK.desc(),
    PROBES_LOADED.desc(),
    PROBES_OWNED.desc(),
    SHARD_INFO.desc(),
    SHARD_EXPECTED.desc(),
    SERIES.desc(),
    SCRAPE_DURATION.desc(),
];
