//! A server of half a million series in a process of its own, so that its memory and CPU time are nobody else's.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use midwatch::http::{Landing, Limits, Reload, RunsQuery, Server, Site};
use midwatch::metrics::exposition::Format;
use midwatch::metrics::{Snapshot, Store};

use super::Outcome;
use super::child::{Child, answer_all};
use super::contenders::Midwatch;
use super::content::Content;
use super::usage::{process_time, reset_peak, status, thread_time};

/// The argument that makes the benchmark such a server.
pub const CHILD: &str = "server";

/// How many series it has.
pub const SERIES: u64 = 500_000;

/// A running server.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Served {
    /// Starts one that allows so many scrapes in flight; with the usual limits otherwise.
    pub async fn start(scrapes: usize) -> Outcome<Self> {
        let (child, ready) = Child::start(&[CHILD, &scrapes.to_string()]).await?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a port")]
        let port = ready.first().copied().ok_or("no port")? as u16;
        Ok(Self { child, address: (Ipv4Addr::LOCALHOST, port).into() })
    }

    /// CPU time of the process so far.
    pub async fn cpu(&mut self) -> Outcome<Duration> {
        self.number("cpu").await.map(Duration::from_secs_f64)
    }

    /// What is resident, from which on the peak is counted.
    pub async fn reset_peak(&mut self) -> Outcome<f64> {
        self.number("reset").await
    }

    /// The most that was resident since the last reset, less the program's own pages that were touched first since then.
    pub async fn peak(&mut self) -> Outcome<f64> {
        self.number("peak").await
    }

    /// Records other values for all series.
    pub async fn record(&mut self) -> Outcome<()> {
        self.number("record").await.map(drop)
    }

    /// Shows what was recorded; says how much CPU time that took.
    pub async fn commit(&mut self) -> Outcome<Duration> {
        self.number("commit").await.map(Duration::from_secs_f64)
    }

    /// Ends it.
    pub async fn end(self) -> Outcome<()> {
        self.child.end().await
    }

    async fn number(&mut self, what: &str) -> Outcome<f64> {
        Ok(self.child.ask(what).await?.first().copied().ok_or("no number")?)
    }
}

/// What the server serves: metrics, and nothing else.
struct Metrics(Arc<Store>);

impl Site for Metrics {
    fn scrape(&self) -> Snapshot {
        self.0.snapshot()
    }

    fn openmetrics_created(&self) -> bool {
        false
    }

    fn scraped(&self, _: Duration) {}

    fn config(&self) -> Bytes {
        Bytes::new()
    }

    async fn reload(&self) -> Reload {
        Reload { ok: false, text: String::new() }
    }

    fn runs(&self, _: &RunsQuery) -> Result<String, String> {
        Err(String::new())
    }

    fn landing(&self) -> Landing {
        Landing { version: "".into(), probes: 0, share: None }
    }
}

/// The child: how many scrapes may be in flight.
pub fn child(arguments: &[String]) -> Outcome<()> {
    let [scrapes] = arguments else { return Err("expected a number of scrapes".into()) };
    let limits = Limits { scrapes: scrapes.parse()?, ..Limits::default() };
    let midwatch = Midwatch::new(Content::Whole, SERIES, Format::Text);
    // As the daemon's.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None))?.with_limits(limits);
    let port = server.local_addr()?.port();
    let site = Arc::new(Metrics(Arc::clone(&midwatch.store)));
    let serving = runtime.spawn(server.run(site, std::future::pending(), Duration::ZERO));
    let (mut turn, mut pages) = (0, 0.0);
    let outcome = answer_all(&[port.into()], |what| {
        let number = match what {
            "cpu" => process_time().as_secs_f64(),
            "reset" => {
                reset_peak()?;
                pages = status("RssFile")?;
                status("VmRSS")?
            }
            "peak" => status("VmHWM")? - (status("RssFile")? - pages),
            "record" => {
                turn += 1;
                midwatch.record_all(turn);
                0.0
            }
            "commit" => {
                let started = thread_time();
                midwatch.commit();
                (thread_time() - started).as_secs_f64()
            }
            _ => return Err("asked for something else".into()),
        };
        Ok(vec![number])
    });
    serving.abort();
    runtime.shutdown_background();
    outcome
}
