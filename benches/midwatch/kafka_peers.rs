//! Other programs that watch Kafka, on the same fake cluster in the same run. Each is measured only if an environment variable
//! names its program; none is needed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lab::ports::Port;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::Outcome;
use super::daemon::{cpu_of, get, memory_of};
use super::kafka::{Fake, Figures};
use super::report::{Table, count, mb, median, ms};

/// Longer than a first collection takes.
const PATIENCE: Duration = Duration::from_secs(180);
/// Collections that are measured.
const COLLECTIONS: u32 = 5;

/// How a peer is started, given its program, the fake's address, its own and a folder for its files.
type Start = fn(&Path, &str, &Port, &Path) -> Outcome<Command>;

/// A peer that collects when it is scraped.
struct Peer {
    name: &'static str,
    variable: &'static str,
    start: Start,
}

const PEERS: [Peer; 2] = [
    Peer { name: "kafka_exporter", variable: "MIDWATCH_BENCH_KAFKA_EXPORTER", start: kafka_exporter },
    Peer { name: "kminion", variable: "MIDWATCH_BENCH_KMINION", start: kminion },
];

/// All peers that are there, beside midwatch's figures.
pub async fn measure(fake: &mut Fake, midwatch: Figures) -> Outcome<()> {
    let columns = ["", "requests", "time, median", "CPU", "resident", "size of a scrape"];
    let mut table =
        Table::with_columns("Kafka: a collection of everything, beside others, on the same fake cluster", &columns);
    row(&mut table, "midwatch", midwatch);
    for peer in PEERS {
        match std::env::var_os(peer.variable).map(PathBuf::from) {
            Some(program) => row(&mut table, peer.name, measure_one(fake, &peer, &program).await?),
            None => table.cells(&[peer.name, "not measured", "", "", "", ""]),
        }
    }
    table.print();
    Ok(())
}

fn row(table: &mut Table, name: &str, figures: Figures) {
    table.cells(&[
        name.to_owned(),
        count(figures.requests.round()),
        ms(figures.time),
        ms(Duration::from_secs_f64(figures.cpu.max(0.0))),
        mb(figures.resident),
        mb(figures.scrape.1),
    ]);
}

async fn measure_one(fake: &mut Fake, peer: &Peer, program: &Path) -> Outcome<Figures> {
    let (port, folder) = (Port::pick()?, TempDir::new()?);
    let mut command = (peer.start)(program, &fake.address, &port, folder.path())?;
    let log = std::fs::File::create(folder.path().join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    let mut child = command.spawn()?;
    let address = port.address();
    first_collection(&mut child, &address, folder.path()).await?;
    let pid = child.id().ok_or("it ended")?;
    fake.asked().await?;
    let (before, mut times, mut bytes) = (cpu_of(pid)?, Vec::new(), 0.0);
    for _ in 0..COLLECTIONS {
        let asked = Instant::now();
        let (_, text) = get(&address, PATIENCE).await?;
        times.push(asked.elapsed());
        #[allow(clippy::cast_precision_loss, reason = "a length")]
        let length = text.len() as f64;
        bytes = length;
        // Some answer again from what they have just collected.
        sleep(Duration::from_secs(2)).await;
    }
    let (cpu, asked, each) = (cpu_of(pid)?, fake.asked().await?, f64::from(COLLECTIONS));
    let time = median(&mut times);
    Ok(Figures {
        requests: asked.all / each,
        time,
        cpu: (cpu.user + cpu.system - before.user - before.system) / each,
        resident: memory_of(pid)?.resident,
        scrape: (time, bytes),
    })
}

/// Waits for a scrape that has the lag of groups in it.
async fn first_collection(child: &mut Child, address: &str, folder: &Path) -> Outcome<()> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Ok((200, text)) = get(address, PATIENCE).await
            && text.contains("group-00999")
        {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(format!("a peer ended with {status}: {log}").into());
        }
        sleep(Duration::from_millis(500)).await;
    }
    Err("a peer shows no group".into())
}

fn kafka_exporter(program: &Path, kafka: &str, port: &Port, _: &Path) -> Outcome<Command> {
    let mut command = Command::new(program);
    command.args([&format!("--kafka.server={kafka}"), &format!("--web.listen-address={}", port.address())]);
    // Its default of 1 000 000 is meant for clusters: topics are listed anew with each scrape, as midwatch does.
    command.args(["--refresh.metadata=10s", "--kafka.version=2.8.0"]);
    Ok(command)
}

fn kminion(program: &Path, kafka: &str, port: &Port, folder: &Path) -> Outcome<Command> {
    let config = folder.join("kminion.yaml");
    let text = format!(
        "kafka:\n  brokers: [\"{kafka}\"]\nminion:\n  consumerGroups: {{enabled: true, scrapeMode: adminApi, granularity: partition}}\n\
         \x20 topics: {{granularity: partition}}\n  logDirs: {{enabled: true}}\n\
         exporter: {{host: \"127.0.0.1\", port: {}}}\n",
        port.number()
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.env("CONFIG_FILEPATH", config);
    Ok(command)
}
