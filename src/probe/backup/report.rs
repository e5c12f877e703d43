//! What is known of a job, for a person.

use super::books::Books;
use super::config::Config;
use super::runs::Seen;

/// The job's last runs and what its source holds.
pub(super) fn job(_config: &Config, _books: &Books, _held: Option<&Seen>, _now: f64) -> String {
    String::new()
}
