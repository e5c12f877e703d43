//! The story that midwatch exists for: compressors take one member's CPU, and the phases of its new connections say so.

use std::fmt::Write as _;
use std::time::Duration;

use lab::load::Hog;

use super::Outcome;
use super::daemon::Daemon;
use super::report::{Table, ms};
use super::scrape::Scrape;
use super::sets::Set;

/// The core that is hogged, and the one for everything else.
const HOGGED: usize = 1;
const QUIET: usize = 0;
const TIME: Duration = Duration::from_secs(20);
const PHASES: [&str; 6] = ["tcp", "tls", "hello", "auth", "command", "total"];

/// Quiet, 4 and 16 compressors, one after the other under one daemon.
pub async fn measure(set: &Set) -> Outcome<()> {
    let servers = &set.servers;
    let victim = (servers.primary().await? + 1) % 3;
    let healthy = (victim + 1) % 3;
    for member in 0..3 {
        servers.pin(member, if member == victim { HOGGED } else { QUIET })?;
    }
    let keys = format!("interval = \"500ms\"\ntimeout = \"490ms\"\nbuckets = [{}]", bounds());
    let daemon = Daemon::start(&set.probe(&keys)).await?;
    lab::process::pin(daemon.pid(), QUIET)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let hosts = servers.hosts();
    let mut columns = Vec::new();
    for compressors in [0, 4, 16] {
        let hog = (compressors > 0).then(|| Hog::start(compressors, HOGGED)).transpose()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = daemon.scrape().await?.0;
        tokio::time::sleep(TIME).await;
        let after = daemon.scrape().await?.0;
        drop(hog);
        columns.push(medians(&before, &after, &hosts[victim])?);
        columns.push(medians(&before, &after, &hosts[healthy])?);
    }
    let titles = ["phase (median)", "quiet", "4 compressors", "16 compressors", "healthy member meanwhile"];
    let mut table = Table::with_columns("The story: one member's CPU is taken", &titles);
    for (row, phase) in PHASES.iter().enumerate() {
        // The healthy member's column is of the worst time, that of 16 compressors.
        let cell = |column: usize| ms(Duration::from_secs_f64(columns[column][row]));
        table.cells(&[(*phase).to_owned(), cell(0), cell(2), cell(4), cell(5)]);
    }
    table.print();
    Ok(())
}

/// Bounds from 2 µs to 0.5 s, each 7 % above the one before: what is interpolated is then right to a few percent.
fn bounds() -> String {
    let mut text = String::new();
    let mut bound = 2e-6;
    while bound < 0.5 {
        let _ = write!(text, "{bound:.9}, ");
        bound *= 1.07;
    }
    text
}

fn medians(before: &Scrape, after: &Scrape, member: &str) -> Outcome<Vec<f64>> {
    let member = format!("member=\"{member}\"");
    let median = |phase: &&str| {
        let labels = [member.as_str(), &format!("phase=\"{phase}\"")];
        let name = "midwatch_mongodb_connect_duration_seconds";
        let observed = after.histogram(name, &labels)?.since(&before.histogram(name, &labels)?);
        if observed.count() < 10.0 {
            return Err(format!("{member} {phase}: only {} observations", observed.count()).into());
        }
        Ok(observed.quantile(0.5))
    };
    PHASES.iter().map(median).collect()
}
