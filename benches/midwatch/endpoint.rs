//! The endpoint as Prometheus uses it, and as others may: half a million series over loopback.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::Outcome;
use super::clients::{Attack, Coding, Scraped, scrape, slow_scrapes, try_scrape};
use super::report::{Table, mb, median, ms, quantile};
use super::served::{SERIES, Served};
use super::usage::raise_open_files;

/// As many scrapes in flight as any row here has.
const ROOM: usize = 64;
/// As the server has it.
const USUAL: usize = 40;
const ROUNDS: usize = 7;
const EXTRA: f64 = 2e6;
const SLOW: usize = 50;
/// Beside each attack.
const SCRAPES: usize = 15;

/// Scrapes of all codings, then many at once, then beside attacks.
pub async fn measure() -> Outcome<()> {
    let columns = ["", "time, median", "CPU of the server, a scrape", "on the wire, a scrape"];
    let columns = [&columns[..], &["extra memory, a scrape in flight", "target"]].concat();
    let mut table = Table::with_columns(&format!("The endpoint: {SERIES} gauges over loopback"), &columns);
    for coding in Coding::ALL {
        for at_once in [1, 8] {
            at_pace_of_the_wire(&mut table, coding, at_once).await?;
        }
    }
    table.print();
    let mut table = Table::new(&format!("The endpoint: {SLOW} slow clients, and a commit of all series meanwhile"));
    for coding in Coding::ALL {
        slow_clients(&mut table, coding).await?;
    }
    table.print();
    attacks().await
}

async fn at_pace_of_the_wire(table: &mut Table, coding: Coding, at_once: u32) -> Outcome<()> {
    let mut server = Served::start(ROOM).await?;
    let address = server.address;
    let all = || try_join_all((0..at_once).map(|_| scrape(address, coding)));
    // The first of the process: nothing of an earlier one can be used again.
    let before = server.reset_peak().await?;
    let first = all().await?;
    let extra = (server.peak().await? - before) / f64::from(at_once);
    let (mut times, cpu) = (Vec::new(), server.cpu().await?);
    for _ in 0..ROUNDS {
        times.extend(all().await?.iter().map(|scraped| scraped.took));
    }
    let scrapes = at_once * u32::try_from(ROUNDS)?;
    let cpu = (server.cpu().await? - cpu) / scrapes;
    let what = if at_once == 1 { "one scrape".to_owned() } else { format!("{at_once} at once, each") };
    table.cells(&[
        format!("{}: {what}", coding.name()),
        ms(median(&mut times)),
        ms(cpu),
        mb(bytes(&first)),
        mb(extra),
        if extra < EXTRA { "< 2 MB".to_owned() } else { "< 2 MB **missed**".to_owned() },
    ]);
    server.end().await
}

#[allow(clippy::cast_precision_loss, reason = "a length")]
fn bytes(scrapes: &[Scraped]) -> f64 {
    scrapes.first().map_or(0.0, |scraped| scraped.bytes as f64)
}

/// Many scrapes that stay in flight, and a run that ends meanwhile: old values stay for the scrapes.
async fn slow_clients(table: &mut Table, coding: Coding) -> Outcome<()> {
    let mut server = Served::start(ROOM).await?;
    server.record().await?;
    server.commit().await?;
    server.record().await?;
    let before = server.reset_peak().await?;
    let clients = slow_scrapes(server.address, coding, SLOW, Duration::from_millis(200));
    sleep(Duration::from_secs(3)).await;
    let extra = (server.peak().await? - before) / f64::from(u32::try_from(SLOW)?);
    let what = format!("{}: extra memory, each of {SLOW} scrapes that are read slowly", coding.name());
    table.target(&what, mb(extra), "< 2 MB", extra < EXTRA);
    let cpu = server.commit().await?;
    let all = server.peak().await? - before;
    table.figure(&format!("{}: the commit meanwhile, CPU time", coding.name()), ms(cpu));
    table.figure(&format!("{}: extra memory of all of it, kept values included", coding.name()), mb(all));
    drop(clients);
    server.end().await
}

/// The usual scrape beside clients that mean harm.
async fn attacks() -> Outcome<()> {
    let files = raise_open_files()?;
    let columns = ["", "usually", "beside it, median", "slowest", "refused", "beside it : usually", "target"];
    let mut table = Table::with_columns("The endpoint: a scrape with gzip beside attacks", &columns);
    for (attack, what) in Attack::ALL {
        if attack == Attack::Idle && files < 11_000 {
            let skipped = format!("not measured: this machine allows {files} open files");
            table.cells(&[what, &skipped, "", "", "", "", ""]);
            continue;
        }
        let server = Served::start(USUAL).await?;
        let (mut usual, _) = scrapes(&server).await?;
        let attackers = attack.begin(server.address);
        // From the beginning: whom the server cuts off first, it has to find out first.
        sleep(Duration::from_millis(200)).await;
        let (mut attacked, refused) = scrapes(&server).await?;
        drop(attackers);
        server.end().await?;
        let factor = median(&mut attacked).as_secs_f64() / median(&mut usual).as_secs_f64();
        let met = factor <= 2.0 && refused == 0 && !attacked.is_empty();
        table.cells(&[
            what.to_owned(),
            ms(median(&mut usual)),
            ms(median(&mut attacked)),
            ms(quantile(&mut attacked, 1.0)),
            format!("{refused} of {SCRAPES}"),
            format!("{factor:.2}"),
            if met { "≤ 2".to_owned() } else { "≤ 2 **missed**".to_owned() },
        ]);
    }
    table.print();
    Ok(())
}

/// One after the other, a little apart, as long as an attack needs to show; and how many were refused.
async fn scrapes(server: &Served) -> Outcome<(Vec<Duration>, usize)> {
    let (mut times, mut refused) = (Vec::new(), 0);
    for _ in 0..SCRAPES {
        match try_scrape(server.address, Coding::Gzip).await? {
            Some(scraped) => times.push(scraped.took),
            None => refused += 1,
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok((times, refused))
}
