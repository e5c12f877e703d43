//! The Kafka collector and, where their programs are there, others like it: on a FAKE cluster of twelve brokers, 10 000 partitions
//! and 1 000 groups with 50 000 commits, which has a process of its own and counts what it is asked.

use std::time::Duration;

use lab::kafka::fake::{FakeCluster, Question, Shape};

use super::Outcome;
use super::child::{Child, answer_all};
use super::daemon::{Cpu, Daemon};
use super::report::{Table, count, mb, median, ms};
use super::usage::process_time;

/// The argument that makes the benchmark a fake cluster.
pub const CHILD: &str = "fake-kafka";

/// How often the cycle that is measured runs, and for how long it is watched.
const INTERVAL: Duration = Duration::from_secs(1);
const WATCHED: Duration = Duration::from_secs(30);
/// Until whatever happens only at first is over.
const WARM: Duration = Duration::from_secs(10);
/// With its own rhythms, a daemon has run all cycles after this.
const SETTLED: Duration = Duration::from_secs(75);
const SCRAPES: u32 = 20;

/// A cycle of the collector, and the key of its interval.
const CYCLES: [(&str, &str); 4] = [
    ("offsets: commits and ends", "interval"),
    ("the same with the age of every first unread record", "interval"),
    ("cluster: topics, groups, members, starts, moves", "cluster_interval"),
    ("storage: disks", "storage_interval"),
];

/// A fake cluster in a process of its own.
#[derive(Debug)]
pub struct Fake {
    child: Child,
    /// Where its first broker listens.
    pub address: String,
}

/// What a fake cluster was asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Requests, without those that are counted apart.
    pub planned: f64,
    /// Questions for offsets by time.
    pub by_time: f64,
    /// All requests.
    pub all: f64,
}

impl Fake {
    /// Starts one.
    pub async fn start() -> Outcome<Self> {
        let (child, ready) = Child::start(&[CHILD]).await?;
        Ok(Self { child, address: format!("127.0.0.1:{}", ready.first().ok_or("no port")?) })
    }

    /// What was asked since the last time.
    pub async fn asked(&mut self) -> Outcome<Asked> {
        let [planned, by_time, all] = self.child.ask("asked").await?[..] else { return Err("no counts".into()) };
        Ok(Asked { planned, by_time, all })
    }

    /// CPU time of the fake so far, in seconds.
    pub async fn cpu(&mut self) -> Outcome<f64> {
        Ok(self.child.ask("cpu").await?.first().copied().ok_or("no time")?)
    }
}

/// The child.
pub fn child() -> Outcome<()> {
    let fake = FakeCluster::start(Shape::default())?;
    let port = fake.addresses()[0].port();
    answer_all(&[f64::from(port)], |what| match what {
        "asked" => {
            let apart = |question: &Question| {
                use Question::{ApiVersions, ByTime, DescribeConfigs, DescribeQuorum};
                matches!(question, ApiVersions | ByTime | DescribeConfigs | DescribeQuorum)
            };
            let counts = fake.take_counts();
            let sum = |of: &dyn Fn(&Question) -> bool| {
                #[allow(clippy::cast_precision_loss, reason = "a small count")]
                let sum =
                    counts.iter().filter(|(question, _)| of(question)).map(|(_, asked)| asked.requests).sum::<usize>()
                        as f64;
                sum
            };
            Ok(vec![sum(&|of| !apart(of)), sum(&|of| *of == Question::ByTime), sum(&|_| true)])
        }
        "cpu" => Ok(vec![process_time().as_secs_f64()]),
        _ => Err("asked for something else".into()),
    })
}

/// What one run of a cycle costs.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cost {
    requests: f64,
    by_time: f64,
    time: Duration,
    cpu: (f64, f64),
    fake: f64,
}

/// The cycles one by one, the daemon as a whole, and the others.
pub async fn measure() -> Outcome<()> {
    let mut fake = Fake::start().await?;
    let columns = ["a cycle", "requests", "by time", "time, median", "CPU, user + system", "CPU of the fake", "target"];
    let title = "Kafka: 12 brokers, 10 000 partitions, 1 000 groups, 50 000 commits (a fake cluster)";
    let mut table = Table::with_columns(title, &columns);
    let mut full = Cost::default();
    for (place, (what, key)) in CYCLES.into_iter().enumerate() {
        let is_with_ages = place == 1;
        let cost = cycle(&mut fake, key, is_with_ages).await?;
        row(&mut table, what, cost, "");
        if !is_with_ages {
            full = full.and(cost);
        }
    }
    let is_met = full.time < Duration::from_millis(150);
    row(&mut table, "all three, without ages", full, if is_met { "< 150 ms" } else { "< 150 ms **missed**" });
    table.print();
    let midwatch = whole(&mut fake, full).await?;
    super::kafka_peers::measure(&mut fake, midwatch).await
}

impl Cost {
    fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            by_time: self.by_time + other.by_time,
            time: self.time + other.time,
            cpu: (self.cpu.0 + other.cpu.0, self.cpu.1 + other.cpu.1),
            fake: self.fake + other.fake,
        }
    }
}

fn row(table: &mut Table, what: &str, cost: Cost, target: &str) {
    let time = |seconds: f64| ms(Duration::from_secs_f64(seconds.max(0.0)));
    table.cells(&[
        what.to_owned(),
        count(cost.requests.round()),
        format!("{:.1}", cost.by_time),
        ms(cost.time),
        format!("{} + {}", time(cost.cpu.0), time(cost.cpu.1)),
        time(cost.fake),
        target.to_owned(),
    ]);
}

/// The section of a collector; only the cycle of this key is due while it is watched.
fn section(fake: &Fake, key: &str, is_with_ages: bool) -> String {
    let keys = ["interval", "cluster_interval", "storage_interval", "moves_interval", "listeners_interval"];
    let intervals = keys.map(|each| {
        let interval = if each == key { format!("{}s", INTERVAL.as_secs()) } else { "1h".to_owned() };
        format!("{each} = \"{interval}\"\n")
    });
    let time_lag = if is_with_ages { "offsets" } else { "off" };
    let rest = format!("timeout = \"900ms\"\ntime_lag = \"{time_lag}\"\n");
    format!("[probe.kafka.fake]\nbootstrap = [\"{}\"]\n{rest}{}", fake.address, intervals.concat())
}

async fn cycle(fake: &mut Fake, key: &str, is_with_ages: bool) -> Outcome<Cost> {
    let daemon = Daemon::start(&section(fake, key, is_with_ages)).await?;
    tokio::time::sleep(WARM).await;
    let before = (daemon.scrape().await?.0, daemon.cpu()?, fake.cpu().await?);
    fake.asked().await?;
    tokio::time::sleep(WATCHED).await;
    let (cpu, fake_cpu, asked) = (daemon.cpu()?, fake.cpu().await?, fake.asked().await?);
    let after = daemon.scrape().await?.0;
    let sum = |name| after.sum(name, &[]) - before.0.sum(name, &[]);
    let runs = sum("midwatch_probe_runs_total");
    if runs < 5.0 || sum("midwatch_probe_failures_total") > 0.0 {
        return Err(format!("{runs} runs of {key}, {} failed", sum("midwatch_probe_failures_total")).into());
    }
    let each = |now: f64, then: f64| (now - then) / runs;
    Ok(Cost {
        requests: asked.planned / runs,
        by_time: asked.by_time / runs,
        time: median(&mut daemon.durations("fake").await?),
        cpu: (each(cpu.user, before.1.user), each(cpu.system, before.1.system)),
        fake: each(fake_cpu, before.2),
    })
}

/// A collector, whichever: what a collection costs, and a scrape.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Requests of a collection.
    pub requests: f64,
    /// How long one takes.
    pub time: Duration,
    /// Its CPU time in seconds.
    pub cpu: f64,
    /// Resident, in bytes.
    pub resident: f64,
    /// A scrape: its time and its size in bytes.
    pub scrape: (Duration, f64),
}

/// The daemon with its own rhythms.
async fn whole(fake: &mut Fake, full: Cost) -> Outcome<Figures> {
    let section = format!("[probe.kafka.fake]\nbootstrap = [\"{}\"]\n", fake.address);
    let daemon = Daemon::start(&section).await?;
    tokio::time::sleep(WARM).await;
    let before = daemon.cpu()?;
    tokio::time::sleep(SETTLED).await;
    let (after, memory) = (daemon.cpu()?, daemon.memory()?);
    let mut times = Vec::new();
    let mut last = daemon.scrape().await?.0;
    let cpu = daemon.cpu()?;
    for _ in 0..SCRAPES {
        let (scrape, took) = daemon.scrape().await?;
        times.push(took);
        last = scrape;
    }
    let used = |now: Cpu, then: Cpu| now.user + now.system - then.user - then.system;
    let scrape_cpu = Duration::from_secs_f64(used(daemon.cpu()?, cpu).max(0.0)) / SCRAPES;
    #[allow(clippy::cast_precision_loss, reason = "a length")]
    let bytes = last.bytes() as f64;
    let time = median(&mut times);
    let mut table = Table::new("Kafka: the daemon on the same fake cluster, with the rhythms that it has by default");
    let shown = format!("{} ({} without the program's own pages)", mb(memory.resident), mb(memory.anonymous));
    table.target("resident", shown, "< 40 MB", memory.resident < 40e6);
    let series = last.sum("midwatch_series", &[]);
    table.figure(&format!("a scrape of its {} series: size", count(series)), mb(bytes));
    let (all, distinct) = last.label_sets();
    table.figure("of that, label sets; those that differ", format!("{}; {}", mb(all), mb(distinct)));
    table.figure("the same: time, median; CPU", format!("{}; {}", ms(time), ms(scrape_cpu)));
    table.figure("CPU, of one core", format!("{:.1} %", used(after, before) / SETTLED.as_secs_f64() * 100.0));
    table.print();
    let cpu = full.cpu.0 + full.cpu.1;
    Ok(Figures { requests: full.requests, time: full.time, cpu, resident: memory.resident, scrape: (time, bytes) })
}
