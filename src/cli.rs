//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::settings::HttpUrl;
use crate::shard::Wanted;

/// Keeps the night watch over a platform: probes it around the clock and exposes what it measured to Prometheus.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
Examples:
  midwatch run --config midwatch.toml              watch, and answer on the address in [server] listen
  midwatch check midwatch.toml                     find every problem of a configuration
  midwatch probe mongodb orders -c midwatch.toml   one run now, phase by phase
  midwatch backup run nightly -c midwatch.toml -- mongodump …   run a backup, and tell of it
  midwatch metrics --config midwatch.toml          what the configuration will cost in series and bytes

Exit codes: 0 success, 1 failure, 64 wrong usage or configuration."
)]
pub struct Cli {
    /// How log lines are written.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as midwatch=debug. Overrides the configuration's log_level.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: an object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watches until it is told to stop (SIGTERM, SIGINT); SIGHUP reads the configuration anew.
    #[command(after_help = "\
Examples:
  midwatch run --config midwatch.toml
  MIDWATCH_CONFIG=midwatch.toml midwatch run --log-format json
  midwatch run -c midwatch.toml --shard 0/3        the first of three that have the probes between them
  midwatch run -c midwatch.toml --shard auto/3     the same in a StatefulSet: midwatch-0 is the first")]
    Run {
        /// The configuration.
        #[arg(short, long, value_name = "FILE", env = "MIDWATCH_CONFIG")]
        config: PathBuf,
        /// Which of several replicas this is.
        #[command(flatten)]
        sharding: Sharding,
    },
    /// Finds every problem of one or more configurations, without any I/O to targets.
    #[command(after_help = "\
Examples:
  midwatch check midwatch.toml
  midwatch check --without-secrets deploy/*.toml   in a pipeline

Exit codes: 0 no problems, 64 problems, one a line: file:line:column: what is wrong.")]
    Check {
        /// The configurations.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Do not read secret files and environment variables, which do not exist where a pipeline checks.
        #[arg(long)]
        without_secrets: bool,
    },
    /// Runs one probe once, now, and prints what happened phase by phase. Exits with 1 if the run failed.
    #[command(after_help = "\
Examples:
  midwatch probe mongodb orders --config midwatch.toml")]
    Probe {
        /// The probe's type.
        #[arg(value_name = "TYPE")]
        kind: String,
        /// The probe's name.
        name: String,
        /// The configuration.
        #[arg(short, long, value_name = "FILE", env = "MIDWATCH_CONFIG")]
        config: PathBuf,
    },
    /// Wraps the command of a backup, or lists the last runs of backups.
    Backup {
        /// Which of them.
        #[command(subcommand)]
        what: Backup,
    },
    /// Lists every metric; with --config, predicts the series and bytes of each probe.
    #[command(after_help = "\
Examples:
  midwatch metrics                          every metric, as in docs/METRICS.md
  midwatch metrics --config midwatch.toml   series, and bytes of a scrape, for each probe")]
    Metrics {
        /// The configuration to predict for.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Runs a command as if it were run without midwatch, and tells the daemon how long it took and how it ended.
    #[command(after_help = "\
Examples:
  midwatch backup run nightly --config midwatch.toml -- mongodump --archive=/backup/nightly.gz --gzip
  midwatch backup run nightly -c midwatch.toml --size-of /backup/nightly.gz -- mongodump --archive=/backup/nightly.gz --gzip
  midwatch backup run nightly -c midwatch.toml -- sh -c 'mongodump --archive | zstd > /backup/nightly.zst'
  midwatch backup run nightly --url https://midwatch.example.net:9817/ping/nightly --token-file token -- ./backup.sh

The command gets input, output, environment and signals as they are. A daemon that is down, slow or refuses the message changes
nothing for it: then a record is left in the spool, <state_dir>/spool, from where the daemon takes it.

Exit codes: those of the command, death by a signal included; 127 if it is not found, 126 if it cannot be run, 64 wrong usage.")]
    Run(Box<Wrap>),
    /// Lists the last runs of backup jobs, from what the daemon has written down.
    #[command(after_help = "\
Examples:
  midwatch backup list --config midwatch.toml           all jobs
  midwatch backup list nightly --config midwatch.toml   one of them

For each job: the last run and the last success, what goes on and since when, when the next run is due or the last one was missed, how
many runs were counted by outcome, the last 15 runs (when each began, how long it took, its size, outcome, node and first words), the end of
what the last one said if it failed, and what the source held when the daemon read it last. Times are UTC. Nothing is asked of the
source: midwatch probe backup NAME does that. Records that wait in the spool for jobs that are not configured are named.

Exit codes: 0 listed, however the runs ended; 1 the journal or the spool cannot be read (all that can be is printed); 64 wrong usage, a
configuration with problems, or no such job.")]
    List {
        /// The jobs; all of them if there is none.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// The configuration.
        #[arg(short, long, value_name = "FILE", env = "MIDWATCH_CONFIG")]
        config: PathBuf,
        /// Which shard's state directory this is; see `midwatch run`.
        #[arg(long, value_name = "I/N", env = "MIDWATCH_SHARD")]
        shard: Option<Wanted>,
    },
}

/// Which of several replicas this is.
#[derive(Debug, Args)]
pub struct Sharding {
    /// Runs a share of the probes only: shard I of N, counted from 0, or auto/N for the number at the end of the host name.
    #[arg(long, value_name = "I/N", env = "MIDWATCH_SHARD")]
    pub shard: Option<Wanted>,
    /// Where the other shards are, with {shard} for their number: messages about backup jobs of theirs are handed on to them, such as
    /// http://midwatch-{shard}.midwatch-headless.monitoring.svc:9817. Without it, they are refused.
    #[arg(long, value_name = "URL", env = "MIDWATCH_PEERS")]
    pub peers: Option<String>,
}

/// A command to be wrapped.
#[derive(Debug, Args)]
pub struct Wrap {
    /// The job's name: that of [probe.backup.NAME].
    pub name: String,
    /// The daemon's configuration, which says where it listens and where its state is.
    #[arg(short, long, value_name = "FILE", env = "MIDWATCH_CONFIG", required_unless_present = "url")]
    pub config: Option<PathBuf>,
    /// Where to tell of the run, instead of what the configuration says: http://HOST:PORT/ping/NAME or …/ping/TOKEN.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub url: Option<HttpUrl>,
    /// Where the command runs, spelled as the MongoDB probe's member. Default: `node` of the job.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// A file or directory whose size is that of the backup, once it is done. May be given several times.
    #[arg(long, value_name = "PATH")]
    pub size_of: Vec<PathBuf>,
    /// A file with the token for --url. Default: the variable MIDWATCH_TOKEN, or none if the URL holds it.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
    /// Where a record is left, instead of the spool of the configuration's state directory.
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

fn http_url(text: &str) -> Result<HttpUrl, String> {
    let url = HttpUrl::parse(text).ok_or("expected a URL such as https://midwatch.example.net:9817/ping/nightly")?;
    if url.path.contains('?') { Err("the URL must have no query".to_owned()) } else { Ok(url) }
}
