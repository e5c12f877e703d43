//! Wires configuration, scheduler and HTTP server together, and shuts them down.

pub mod backup;
mod log;
mod metrics;
mod notify;
mod once;
mod reload;
mod report;
mod runs;
mod shards;
mod site;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::catalog;
use crate::cli::Sharding;
use crate::config::{Loader, Watcher};
use crate::http;
use crate::probe::{KINDS, Shared};
use crate::settings::Problems;

pub use log::Log;
pub use once::probe;

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has problems, or the command line names what is not there.
    Usage(String),
    /// Something failed.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(text.trim_end()),
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::Usage(problems.to_string())
    }
}

/// Watches until a signal ends it.
///
/// # Errors
/// The configuration is refused, or an address cannot be listened on; the command line does not say which shard this is.
pub async fn run(config: &Path, sharding: &Sharding, log: &Log) -> Result<(), Error> {
    // Systems start with few, because programs that use select() can handle no more. If there cannot be more, there are few.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let (watcher, requests) = Watcher::new(reload::POLL);
    let stop = stop_signal()?;
    let (daemon, first) = reload::Daemon::start(config, sharding, log).await?;
    let server =
        http::Server::bind(first.listen, first.admin_listen).await.map_err(|error| Error::Failed(error.to_string()))?;
    let server = server.with_protection(daemon.protection());
    let site = Arc::new(site::Site::new(Arc::clone(daemon.status()), requests));
    tracing::info!(address = %first.listen, version = env!("CARGO_PKG_VERSION"), "watching");
    let serving = tokio::spawn(server.run(site, stopped(stop.clone()), first.shutdown_grace));
    notify::ready(daemon.probes());
    tokio::spawn(notify::stay_alive());
    tokio::select! {
        () = daemon.follow(watcher) => {}
        () = stopped(stop) => {}
    }
    // The probes have ended with the daemon: their runs were dropped, and with them their connections.
    tracing::info!("stopping");
    notify::stopping();
    serving.await.map_err(|error| Error::Failed(error.to_string()))
}

/// Becomes true at SIGTERM or SIGINT. A second one ends the process at once: who sends it does not want to wait for
/// responses in flight.
fn stop_signal() -> Result<watch::Receiver<bool>, Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot receive signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                sender.send_replace(true);
            }
        }
        tracing::warn!("a second signal, ending at once");
        std::process::exit(1);
    });
    Ok(receiver)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender lives until the signal came.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Finds every problem of the given configurations.
///
/// # Errors
/// The problems, one a line.
pub fn check(files: &[std::path::PathBuf], without_secrets: bool) -> Result<String, Error> {
    let (mut found, mut good) = (String::new(), String::new());
    for file in files {
        match Loader::check(file, KINDS, &Shared::default(), without_secrets) {
            Ok(config) => {
                for (probe, concern) in &config.concerns {
                    good.push_str(&format!("{}: warning: probe.{probe}: {concern}\n", file.display()));
                }
                good.push_str(&format!("{}: no problems, probes: {}\n", file.display(), config.probes.len()));
            }
            Err(problems) => found.push_str(&problems.to_string()),
        }
    }
    if found.is_empty() { Ok(good) } else { Err(Error::Usage(found)) }
}

/// The catalogue of all metrics, or what a configuration will cost.
///
/// # Errors
/// The configuration has problems.
pub fn metrics(config: Option<&Path>) -> Result<String, Error> {
    let Some(file) = config else { return Ok(catalog::markdown()) };
    let config = Loader::check(file, KINDS, &Shared::default(), true)?;
    let costs: Vec<_> = config.probes.iter().map(|spec| (spec.id.to_string(), catalog::predict(spec))).collect();
    let width = costs.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("total".len());
    let mut text = format!("{:<width$}  {:>10}  {:>12}\n", "probe", "series", "bytes");
    let mut total = catalog::Cost::default();
    for (name, cost) in &costs {
        text.push_str(&format!("{name:<width$}  {:>10}  {:>12}\n", cost.series, cost.bytes));
        total.series += cost.series;
        total.bytes += cost.bytes;
    }
    text.push_str(&format!("{:<width$}  {:>10}  {:>12}\n", "total", total.series, total.bytes));
    Ok(text)
}
