//! What one run costs: CPU time of the daemon, allocations of its scheduler, probe and store.

use std::time::Duration;

use super::Outcome;
use super::counted::count;
use super::daemon::Daemon;
use super::report::{Table, ms};
use super::sets::Set;

const KEYS: &str = "interval = \"50ms\"\ntimeout = \"49ms\"";
const CPU_TIME: Duration = Duration::from_secs(15);
const COUNT_TIME: Duration = Duration::from_secs(6);
const MEMBERS: f64 = 3.0;

/// Both ways to connect.
pub async fn measure(secure: &Set, plain: &Set) -> Outcome<()> {
    let columns = ["a run against three members", "CPU, user + system", "per member", "allocations", "per member"];
    let mut table = Table::with_columns("What a run costs", &columns);
    for (what, set) in [("TLS, SCRAM-SHA-256", secure), ("plain", plain)] {
        let (runs, user, system) = cpu(set).await?;
        let counted = count(&set.probe(KEYS), COUNT_TIME).await?;
        check(counted.runs, counted.failed)?;
        let time = |seconds: f64| ms(Duration::from_secs_f64(seconds));
        let (allocations, bytes) = (counted.total.0 / counted.runs, counted.total.1 / counted.runs / 1e3);
        table.cells(&[
            what.to_owned(),
            format!("{} + {}", time(user / runs), time(system / runs)),
            time((user + system) / runs / MEMBERS),
            format!("{allocations:.0}, {bytes:.1} kB"),
            format!("{:.0}, {:.1} kB", allocations / MEMBERS, bytes / MEMBERS),
        ]);
    }
    table.print();
    Ok(())
}

/// Runs, and user and system time of all of them.
async fn cpu(set: &Set) -> Outcome<(f64, f64, f64)> {
    let daemon = Daemon::start(&set.probe(KEYS)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let runs = |scrape: &super::scrape::Scrape| scrape.sum("midwatch_probe_runs_total", &[]);
    let failed = |scrape: &super::scrape::Scrape| scrape.sum("midwatch_probe_failures_total", &[]);
    let before = daemon.scrape().await?.0;
    let cpu = daemon.cpu()?;
    tokio::time::sleep(CPU_TIME).await;
    let cpu_after = daemon.cpu()?;
    let after = daemon.scrape().await?.0;
    check(runs(&after) - runs(&before), failed(&after) - failed(&before))?;
    Ok((runs(&after) - runs(&before), cpu_after.user - cpu.user, cpu_after.system - cpu.system))
}

/// A failed run costs something else. A few are the machine's doing.
fn check(runs: f64, failed: f64) -> Outcome<()> {
    if runs < 1.0 || failed > runs / 50.0 { Err(format!("{failed} of {runs} runs failed").into()) } else { Ok(()) }
}
