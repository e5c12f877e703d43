//! How late runs start when there are a thousand of them a second.

use std::time::Duration;

use super::Outcome;
use super::daemon::Daemon;
use super::peers::{Manner, Peer, lateness};
use super::report::{Table, ms, quantile};
use super::scrape::Buckets;
use super::sets::probe_each;

/// The daemon's own measurement, for each probe type.
pub const START_DELAY: &str = "midwatch_probe_start_delay_seconds";

const PROBES: usize = 1_000;
const INTERVAL: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(20);

/// A thousand probes at one second, against a peer that closes every connection: all that happens happens in midwatch.
pub async fn measure() -> Outcome<()> {
    let peer = Peer::start(Manner::Close).await?;
    let daemon = Daemon::start(&probe_each(&peer.aliases(PROBES), "interval = \"1s\"")).await?;
    // The first second is not typical: every probe allocates its series and logs that it fails.
    tokio::time::sleep(3 * INTERVAL).await;
    let (before, _) = daemon.scrape().await?;
    tokio::time::sleep(INTERVAL).await;
    peer.take();
    let cpu = daemon.cpu()?;
    tokio::time::sleep(TIME).await;
    let (cpu_after, arrivals) = (daemon.cpu()?, peer.take());
    let (after, _) = daemon.scrape().await?;

    let delays = after.histogram(START_DELAY, &[])?.since(&before.histogram(START_DELAY, &[])?);
    let missed = |scrape: &super::scrape::Scrape| scrape.sum("midwatch_probe_missed_total", &[]);
    let mut late = lateness(&arrivals, INTERVAL);
    let mut table = Table::new("Start delay, 1 000 runs a second");
    own_rows(&mut table, &delays);
    table.figure("runs missed", format!("{} of {}", missed(&after) - missed(&before), delays.count()));
    let outside = [0.5, 0.99, 0.999].map(|share| ms(quantile(&mut late, share))).join(" / ");
    table.figure("seen from the peer, against the probe's own grid: p50 / p99 / p99.9", outside);
    let share = (cpu_after.user + cpu_after.system - cpu.user - cpu.system) / TIME.as_secs_f64();
    table.figure("CPU that midwatch uses meanwhile", format!("{:.0} % of one core", share * 100.0));
    table.print();
    Ok(())
}

fn own_rows(table: &mut Table, delays: &Buckets) {
    let p99 = delays.quantile(0.99);
    table.figure("p50, interpolated in its histogram", shown(delays, 0.5));
    table.target("p99, interpolated in its histogram", shown(delays, 0.99), "< 5 ms", p99 < 0.005);
    let share = delays.share_within(0.005) * 100.0;
    table.figure("share of the runs that start within 5 ms, exactly", format!("{share:.3} %"));
}

/// A quantile, or only that it lies in the first bucket, within which nothing is known.
pub fn shown(delays: &Buckets, share: f64) -> String {
    let value = delays.quantile(share);
    if value < delays.first_bound() {
        return format!("< {}", ms(Duration::from_secs_f64(delays.first_bound())));
    }
    ms(Duration::from_secs_f64(value))
}
