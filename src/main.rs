//! The program: reads the command line, starts logging, runs one command, and turns its result into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use midwatch::app::{self, Error, Log};
use midwatch::cli::{Backup, Cli, Command};

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
        Ok(Done::As(code)) => code,
        Ok(Done::Printed(text, success)) => {
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

/// What came of a command.
enum Done {
    /// What to print, and whether what was asked for succeeded.
    Printed(String, bool),
    /// How another command ended.
    As(ExitCode),
}

fn execute(cli: Cli) -> Result<Done, Error> {
    let is_wrapper = matches!(cli.command, Command::Backup { what: Backup::Run(_) });
    // Standard error is the wrapped command's.
    let level = cli.log_level.as_deref().or(is_wrapper.then_some("warn"));
    let log = Log::start(cli.log_format, level).map_err(Error::Usage)?;
    let good = |text| Done::Printed(text, true);
    match cli.command {
        Command::Run { config, sharding } => block_on(app::run(&config, &sharding, &log)).map(|()| good(String::new())),
        Command::Check { files, without_secrets } => app::check(&files, without_secrets).map(good),
        Command::Probe { kind, name, config } => {
            block_on(app::probe(&kind, &name, &config)).map(|(text, success)| Done::Printed(text, success))
        }
        Command::Backup { what: Backup::Run(wrap) } => app::backup::wrap(*wrap).map(Done::As),
        Command::Backup { what: Backup::List { names, config, shard } } => {
            app::backup::list(&config, &names, shard).map(|(text, success)| Done::Printed(text, success))
        }
        Command::Metrics { config } => app::metrics(config.as_deref()).map(good),
    }
}

/// How long threads that hang are waited for at the end.
const END: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs to the end on a runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(future);
    // Tasks are dropped, which ends what they started. A load that hangs on a file is not waited for longer.
    runtime.shutdown_timeout(END);
    result
}
