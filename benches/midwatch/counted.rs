//! Counting allocations: in a process of its own, which does nothing but what is counted.
//!
//! The benchmark starts itself with a configuration and a time; that child runs the probes as the daemon does, with its
//! scheduler and its store, and prints what this took. The daemon itself has no counting allocator.

use std::alloc::System;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use midwatch::config::Loader;
use midwatch::metrics::exposition::{Format, Writer};
use midwatch::metrics::{BucketRule, SeriesSet, Store};
use midwatch::probe::{KINDS, Shared};
use midwatch::scheduler::Scheduler;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

use super::Outcome;
use super::scrape::Scrape;

/// Counts for the whole process, and costs a few nanoseconds an allocation: no time is measured under it.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The argument that makes the benchmark such a child.
pub const CHILD: &str = "count-allocations";

/// Starts to count.
pub fn region() -> Region<'static, System> {
    Region::new(ALLOCATOR)
}

/// What a child counted.
#[derive(Debug)]
pub struct Counted {
    /// How many runs there were.
    pub runs: f64,
    /// How many of them failed.
    pub failed: f64,
    /// Allocations and bytes of all runs.
    pub total: (f64, f64),
    /// Allocations and bytes of one scrape afterwards.
    pub scrape: (f64, f64),
}

/// Has a child run the probes for so long.
pub async fn count(probes: &str, time: Duration) -> Outcome<Counted> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("midwatch.toml");
    std::fs::write(&config, probes)?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg(CHILD).arg(&config).arg(time.as_millis().to_string()).kill_on_drop(true);
    let output = command.output().await?;
    if !output.status.success() {
        return Err(format!("counting failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let numbers = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [runs, failed, allocations, bytes, scrape_allocations, scrape_bytes] = numbers[..] else {
        return Err("counting printed something else".into());
    };
    Ok(Counted { runs, failed, total: (allocations, bytes), scrape: (scrape_allocations, scrape_bytes) })
}

/// The child: a configuration file and milliseconds.
#[allow(clippy::print_stdout, reason = "its parent reads it")]
pub fn child(arguments: &[String]) -> Outcome<()> {
    let [config, time] = arguments else { return Err("expected a file and a time".into()) };
    let config = Loader::check(Path::new(config), KINDS, &Shared::default(), false).map_err(|p| p.to_string())?;
    let time = Duration::from_millis(time.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (store, engine) = (Arc::new(Store::default()), SeriesSet::new([], BucketRule::default()));
        let mut scheduler = Scheduler::new(Arc::clone(&store), Arc::clone(&engine), Shared::default());
        // What is allocated once, by the first runs, is no cost of a run.
        scheduler.apply(config.probes);
        tokio::time::sleep(time / 4).await;
        let (runs, failed) =
            (total(&store, "midwatch_probe_runs_total"), total(&store, "midwatch_probe_failures_total"));
        let region = region();
        tokio::time::sleep(time).await;
        let during = region.change();
        let runs = total(&store, "midwatch_probe_runs_total") - runs;
        let failed = total(&store, "midwatch_probe_failures_total") - failed;
        let region = self::region();
        let (mut writer, mut piece) = (Writer::new(store.snapshot(), Format::Text), Vec::new());
        while writer.write(&mut piece) {
            piece.clear();
        }
        let scrape = region.change();
        println!("{runs} {failed} {} {}", numbers(&during), numbers(&scrape));
        Ok(())
    })
}

/// A block that grows in place or elsewhere is an allocation too.
fn numbers(stats: &Stats) -> String {
    let bytes = stats.bytes_allocated.saturating_add_signed(stats.bytes_reallocated.max(0));
    format!("{} {bytes}", stats.allocations + stats.reallocations)
}

fn total(store: &Store, counter: &str) -> f64 {
    let text = Writer::new(store.snapshot(), Format::Text).rest();
    Scrape::new(String::from_utf8_lossy(&text).into_owned()).sum(counter, &[])
}
