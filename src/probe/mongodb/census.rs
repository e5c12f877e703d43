//! What the members of one run say of themselves and of their replica set.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bson::oid::ObjectId;

use super::hello::{Hello, MemberState};
use super::metrics::{
    CERTIFICATE_EXPIRY, ELECTION_TERM, MEMBER_STATE, PRIMARIES, PRIMARY_CHANGES, REPLICA_SET, RESTARTS,
};
use crate::metrics::Recorder;

/// What a probe remembers from run to run, and hands to the probe that replaces it.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What the SRV records listed last.
    listed: Vec<String>,
    /// Members that others named and that are not configured.
    discovered: BTreeSet<String>,
    /// What a configured member is called in its replica set's configuration, where that is another name.
    aliases: HashMap<String, String>,
    /// The process that each member was last time.
    processes: HashMap<String, ObjectId>,
    /// Who was the primary last time.
    primary: Option<String>,
}

impl Memory {
    /// The members that earlier runs discovered and that are none of `configured`.
    pub(super) fn discovered(&self, configured: &[String]) -> Vec<String> {
        let known = self.lock();
        let is_new = |name: &&String| !known.covers(configured, name);
        known.discovered.iter().filter(is_new).cloned().collect()
    }

    /// What the SRV records listed when they could be read last.
    pub(super) fn listed(&self) -> Vec<String> {
        self.lock().listed.clone()
    }

    /// Notes what the SRV records list.
    pub(super) fn set_listed(&self, hosts: &[String]) {
        self.lock().listed = hosts.to_vec();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change is one assignment, so what a panic left behind is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether the name is one of `configured`, or another name of one of them.
    fn covers(&self, configured: &[String], name: &str) -> bool {
        configured.iter().any(|seed| {
            let alias = self.aliases.get(seed);
            seed.eq_ignore_ascii_case(name) || alias.is_some_and(|alias| alias.eq_ignore_ascii_case(name))
        })
    }
}

/// Collects the answers of one run. What they add up to is recorded when the census is dropped: also when the deadline
/// cuts the run off, every member has a state and the set its primaries.
pub(super) struct Census<'r> {
    rec: &'r Recorder,
    memory: &'r Memory,
    answers: Mutex<Vec<(String, Option<Hello>)>>,
}

impl<'r> Census<'r> {
    pub(super) fn new(rec: &'r Recorder, memory: &'r Memory) -> Self {
        Self { rec, memory, answers: Mutex::default() }
    }

    /// Expects an answer of the member. It is unreachable until it answers.
    pub(super) fn expect(&self, member: &str) {
        self.rec.add(&RESTARTS, [member], 0.0);
        self.answers().push((member.to_owned(), None));
    }

    /// Notes a member's answer.
    pub(super) fn answer(&self, member: &str, hello: Hello) {
        if let Some(entry) = self.answers().iter_mut().find(|(name, _)| name == member) {
            entry.1 = Some(hello);
        }
    }

    /// Notes when a member's certificate expires, in Unix seconds.
    pub(super) fn certificate(&self, member: &str, not_after: i64) {
        #[allow(clippy::cast_precision_loss, reason = "a time in seconds stays far below 2^52")]
        self.rec.set(&CERTIFICATE_EXPIRY, [member], not_after as f64);
    }

    /// The members that the answers name and that were not expected. `configured` are those that the operator named:
    /// their own names for themselves are not discoveries.
    pub(super) fn discover(&self, configured: &[String]) -> Vec<String> {
        let answers = self.answers();
        let mut known = self.memory.lock();
        for (member, hello) in answers.iter() {
            let me = hello.as_ref().and_then(|hello| hello.me.as_ref());
            if let Some(me) = me.filter(|me| !me.eq_ignore_ascii_case(member) && configured.contains(member)) {
                known.aliases.insert(member.clone(), me.clone());
            }
        }
        let named: BTreeSet<String> = answers
            .iter()
            .filter_map(|(_, hello)| hello.as_ref())
            .flat_map(|hello| hello.hosts.iter().cloned())
            .collect();
        // Without any list, because nobody answered, the members of the run before are still the members.
        if !named.is_empty() {
            known.discovered = named.into_iter().filter(|name| !known.covers(configured, name)).collect();
        }
        let discovered = known.discovered.iter().cloned().collect();
        drop((answers, known));
        self.unexpected(discovered)
    }

    /// Those of the members of which no answer is expected yet.
    pub(super) fn unexpected(&self, mut members: Vec<String>) -> Vec<String> {
        let answers = self.answers();
        members.retain(|name| !answers.iter().any(|(known, _)| known == name));
        members
    }

    fn answers(&self) -> MutexGuard<'_, Vec<(String, Option<Hello>)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_member(&self, member: &str, hello: Option<&Hello>, known: &mut Known) {
        let now = hello.map_or(MemberState::Unreachable, |hello| hello.state);
        for state in MemberState::ALL {
            self.rec.set(&MEMBER_STATE, [member, state.label()], f64::from(u8::from(*state == now)));
        }
        if let Some(process) = hello.and_then(|hello| hello.process_id)
            && known.processes.insert(member.to_owned(), process).is_some_and(|before| before != process)
        {
            self.rec.add(&RESTARTS, [member], 1.0);
        }
    }

    fn record_set(&self, answers: &[(String, Option<Hello>)], known: &mut Known) {
        let answered: Vec<_> = answers.iter().filter_map(|(name, hello)| Some((name, hello.as_ref()?))).collect();
        if answered.is_empty() {
            return;
        }
        let replica_set = answered.iter().any(|(_, hello)| hello.set_name.is_some());
        self.rec.set(&REPLICA_SET, [], f64::from(u8::from(replica_set)));
        let primaries: Vec<_> = answered.iter().filter(|(_, hello)| hello.state == MemberState::Primary).collect();
        #[allow(clippy::cast_precision_loss, reason = "a set has at most 50 members")]
        self.rec.set(&PRIMARIES, [], primaries.len() as f64);
        self.rec.add(&PRIMARY_CHANGES, [], 0.0);
        // While a new primary and a deposed one that does not know it yet both answer, the higher term is the truth.
        let Some((name, hello)) = primaries.into_iter().max_by_key(|(_, hello)| hello.election_term) else { return };
        if let Some(term) = hello.election_term {
            #[allow(clippy::cast_precision_loss, reason = "terms count elections")]
            self.rec.set(&ELECTION_TERM, [], term as f64);
        }
        if known.primary.replace((*name).clone()).is_some_and(|before| before != **name) {
            self.rec.add(&PRIMARY_CHANGES, [], 1.0);
        }
    }
}

impl Drop for Census<'_> {
    fn drop(&mut self) {
        let answers = std::mem::take(&mut *self.answers());
        let mut known = self.memory.lock();
        for (member, hello) in &answers {
            self.record_member(member, hello.as_ref(), &mut known);
        }
        self.record_set(&answers, &mut known);
    }
}

/// Shared by the probes that replace each other.
pub(super) type SharedMemory = Arc<Memory>;
