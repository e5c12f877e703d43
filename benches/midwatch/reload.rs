//! A file of 5 000 probes: loading it, and reloading it without disturbing anybody.

use std::time::Duration;

use tokio::time::Instant;

use super::Outcome;
use super::daemon::Daemon;
use super::delay::{START_DELAY, shown};
use super::peers::{Arrival, Grid, Manner, Peer};
use super::report::{Table, median, ms, quantile};
use super::sets::probe_each;

const PROBES: usize = 5_000;
/// Short enough for a thousand runs a second: a reload that held them up would show.
const INTERVAL: Duration = Duration::from_secs(5);
const KEYS: &str = "interval = \"5s\"\nbuckets = [0.001, 0.01, 0.1]\nowner = \"fleet\"";
const STARTS: usize = 5;
const RELOADS: usize = 10;

/// Load, no-op reloads, and the start delay with and without them.
pub async fn measure() -> Outcome<()> {
    let peer = Peer::start(Manner::Close).await?;
    let probes = probe_each(&peer.aliases(PROBES), KEYS);
    let mut table = Table::new("A file of 5 000 probes");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(Daemon::launch(&probes)?.wait_ready().await?);
    }
    let start = median(&mut starts);
    let what = format!("exec to /-/ready, median of {STARTS}");
    table.target(&what, ms(start), "< 1 s", start < Duration::from_secs(1));

    let daemon = Daemon::start("").await?;
    daemon.rewrite(&probes)?;
    let (loaded, _) = daemon.reload().await?;
    table.target("reload from no probe to 5 000", ms(loaded), "< 1 s", loaded < Duration::from_secs(1));
    disturb(&daemon, &peer, &probes, &mut table).await?;
    table.print();
    Ok(())
}

/// Two windows of equal length, the second one with reloads, on the same daemon.
async fn disturb(daemon: &Daemon, peer: &Peer, probes: &str, table: &mut Table) -> Outcome<()> {
    tokio::time::sleep(INTERVAL + INTERVAL / 5).await;
    let (first, _) = daemon.scrape().await?;
    tokio::time::sleep(INTERVAL / 5).await;
    peer.take();
    tokio::time::sleep(2 * INTERVAL).await;
    let quiet = peer.take();
    let (second, _) = daemon.scrape().await?;
    tokio::time::sleep(INTERVAL / 5).await;
    peer.take();
    let (mut unchanged, mut compared) = reloads(daemon, probes).await?;
    let busy = peer.take();
    let (third, _) = daemon.scrape().await?;

    let met = |time| time < Duration::from_millis(200);
    for (what, times) in [("nothing changed", &mut unchanged), ("only comments changed", &mut compared)] {
        let (typical, worst) = (median(times), quantile(times, 1.0));
        let figure = format!("{} (slowest {})", ms(typical), ms(worst));
        let what = format!("POST /-/reload, {what}, median of {}", times.len());
        table.target(&what, figure, "< 200 ms", met(typical));
    }
    let delays = [&first, &second, &third].map(|scrape| scrape.histogram(START_DELAY, &[]));
    let [first_delays, second_delays, third_delays] = delays;
    let (second_delays, third_delays) = (second_delays?, third_delays?);
    let windows = [second_delays.since(&first_delays?), third_delays.since(&second_delays)];
    for (window, delays) in ["without reloads", "with them"].iter().zip(&windows) {
        let figure = format!("{}; {:.3} %", shown(delays, 0.99), delays.share_within(0.005) * 100.0);
        table.figure(&format!("start delay {window}: p99 (interpolated); share within 5 ms"), figure);
    }
    let grid = Grid::new(quiet.iter().chain(&busy), INTERVAL);
    for (window, arrivals) in [("without reloads", quiet), ("with them", busy)] {
        let figure = lateness_of(&grid, &arrivals);
        table.figure(&format!("start delay {window}, seen from the peer: p50 / p99 / slowest"), figure);
    }
    let missed = third.sum("midwatch_probe_missed_total", &[]) - second.sum("midwatch_probe_missed_total", &[]);
    table.target("runs missed during the reloads", missed.to_string(), "none", missed == 0.0);
    Ok(())
}

fn lateness_of(grid: &Grid, arrivals: &[Arrival]) -> String {
    let mut late = grid.lateness(arrivals);
    [0.5, 0.99, 1.0].map(|share| ms(quantile(&mut late, share))).join(" / ")
}

/// Over two intervals, reloads of both kinds by turns.
async fn reloads(daemon: &Daemon, probes: &str) -> Outcome<(Vec<Duration>, Vec<Duration>)> {
    let (mut unchanged, mut compared) = (Vec::new(), Vec::new());
    let pause = 2 * INTERVAL / u32::try_from(2 * RELOADS)?;
    let mut next = Instant::now();
    for turn in 0..2 * RELOADS {
        let expected = if turn % 2 == 0 {
            "nothing has changed".to_owned()
        } else {
            daemon.rewrite(&format!("{probes}\n# turn {turn}\n"))?;
            format!("0 probes added, 0 changed, 0 removed, {PROBES} kept")
        };
        let (took, answer) = daemon.reload().await?;
        if answer.trim_end() != expected {
            return Err(format!("expected \"{expected}\", the reload says \"{answer}\"").into());
        }
        if turn % 2 == 0 {
            unchanged.push(took);
        } else {
            compared.push(took);
        }
        next += pause;
        tokio::time::sleep_until(next).await;
    }
    Ok((unchanged, compared))
}
