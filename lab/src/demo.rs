//! `lab demo`: a replica set, midwatch, and a Prometheus that scrapes it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::mongodb::{Options, ReplicaSet};
use lab::ports::Port;
use lab::process::{Launch, Server};
use lab::prometheus::{self, Prometheus};
use lab::{Error, Result, http, until};
use toml::{Table, Value};

use super::say;

/// Beside midwatch's own 9817, and not Prometheus' 9090, which may well be in use on a developer's machine.
const PROMETHEUS_PORT: u16 = 9818;

/// What a person wants to see first: which member, and which phase of a new connection, is slow.
const QUERY: &str =
    "histogram_quantile(0.9, sum by (member, phase, le) (rate(midwatch_mongodb_connect_duration_seconds_bucket[1m])))";

/// What the demo needs to know of midwatch's configuration.
struct Plan {
    /// Where midwatch listens, as seen from this machine.
    midwatch: String,
    /// The first MongoDB probe.
    probe: String,
    /// Where the members of the replica set listen.
    ports: Vec<u16>,
}

/// Runs the demo. Ends only with an error; everything started is gone when it is dropped.
pub(crate) async fn run(midwatch: &Path, config: &Path) -> Result<()> {
    let text = fs::read_to_string(config).map_err(|source| Error::Io { what: config.display().to_string(), source })?;
    let plan = Plan::read(&text).map_err(|reason| Error::Unexpected(format!("{}: {reason}", config.display())))?;
    // Asked for early: a port that is taken should not be found out after the slow part.
    for port in [plan.midwatch_port()?, PROMETHEUS_PORT] {
        Port::fixed(port)?;
    }

    say("Starting a MongoDB replica set ...")?;
    let set = ReplicaSet::with(Options::default().members(plan.ports.len()).ports(&plan.ports)).await?;
    say("Starting midwatch ...")?;
    let program =
        midwatch.canonicalize().map_err(|source| Error::Io { what: midwatch.display().to_string(), source })?;
    let server = Launch::new("midwatch", program).arg("run").arg("--config").arg(config).start()?;
    wait_for_metrics(&server, &plan.midwatch).await?;
    say("Starting Prometheus ...")?;
    let options = prometheus::Options::new([plan.midwatch.as_str()], Duration::from_secs(1)).port(PROMETHEUS_PORT);
    let prometheus = Prometheus::with(options).await?;
    prometheus.wait_for("scrape_samples_scraped > 0").await?;

    say(&plan.guide(&set, &prometheus, midwatch, config)?)?;
    loop {
        server.check_alive()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn wait_for_metrics(server: &Server, address: &str) -> Result<()> {
    until("midwatch to answer /metrics", Duration::from_secs(30), async || {
        if let Err(error) = server.check_alive() {
            return Ok(Err(error));
        }
        match http::get(address, "/metrics").await {
            Ok(answer) if answer.status == 200 => Ok(Ok(())),
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?
}

impl Plan {
    /// Reads midwatch's configuration. Midwatch itself checks it; this takes only what it needs.
    fn read(text: &str) -> Result<Plan, String> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        let listen = table.get("server").and_then(|server| server.get("listen")).and_then(Value::as_str);
        let probes = table.get("probe").and_then(|probe| probe.get("mongodb")).and_then(Value::as_table);
        let (name, probe) = probes.and_then(|probes| probes.iter().next()).ok_or("no [probe.mongodb.*]")?;
        let hosts = probe.get("hosts").and_then(Value::as_array).ok_or("the probe has no hosts")?;
        let ports = hosts.iter().map(|host| {
            let host = host.as_str().unwrap_or_default();
            let port = host.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
            port.ok_or_else(|| {
                format!("`{host}` is not 127.0.0.1 with a port: the demo starts members only on this machine")
            })
        });
        Ok(Plan {
            midwatch: listen.ok_or("no listen in [server]")?.replace("0.0.0.0:", "127.0.0.1:"),
            probe: name.clone(),
            ports: ports.collect::<Result<_, String>>()?,
        })
    }

    fn midwatch_port(&self) -> Result<u16> {
        let port = self.midwatch.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.ok_or_else(|| Error::Unexpected(format!("{} has no port", self.midwatch)))
    }

    /// What to open, and what to try.
    fn guide(&self, set: &ReplicaSet, prometheus: &Prometheus, midwatch: &Path, config: &Path) -> Result<String> {
        let Plan { midwatch: address, probe, .. } = self;
        let (midwatch, config) = (midwatch.display(), config.display());
        let mut members = String::new();
        for (index, host) in set.hosts().iter().enumerate() {
            members.push_str(&format!("\n  {host}  process {}", set.pid(index)?));
        }
        let (last, graph) = (set.pid(set.hosts().len() - 1)?, prometheus.graph_url(QUERY));
        Ok(format!(
            "
Open
  http://{address}/         midwatch's page
  http://{address}/metrics  what it measures
  {graph}
      Prometheus: the 90th percentile of each phase of a new connection, by member

Members of the replica set{members}

Try
  midwatch's view of one run, phase by phase:
      {midwatch} probe mongodb {probe} --config {config}
  other buckets: edit `buckets` in {config} and save; no restart
  what a backup does to a member, as at night:
      target/release/lab hog --pid {last}
  a member that hangs:
      kill -STOP {last}; sleep 20; kill -CONT {last}

Ctrl-C ends all of it."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_fits_the_demo() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/midwatch.toml");
        let plan = Plan::read(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((plan.midwatch.as_str(), plan.midwatch_port().unwrap()), ("127.0.0.1:9817", 9817));
        assert_eq!((plan.probe.as_str(), plan.ports), ("demo", vec![27117, 27118, 27119]));
    }

    #[test]
    fn a_configuration_for_other_machines_is_refused() {
        let text = "[server]\nlisten = '0.0.0.0:1'\n[probe.mongodb.a]\nhosts = ['db1:27017']";
        let reason = Plan::read(text).err().unwrap();
        assert!(reason.contains("db1:27017"), "{reason}");
    }
}
