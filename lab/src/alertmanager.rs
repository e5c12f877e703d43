//! A real Alertmanager, to see what people are told of what a real Prometheus finds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::ports::Port;
use crate::process::{Launch, Scratch, Server};
use crate::{Error, Result, binary, http, until};

/// A running Alertmanager, alone: it looks for no others.
#[derive(Debug)]
pub struct Alertmanager {
    // Before the folder: the server first, then its data.
    server: Server,
    port: Port,
    folder: Scratch,
}

/// An alert that it knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its labels; the name is `alertname`.
    pub labels: BTreeMap<String, String>,
    /// Whether another one keeps it from being told.
    pub is_inhibited: bool,
}

impl Alertmanager {
    /// Starts one with that configuration; it takes alerts when this returns.
    pub async fn start(configuration: &str) -> Result<Alertmanager> {
        Alertmanager::start_at(configuration, Port::pick()?).await
    }

    /// The same on a given port.
    pub async fn start_at(configuration: &str, port: Port) -> Result<Alertmanager> {
        let folder = Scratch::new()?;
        let file = folder.path().join("alertmanager.yml");
        fs::write(&file, configuration).map_err(Error::io(file.display().to_string()))?;
        let server = Launch::new("alertmanager", binary::ALERTMANAGER.find()?)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()))
            .arg("--cluster.listen-address=")
            .log(folder.path().join("alertmanager.log"))
            .start()?;
        let alertmanager = Alertmanager { server, port, folder };
        alertmanager.wait_ready().await?;
        Ok(alertmanager)
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("alertmanager.log")
    }

    /// What fires now, told or not.
    pub async fn alerts(&self) -> Result<Vec<Known>> {
        let path = "/api/v2/alerts";
        let answer = http::get(&self.port.address(), path).await?;
        let unexpected = || Error::Unexpected(format!("{path}: status {}: {}", answer.status, answer.body.trim()));
        let body: Value = serde_json::from_str(&answer.body).map_err(|_| unexpected())?;
        let alerts = body.as_array().ok_or_else(unexpected)?.iter();
        Ok(alerts.map(known).collect())
    }

    async fn wait_ready(&self) -> Result<()> {
        until("Alertmanager to be ready", Duration::from_secs(30), async || {
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

fn known(alert: &Value) -> Known {
    let labels = alert["labels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    let inhibitors = alert["status"]["inhibitedBy"].as_array();
    Known { labels, is_inhibited: inhibitors.is_some_and(|by| !by.is_empty()) }
}
