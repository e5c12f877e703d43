//! `[server]`: what concerns the process as a whole.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::web::Web;
use crate::settings::{FileContent, Invalid, Item, Section, Value};

/// The table `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where /metrics is served.
    pub listen: SocketAddr,
    /// Where reload, configuration, runs and pushes are served, if not at `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// Where state is kept; `None` when there is no place for it.
    pub state_dir: Option<PathBuf>,
    /// Whether OpenMetrics tells when counters and histograms came into being, in a series more for each of them.
    pub openmetrics_created: bool,
    /// What is logged; `None` leaves it to the command line.
    pub log_level: Option<LevelFilter>,
    /// How long HTTP responses in flight may take to end after SIGTERM. Runs in flight are given up at once.
    pub shutdown_grace: Duration,
    /// How the endpoint is protected; `None` if it is not.
    pub web: Option<Arc<Web>>,
    /// The file that says so.
    pub(crate) web_config_file: Option<FileContent>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9817)),
            admin_listen: None,
            state_dir: default_state_dir(),
            openmetrics_created: false,
            log_level: None,
            shutdown_grace: Duration::from_secs(5),
            web: None,
            web_config_file: None,
        }
    }
}

impl Server {
    /// Reads the table, but not yet what the web configuration file says, which is a file with problems of its own.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let at_most = |value: &Duration| {
            if *value <= Duration::from_secs(3600) { Ok(()) } else { Err("must be at most 1h".to_owned()) }
        };
        let server = Self {
            listen: section.or("listen", default.listen),
            admin_listen: section.optional("admin_listen"),
            state_dir: section.optional("state_dir").or(default.state_dir),
            openmetrics_created: section.or("openmetrics_created", default.openmetrics_created),
            log_level: section.optional::<Level>("log_level").map(|level| level.0),
            shutdown_grace: section.checked("shutdown_grace", at_most).unwrap_or(default.shutdown_grace),
            web: None,
            web_config_file: section.optional("web_config_file"),
        };
        if server.admin_listen == Some(server.listen) && server.listen.port() != 0 {
            section.problem(Some("admin_listen"), "`admin_listen`: must differ from `listen`");
        }
        server
    }
}

struct Level(LevelFilter);

impl Value for Level {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("trace", LevelFilter::TRACE),
        ])
        .map(Self)
    }
}

/// systemd's `StateDirectory=`, then the XDG state directory.
fn default_state_dir() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("STATE_DIRECTORY")
        .or_else(|| absolute("XDG_STATE_HOME").map(|dir| dir.join("midwatch")))
        .or_else(|| absolute("HOME").map(|dir| dir.join(".local/state/midwatch")))
}
