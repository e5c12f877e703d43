//! The backup source `pbm`: what it asks of a real mongod that holds 10 000 MADE-UP backups and as many chunks of oplog, at first and when
//! nothing has changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::mongodb::Standalone;
use lab::mongodb::driver::bson::{Bson, Document, Timestamp, doc};

use super::Outcome;
use super::daemon::Daemon;
use super::report::{Table, count, mb, ms};

/// So many backups, and so many chunks.
const DOCUMENTS: i64 = 10_000;
/// So many readings in which nothing changes.
const READINGS: f64 = 20.0;
/// More than this may not be resident because of the documents.
const ROOM: f64 = 50e6;

/// What a server has been asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    finds: f64,
    batches: f64,
    documents: f64,
}

/// The first reading and those that follow.
pub async fn measure() -> Outcome<()> {
    let server = Standalone::start().await?;
    fill(&server).await?;
    let empty = Standalone::start().await?;
    let base = {
        let mut daemon = Daemon::start(&section(&empty.host())).await?;
        after_runs(&mut daemon, 2.0).await?;
        daemon.memory()?.anonymous
    };
    let before = asked(&server).await?;
    let mut daemon = Daemon::start(&section(&server.host())).await?;
    let first = after_runs(&mut daemon, 1.0).await?;
    let read = asked(&server).await?;
    let (memory, cpu) = (daemon.memory()?.anonymous - base, daemon.cpu()?);
    let second = after_runs(&mut daemon, first.0 + READINGS).await?;
    let again = asked(&server).await?;
    let (cpu_then, runs) = (daemon.cpu()?, second.0 - first.0);
    let mut table =
        Table::new("Backups by PBM: 10 000 documents of backups, 10 000 of chunks (a real mongod, made-up documents)");
    table.figure("first reading: time", ms(Duration::from_secs_f64(first.1 / first.0)));
    table.figure("first reading: finds and further batches", batches(before, read, 1.0));
    table.figure("first reading: documents", count(read.documents - before.documents));
    table.target("memory for it", mb(memory), "< 50 MB", memory < ROOM);
    table.figure("unchanged: time", ms(Duration::from_secs_f64((second.1 - first.1) / runs)));
    table.figure("unchanged: finds and further batches", batches(read, again, runs));
    let documents = (again.documents - read.documents) / runs;
    table.target("unchanged: documents", format!("{documents:.1}"), "no full reading", documents < 100.0);
    let cpu = (cpu_then.user + cpu_then.system - cpu.user - cpu.system) / runs;
    table.figure("unchanged: CPU of midwatch", ms(Duration::from_secs_f64(cpu.max(0.0))));
    table.print();
    Ok(())
}

fn batches(before: Asked, after: Asked, runs: f64) -> String {
    let each = |then: f64, now: f64| (now - then) / runs;
    format!("{:.1} + {:.1}", each(before.finds, after.finds), each(before.batches, after.batches))
}

fn section(host: &str) -> String {
    format!("[probe.backup.bench]\nsource = \"pbm\"\nhosts = [\"{host}\"]\ninterval = \"1s\"\ntimeout = \"990ms\"\n")
}

/// Waits for so many runs: how many there were, and how many seconds they took.
async fn after_runs(daemon: &mut Daemon, runs: f64) -> Outcome<(f64, f64)> {
    loop {
        let (scrape, _) = daemon.scrape().await?;
        let sum = |name| scrape.sum(name, &[]);
        if sum("midwatch_probe_failures_total") > 0.0 {
            return Err("a reading failed".into());
        }
        let done = sum("midwatch_probe_runs_total");
        if done >= runs {
            return Ok((done, sum("midwatch_probe_duration_seconds_sum")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn asked(server: &Standalone) -> Outcome<Asked> {
    let status = server.command(doc! { "serverStatus": 1, "metrics": 1 }).await?;
    let number = |value: Option<&Bson>| -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a small count")]
        let number = value.and_then(|value| value.as_i64().or(value.as_i32().map(i64::from))).unwrap_or(0) as f64;
        number
    };
    let operations = status.get_document("opcounters")?;
    let returned = status.get_document("metrics")?.get_document("document")?.get("returned");
    Ok(Asked {
        finds: number(operations.get("query")),
        batches: number(operations.get("getmore")),
        documents: number(returned),
    })
}

async fn fill(server: &Standalone) -> Outcome<()> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let admin = server.client(None)?.database("admin");
    let index = doc! { "createIndexes": "pbmBackups", "indexes": [
        { "key": { "name": 1 }, "name": "name" }, { "key": { "start_ts": 1, "status": 1 }, "name": "start" },
    ] };
    admin.run_command(index).await?;
    let index = doc! { "createIndexes": "pbmPITRChunks", "indexes": [
        { "key": { "rs": 1, "start_ts": 1, "end_ts": 1 }, "name": "set" },
        { "key": { "start_ts": 1, "end_ts": 1 }, "name": "start" },
    ] };
    admin.run_command(index).await?;
    for thousand in 0..DOCUMENTS / 1_000 {
        let numbers = thousand * 1_000..(thousand + 1) * 1_000;
        let backups: Vec<_> = numbers.clone().map(|at| backup(at, now - (DOCUMENTS - at) * 3_600)).collect();
        admin.collection::<Document>("pbmBackups").insert_many(backups).await?;
        let chunks: Vec<_> = numbers.map(|at| chunk(now - (DOCUMENTS - at) * 600)).collect();
        admin.collection::<Document>("pbmPITRChunks").insert_many(chunks).await?;
    }
    Ok(())
}

fn time(seconds: i64) -> Timestamp {
    Timestamp { time: u32::try_from(seconds).unwrap_or(0), increment: 1 }
}

/// With the fields of a backup of three shards.
fn backup(number: i64, start: i64) -> Document {
    let conditions: Vec<_> = ["starting", "running", "dumpDone", "done"]
        .into_iter()
        .zip(0_i64..)
        .map(|(status, at)| doc! { "timestamp": start + at * 100, "status": status })
        .collect();
    let shards: Vec<_> = (0..3)
        .map(|shard| {
            doc! {
                "name": format!("shard{shard}"), "node": format!("db{shard}.example.net:27017"), "status": "done",
                "start_ts": start, "last_transition_ts": start + 300, "first_write_ts": time(start),
                "last_write_ts": time(start + 250), "conditions": conditions.clone(),
            }
        })
        .collect();
    doc! {
        "type": "logical", "opid": format!("{number:024x}"), "name": format!("backup {number}"), "replsets": shards,
        "compression": "s2", "store": { "type": "filesystem", "filesystem": { "path": "/backups" } }, "size": 1_000_000_i64,
        "size_uncompressed": 4_000_000_i64, "start_ts": start, "last_transition_ts": start + 300, "first_write_ts": time(start),
        "last_write_ts": time(start + 250), "hb": time(start + 300), "status": "done", "conditions": conditions, "n": [],
    }
}

fn chunk(start: i64) -> Document {
    doc! { "rs": "shard0", "fname": "chunk", "compression": "s2", "start_ts": time(start), "end_ts": time(start + 600), "size": 7_i64 }
}
