//! What is resident, by how many members are probed.

use std::time::Duration;

use super::Outcome;
use super::daemon::{Daemon, Memory};
use super::report::{Table, mb};
use super::sets::Set;

/// Two intervals and a half: everything has run twice and every series is there.
const SETTLE: Duration = Duration::from_secs(25);
const KEYS: &str = "interval = \"10s\"";

/// Idle, 10 and 1 000 members, side by side: they do not share what is counted.
pub async fn measure(set: &Set) -> Outcome<()> {
    let mut daemons = Vec::new();
    for members in [0, 10, 1_000] {
        daemons.push((members, Daemon::start(&set.many(members, KEYS)).await?));
    }
    tokio::time::sleep(SETTLE).await;
    let mut table = Table::new("Resident memory");
    for (members, daemon) in &daemons {
        let before = daemon.memory()?;
        let (scrape, _) = daemon.scrape().await?;
        let after = daemon.memory()?;
        if scrape.sum("midwatch_probe_failures_total", &[]) > 0.0 {
            return Err(format!("runs of {members} members failed").into());
        }
        let what = match members {
            0 => "idle, no probes".to_owned(),
            _ => format!("{members} members at 10 s, TLS and SCRAM-SHA-256"),
        };
        match members {
            0 => table.target(&what, shown(before), "< 20 MB", before.resident < 20e6),
            1_000 => table.target(&what, shown(before), "< 60 MB", before.resident < 60e6),
            _ => table.figure(&what, shown(before)),
        }
        let series = scrape.sum("midwatch_series", &[]);
        table.figure(&format!("the same after a scrape of its {series} series"), shown(after));
    }
    table.print();
    Ok(())
}

fn shown(memory: Memory) -> String {
    format!("{} ({} without the program's own pages)", mb(memory.resident), mb(memory.anonymous))
}
