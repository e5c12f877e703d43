//! The program: reads the command line, starts logging, runs one command, and turns its result into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use midwatch::app::{self, Error, Log};
use midwatch::cli::{Cli, Command};

/// The exit code for wrong usage or configuration (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, but not to a person.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match execute(cli) {
        Ok((text, success)) => {
            let mut out = std::io::stdout();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                // A reader that has gone, such as `head`, is no failure.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    let _ = writeln!(std::io::stderr(), "cannot write the output: {error}");
                    ExitCode::FAILURE
                }
                _ if success => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            match error {
                Error::Usage(_) => ExitCode::from(USAGE),
                Error::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// What to print, and whether what was asked for succeeded.
fn execute(cli: Cli) -> Result<(String, bool), Error> {
    let log = Log::start(cli.log_format, cli.log_level.as_deref()).map_err(Error::Usage)?;
    match cli.command {
        Command::Run { config } => block_on(app::run(&config, &log)).map(|()| (String::new(), true)),
        Command::Check { files, without_secrets } => app::check(&files, without_secrets).map(|text| (text, true)),
        Command::Probe { kind, name, config } => block_on(app::probe(&kind, &name, &config)),
        Command::Metrics { config } => app::metrics(config.as_deref()).map(|text| (text, true)),
    }
}

/// Runs to the end on a runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(future);
    // A load that hangs on a file is not waited for.
    runtime.shutdown_background();
    result
}
