//! `midwatch probe`: one run now, beside a daemon that may be running.

use std::path::Path;

use super::Error;
use super::report::{self, Report};
use crate::config::{Config, Loaded, Loader};
use crate::probe::{KINDS, Shared};
use crate::scheduler::{Run, run_once};

/// Runs every cycle of a probe once and reports it. The second value says whether the run succeeded.
///
/// # Errors
/// The configuration has problems, or has no such probe.
pub async fn probe(kind: &str, name: &str, config: &Path) -> Result<(String, bool), Error> {
    let config = load(config, &Shared::default(), false)?;
    let spec = config.probes.iter().find(|spec| spec.id.kind == kind && *spec.id.name == *name);
    let Some(spec) = spec else {
        let known: Vec<_> = config.probes.iter().map(|spec| format!("{} {}", spec.id.kind, spec.id.name)).collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has: {}", known.join(", ")) };
        return Err(Error::Usage(format!("the configuration has no enabled probe {kind} {name}; {known}")));
    };
    let mut runs = Vec::new();
    for cycle in spec.probe.cycles() {
        runs.push((cycle.name, run_once(spec, cycle).await));
    }
    let good = runs.iter().all(|(_, run)| run.succeeded(spec.common.require));
    let title = format!("{kind} {name}");
    let mut text = match &runs[..] {
        [(_, run)] => report_of(&title, run).render(),
        runs => report::cycles(&title, runs.iter().map(|(cycle, run)| (*cycle, report_of(&title, run)))),
    };
    text.push_str(&spec.probe.story());
    for (_, concern) in config.concerns.iter().filter(|(id, _)| *id == spec.id) {
        text.push_str(&format!("warning: {concern}\n"));
    }
    Ok((text, good))
}

/// Loads a configuration for a command that runs beside a daemon.
///
/// # Errors
/// The main file has problems.
pub(super) fn load(config: &Path, shared: &Shared, without_secrets: bool) -> Result<Box<Config>, Error> {
    match Loader::once(config, KINDS, shared, without_secrets) {
        Loaded::New { config, problems } => {
            // Another team's bad file is no reason not to answer the person on call.
            if !problems.is_empty() {
                tracing::warn!("included files have problems and are left out:\n{problems}");
            }
            Ok(config)
        }
        Loaded::Refused(problems) | Loaded::Unchanged { problems, .. } => Err(problems.into()),
    }
}

fn report_of<'r>(title: &'r str, run: &'r Run) -> Report<'r> {
    let Run { trace, result, duration, .. } = run;
    Report { title, trace, result, duration: *duration, only: None }
}
