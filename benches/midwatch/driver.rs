//! One run of the probe beside the official driver doing the same once.

use std::time::Duration;

use lab::mongodb::User;
use lab::mongodb::driver::Client;
use lab::mongodb::driver::bson::doc;
use lab::mongodb::driver::options::{AuthMechanism, ClientOptions, Credential, ServerAddress, TlsOptions};
use midwatch::config::Loader;
use midwatch::probe::{Cycle, KINDS, Shared};
use midwatch::scheduler::{Spec, run_once};
use tokio::time::Instant;

use super::Outcome;
use super::counted::region;
use super::report::{Table, median, ms, quantile};
use super::sets::Set;

const ROUNDS: usize = 200;
/// The first rounds derive keys, read certificates and warm the server up.
const WARM_UP: usize = 10;

/// What one way to do it took, round by round.
#[derive(Default)]
struct Side {
    times: Vec<Duration>,
    allocations: usize,
    connections: i64,
}

/// By turns: a new connection with TLS and SCRAM-SHA-256, a ping, the end of the connection.
pub async fn measure(set: &Set) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("midwatch.toml");
    std::fs::write(&config, set.probe_one("interval = \"10s\""))?;
    let config = Loader::check(&config, KINDS, &Shared::default(), false).map_err(|problems| problems.to_string())?;
    let spec = config.probes.first().ok_or("no probe")?;
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for round in 0..WARM_UP + ROUNDS {
        let counts = round >= WARM_UP;
        // One of the two finds the processor's caches as the other left them: so each goes first as often.
        if round % 2 == 0 {
            ours.round(set, counts, run(spec)).await?;
            theirs.round(set, counts, drive(set)).await?;
        } else {
            theirs.round(set, counts, drive(set)).await?;
            ours.round(set, counts, run(spec)).await?;
        }
    }
    let ratio = median(&mut theirs.times).as_secs_f64() / median(&mut ours.times).as_secs_f64();
    let columns = ["a new connection to one member", "median", "p90", "connections it opens", "allocations"];
    let mut table = Table::with_columns("Beside the driver (TLS, SCRAM-SHA-256, ping, close)", &columns);
    for (what, side) in [("midwatch", &mut ours), ("the mongodb driver", &mut theirs)] {
        table.cells(&[
            what.to_owned(),
            ms(median(&mut side.times)),
            ms(quantile(&mut side.times, 0.9)),
            format!("{:.1}", ratio_of(usize::try_from(side.connections)?)),
            format!("{:.0}", ratio_of(side.allocations)),
        ]);
    }
    table.cells(&["driver : midwatch", &format!("{ratio:.2}"), "", "", ""]);
    table.print();
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn ratio_of(count: usize) -> f64 {
    count as f64 / ROUNDS as f64
}

impl Side {
    async fn round(&mut self, set: &Set, counts: bool, work: impl Future<Output = Outcome<()>>) -> Outcome<()> {
        let connections = set.servers.connections(0).await?.total_created;
        let region = region();
        let started = Instant::now();
        work.await?;
        let took = started.elapsed();
        let stats = region.change();
        let opened = set.servers.connections(0).await?.total_created - connections;
        if counts {
            self.times.push(took);
            self.allocations += stats.allocations + stats.reallocations;
            self.connections += opened;
        }
        Ok(())
    }
}

async fn run(spec: &Spec) -> Outcome<()> {
    let run = run_once(spec, Cycle::MAIN).await;
    if run.succeeded(spec.common.require) { Ok(()) } else { Err(format!("the run failed: {:?}", run.trace).into()) }
}

/// With the settings of the probe: the lab's own clients also show a certificate, which is more work.
async fn drive(set: &Set) -> Outcome<()> {
    let user = User::midwatch();
    let credential = Credential::builder()
        .username(user.name)
        .password(user.password)
        .source("admin".to_owned())
        .mechanism(AuthMechanism::ScramSha256)
        .build();
    let options = ClientOptions::builder()
        .hosts(vec![ServerAddress::parse(&set.servers.hosts()[0])?])
        .direct_connection(true)
        .tls(Some(TlsOptions::builder().ca_file_path(set.servers.ca_path().to_owned()).build().into()))
        .credential(credential)
        .build();
    let client = Client::with_options(options)?;
    client.database("admin").run_command(doc! { "ping": 1 }).await?;
    client.shutdown().await;
    Ok(())
}
