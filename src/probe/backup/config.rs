//! The keys of `[probe.backup.<job>]`.

use std::time::Duration;

use super::runs::Seen;
use super::schedule::{GRACE, Schedule};
use super::source::{self, Name};
use crate::settings::{Section, Settings};

/// After so long a run that does not end counts as lost, unless the configuration says otherwise.
const LONGEST: Duration = Duration::from_secs(2 * 86_400);

/// The keys of a job.
#[derive(Debug, PartialEq)]
pub struct Config {
    /// The job's name.
    pub(super) job: String,
    /// Where runs are learnt from.
    pub(super) source: source::Config,
    /// When they are to be.
    pub(super) schedule: Option<Schedule>,
    /// How much later than due a run may begin, in seconds.
    pub(super) grace: f64,
    /// After how many seconds a run that does not end counts as lost.
    pub(super) longest: f64,
    /// Where runs are, unless the source knows better.
    pub(super) node: Option<String>,
    /// For a restore test, the job whose backups it restores.
    pub(super) restores: Option<String>,
}

impl Config {
    /// When runs are to be: what the configuration says, or else what the source has told.
    pub(super) fn schedule(&self, held: Option<&Seen>) -> Option<Schedule> {
        let told = || Some(held?.schedule.clone()?.within(self.grace));
        self.schedule.clone().or_else(told)
    }

    /// Whose history the job's runs are. Commands and messages are told in the same way, and a cluster's restores are others than its
    /// backups.
    pub(super) fn history(&self) -> &'static str {
        match self.source.name() {
            Name::Exec | Name::Push => "told",
            Name::Pbm if self.restores.is_some() => "pbm restores",
            name => name.label(),
        }
    }
}

impl Settings for Config {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let job = section.path().strip_prefix("probe.backup.").unwrap_or_default().to_owned();
        let written = section.checked("grace", |grace: &Duration| {
            let good = (Duration::from_secs(1)..=Duration::from_secs(31 * 86_400)).contains(grace);
            if good { Ok(()) } else { Err("must be from 1s to 31d".to_owned()) }
        });
        let grace = written.unwrap_or(GRACE).as_secs_f64();
        let schedule = Schedule::read(section, grace);
        let longest = section.checked("max_duration", |longest: &Duration| {
            let good = (Duration::from_secs(60)..=Duration::from_secs(31 * 86_400)).contains(longest);
            if good { Ok(()) } else { Err("must be from 1m to 31d".to_owned()) }
        });
        let node = section.checked("node", |node: &String| is_node(node));
        let restores = section.checked("restores", |restores: &String| {
            let good = is_node(restores).is_ok() && *restores != job;
            if good { Ok(()) } else { Err("must be the name of another job".to_owned()) }
        });
        let source = source::Config::read(section);
        let longest = longest.unwrap_or(LONGEST).as_secs_f64();
        let source = source?;
        let rarely = source.pace().map_or(0.0, |pace| pace.interval.as_secs_f64());
        if schedule.is_some() && written.is_some() && grace < rarely {
            let problem =
                "`grace`: must not be shorter than `listing_interval`: a run that began in time is seen so late";
            section.problem(Some("grace"), problem);
        }
        let grace = grace.max(rarely);
        let schedule = schedule.map(|schedule| schedule.within(grace));
        Some(Self { job, source, schedule, grace, longest, node, restores })
    }
}

/// Whether it can be a node's name.
///
/// # Errors
/// Why not.
pub fn is_node(node: &str) -> Result<(), String> {
    let good = !node.is_empty() && node.len() <= 256 && !node.chars().any(char::is_control);
    if good { Ok(()) } else { Err("must have 1 to 256 bytes, without control characters".to_owned()) }
}
