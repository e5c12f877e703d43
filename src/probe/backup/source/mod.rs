//! Where the runs of a job are learnt from: a file or folder for each source.

#[cfg(not(all(feature = "kubernetes", feature = "mongodb")))]
mod absent;
mod borg;
mod child;
mod directory;
mod earlier;
mod file;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod listed;
#[cfg(feature = "mongodb")]
pub mod pbm;
mod pgbackrest;
mod place;
mod restic;
mod s3;
mod selection;
mod textfile;
mod told;

pub(super) use self::s3::fuzz as fuzz_s3;
pub(super) use self::selection::fuzz as fuzz_manifest;
pub(super) use self::textfile::fuzz as fuzz_textfile;
#[cfg(not(feature = "kubernetes"))]
use absent as kubernetes;
#[cfg(not(feature = "mongodb"))]
use absent as pbm;
#[cfg(feature = "kubernetes")]
pub use kubernetes::fuzz as kubernetes_fuzz;

use std::time::Duration;

use tokio::time::Instant;

use super::runs::Seen;
use crate::label_values::label_values;
use crate::probe::{Failure, Shared};
use crate::settings::{Invalid, Item, Section, Value};

/// Reads a listing of a repository; the first byte says which tool's. Whether it is one. For the fuzz targets.
pub fn listing(bytes: &[u8]) -> bool {
    let Some((tool, mut rest)) = bytes.split_first() else { return false };
    match tool {
        b's' => restic::snapshots(&mut rest).is_ok(),
        b't' => restic::stats(&mut rest).is_ok(),
        b'b' => borg::answer(&mut rest).is_ok(),
        b'p' => {
            pgbackrest::answer(&mut rest).is_ok_and(|stanzas| stanzas.0.into_iter().all(|stanza| stanza.seen().is_ok()))
        }
        _ => false,
    }
}

label_values! {
    /// The sources, as `source = …` names them.
    pub enum Name {
        /// Percona Backup for MongoDB's collections.
        Pbm = "pbm",
        /// A command that `midwatch backup run` wraps.
        Exec = "exec",
        /// Messages over HTTP.
        Push = "push",
        /// Files of a directory.
        Directory = "directory",
        /// Objects of a bucket.
        S3 = "s3",
        /// A `.prom` file that a script leaves.
        Textfile = "textfile",
        /// A restic repository.
        Restic = "restic",
        /// A pgBackRest stanza.
        Pgbackrest = "pgbackrest",
        /// A Borg repository.
        Borg = "borg",
        /// Jobs and CronJobs.
        Kubernetes = "kubernetes",
    }
}

impl Value for Name {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let choices: Vec<_> = Self::ALL.iter().map(|name| (name.label(), *name)).collect();
        item.choice(&choices)
    }
}

impl Name {
    /// Whether it is about programs: started by the daemon, which is the main file's to decide, or wrapped by whoever runs them.
    fn is_for_the_main_file(self) -> bool {
        matches!(self, Self::Exec | Self::Restic | Self::Pgbackrest | Self::Borg)
    }
}

/// When a source is read, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'l> {
    /// By the wall clock, in unix seconds.
    pub now: f64,
    /// When the reading must be over.
    pub ends: Instant,
    /// The ids of the runs that went on when the source was read last, also before a restart.
    pub open: &'l [String],
}

/// How often a source is read that is expensive to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    pub interval: Duration,
    pub timeout: Duration,
}

impl Pace {
    /// Reads `listing_interval` and `listing_timeout` of those that list a repository.
    fn read(section: &mut Section<'_>) -> Self {
        Self::read_or(section, Duration::from_secs(3600))
    }

    /// The same with another interval for those who name none.
    fn read_or(section: &mut Section<'_>, default: Duration) -> Self {
        let interval = section.checked("listing_interval", |interval: &Duration| {
            let good = (Duration::from_secs(5)..=Duration::from_secs(31 * 86_400)).contains(interval);
            if good { Ok(()) } else { Err("must be from 5s to 31d".to_owned()) }
        });
        let timeout = section.checked("listing_timeout", |timeout: &Duration| {
            if *timeout >= Duration::from_secs(1) { Ok(()) } else { Err("must be at least 1s".to_owned()) }
        });
        let interval = interval.unwrap_or(default);
        let timeout = timeout.unwrap_or(Duration::from_secs(300).min(interval * 4 / 5));
        if timeout >= interval {
            section.problem(Some("listing_timeout"), "`listing_timeout`: must be shorter than `listing_interval`");
        }
        Self { interval, timeout }
    }
}

/// How the keys of a source say when it is read.
trait Paced {
    /// How often it is read, if that is not as often as the probe runs.
    fn pace(&self) -> Option<Pace> {
        None
    }
}

/// What a source does beside being read.
trait Attended {
    /// Listens or watches, beside the readings.
    fn serve(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// See [`Probe::concerns`](crate::probe::Probe::concerns).
    fn concerns(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Declares the sources that are read: for each its variant and its module, with a `Config` and a `Reader` in it.
macro_rules! sources {
    ($($variant:ident => $module:ident),* $(,)?) => {
        /// The keys of a source.
        #[derive(Debug, PartialEq)]
        pub(super) enum Config { $($variant($module::Config)),* }

        /// What reads a source.
        #[allow(clippy::large_enum_variant, reason = "one for each job, for its life")]
        pub(super) enum Source { $($variant($module::Reader)),* }

        impl Config {
            /// Reads `source` and its keys.
            pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
                let name = section.required::<Name>("source");
                let Some(name) = name else {
                    section.ignore_rest();
                    return None;
                };
                if name.is_for_the_main_file() && !section.is_main() {
                    let why = if matches!(name, Name::Exec) { "" } else { ", because it starts programs" };
                    let problem = format!("`source`: \"{}\" is for the main file only{why}", name.label());
                    section.problem(Some("source"), problem);
                }
                match name { $(Name::$variant => $module::Config::read(section).map(Self::$variant)),* }
            }

            /// Its name.
            pub(super) fn name(&self) -> Name {
                match self { $(Self::$variant(_) => Name::$variant),* }
            }

            /// How often it is read, if that is not as often as the probe runs.
            pub(super) fn pace(&self) -> Option<Pace> {
                match self { $(Self::$variant(config) => config.pace()),* }
            }
        }

        impl Source {
            /// No I/O.
            ///
            /// # Errors
            /// What is wrong with the configuration, in words.
            pub(super) fn new(config: &Config, job: &str, shared: &Shared) -> Result<Self, String> {
                Ok(match config { $(Config::$variant(config) => Self::$variant($module::Reader::new(config, job, shared)?)),* })
            }

            /// What it holds now.
            ///
            /// # Errors
            /// Why it cannot be read; then what was read before goes on to hold.
            pub(super) async fn read(&self, look: Look<'_>) -> Result<Seen, Failure> {
                match self { $(Self::$variant(reader) => reader.read(look).await),* }
            }

            /// Listens or watches, beside the readings.
            pub(super) async fn serve(&self) {
                match self { $(Self::$variant(reader) => reader.serve().await),* }
            }

            /// See [`Probe::concerns`](crate::probe::Probe::concerns).
            pub(super) fn concerns(&self) -> Vec<String> {
                match self { $(Self::$variant(reader) => reader.concerns()),* }
            }
        }
    };
}

impl Config {
    /// The keys of a job whose runs are told.
    pub(super) fn told(&self) -> Option<&told::Config> {
        match self {
            Self::Exec(config) | Self::Push(config) => Some(config),
            _ => None,
        }
    }
}

sources! {
    Pbm => pbm,
    Exec => told,
    Push => told,
    Directory => directory,
    S3 => s3,
    Textfile => textfile,
    Restic => restic,
    Pgbackrest => pgbackrest,
    Borg => borg,
    Kubernetes => kubernetes,
}
