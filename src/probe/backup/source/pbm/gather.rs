//! One reading: what is asked in which order, and what is remembered for the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;

use super::coverage::{Coverage, Stretch, Time, gaps};
use super::documents::{self, Agent, Entry, GONE, Kind, Lock, STALE};
use super::queries;
use crate::probe::backup::runs::{End, Outcome, Pitr, PitrSet, Run, Seen, Stock};
use crate::probe::mongodb::{Deployment, Session};
use crate::probe::{Failure, Reason};

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
    /// The same, read anew as far as one reading after the other has come.
    anew: Option<Held<Coverage>>,
    range: Option<Range>,
    /// The newest complete backup: when it began, and the replica sets that it has.
    newest: (i64, Vec<String>),
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

/// What can be restored to.
struct Range {
    /// What was looked at for it.
    of: (Vec<Stretch>, Option<BTreeSet<String>>),
    /// In unix seconds.
    is: Option<(f64, f64)>,
}

/// Who works on a deployment, and on what.
pub(super) struct Work {
    locks: Vec<Lock>,
    agents: Vec<Agent>,
}

/// One reading of a deployment.
pub(super) struct Gathering<'g> {
    pub(super) deployment: &'g Deployment,
    pub(super) kind: Kind,
    /// The wall clock, in unix seconds.
    pub(super) now: f64,
}

impl Gathering<'_> {
    /// Who works on it: little, and soon answered by a member that is well.
    pub(super) async fn work(&self, session: &mut Session) -> Result<Work, Failure> {
        Ok(Work { locks: self.locks(session).await?, agents: self.agents(session).await? })
    }

    /// Everything else.
    pub(super) async fn all(&self, session: &mut Session, state: &mut State, work: Work) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        let entries = self.entries(session, state.from.unwrap_or(0)).await?;
        // As of then the documents are. A member that lags behind is compared with its own past.
        let applied = session.applied().map_or((0, 0), |time| (time.time, time.increment));
        let as_of = if applied.0 == 0 { self.now } else { f64::from(applied.0) };
        if self.kind == Kind::Backups {
            seen.stock = Some(self.stock(session, state, &entries).await?);
            seen.pitr = Some(self.pitr(session, state, (&work, as_of), &mut seen.notes).await?);
        }
        // Who knows less than was known before cannot say that something is gone.
        seen.has_all_open = applied >= state.applied && entries.len() < queries::MOST_ENTRIES as usize;
        state.applied = state.applied.max(applied);
        state.from = Some(from(&entries, as_of));
        seen.agents = remember(&mut state.agents, &work.agents, as_of, &mut seen.notes);
        seen.notes.extend(work.locks.iter().filter_map(|lock| words(lock, as_of)));
        seen.runs = entries.into_iter().map(|entry| run(entry, &work.locks, as_of)).collect();
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
        let is_done = |entry: &&Entry| entry.run.end.is_some_and(|end| end.outcome == Outcome::Success);
        let newest = entries.iter().filter(is_done).max_by_key(|entry| entry.start);
        if let Some(newest) = newest.filter(|newest| newest.start > state.newest.0) {
            state.newest = (newest.start, newest.sets.clone());
        }
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
        // Another backup may be the first that a restore can begin with.
        state.range = None;
        state.fingerprint = fingerprint;
        state.stock = Some(Held { is: stock, count, at: Instant::now() });
        Ok(stock)
    }

    async fn pitr(
        &self,
        session: &mut Session,
        state: &mut State,
        (work, as_of): (&Work, f64),
        notes: &mut Vec<String>,
    ) -> Result<Pitr, Failure> {
        let mut enabled = false;
        session.find(queries::config(), |document| enabled = documents::is_pitr_enabled(document)).await?;
        session.find(queries::pitr(), |document| notes.extend(documents::pitr_trouble(document))).await?;
        chunks(session, state).await?;
        let coverage = state.chunks.as_ref().map(|held| &held.is);
        let members = members(work, &state.newest.1, as_of);
        let is_member = |name: &str| members.as_ref().is_none_or(|members| members.contains(name));
        let common = coverage.map(|coverage| coverage.common(is_member)).unwrap_or_default();
        let now = session.cluster().map_or(self.now, |time| f64::from(time.time));
        let mut sets: BTreeMap<&str, PitrSet> = BTreeMap::new();
        for (name, _, end) in coverage.into_iter().flat_map(Coverage::sets).filter(|(name, ..)| is_member(name)) {
            let lag = Some((now - f64::from(end.0)).max(0.0));
            sets.insert(name, PitrSet { name: name.to_owned(), running: Some(false), lag });
        }
        let slicing = work.locks.iter().filter(|lock| lock.what == "pitr" && !is_stale(lock.heartbeat, as_of));
        let slicing = slicing.map(|lock| (lock.set.as_str(), true));
        let idle = work.agents.iter().filter(|agent| enabled && is_member(&agent.set));
        let idle = idle.map(|agent| (agent.set.as_str(), false));
        for (name, running) in slicing.chain(idle).filter(|(name, _)| !name.is_empty()) {
            let set = sets.entry(name).or_insert_with(|| PitrSet { name: name.to_owned(), ..PitrSet::default() });
            set.running = Some(running || set.running == Some(true));
        }
        let (sets, gaps) = (sets.into_values().collect(), gaps(&common));
        let newest = common.iter().rev().take(RANGES).copied().collect();
        Ok(Pitr { enabled, sets, range: range(session, &mut state.range, (newest, members)).await?, gaps })
    }
}

/// The replica sets that are there now: those that somebody works on, and those of the newest backup. The chunks and backups of a shard
/// that was removed stay. `None` if nobody says.
fn members(work: &Work, newest: &[String], as_of: f64) -> Option<BTreeSet<String>> {
    let agents = work.agents.iter().filter(|agent| as_of - agent.heartbeat < GIVEN_UP).map(|agent| &agent.set);
    let locks = work.locks.iter().filter(|lock| !is_stale(lock.heartbeat, as_of)).map(|lock| &lock.set);
    let all: BTreeSet<_> = agents.chain(locks).chain(newest).filter(|name| !name.is_empty()).cloned().collect();
    (!all.is_empty()).then_some(all)
}

/// Brings the coverage up to date: by the chunks behind those that are known, or by all if some are gone.
async fn chunks(session: &mut Session, state: &mut State) -> Result<(), Failure> {
    let count = session.count(queries::CHUNKS).await?;
    if let Some(held) = &mut state.chunks {
        follow(session, held, count).await?;
        if held.still(count) {
            state.anew = None;
            return Ok(());
        }
    }
    let anew = state.anew.take().filter(|held| held.at.elapsed() < WHOLE);
    let anew =
        state.anew.insert(anew.unwrap_or_else(|| Held { is: Coverage::default(), count: 0, at: Instant::now() }));
    follow(session, anew, count).await?;
    // The server's own count may be wrong, and must not be the reason to read all of them again and again.
    state.chunks = state.anew.take().map(|held| Held { count, ..held });
    Ok(())
}

/// Reads the chunks behind those that are known, of which there are `of` in all.
///
/// # Errors
/// `timeout` if there are more than can be read now. What was read is kept.
async fn follow(session: &mut Session, held: &mut Held<Coverage>, of: i64) -> Result<(), Failure> {
    loop {
        let began = Instant::now();
        let known: Vec<_> = held.is.sets().map(|(name, last, _)| (name.to_owned(), last)).collect();
        let query = queries::chunks(known.iter().map(|(name, last)| (name.as_str(), *last)));
        let news = session.find(query, |document| held.is.extend(documents::chunk(document))).await?;
        held.count += i64::try_from(news).unwrap_or(i64::MAX);
        if news < queries::PIECE.into() {
            return Ok(());
        }
        if session.time_left() < began.elapsed() {
            let words = format!(
                "{} of {of} chunks of the oplog have been read; the next reading goes on from there",
                held.count
            );
            return Err(Failure::new(Reason::Timeout, words));
        }
    }
}

/// The newest stretch without a gap that can be restored to: it begins after a backup within it. Asked for again if it is not known, or of
/// something else.
async fn range(
    session: &mut Session,
    known: &mut Option<Range>,
    of: (Vec<Stretch>, Option<BTreeSet<String>>),
) -> Result<Option<(f64, f64)>, Failure> {
    if let Some(known) = known.as_ref().filter(|known| known.of == of) {
        return Ok(known.is);
    }
    let mut is = None;
    for stretch in &of.0 {
        let mut base = None;
        let query = queries::base(*stretch, of.1.as_ref());
        session.find(query, |document| base = documents::timestamp(document, "last_write_ts")).await?;
        let found = base.map(|base| (f64::from(base.0) + 1.0, f64::from(stretch.end.0)));
        is = found.filter(|(earliest, latest)| earliest <= latest);
        if is.is_some() {
            break;
        }
    }
    *known = Some(Range { of, is });
    Ok(is)
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
