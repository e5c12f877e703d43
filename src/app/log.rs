//! Logging: text or JSON on standard error, with a level that a reload can change.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use crate::cli::LogFormat;

/// What is logged unless somebody says otherwise.
const DEFAULT: &str = "info";

/// Who is not heard, whatever the level: these log whole answers of a peer. What went wrong, the probe says.
const QUIET: [&str; 2] = ["kube_client=off", "kube_runtime=off"];

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    /// The command line's level wins over the configuration's.
    fixed: bool,
}

impl Log {
    /// Starts logging for the whole process.
    ///
    /// # Errors
    /// The level is no filter, or something logs already.
    pub fn start(format: LogFormat, level: Option<&str>) -> Result<Self, String> {
        let (filter, handle) = reload::Layer::new(parse(level.unwrap_or(DEFAULT))?);
        // A line that cannot be written is nothing to panic about, which is what saying so would end in.
        let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let registry = tracing_subscriber::registry().with(filter);
        let started = match format {
            LogFormat::Text => registry.with(lines.with_ansi(colour)).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        started.map_err(|error| error.to_string())?;
        // A panic is a line of the log like any other, whatever the format; whoever isolated it says what became of it.
        std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
        Ok(Self { filter: handle, fixed: level.is_some() })
    }

    /// Applies the configuration's level; without one, the default.
    pub fn set_level(&self, level: Option<LevelFilter>) {
        if self.fixed {
            return;
        }
        let level = level.map_or_else(|| DEFAULT.to_owned(), |level| level.to_string());
        let applied = parse(&level).and_then(|filter| self.filter.reload(filter).map_err(|error| error.to_string()));
        if let Err(problem) = applied {
            tracing::error!(problem, "cannot change the log level");
        }
    }
}

fn parse(level: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::try_new(level)
        .map_err(|_| "the log level is neither a level nor a filter such as midwatch=debug".to_owned())?;
    QUIET.iter().try_fold(filter, |filter, quiet| {
        let directive = quiet.parse().map_err(|_| format!("{quiet} is no filter"))?;
        Ok(filter.add_directive(directive))
    })
}
