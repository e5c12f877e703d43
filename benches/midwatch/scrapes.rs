//! What a scrape costs, by how many series there are.

use std::time::Duration;

use super::Outcome;
use super::counted::count;
use super::daemon::Daemon;
use super::peers::{Manner, Peer};
use super::report::{Table, mb, median, ms};
use super::sets::probe_each;

const SCRAPES: u32 = 30;

/// Few series and many.
pub async fn measure() -> Outcome<()> {
    let peer = Peer::start(Manner::Close).await?;
    let columns = ["series", "bytes", "time, median", "CPU, user + system", "allocations of the writer"];
    let mut table = Table::with_columns("A scrape", &columns);
    for members in [3, 187, 1_000] {
        let probes = probe_each(&peer.aliases(members), "interval = \"2s\"");
        let daemon = Daemon::start(&probes).await?;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let (mut times, mut last) = (Vec::new(), daemon.scrape().await?.0);
        let before = daemon.cpu()?;
        for _ in 0..SCRAPES {
            let (scrape, took) = daemon.scrape().await?;
            times.push(took);
            last = scrape;
        }
        let after = daemon.cpu()?;
        let each = |from: f64, to: f64| Duration::from_secs_f64((to - from).max(0.0)) / SCRAPES;
        let counted = count(&probes, Duration::from_secs(2)).await?;
        #[allow(clippy::cast_precision_loss, reason = "a length")]
        let bytes = last.bytes() as f64;
        table.cells(&[
            format!("{:.0}", last.sum("midwatch_series", &[])),
            mb(bytes),
            ms(median(&mut times)),
            format!("{} + {}", ms(each(before.user, after.user)), ms(each(before.system, after.system))),
            format!("{:.0}, {}", counted.scrape.0, mb(counted.scrape.1)),
        ]);
    }
    table.print();
    Ok(())
}
