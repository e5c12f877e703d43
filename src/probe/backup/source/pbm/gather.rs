//! One reading: what is asked in which order, and what is remembered for the next one.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;

use super::coverage::{Coverage, Stretch, Time, gaps};
use super::documents::{self, Agent, Entry, GONE, Kind, Lock, STALE};
use super::queries;
use crate::probe::Failure;
use crate::probe::backup::runs::{End, Outcome, Pitr, PitrSet, Run, Seen, Stock};
use crate::probe::mongodb::{Deployment, Session};

/// Backups that began so many seconds before the newest one are read again: clocks of agents differ.
const SLACK: i64 = 3600;
/// For so long somebody may come back who was given up.
const GIVEN_UP: f64 = 86_400.0;
/// After so long everything is read again, whatever seems unchanged.
const WHOLE: Duration = Duration::from_secs(3600);
/// A range that can be restored is looked for among so many stretches, the newest first.
const RANGES: usize = 8;
/// So many agents are remembered.
const AGENTS: usize = 1000;
/// The work that needs no words: it is in the metrics.
const USUAL: &[&str] = &["backup", "restore", "pitr"];

/// What is remembered from reading to reading.
#[derive(Default)]
pub(super) struct State {
    /// From this start on backups are read; `None` before the first reading.
    from: Option<i64>,
    /// Up to when the member that was asked knew the deployment's writes.
    applied: Time,
    stock: Option<Held<Stock>>,
    /// What was held together with `stock`: ids and statuses.
    fingerprint: u64,
    chunks: Option<Held<Coverage>>,
    /// What can be restored, in unix seconds.
    range: Option<(f64, f64)>,
    /// When each agent was heard of last, in unix seconds.
    agents: BTreeMap<String, f64>,
}

/// Something that was read whole.
struct Held<T> {
    is: T,
    /// How many documents there were by the server's books.
    count: i64,
    /// When it was read whole.
    at: Instant,
}

impl<T> Held<T> {
    /// Whether it still holds if there are so many documents now.
    fn still(&self, count: i64) -> bool {
        self.count == count && self.at.elapsed() < WHOLE
    }
}

/// One reading of a deployment.
pub(super) struct Gathering<'g> {
    pub(super) deployment: &'g Deployment,
    pub(super) kind: Kind,
    /// The wall clock, in unix seconds.
    pub(super) now: f64,
}

impl Gathering<'_> {
    /// Everything.
    pub(super) async fn all(&self, session: &mut Session, state: &mut State) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        let locks = self.locks(session).await?;
        let agents = self.agents(session).await?;
        let entries = self.entries(session, state.from.unwrap_or(0)).await?;
        // As of then the documents are. A member that lags behind is compared with its own past.
        let applied = session.applied().map_or((0, 0), |time| (time.time, time.increment));
        let as_of = if applied.0 == 0 { self.now } else { f64::from(applied.0) };
        if self.kind == Kind::Backups {
            seen.stock = Some(self.stock(session, state, &entries).await?);
            seen.pitr = Some(self.pitr(session, state, (&locks, &agents, as_of), &mut seen.notes).await?);
        }
        // Who knows less than was known before cannot say that something is gone.
        seen.has_all_open = applied >= state.applied && entries.len() < queries::MOST_ENTRIES as usize;
        state.applied = state.applied.max(applied);
        state.from = Some(from(&entries, as_of));
        seen.agents = remember(&mut state.agents, &agents, as_of, &mut seen.notes);
        seen.notes.extend(locks.iter().filter_map(|lock| words(lock, as_of)));
        seen.runs = entries.into_iter().map(|entry| run(entry, &locks, as_of)).collect();
        Ok(seen)
    }

    async fn entries(&self, session: &mut Session, from: i64) -> Result<Vec<Entry>, Failure> {
        let mut entries = Vec::new();
        let spell = |node: &str| self.deployment.spell(node);
        let read = |document: &_| entries.extend(documents::entry(document, self.kind, spell));
        session.find(queries::entries(self.kind, from), read).await?;
        Ok(entries)
    }

    async fn locks(&self, session: &mut Session) -> Result<Vec<Lock>, Failure> {
        let mut locks = Vec::new();
        for collection in queries::LOCKS {
            let read = |document: &_| locks.extend(documents::lock(document, |node| self.deployment.spell(node)));
            session.find(queries::locks(collection), read).await?;
        }
        Ok(locks)
    }

    async fn agents(&self, session: &mut Session) -> Result<Vec<Agent>, Failure> {
        let mut agents = Vec::new();
        let read = |document: &_| agents.extend(documents::agent(document, |node| self.deployment.spell(node)));
        session.find(queries::agents(), read).await?;
        Ok(agents)
    }

    /// The complete backups that are there: counted by the server, and only if something changed.
    async fn stock(&self, session: &mut Session, state: &mut State, entries: &[Entry]) -> Result<Stock, Failure> {
        let count = session.count(queries::BACKUPS).await?;
        let fingerprint = fingerprint(entries);
        if let Some(held) = state.stock.as_ref().filter(|held| held.still(count) && fingerprint == state.fingerprint) {
            return Ok(held.is);
        }
        let mut stock = Stock::default();
        let read = |document: &_| {
            let (retained, oldest, bytes) = documents::totals(document);
            stock = Stock { retained, oldest, bytes };
        };
        session.aggregate(queries::BACKUPS, queries::totals(), read).await?;
        if let Some(held) = &state.chunks {
            state.range = range(session, &held.is.common()).await?;
        }
        state.fingerprint = fingerprint;
        state.stock = Some(Held { is: stock, count, at: Instant::now() });
        Ok(stock)
    }

    async fn pitr(
        &self,
        session: &mut Session,
        state: &mut State,
        (locks, agents, as_of): (&[Lock], &[Agent], f64),
        notes: &mut Vec<String>,
    ) -> Result<Pitr, Failure> {
        let mut enabled = false;
        session.find(queries::config(), |document| enabled = documents::is_pitr_enabled(document)).await?;
        session.find(queries::pitr(), |document| notes.extend(documents::pitr_trouble(document))).await?;
        chunks(session, state).await?;
        let coverage = state.chunks.as_ref().map(|held| &held.is);
        let common = coverage.map(Coverage::common).unwrap_or_default();
        let now = session.cluster().map_or(self.now, |time| f64::from(time.time));
        let mut sets: BTreeMap<&str, PitrSet> = BTreeMap::new();
        for (name, _, end) in coverage.into_iter().flat_map(Coverage::sets) {
            let lag = Some((now - f64::from(end.0)).max(0.0));
            sets.insert(name, PitrSet { name: name.to_owned(), running: Some(false), lag });
        }
        let slicing = locks.iter().filter(|lock| lock.what == "pitr" && !is_stale(lock.heartbeat, as_of));
        let slicing = slicing.map(|lock| (lock.set.as_str(), true));
        let idle = agents.iter().filter(|_| enabled).map(|agent| (agent.set.as_str(), false));
        for (name, running) in slicing.chain(idle).filter(|(name, _)| !name.is_empty()) {
            let set = sets.entry(name).or_insert_with(|| PitrSet { name: name.to_owned(), ..PitrSet::default() });
            set.running = Some(running || set.running == Some(true));
        }
        let sets = sets.into_values().collect();
        Ok(Pitr { enabled, sets, range: state.range, gaps: gaps(&common) })
    }
}

/// Brings the coverage up to date: by the chunks behind those that are known, or by all if some are gone.
async fn chunks(session: &mut Session, state: &mut State) -> Result<(), Failure> {
    let count = session.count(queries::CHUNKS).await?;
    let mut news = 0;
    if let Some(held) = &mut state.chunks {
        let known: Vec<_> = held.is.sets().map(|(name, last, _)| (name.to_owned(), last)).collect();
        let query = queries::chunks(known.iter().map(|(name, last)| (name.as_str(), *last)));
        let read = |document: &_| held.is.extend(documents::chunk(document));
        news = session.find(query, read).await?;
        held.count += i64::try_from(news).unwrap_or(i64::MAX);
    }
    let is_whole = state.chunks.as_ref().is_some_and(|held| held.still(count));
    if !is_whole {
        let mut coverage = Coverage::default();
        let read = |document: &_| coverage.extend(documents::chunk(document));
        session.find(queries::chunks(std::iter::empty()), read).await?;
        state.chunks = Some(Held { is: coverage, count, at: Instant::now() });
    }
    if let Some(held) = state.chunks.as_ref().filter(|_| news > 0 || !is_whole) {
        state.range = range(session, &held.is.common()).await?;
    }
    Ok(())
}

/// The newest stretch without a gap that can be restored to: it begins after a backup within it.
async fn range(session: &mut Session, common: &[Stretch]) -> Result<Option<(f64, f64)>, Failure> {
    for stretch in common.iter().rev().take(RANGES) {
        let mut base = None;
        session
            .find(queries::base(*stretch), |document| base = documents::timestamp(document, "last_write_ts"))
            .await?;
        let range = base.map(|base| (f64::from(base.0) + 1.0, f64::from(stretch.end.0)));
        if let Some(range) = range.filter(|(earliest, latest)| earliest <= latest) {
            return Ok(Some(range));
        }
    }
    Ok(None)
}

fn is_stale(heartbeat: f64, as_of: f64) -> bool {
    heartbeat + STALE < as_of
}

/// The run of an entry: where it goes on by its locks, if the entry does not say yet, and lost if nobody works on it any more: it has had
/// no heartbeat and has no lock, or it has had no heartbeat for long.
pub(super) fn run(entry: Entry, locks: &[Lock], as_of: f64) -> Run {
    let Entry { mut run, heartbeat, .. } = entry;
    if run.end.is_some() {
        return run;
    }
    if let Some(heartbeat) = heartbeat.filter(|heartbeat| is_stale(*heartbeat, as_of)) {
        let is_locked = locks.iter().any(|lock| lock.id == run.id);
        if !is_locked || heartbeat + GONE < as_of {
            run.end = Some(End { at: heartbeat.max(run.started.unwrap_or(0.0)), outcome: Outcome::Lost });
            return run;
        }
        run.is_silent = true;
    }
    if run.node.is_none() {
        let of_run = locks.iter().filter(|lock| lock.id == run.id && !is_stale(lock.heartbeat, as_of));
        let mut nodes: Vec<_> = of_run.filter_map(|lock| lock.node.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut nodes = nodes.into_iter();
        run.node = nodes.next();
        run.more_nodes = nodes.take(Run::MOST_MORE_NODES).collect();
    }
    run
}

/// From which start on entries can still change: that of the oldest which goes on, or may yet, and lately begun ones.
pub(super) fn from(entries: &[Entry], as_of: f64) -> i64 {
    let newest = entries.iter().map(|entry| entry.start).max().unwrap_or(0).min(as_of as i64);
    let may_go_on = |entry: &&Entry| {
        entry.run.end.is_none() && entry.heartbeat.is_none_or(|heartbeat| as_of - heartbeat < GIVEN_UP)
    };
    let open = entries.iter().filter(may_go_on).map(|entry| entry.start).min();
    (newest - SLACK).max(0).min(open.unwrap_or(i64::MAX))
}

/// Ids and whether they ended, as one number.
fn fingerprint(entries: &[Entry]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in entries {
        entry.run.id.hash(&mut hasher);
        entry.run.end.is_some().hash(&mut hasher);
    }
    hasher.finish()
}

/// All agents that were heard of within a day, and whether they are well: somebody removes the entries of those that are not.
pub(super) fn remember(
    known: &mut BTreeMap<String, f64>,
    agents: &[Agent],
    as_of: f64,
    notes: &mut Vec<String>,
) -> Vec<(String, bool)> {
    known.retain(|_, heartbeat| as_of - *heartbeat < GIVEN_UP);
    let mut well: BTreeMap<String, bool> = known.keys().map(|node| (node.clone(), false)).collect();
    for agent in agents.iter().take(AGENTS) {
        let is_gone = is_stale(agent.heartbeat, as_of);
        if is_gone {
            notes.push(format!(
                "the agent of {} has not been heard of for {:.0} s",
                agent.node,
                as_of - agent.heartbeat
            ));
        } else if !agent.lacks.is_empty() {
            notes.push(format!("the agent of {} has trouble with {}", agent.node, agent.lacks.join(", ")));
        }
        // Two agents at one node are as well as the better one.
        let is_well = well.entry(agent.node.clone()).or_default();
        *is_well |= !is_gone && agent.lacks.is_empty();
        if known.len() < AGENTS || known.contains_key(&agent.node) {
            let heartbeat = known.entry(agent.node.clone()).or_default();
            *heartbeat = heartbeat.max(agent.heartbeat);
        }
    }
    well.into_iter().collect()
}

/// What a person should know of a lock: work that is no run, and locks that nobody holds any more.
pub(super) fn words(lock: &Lock, as_of: f64) -> Option<String> {
    let node = lock.node.as_deref().unwrap_or("an unknown node");
    if is_stale(lock.heartbeat, as_of) {
        let age = as_of - lock.heartbeat;
        return Some(format!("{} left a lock for {} {age:.0} s ago", node, lock.what));
    }
    (!USUAL.contains(&lock.what.as_str())).then(|| format!("{} goes on at {node}", lock.what))
}
