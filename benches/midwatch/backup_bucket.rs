//! The backup source `s3`: the first reading of a bucket with a million objects, readings in which nothing or little has changed, and
//! what is resident. The bucket is a FAKE one in the benchmark's own process.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lab::s3::fake::{FakeBucket, Objects};
use tokio::time::Instant;

use super::Outcome;
use super::daemon::Daemon;
use super::report::{Table, count, mb, ms};

const OBJECTS: usize = 1_000_000;
/// A page for each thousand of them.
const PAGES: usize = 1_000;
/// More than this may not be resident because of the objects.
const ROOM: f64 = 50e6;

/// The first reading and those that follow; a daemon whose bucket is empty says what it needs without the objects.
pub async fn measure() -> Outcome<()> {
    let first = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() - 60 * (OBJECTS as u64 + 60);
    let objects = |count| Objects {
        count,
        at: Arc::new(move |at| (format!("orders-{at:07}.tar.gz"), 1 << 20, first + 60 * at as u64)),
    };
    let base = {
        let bucket = FakeBucket::open(objects(0)).await?;
        let daemon = Daemon::start(&section(&bucket.url())).await?;
        retained(&daemon, 0).await?;
        daemon.memory()?.anonymous
    };
    let bucket = FakeBucket::open(objects(OBJECTS)).await?;
    let daemon = Daemon::start(&section(&bucket.url())).await?;
    let before = daemon.cpu()?;
    let whole = listing(&bucket, PAGES).await;
    retained(&daemon, OBJECTS).await?;
    let after = daemon.cpu()?;
    let memory = daemon.memory()?.anonymous - base;
    let unchanged = listing(&bucket, 1).await;
    bucket.hold(objects(OBJECTS + 1));
    let grown = listing(&bucket, 1).await;
    retained(&daemon, OBJECTS + 1).await?;
    let mut table = Table::new("Backups in a bucket of 1 000 000 objects (a fake bucket), a minute apart");
    table.figure("first reading: requests", number(whole.0));
    table.figure("first reading: time from the first to the last request", ms(whole.1));
    table.figure(
        "first reading: CPU of midwatch, in its own code and in the kernel",
        format!("{:.2} s, {:.2} s", after.user - before.user, after.system - before.system),
    );
    table.target("memory for it", mb(memory), "< 50 MB", memory < ROOM);
    table.target("unchanged: requests", number(unchanged.0), "no full listing", unchanged.0 < PAGES / 100);
    table.figure("one new object: requests of the reading that finds it", number(grown.0));
    table.figure("memory after all", mb(daemon.memory()?.anonymous - base));
    table.print();
    Ok(())
}

fn section(url: &str) -> String {
    format!(
        "[probe.backup.bench]\nsource = \"s3\"\nendpoint = \"{url}\"\nbucket = \"b\"\npattern = \"orders-*.tar.gz\"\n\
         listing_interval = \"1m\"\ninterval = \"1s\"\ntimeout = \"900ms\"\n"
    )
}

#[allow(clippy::cast_precision_loss, reason = "a small count")]
fn number(requests: usize) -> String {
    count(requests as f64)
}

/// Waits for a reading of at least so many requests and for its end: how many there were, and how long they took.
async fn listing(bucket: &FakeBucket, least: usize) -> (usize, Duration) {
    let (mut asked, mut began, mut ended) = (0, Instant::now(), Instant::now());
    // A reading is over when nothing has been asked for a second: the next one is a minute away.
    while asked < least || ended.elapsed() < Duration::from_secs(1) {
        let more = bucket.asked().len();
        if asked == 0 {
            began = Instant::now();
        }
        if more > 0 {
            ended = Instant::now();
        }
        asked += more;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (asked, ended - began)
}

/// Waits until the daemon shows so many backups.
async fn retained(daemon: &Daemon, count: usize) -> Outcome<()> {
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    let count = count as f64;
    loop {
        let (scrape, _) = daemon.scrape().await?;
        if scrape.sum("midwatch_probe_failures_total", &[]) > 0.0 {
            return Err("a reading failed".into());
        }
        let is_read = scrape.sum("midwatch_backup_source_up", &[]) > 0.0;
        if is_read && (scrape.sum("midwatch_backup_retained", &[]) - count).abs() < 0.5 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
