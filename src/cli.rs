//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
  MIDWATCH_CONFIG=midwatch.toml midwatch run --log-format json")]
    Run {
        /// The configuration.
        #[arg(short, long, value_name = "FILE", env = "MIDWATCH_CONFIG")]
        config: PathBuf,
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
