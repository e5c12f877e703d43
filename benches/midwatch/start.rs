//! How long it takes to start and to stop.

use std::time::Duration;

use super::Outcome;
use super::daemon::Daemon;
use super::peers::{Manner, Peer};
use super::report::{Table, median, ms, quantile};
use super::sets::{probe, probe_each};

const STARTS: usize = 21;
const STOPS: usize = 5;

/// From exec to the first 200 of /-/ready.
pub async fn measure() -> Outcome<()> {
    let peer = Peer::start(Manner::Close).await?;
    let three = probe("three", &peer.aliases(3), "interval = \"10s\"");
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let mut daemon = Daemon::launch(&three)?;
        times.push(daemon.wait_ready().await?);
    }
    let (typical, worst) = (median(&mut times), quantile(&mut times, 1.0));
    let figure = format!("{} (slowest {})", ms(typical), ms(worst));
    let mut table = Table::new("Start");
    let what = format!("exec to /-/ready, one probe of three members, median of {STARTS}");
    table.target(&what, figure, "< 100 ms", typical < Duration::from_millis(100));
    table.print();
    Ok(())
}

/// From SIGTERM to the end of the process.
pub async fn measure_stop() -> Outcome<()> {
    let peer = Peer::start(Manner::Hold).await?;
    let probes = probe_each(&peer.aliases(100), "interval = \"2s\"\ntimeout = \"1900ms\"");
    let mut times = Vec::new();
    for _ in 0..STOPS {
        let daemon = Daemon::start(&probes).await?;
        peer.take();
        // All have started a run by then, and each is in one for nineteen twentieths of its time.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        if peer.take().len() < 100 {
            return Err("not all probes are in flight".into());
        }
        times.push(daemon.terminate().await?);
    }
    let mut table = Table::new("Stop");
    table.figure(&format!("SIGTERM to exit with 100 runs in flight, median of {STOPS}"), ms(median(&mut times)));
    table.print();
    Ok(())
}
