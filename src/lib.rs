//! midwatch is one daemon that keeps the night watch over a platform: it runs synthetic probes around the clock and
//! exposes what it measured to Prometheus.
//!
//! # Layout
//! In reading order; each module uses only those below it.
//!
//! - [`cli`]: the command line; [`app`]: wires everything together.
//! - [`http`]: serves metrics and takes reloads. [`config`]: from files to probes that are built.
//! - [`scheduler`]: runs probes when they are due.
//! - [`probe`]: what a probe is, and the probe types.
//! - [`metrics`]: declares, records, keeps and writes series. [`settings`]: reads values of the configuration.
//! - [`door`]: what probes answer over HTTP; [`rate`]: how often something may happen.
//! - [`shard`]: which of several replicas runs a probe; [`host`]: this machine's name and number.
//! - [`failure`]: why something failed; `label_values`: enums that are label values; `sync`: locks.
//!
//! # Life of a probe
//! A section `[probe.<type>.<name>]` is read key by key into the type's configuration, and the probe is built from it.
//! Only when the whole configuration is built, the scheduler gives the probe a task. At each due time the probe runs
//! with a recorder: it opens a target for each thing it visits, and phases within it. When the run ends, or its deadline
//! drops it, the engine adds its verdicts, and all of it becomes visible to the next scrape at once. A reload that
//! changes the section builds a new probe, which takes over what the old one knew; the series go on.

pub mod app;
pub mod catalog;
pub mod cli;
pub mod config;
#[cfg(test)]
mod corpus;
pub mod door;
pub mod failure;
pub mod host;
pub mod http;
mod label_values;
pub mod metrics;
pub mod probe;
pub mod rate;
pub mod scheduler;
pub mod settings;
pub mod shard;
mod sync;
