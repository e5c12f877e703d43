//! What the members of one run say of themselves and of their replica set, and what is remembered of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use bson::oid::ObjectId;

use super::hello::{Hello, MemberState};
use super::metrics::{
    CERTIFICATE_EXPIRY, ELECTION_TERM, MEMBER_STATE, PRIMARIES, PRIMARY_CHANGES, REPLICA_SET, RESTARTS, TCP_CLOCK,
};
use crate::metrics::Recorder;
use crate::sync::lock;

/// How many members a probe visits beside the configured ones: as many as a replica set can have
/// (`ReplSetConfig::kMaxMembers`). More is not a replica set but a peer that sends us elsewhere.
const MOST_DISCOVERED: usize = 50;

/// What a probe remembers from run to run, and hands to the probe that replaces it.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Known>);

/// Shared by the probes that replace each other.
pub(super) type SharedMemory = Arc<Memory>;

#[derive(Debug, Default)]
struct Known {
    /// What the SRV records listed last.
    listed: Vec<String>,
    /// Members that others named and that are not configured.
    discovered: BTreeSet<String>,
    /// What a configured member calls itself, once it has said so.
    own_names: HashMap<String, String>,
    /// The process that each member was last time; every member that has series is a key.
    members: HashMap<String, Option<ObjectId>>,
    /// Who was the primary last time, by its own name.
    primary: Option<String>,
}

impl Memory {
    /// The members that earlier runs discovered and that are none of `configured`.
    pub(super) fn discovered(&self, configured: &[String]) -> Vec<String> {
        let known = self.lock();
        known.discovered.iter().filter(|name| !known.covers(configured, name)).cloned().collect()
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
        lock(&self.0)
    }
}

impl Known {
    /// Whether the name is one of `configured`, or what one of them calls itself.
    fn covers(&self, configured: &[String], name: &str) -> bool {
        configured.iter().any(|seed| {
            let own = self.own_names.get(seed);
            seed.eq_ignore_ascii_case(name) || own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        })
    }
}

/// Collects the answers of one run. What they add up to is recorded when the census is dropped: also when the deadline
/// cuts the run off, every member has a state and the set its primaries.
pub(super) struct Census<'r> {
    rec: &'r Recorder,
    memory: &'r Memory,
    /// Whether members that others name are visited.
    discover: bool,
    round: Mutex<Round>,
}

#[derive(Default)]
struct Round {
    /// The members that the operator named, or that the SRV records list.
    configured: Vec<String>,
    answers: BTreeMap<String, Answer>,
}

#[derive(Default)]
struct Answer {
    hello: Option<Hello>,
    /// Whether the member let us in, so that its list of members is worth following. Before that it may be anybody, and
    /// following it would take our connections, and proofs of our password, wherever it likes.
    trusted: bool,
}

impl<'r> Census<'r> {
    pub(super) fn new(rec: &'r Recorder, memory: &'r Memory, configured: Vec<String>, discover: bool) -> Self {
        let round = Round { configured, ..Round::default() };
        Self { rec, memory, discover, round: Mutex::new(round) }
    }

    /// Expects an answer of the member, which is unreachable until it answers. False if one is expected already.
    pub(super) fn expect(&self, member: &str) -> bool {
        self.rec.add(&RESTARTS, [member], 0.0);
        self.rec.start(&TCP_CLOCK, &[member]);
        let mut round = lock(&self.round);
        let new = !round.answers.contains_key(member);
        if new {
            round.answers.insert(member.to_owned(), Answer::default());
        }
        new
    }

    /// Notes what the SRV records list now.
    pub(super) fn list(&self, configured: Vec<String>) {
        lock(&self.round).configured = configured;
    }

    /// Notes a member's answer.
    pub(super) fn answer(&self, member: &str, hello: Hello) {
        let mut round = lock(&self.round);
        if let Some(me) = hello.me.as_ref().filter(|_| round.configured.iter().any(|seed| seed == member)) {
            self.memory.lock().own_names.insert(member.to_owned(), me.clone());
        }
        if let Some(answer) = round.answers.get_mut(member) {
            answer.hello = Some(hello);
        }
    }

    /// Notes that a member let us in.
    pub(super) fn trust(&self, member: &str) {
        if let Some(answer) = lock(&self.round).answers.get_mut(member) {
            answer.trusted = true;
        }
    }

    /// Notes when a member's certificate expires, in Unix seconds.
    pub(super) fn certificate(&self, member: &str, not_after: i64) {
        #[allow(clippy::cast_precision_loss, reason = "a time in seconds stays far below 2^52")]
        self.rec.set(&CERTIFICATE_EXPIRY, [member], not_after as f64);
    }

    /// Members to visit that are not expected yet: configured ones, and those that the answers so far name. A name that may
    /// be what a silent configured member calls itself, because it has the same port, waits until that one has spoken.
    pub(super) fn unvisited(&self) -> Vec<String> {
        let round = lock(&self.round);
        let known = self.memory.lock();
        let unheard = |seed: &&String| {
            let answer = round.answers.get(*seed);
            !known.own_names.contains_key(*seed) && answer.is_some_and(|answer| answer.hello.is_none())
        };
        let unheard_ports: Vec<_> = round.configured.iter().filter(unheard).filter_map(|seed| port(seed)).collect();
        let may_be_alias = |name: &String| port(name).is_some_and(|port| unheard_ports.contains(&port));
        let named = if self.discover { round.named(&known) } else { BTreeSet::new() };
        let named = named.into_iter().filter(|name| !may_be_alias(name));
        round.configured.iter().cloned().chain(named).filter(|name| !round.answers.contains_key(name)).collect()
    }
}

fn port(member: &str) -> Option<&str> {
    member.rsplit_once(':').map(|(_, port)| port)
}

impl Round {
    /// The members that trusted answers name and that are not configured, as many as there can be.
    fn named(&self, known: &Known) -> BTreeSet<String> {
        let trusted = self.answers.values().filter(|answer| answer.trusted).filter_map(|answer| answer.hello.as_ref());
        let names: BTreeSet<_> = trusted.flat_map(|hello| &hello.hosts).collect();
        let new = names.into_iter().filter(|name| !known.covers(&self.configured, name));
        new.take(MOST_DISCOVERED).cloned().collect()
    }
}

impl Drop for Census<'_> {
    fn drop(&mut self) {
        let round = lock(&self.round);
        let mut known = self.memory.lock();
        for (member, answer) in &round.answers {
            self.record_member(member, answer.hello.as_ref(), &mut known);
        }
        self.record_set(&round, &mut known);
        // Without any list, because nobody answered, the members of the run before are still the members.
        if round.answers.values().any(|answer| answer.trusted) {
            known.discovered = if self.discover { round.named(&known) } else { BTreeSet::new() };
            self.forget_members(&round, &mut known);
        }
    }
}

impl Census<'_> {
    fn record_member(&self, member: &str, hello: Option<&Hello>, known: &mut Known) {
        let now = hello.map_or(MemberState::Unreachable, |hello| hello.state);
        for state in MemberState::ALL {
            self.rec.set(&MEMBER_STATE, [member, state.label()], f64::from(u8::from(*state == now)));
        }
        let process = hello.and_then(|hello| hello.process_id);
        let before = known.members.entry(member.to_owned()).or_default();
        if process.is_some() && before.is_some() && process != *before {
            self.rec.add(&RESTARTS, [member], 1.0);
        }
        *before = process.or(*before);
    }

    fn record_set(&self, round: &Round, known: &mut Known) {
        let answered: Vec<_> =
            round.answers.iter().filter_map(|(name, answer)| Some((name, answer.hello.as_ref()?))).collect();
        if answered.is_empty() {
            return;
        }
        let replica_set = answered.iter().any(|(_, hello)| hello.set_name.is_some());
        self.rec.set(&REPLICA_SET, [], f64::from(u8::from(replica_set)));
        self.rec.add(&PRIMARY_CHANGES, [], 0.0);
        // By their own names: one member that is configured under two names is one primary.
        let primaries: BTreeMap<String, &Hello> = answered
            .into_iter()
            .filter(|(_, hello)| hello.state == MemberState::Primary)
            .map(|(name, hello)| (hello.me.as_ref().unwrap_or(name).to_ascii_lowercase(), hello))
            .collect();
        #[allow(clippy::cast_precision_loss, reason = "a set has at most 50 members")]
        self.rec.set(&PRIMARIES, [], primaries.len() as f64);
        // While a new primary and a deposed one that does not know it yet both answer, the higher term is the truth.
        let Some((name, hello)) = primaries.into_iter().max_by_key(|(_, hello)| hello.election_term) else { return };
        if let Some(term) = hello.election_term {
            #[allow(clippy::cast_precision_loss, reason = "terms count elections")]
            self.rec.set(&ELECTION_TERM, [], term as f64);
        }
        if known.primary.replace(name.clone()).is_some_and(|before| before != name) {
            self.rec.add(&PRIMARY_CHANGES, [], 1.0);
        }
    }

    /// Ends the series of members that are neither configured nor named any more.
    fn forget_members(&self, round: &Round, known: &mut Known) {
        let Known { members, discovered, own_names, .. } = known;
        let is_member = |name: &String| round.configured.contains(name) || discovered.contains(name);
        members.retain(|name, _| {
            let stays = is_member(name);
            if !stays {
                self.rec.forget(&["member"], name);
            }
            stays
        });
        own_names.retain(|seed, _| round.configured.contains(seed));
    }
}
