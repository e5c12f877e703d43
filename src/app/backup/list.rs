//! `midwatch backup list`: the last runs of all jobs, beside a daemon that may be running.

use std::fmt::Write as _;
use std::path::Path;

use crate::app::{Error, once, shards};
use crate::probe::backup::spool;
use crate::probe::net::clean;
use crate::probe::{Shared, backup};
use crate::shard::Wanted;

/// What the journal and the spool say of backup jobs: those that are named, or all; `shard` is whose they are. The second value says
/// whether both could be read. Changes nothing.
///
/// # Errors
/// The configuration has problems, or has no such job.
pub fn list(config: &Path, names: &[String], shard: Option<Wanted>) -> Result<(String, bool), Error> {
    let shard = shards::settle(shard)?;
    let shared = Shared::default();
    // Tokens and passwords are not needed to read a journal, and the reader may not be allowed to read them.
    let config = once::load(config, &shared, true)?;
    let jobs: Vec<_> = config.probes.iter().filter(|spec| spec.id.kind == backup::KIND).collect();
    let known = |name: &String| jobs.iter().any(|spec| *spec.id.name == **name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<_> = jobs.iter().map(|spec| &*spec.id.name).collect();
        let all = if all.is_empty() { "it has none".to_owned() } else { format!("it has: {}", all.join(", ")) };
        return Err(Error::Usage(format!("the configuration has no enabled backup job {}; {all}", clean(unknown))));
    }
    let mut text = String::new();
    if let Some(shard) = shard {
        let others = jobs.iter().filter(|spec| !shard.owns(spec.id.kind, &spec.id.name)).count();
        let last = shard.count - 1;
        let _ = writeln!(text, "This is {shard}, counted from 0 to {last}; jobs of other shards: {others}.");
    }
    for spec in jobs.iter().filter(|spec| names.is_empty() || names.iter().any(|name| **name == *spec.id.name)) {
        let gap = if text.is_empty() { "" } else { "\n" };
        let name = &spec.id.name;
        let owner = shard.map(|shard| shard.owner(spec.id.kind, name)).filter(|owner| Some(*owner) != shard);
        let _ = match owner {
            None => writeln!(text, "{gap}backup {name}\n{}", spec.probe.story().trim_end()),
            Some(owner) => writeln!(text, "{gap}backup {name} belongs to {owner}, where its runs are written down"),
        };
    }
    if jobs.is_empty() {
        text.push_str("the configuration has no backup job\n");
    }
    let Some(dir) = shared.state.dir() else {
        text.push_str("\nthere is no state directory: nothing is known here of what the daemon counted\n");
        return Ok((text, true));
    };
    // What waits for a job that is there is part of its story.
    let spool = dir.join(spool::NAME);
    let waiting = spool::jobs(&spool);
    let unread = [backup::unread(&shared), waiting.as_ref().err().map(|error| format!("{}: {error}", spool.display()))];
    let unread: Vec<_> = unread.into_iter().flatten().collect();
    for why in &unread {
        let _ = writeln!(
            text,
            "\nwarning: what the daemon wrote down cannot be read, and is not all shown: {}",
            clean(why)
        );
    }
    let waiting = waiting.unwrap_or_default();
    for (job, count) in waiting.iter().filter(|(job, _)| names.is_empty() && !known(job)) {
        let _ = writeln!(
            text,
            "\nwarning: {count} records wait in the spool for job {}, which is not configured",
            clean(job)
        );
    }
    Ok((text, unread.is_empty()))
}
