//! The lab on the command line: `make demo`, and helpers beside it.

mod demo;

use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use lab::load::Hog;
use lab::mongodb::ReplicaSet;
use lab::vpn::{Implementation, Network, WireguardServer};
use lab::{Error, Result, process};
use tokio::signal::unix::{SignalKind, signal};

/// Starts real servers on this machine, and midwatch to watch them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A MongoDB replica set, midwatch, and a Prometheus that scrapes it, until Ctrl-C.
    Demo {
        /// The midwatch program.
        #[arg(long)]
        midwatch: PathBuf,
        /// Its configuration; says on which ports the replica set is to listen.
        #[arg(long)]
        config: PathBuf,
    },
    /// The night that midwatch exists for, in some minutes: a backup starves a member, and an alert names both. Ends by itself.
    DemoNight {
        /// The midwatch program.
        #[arg(long)]
        midwatch: PathBuf,
        /// The folder of the alerting rules.
        #[arg(long, default_value = "alerts")]
        alerts: PathBuf,
    },
    /// Compressors that compete with a process for one CPU, until Ctrl-C: what a backup does to a database.
    Hog {
        /// The process to starve.
        #[arg(long)]
        pid: u32,
        /// How many compressors.
        #[arg(long, default_value_t = 8)]
        count: usize,
        /// The CPU that the process and the compressors are confined to.
        #[arg(long, default_value_t = 0)]
        cpu: usize,
    },
    /// Starts servers, one of them frozen, prints their process ids and waits. For the test that kills the lab.
    #[command(hide = true)]
    Hold { what: Held },
}

#[derive(Clone, Copy, ValueEnum)]
enum Held {
    Mongodb,
    Vpn,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Whatever is running is dropped with its future, and dropping it ends it.
    let outcome = tokio::select! {
        outcome = run(arguments.command) => outcome,
        outcome = interrupted() => outcome,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "lab: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { midwatch, config } => demo::run(&midwatch, &config).await,
        Command::DemoNight { midwatch, alerts } => lab::night::run(&midwatch, &alerts, &mut say).await,
        Command::Hog { pid, count, cpu } => {
            process::pin(pid, cpu)?;
            let _hog = Hog::start(count, cpu)?;
            say(&format!("{count} compressors compete with process {pid} for CPU {cpu}. Ctrl-C ends them."))?;
            std::future::pending().await
        }
        Command::Hold { what: Held::Mongodb } => {
            let set = ReplicaSet::start(3).await?;
            set.freeze(2)?;
            for member in 0..3 {
                say(&format!("pid {}", set.pid(member)?))?;
            }
            say(&format!("folder {}", set.folder().display()))?;
            say("ready")?;
            std::future::pending().await
        }
        Command::Hold { what: Held::Vpn } => {
            let network = Network::new()?;
            let server = WireguardServer::start(&network.server, Implementation::Go).await?;
            server.freeze()?;
            say(&format!("pid {}", server.pid()?))?;
            for namespace in [&network.server, &network.client] {
                say(&format!("folder {}", namespace.path().display()))?;
            }
            say("ready")?;
            std::future::pending().await
        }
    }
}

/// Returns when somebody wants this to end.
async fn interrupted() -> Result<()> {
    let what = "waiting for signals";
    let io = |source| Error::Io { what: what.to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome.map_err(io),
        _ = terminate.recv() => Ok(()),
    }
}

/// Prints a line at once, for a person or for a test that reads it from a pipe.
fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|source| Error::Io { what: "printing".to_owned(), source })
}
