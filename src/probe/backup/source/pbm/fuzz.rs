//! The readers of documents, callable without a server: for the fuzz target in `fuzz/` and for the test that feeds its seeds and
//! mutations of them.

use bson::raw::RawDocument;

use super::coverage::Coverage;
use super::documents::{self, Kind};
use crate::probe::backup::runs::Run;
use crate::settings::HostPort;

/// What all readers make of these bytes as a document: the runs, and whether any of them took it.
pub fn document(bytes: &[u8]) -> (Vec<Run>, bool) {
    let Ok(document) = RawDocument::from_bytes(bytes) else { return (Vec::new(), false) };
    let spell = |node: &str| Some(node.parse::<HostPort>().ok()?.to_string());
    let runs: Vec<_> = [Kind::Backups, Kind::Restores]
        .into_iter()
        .filter_map(|kind| documents::entry(document, kind, spell))
        .map(|entry| entry.run.trimmed())
        .collect();
    let mut coverage = Coverage::default();
    coverage.extend(documents::chunk(document));
    let is_lock = documents::lock(document, spell).is_some();
    let is_agent = documents::agent(document, spell).is_some();
    let says = documents::is_pitr_enabled(document) || documents::pitr_trouble(document).is_some();
    let totals = documents::totals(document);
    let is_taken = !runs.is_empty() || coverage.sets().next().is_some() || is_lock || is_agent || says || totals.0 > 0;
    (runs, is_taken)
}
