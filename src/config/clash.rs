//! Labels that an operator chooses must not be labels that a metric has itself: a series would have the name twice, and
//! Prometheus refuses the whole scrape. All of this is derived from the lists of metrics.

use std::collections::BTreeMap;

use crate::metrics::Desc;
use crate::probe::Kind;
use crate::scheduler::{process_metrics, verdict};
use crate::settings::{RESERVED_LABELS, Section};

/// Reports the names of `[labels]` that metrics of the process, of every probe, or of one of these types have.
pub(super) fn in_all(root: &mut Section<'_>, kinds: &[&'static Kind]) {
    for (name, offset) in names(root) {
        if has(process_metrics(), name) || has(verdict::METRICS.iter().copied(), name) {
            root.problem_at(offset, format!("`labels`: `{name}`: metrics of midwatch have this label themselves"));
        } else if let Some(kind) = kinds.iter().find(|kind| of_probes(kind, name)) {
            root.problem_at(offset, format!("`labels`: `{name}`: {}", themselves(kind)));
        }
    }
}

/// Reports the names of a probe's own `labels` that metrics of its type, or of every probe, have.
pub(super) fn in_probe(section: &mut Section<'_>, kind: &Kind) {
    for (name, offset) in names(section) {
        if of_probes(kind, name) {
            section.problem_at(offset, format!("`labels`: `{name}`: {}", themselves(kind)));
        }
    }
}

/// Reports in an included file, at the table of a type, what clashes with the main file's `[labels]`: the main file
/// need not know which types its included files will use.
pub(super) fn in_included(section: &mut Section<'_>, kind: &Kind, inherited: &BTreeMap<String, String>) {
    for name in inherited.keys().filter(|name| of_probes(kind, name)) {
        section.problem(None, format!("[labels] of the main file holds `{name}`: {}", themselves(kind)));
    }
}

/// The names that are not refused for what they are anyway.
fn names<'a>(section: &Section<'a>) -> impl Iterator<Item = (&'a str, usize)> + use<'a> {
    section.names("labels").into_iter().filter(|(name, _)| !RESERVED_LABELS.contains(name))
}

fn of_probes(kind: &Kind, name: &str) -> bool {
    has(verdict::METRICS.iter().chain(kind.metrics).copied(), name)
}

fn has(metrics: impl IntoIterator<Item = &'static Desc>, name: &str) -> bool {
    metrics.into_iter().any(|metric| metric.labels.contains(&name))
}

fn themselves(kind: &Kind) -> String {
    format!("metrics of probe type `{}` have this label themselves", kind.name)
}
