//! How late runs start when there are a thousand of them a second.

use std::time::Duration;

use tokio::time::Instant;

use super::Outcome;
use super::clients::{Coding, scrape};
use super::daemon::Daemon;
use super::peers::{Arrival, Grid, Manner, Peer};
use super::report::{Table, ms, quantile};
use super::scrape::{Buckets, Scrape};
use super::sets::probe_each;

/// The daemon's own measurement, for each probe type.
pub const START_DELAY: &str = "midwatch_probe_start_delay_seconds";

const PROBES: usize = 1_000;
/// Bucket bounds of each histogram where there are to be half a million series.
const BOUNDS: u32 = 92;
const INTERVAL: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(15);

/// A thousand probes at one second, against a peer that closes every connection: all that happens happens in midwatch.
pub async fn measure() -> Outcome<()> {
    let peer = Peer::start(Manner::Close).await?;
    let daemon = Daemon::start(&probe_each(&peer.aliases(PROBES), "interval = \"1s\"")).await?;
    // The first second is not typical: every probe allocates its series and logs that it fails.
    tokio::time::sleep(3 * INTERVAL).await;
    let calm = Window::of(&daemon, &peer, Scrapes::None).await?;
    let scraped = Window::of(&daemon, &peer, Scrapes::EachSecond).await?;
    print("Start delay", "and a scrape of everything each second", &calm, &scraped);
    Ok(())
}

/// The same with half a million series, of which a scrape with gzip is going on all the time.
pub async fn measure_scraped() -> Outcome<()> {
    let peer = Peer::start(Manner::Close).await?;
    let keys = format!("interval = \"1s\"\nbuckets = [{}]", bounds());
    let daemon = Daemon::start(&probe_each(&peer.aliases(PROBES), &keys)).await?;
    tokio::time::sleep(5 * INTERVAL).await;
    let calm = Window::of(&daemon, &peer, Scrapes::None).await?;
    let scraped = Window::of(&daemon, &peer, Scrapes::Always).await?;
    let scrapes = format!("and {} scrapes of {:.0} series with gzip, back to back", scraped.scrapes, scraped.series);
    print("Start delay beside scrapes", &scrapes, &calm, &scraped);
    Ok(())
}

/// As many as make half a million series of a thousand probes.
fn bounds() -> String {
    (1..=BOUNDS).map(|nth| format!("{:.5}", f64::from(nth * nth) / 1e4)).collect::<Vec<_>>().join(", ")
}

fn print(title: &str, second: &str, calm: &Window, scraped: &Window) {
    let grid = Grid::new(calm.arrivals.iter().chain(&scraped.arrivals), INTERVAL);
    let columns = ["1 000 runs a second", "", second, "target"];
    let mut table = Table::with_columns(title, &columns);
    let mut row = |what: &str, of: &dyn Fn(&Window) -> String, target: &str| {
        table.cells(&[what.to_owned(), of(calm), of(scraped), target.to_owned()]);
    };
    let met = [calm, scraped].iter().all(|window| window.delays.quantile(0.99) < 0.005);
    let missed = if met { "< 5 ms" } else { "< 5 ms **missed**" };
    row("p50, interpolated in its histogram", &|window| shown(&window.delays, 0.5), "");
    row("p99, interpolated in its histogram", &|window| shown(&window.delays, 0.99), missed);
    row("share that starts within 5 ms", &|window| format!("{:.3} %", window.delays.share_within(0.005) * 100.0), "");
    row("runs missed", &|window| format!("{} of {}", window.missed, window.delays.count()), "");
    row("seen from the peer: p50 / p99 / p99.9", &|window| window.seen(&grid), "");
    row("CPU, of one core", &|window| format!("{:.0} %", window.cpu * 100.0), "");
    table.print();
}

/// What is scraped meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scrapes {
    None,
    /// The text.
    EachSecond,
    /// With gzip, one after the other without a pause.
    Always,
}

/// What happened in a while.
struct Window {
    delays: Buckets,
    missed: f64,
    arrivals: Vec<Arrival>,
    /// CPU seconds a second.
    cpu: f64,
    /// How many scrapes there were, and of how many series.
    scrapes: u32,
    series: f64,
}

impl Window {
    /// Lets some time pass, with scrapes or without.
    async fn of(daemon: &Daemon, peer: &Peer, scrapes: Scrapes) -> Outcome<Self> {
        let before = daemon.scrape().await?.0;
        peer.take();
        let (cpu, end) = (daemon.cpu()?, Instant::now() + TIME);
        let scraped = match scrapes {
            Scrapes::None => 0,
            Scrapes::EachSecond => each_second(daemon, end).await?,
            Scrapes::Always => back_to_back(daemon, end).await?,
        };
        tokio::time::sleep_until(end).await;
        let (cpu_after, arrivals) = (daemon.cpu()?, peer.take());
        let after = daemon.scrape().await?.0;
        let missed = |scrape: &Scrape| scrape.sum("midwatch_probe_missed_total", &[]);
        Ok(Self {
            delays: after.histogram(START_DELAY, &[])?.since(&before.histogram(START_DELAY, &[])?),
            missed: missed(&after) - missed(&before),
            arrivals,
            scrapes: scraped,
            series: after.sum("midwatch_series", &[]),
            cpu: (cpu_after.user + cpu_after.system - cpu.user - cpu.system) / TIME.as_secs_f64(),
        })
    }

    fn seen(&self, grid: &Grid) -> String {
        let mut late = grid.lateness(&self.arrivals);
        [0.5, 0.99, 0.999].map(|share| ms(quantile(&mut late, share))).join(" / ")
    }
}

async fn each_second(daemon: &Daemon, end: Instant) -> Outcome<u32> {
    let (mut pause, mut scrapes) = (tokio::time::interval(INTERVAL), 0);
    while let Ok(_tick) = tokio::time::timeout_at(end, pause.tick()).await {
        daemon.scrape().await?;
        scrapes += 1;
    }
    Ok(scrapes)
}

async fn back_to_back(daemon: &Daemon, end: Instant) -> Outcome<u32> {
    let mut scrapes = 0;
    while Instant::now() < end {
        scrape(daemon.address()?, Coding::Gzip).await?;
        scrapes += 1;
    }
    Ok(scrapes)
}

/// A quantile, or only that it lies in the first bucket, within which nothing is known.
pub fn shown(delays: &Buckets, share: f64) -> String {
    let value = delays.quantile(share);
    if value < delays.first_bound() {
        return format!("< {}", ms(Duration::from_secs_f64(delays.first_bound())));
    }
    ms(Duration::from_secs_f64(value))
}
