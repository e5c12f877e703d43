//! Answers `/runs`: which remembered runs are meant, or what there is instead.

use std::sync::Arc;
use std::time::SystemTime;

use super::{report, shards};
use crate::http::RunsQuery;
use crate::metrics::RunId;
use crate::probe::ProbeId;
use crate::scheduler::{History, NOTEWORTHY, PastRun, RECENT};
use crate::settings::escape;
use crate::shard::Shard;

/// How many names an answer that something is not there lists.
const MAX_NAMES: usize = 50;

/// A probe that runs, and what is remembered of its runs.
pub(super) type Probe = (ProbeId, Arc<History>);

/// What this shard does not run.
pub(super) struct Elsewhere {
    /// Which shard this is.
    pub(super) shard: Shard,
    /// The probes of the others.
    pub(super) probes: Vec<ProbeId>,
}

/// The answer for a person, of a process that may be one of several shards.
///
/// # Errors
/// What there is not, and what there is.
pub(super) fn answer(
    (probes, elsewhere): (&[Probe], Option<&Elsewhere>),
    query: &RunsQuery,
    now: SystemTime,
) -> Result<String, String> {
    let Some(name) = &query.probe else {
        let share = elsewhere.map(|of| format!("{}\n\n", shards::sentence(of.shard, of.probes.len())));
        let runs = report::overview(probes.iter().map(|(id, history)| (id, history.last())), now);
        return Ok(share.unwrap_or_default() + &runs);
    };
    let kind = query.kind.as_deref();
    let found = find(probes, name, kind);
    let found = found.map_err(|none| elsewhere.map_or_else(String::new, |of| owners(of, name, kind)) + &none)?;
    let runs: Vec<_> = found.into_iter().map(|(id, history)| (id, history.runs())).collect();
    let target = query.target.as_deref();
    match query.id {
        Some(id) => one(&runs, id, target),
        None => all(runs, target),
    }
}

/// The probes of that name, and of that type if one is given.
fn find<'p>(probes: &'p [Probe], name: &str, kind: Option<&str>) -> Result<Vec<&'p Probe>, String> {
    let named: Vec<_> = probes.iter().filter(|(id, _)| *id.name == *name).collect();
    let found: Vec<_> = named.iter().copied().filter(|(id, _)| kind.is_none_or(|kind| kind == id.kind)).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let among = if named.is_empty() { probes.iter().collect() } else { named };
    let known = names(among.iter().map(|(id, _)| format!("{} {}", id.kind, id.name)));
    let of_type = kind.map_or(String::new(), |kind| format!(" of type `{}`", escape(kind)));
    Err(format!("No probe `{}`{of_type} runs here. Runs are remembered for: {known}.\n", escape(name)))
}

/// Where the probes of that name run instead.
fn owners(elsewhere: &Elsewhere, name: &str, kind: Option<&str>) -> String {
    let of_that_name = |id: &&ProbeId| *id.name == *name && kind.is_none_or(|kind| kind == id.kind);
    let found = elsewhere.probes.iter().filter(of_that_name);
    let sentence = |id: &ProbeId| {
        let (owner, here) = (elsewhere.shard.owner(id.kind, &id.name), elsewhere.shard);
        format!("{} {} belongs to {owner}, and this is shard {}.\n", id.kind, id.name, here.index)
    };
    found.map(sentence).collect()
}

fn all(mut probes: Vec<(&ProbeId, Vec<PastRun>)>, target: Option<&str>) -> Result<String, String> {
    if let Some(target) = target {
        let known = probes.iter().flat_map(|(_, runs)| runs.first()).flat_map(targets);
        let unknown = unknown_target("No remembered run has a target", target, known);
        probes.iter_mut().for_each(|(_, runs)| runs.retain(|run| has(run, target)));
        probes.retain(|(_, runs)| !runs.is_empty());
        if probes.is_empty() {
            return Err(unknown);
        }
    }
    let lists: Vec<_> = probes.iter().map(|(id, runs)| report::list(id, runs, target)).collect();
    Ok(lists.join("\n"))
}

fn one(probes: &[(&ProbeId, Vec<PastRun>)], id: RunId, target: Option<&str>) -> Result<String, String> {
    let found = probes.iter().find_map(|(probe, runs)| Some((probe, runs.iter().find(|run| run.id == id)?)));
    let Some((probe, run)) = found else {
        return Err(probes.iter().map(|(probe, runs)| forgotten(probe, runs, id)).collect());
    };
    match target {
        Some(target) if !has(run, target) => {
            Err(unknown_target(&format!("Run {id} has no target"), target, targets(run)))
        }
        _ => Ok(report::past(probe, run, target)),
    }
}

/// That a run is not remembered, and which ones are.
fn forgotten(probe: &ProbeId, runs: &[PastRun], id: RunId) -> String {
    let ProbeId { kind, name } = probe;
    let (Some(newest), Some(oldest)) = (runs.first(), runs.last()) else {
        return format!("Probe {kind} {name} remembers no run yet.\n");
    };
    format!(
        "Probe {kind} {name} does not remember run {id}. It remembers runs {} ({}) to {} ({}): the last {RECENT}, and of \
         those before them the last {NOTEWORTHY} that failed or were slow. /runs?probe={name} lists them.\n",
        oldest.id,
        report::utc(oldest.ended),
        newest.id,
        report::utc(newest.ended),
    )
}

fn has(run: &PastRun, target: &str) -> bool {
    targets(run).any(|name| name == target)
}

fn targets(run: &PastRun) -> impl Iterator<Item = &str> {
    run.trace.targets.iter().map(|target| &*target.name)
}

fn unknown_target<'t>(what: &str, target: &str, known: impl Iterator<Item = &'t str>) -> String {
    format!("{what} `{}`. Targets: {}.\n", escape(target), names(known.map(escape)))
}

/// A list for a sentence.
fn names(all: impl Iterator<Item = String>) -> String {
    let mut names: Vec<_> = all.collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    let listed = names.join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kind: &'static str, name: &str) -> Probe {
        (ProbeId { kind, name: name.into() }, Arc::default())
    }

    fn ask(probes: &[Probe], query: &str) -> Result<String, String> {
        answer((probes, None), &RunsQuery::parse(query).unwrap(), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn probes_of_one_name_are_told_apart_by_type() {
        let probes = [probe("http", "a"), probe("tcp", "a"), probe("tcp", "b")];
        let both = "http a: 0 runs, newest first\n\ntcp a: 0 runs, newest first\n";
        assert_eq!(ask(&probes, "probe=a").as_deref(), Ok(both));
        assert_eq!(ask(&probes, "probe=a&type=tcp").as_deref(), Ok("tcp a: 0 runs, newest first\n"));
        let none = "No probe `a` of type `dns` runs here. Runs are remembered for: http a, tcp a.\n";
        assert_eq!(ask(&probes, "probe=a&type=dns").unwrap_err(), none);
        let none = "No probe `c` runs here. Runs are remembered for: http a, tcp a, tcp b.\n";
        assert_eq!(ask(&probes, "probe=c").unwrap_err(), none);
        let none = "Probe http a remembers no run yet.\nProbe tcp a remembers no run yet.\n";
        assert_eq!(ask(&probes, "probe=a&id=0123456789abcdef").unwrap_err(), none);
    }

    #[test]
    fn a_shard_says_whose_a_probe_is_that_it_does_not_run() {
        let probes = [probe("tcp", "a")];
        let shard = Shard { index: 0, count: 2 };
        let elsewhere = Elsewhere { shard, probes: vec![ProbeId { kind: "vpn", name: "office".into() }] };
        let ask = |query: &str| {
            answer((&probes, Some(&elsewhere)), &RunsQuery::parse(query).unwrap(), SystemTime::UNIX_EPOCH)
        };
        let all = ask("").unwrap();
        let first = "This is shard 0 of 2, counted from 0 to 1; probes of other shards: 1.\n\nprobe  ";
        assert!(all.starts_with(first), "{all}");
        let said = ask("probe=office").unwrap_err();
        let whose = "vpn office belongs to shard 1 of 2, and this is shard 0.\nNo probe `office` runs here. ";
        assert!(said.starts_with(whose), "{said}");
        assert!(ask("probe=office&type=tcp").unwrap_err().starts_with("No probe `office` of type `tcp` runs here. "));
    }

    #[test]
    fn an_answer_that_there_is_nothing_is_short() {
        let probes: Vec<_> = (0..10_000).map(|n| probe("tcp", &format!("p{n}"))).collect();
        let text = ask(&probes, "probe=unknown").unwrap_err();
        assert!(text.len() < 2_000 && text.ends_with(", tcp p49 and 9950 more.\n"), "{text}");
        assert_eq!(ask(&[], "probe=a").unwrap_err(), "No probe `a` runs here. Runs are remembered for: none.\n");
        assert_eq!(ask(&[], "").as_deref(), Ok("probe  last         age  run\n"));
    }
}
