//! A real Prometheus, to see what it makes of an exposition.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::http::{self, encode};
use crate::ports::Port;
use crate::process::{Launch, Scratch, Server};
use crate::{Error, Result, binary, until};

/// What Prometheus should do.
#[derive(Debug, Clone)]
pub struct Options {
    targets: Vec<String>,
    interval: Duration,
    native_histograms: bool,
    exemplars: bool,
    job: String,
    rules: Vec<PathBuf>,
    evaluation: Duration,
    alertmanager: Option<String>,
    port: Option<u16>,
}

impl Options {
    /// Scrapes `/metrics` of these targets (`host:port`) in this interval.
    pub fn new<T: Into<String>>(targets: impl IntoIterator<Item = T>, interval: Duration) -> Options {
        let targets = targets.into_iter().map(Into::into).collect();
        Options {
            targets,
            interval,
            native_histograms: false,
            exemplars: false,
            job: "lab".to_owned(),
            rules: Vec::new(),
            evaluation: interval,
            alertmanager: None,
            port: None,
        }
    }

    /// Scrapes one more target. It need not be there.
    #[must_use]
    pub fn target(mut self, address: impl Into<String>) -> Options {
        self.targets.push(address.into());
        self
    }

    /// The label `job` of all series; `lab` unless said.
    #[must_use]
    pub fn job(mut self, name: &str) -> Options {
        name.clone_into(&mut self.job);
        self
    }

    /// Turns native histograms on: Prometheus then asks for protobuf.
    #[must_use]
    pub fn native_histograms(mut self) -> Options {
        self.native_histograms = true;
        self
    }

    /// Keeps exemplars.
    #[must_use]
    pub fn exemplars(mut self) -> Options {
        self.exemplars = true;
        self
    }

    /// Evaluates the rules of a file, besides those of others that were given. A relative path is relative to nothing of use.
    #[must_use]
    pub fn rules(mut self, file: impl Into<PathBuf>) -> Options {
        self.rules.push(file.into());
        self
    }

    /// How often rules are evaluated; as often as targets are scraped unless said.
    #[must_use]
    pub fn evaluation_interval(mut self, interval: Duration) -> Options {
        self.evaluation = interval;
        self
    }

    /// Sends alerts to an Alertmanager (`host:port`), and again after two seconds while they fire.
    #[must_use]
    pub fn alertmanager(mut self, address: impl Into<String>) -> Options {
        self.alertmanager = Some(address.into());
        self
    }

    /// Listens on a fixed port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Options {
        self.port = Some(port);
        self
    }

    /// The configuration file. Strings are in single quotes, in which YAML knows no escapes but the doubled quote.
    fn configuration(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let interval = format!("{}ms", self.interval.as_millis());
        let evaluation = format!("{}ms", self.evaluation.as_millis());
        let mut text = format!(
            "global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\n  evaluation_interval: {evaluation}\n"
        );
        if !self.rules.is_empty() {
            text.push_str("rule_files:\n");
        }
        for file in &self.rules {
            let _ = writeln!(text, "  - {}", quoted(&file.display().to_string()));
        }
        if let Some(address) = &self.alertmanager {
            let target = quoted(address);
            let _ = writeln!(text, "alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: [{target}]");
        }
        let job = quoted(&self.job);
        let _ = writeln!(text, "scrape_configs:\n  - job_name: {job}\n    static_configs:\n      - targets:");
        for target in &self.targets {
            let _ = writeln!(text, "          - {}", quoted(target));
        }
        text
    }
}

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    // Before the folder: the server first, then its data.
    server: Server,
    port: Port,
    folder: Scratch,
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels; the name of the metric is `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Its value; NaN if it is a native histogram, for which see [`Prometheus::query_json`].
    pub value: f64,
}

impl Prometheus {
    /// Starts one that scrapes `/metrics` of these targets (`host:port`) in this interval.
    pub async fn start<T: Into<String>>(
        targets: impl IntoIterator<Item = T>,
        interval: Duration,
    ) -> Result<Prometheus> {
        Prometheus::with(Options::new(targets, interval)).await
    }

    /// Starts one; it answers queries when this returns.
    pub async fn with(options: Options) -> Result<Prometheus> {
        let folder = Scratch::new()?;
        let port = options.port.map_or_else(Port::pick, Port::fixed)?;
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, options.configuration()).map_err(Error::io(file.display().to_string()))?;
        let mut launch = Launch::new("prometheus", binary::PROMETHEUS.find()?)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()))
            .log(folder.path().join("prometheus.log"));
        if options.alertmanager.is_some() {
            launch = launch.arg("--rules.alert.resend-delay=2s");
        }
        let features = [(options.native_histograms, "native-histograms"), (options.exemplars, "exemplar-storage")];
        for (_, feature) in features.iter().filter(|(wanted, _)| *wanted) {
            launch = launch.arg(format!("--enable-feature={feature}"));
        }
        let prometheus = Prometheus { server: launch.start()?, port, folder };
        prometheus.wait_ready().await?;
        Ok(prometheus)
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// A link to the graph of an expression over the last minutes.
    pub fn graph_url(&self, promql: &str) -> String {
        format!("{}/graph?g0.expr={}&g0.tab=0&g0.range_input=5m", self.url(), encode(promql))
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("prometheus.log")
    }

    /// Where it keeps its data and configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Evaluates an expression now.
    pub async fn query(&self, promql: &str) -> Result<Vec<Sample>> {
        let result = self.query_json(promql).await?;
        let unexpected = || Error::Unexpected(format!("not a vector: {promql}"));
        result.as_array().ok_or_else(unexpected)?.iter().map(|row| sample(row).ok_or_else(unexpected)).collect()
    }

    /// Evaluates an expression now; gives the `result` of the answer as it is.
    pub async fn query_json(&self, promql: &str) -> Result<Value> {
        let mut data = self.api(&format!("/api/v1/query?query={}", encode(promql))).await?;
        Ok(data["result"].take())
    }

    /// Asks the HTTP API; gives the `data` of the answer.
    pub async fn api(&self, path: &str) -> Result<Value> {
        let answer = http::get(&self.port.address(), path).await?;
        let unexpected = || Error::Unexpected(format!("{path}: status {}: {}", answer.status, answer.body.trim()));
        let mut body: Value = serde_json::from_str(&answer.body).map_err(|_| unexpected())?;
        if body["status"] != "success" {
            return Err(unexpected());
        }
        Ok(body["data"].take())
    }

    /// Waits until an expression gives something.
    pub async fn wait_for(&self, promql: &str) -> Result<Vec<Sample>> {
        until(&format!("a result of {promql}"), Duration::from_secs(30), async || match self.query(promql).await {
            Ok(samples) if samples.is_empty() => Err("nothing".to_owned()),
            Ok(samples) => Ok(samples),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    async fn wait_ready(&self) -> Result<()> {
        until("Prometheus to be ready", Duration::from_secs(30), async || {
            if let Err(error) = self.server.check_alive() {
                return Ok(Err(error));
            }
            match http::get(&self.port.address(), "/-/ready").await {
                Ok(answer) if answer.status == 200 => Ok(Ok(())),
                Ok(answer) => Err(format!("status {}", answer.status)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?
    }
}

fn sample(row: &Value) -> Option<Sample> {
    let labels = row["metric"].as_object()?.iter();
    let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    let value = match row.get("value") {
        Some(value) => value[1].as_str()?.parse().ok()?,
        None => f64::NAN,
    };
    Some(Sample { labels, value })
}
