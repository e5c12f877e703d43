//! Topics, partitions, leaders, groups, members: the slower part of what a lag is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::super::client::api::configs::DescribeConfigs;
use super::super::client::api::groups::{
    ConsumerGroupDescribe, DescribeGroups, Described, FindCoordinator, ListGroups, Listed, MANY_KEYS,
};
use super::super::client::api::list_offsets::{Asked, EARLIEST, ListOffsets};
use super::super::client::api::metadata::{Broker, Metadata, Topology};
use super::super::client::api::quorum::DescribeQuorum;
use super::super::client::api::{Api, Request};
use super::super::client::{BrokerAddress, Lane};
use super::super::state::{GroupKind, SETTINGS, Source, TopicState};
use super::{Answers, Collector, tally, wall};
use crate::probe::{Failure, Reason};

/// How old settings of topics may become.
const SETTINGS_AGE: Duration = Duration::from_secs(600);
/// How old the name of the controller may become.
const CONTROLLER_AGE: Duration = Duration::from_secs(60);
/// How many topics are asked about in one request for settings: each is a lookup for the broker.
const TOPICS_A_REQUEST: usize = 1000;

/// What came of listing topics and groups.
struct Listing {
    /// Whether nothing was known before; then starts of logs and settings were asked for as well.
    is_first: bool,
    /// Whether any broker told its groups.
    groups: Result<(), Failure>,
}

impl Collector {
    /// Lists topics and groups if nobody has done so yet, or if what is known has proved out of date.
    pub(in super::super) async fn ensure_listed(&self) -> Result<(), Failure> {
        let _listing = self.listing.lock().await;
        let is_good = {
            let mut state = self.state.lock();
            // What is told now is told in the first round, if no other has begun.
            state.cluster_round = state.cluster_round.max(1);
            state.topology.is_some() && !state.stale
        };
        if !is_good || self.relist.load(Ordering::Relaxed) {
            // Whether any group is known too will show when its commits are asked for.
            self.list().await?;
        }
        Ok(())
    }

    /// One round of the cluster cycle.
    ///
    /// # Errors
    /// Nobody tells what topics there are, or no broker which groups.
    pub(in super::super) async fn gather_cluster(&self) -> Result<(), Failure> {
        self.state.lock().cluster_round += 1;
        let Listing { is_first, groups } = {
            let _listing = self.listing.lock().await;
            self.list().await?
        };
        tokio::join!(
            self.describe_groups(),
            async {
                if !is_first {
                    tokio::join!(self.gather_starts(), self.gather_settings());
                }
            },
            async { drop(self.gather_moves().await) },
            self.gather_controller(),
        );
        groups
    }

    /// Lists topics, then groups.
    async fn list(&self) -> Result<Listing, Failure> {
        // Cleared before anybody is asked: what proves out of date meanwhile is asked for again.
        let is_first = {
            let mut state = self.state.lock();
            state.stale = false;
            state.topology.is_none()
        };
        let brokers = match self.gather_topology().await {
            Ok(brokers) => brokers,
            Err(failure) => {
                self.state.lock().stale = true;
                return Err(failure);
            }
        };
        self.relist.store(false, Ordering::Relaxed);
        let groups = self.gather_groups(&brokers).await;
        if is_first {
            // Without the starts of logs, what was deleted before a group read it would be lag until the cluster cycle has had its
            // turn; and what time lag makes of answers depends on whether a log is compacted.
            tokio::join!(self.gather_settings(), self.gather_starts());
        }
        let mut state = self.state.lock();
        // Who leads those is found out in the next cycle, whichever that is, and not only in the next one of this rhythm.
        state.stale |= state.has_leaderless();
        drop(state);
        Ok(Listing { is_first, groups })
    }

    async fn gather_topology(&self) -> Result<Vec<i32>, Failure> {
        let began = Instant::now();
        let answer = self.client.ask_any(&Metadata::default()).await;
        self.note(Source::Metadata, (1, usize::from(answer.is_err())), began);
        let topology: Topology = answer?;
        if topology.brokers.is_empty() {
            // A broker that has only just started knows nobody yet; taken at its word, everything would be gone.
            return Err(Failure::new(Reason::Protocol, "a broker answered that the cluster has none"));
        }
        let address =
            |broker: &Broker| BrokerAddress { id: broker.id, host: Arc::clone(&broker.host), port: broker.port };
        self.client.learn(&topology.brokers.iter().map(address).collect::<Vec<_>>());
        let brokers = topology.brokers.iter().map(|broker| broker.id).collect();
        let mut state = self.state.lock();
        state.moves.forget_ended(began);
        state.set_topology(topology, |topic| self.config.topics.admits(topic), wall());
        Ok(brokers)
    }

    /// Asks every broker for the groups that it coordinates: together that is the map of coordinators.
    async fn gather_groups(&self, brokers: &[i32]) -> Result<(), Failure> {
        let began = Instant::now();
        let requests = brokers.iter().map(|broker| (*broker, ListGroups)).collect();
        let answers = self.ask_each(Lane::Main, requests).await;
        let (mut listed, mut silent) = (Vec::new(), BTreeSet::new());
        let (mut refused, mut is_forbidden) = (None, false);
        for (broker, answer) in &answers {
            match answer {
                Ok(listing) if listing.error.is_ok() => {
                    let admitted = listing.groups.iter().filter(|listed| self.config.groups.admits(&listed.group));
                    listed.extend(admitted.map(|listed| (*broker, listed.clone())));
                }
                Ok(listing) => {
                    if listing.error.is_forbidden() {
                        is_forbidden = true;
                        self.forbidden(Api::ListGroups, listing.error);
                    }
                    refused.get_or_insert_with(|| listing.error.failure("ListGroups"));
                    silent.insert(*broker);
                }
                Err(_) => drop(silent.insert(*broker)),
            }
        }
        if !is_forbidden && silent.len() < answers.len() {
            self.state.lock().forbidden.clear(Api::ListGroups);
        }
        self.note(Source::Groups, (answers.len(), silent.len()), began);
        let listed = self.settle(listed).await;
        self.state.lock().set_groups(listed, &silent, |group| self.config.groups.admits(group));
        let failure = tally(&answers).1.cloned().or(refused);
        failure.filter(|_| silent.len() == answers.len()).map_or(Ok(()), Err)
    }

    /// While a group moves, two brokers list it. Then the cluster is asked who coordinates it; a tie without an answer goes to
    /// the one that is not about to forget it.
    async fn settle(&self, mut listed: Vec<(i32, Listed)>) -> Vec<(i32, Listed)> {
        listed.sort_by(|(a_broker, a), (b_broker, b)| (&a.group, *a_broker).cmp(&(&b.group, *b_broker)));
        let same = |pair: &[(i32, Listed)]| pair[0].1.group == pair[1].1.group;
        let twice: Vec<_> =
            listed.windows(2).filter(|pair| same(pair)).map(|pair| Arc::clone(&pair[0].1.group)).collect();
        if !twice.is_empty() {
            let found = self.find_coordinators(&twice).await;
            let rank = |(broker, listed): &(i32, Listed)| {
                (found.get(&*listed.group) != Some(broker), &*listed.state == "Dead", &*listed.state == "Empty")
            };
            listed.sort_by(|a, b| (&a.1.group, rank(a)).cmp(&(&b.1.group, rank(b))));
            listed.dedup_by(|a, b| a.1.group == b.1.group);
        }
        listed
    }

    async fn find_coordinators(&self, groups: &[Arc<str>]) -> BTreeMap<Box<str>, i32> {
        let Some(broker) = self.state.lock().live_brokers().first().copied() else { return BTreeMap::new() };
        let many = self.client.version(broker, Lane::Main, Api::FindCoordinator).await;
        let size = if matches!(many, Ok(Some(version)) if version >= MANY_KEYS) { groups.len() } else { 1 };
        let ask = async |groups: &[Arc<str>]| {
            let answer = self.client.ask(broker, Lane::Main, &FindCoordinator { groups: groups.to_vec() }).await;
            let found = answer.unwrap_or_default().into_iter().filter(|found| found.error.is_ok());
            // Old versions answer without the name that was asked for.
            let name = |found: &str| if size == 1 { groups.first().map_or("", |group| &**group) } else { found }.into();
            found.map(|found| (name(&found.group), found.broker)).collect::<Vec<_>>()
        };
        join_all(groups.chunks(size).map(ask)).await.into_iter().flatten().collect()
    }

    /// Asks coordinators for members and what these own.
    async fn describe_groups(&self) {
        let (mut classic, mut consumer) = (BTreeMap::new(), BTreeMap::new());
        for (name, group) in &self.state.lock().groups {
            match group.kind {
                GroupKind::Classic => {
                    classic
                        .entry(group.coordinator)
                        .or_insert_with(DescribeGroups::default)
                        .groups
                        .push(Arc::clone(name));
                }
                GroupKind::Consumer => {
                    let request = consumer.entry(group.coordinator).or_insert_with(ConsumerGroupDescribe::default);
                    request.groups.push(Arc::clone(name));
                }
                GroupKind::Other => {}
            }
        }
        let (classic, consumer) = tokio::join!(self.ask_each(Lane::Main, classic), self.ask_each(Lane::Main, consumer));
        let answers: Answers<Vec<Described>> = classic.into_iter().chain(consumer).collect();
        let mut state = self.state.lock();
        for described in answers.into_iter().filter_map(|(_, answer)| answer.ok()).flatten() {
            if described.error.is_stale_coordinator() {
                state.stale = true;
            }
            state.describe_group(described);
        }
        state.forget_descriptions();
    }

    /// Asks leaders where logs begin.
    async fn gather_starts(&self) {
        let asked = |partition, known: &super::super::state::PartitionState| Asked {
            partition,
            leader_epoch: known.leader_epoch,
            timestamp: EARLIEST,
        };
        let (requests, round) = {
            let state = self.state.lock();
            (state.by_leader(asked), state.cluster_round)
        };
        let requests =
            requests.into_iter().map(|(leader, topics)| (leader, ListOffsets { topics, ..ListOffsets::default() }));
        let answers = self.ask_each(Lane::Main, requests.collect()).await;
        let mut state = self.state.lock();
        for topic in answers.into_iter().filter_map(|(_, answer)| answer.ok()).flatten() {
            let Some(known) = state.topics.get_mut(&*topic.name) else { continue };
            for told in topic.partitions.iter().filter(|told| told.error.is_ok() && told.offset >= 0) {
                let place = usize::try_from(told.partition).unwrap_or(usize::MAX);
                if let Some(partition) = known.partitions.get_mut(place) {
                    partition.begins(told.offset, round);
                }
            }
        }
    }

    /// Asks for settings of topics, seldom.
    async fn gather_settings(&self) {
        let (topics, is_recent): (Vec<_>, bool) = {
            let state = self.state.lock();
            let is_recent = state.settings_asked.is_some_and(|asked| asked.elapsed() < SETTINGS_AGE);
            let is_wanted = |topic: &TopicState| !is_recent || (topic.min_isr.is_none() && !topic.is_secret);
            if state.forbidden.holds(Api::DescribeConfigs) {
                return;
            }
            let wanted = state.topics.iter().filter(|(_, topic)| is_wanted(topic));
            (wanted.map(|(name, _)| Arc::clone(name)).collect(), is_recent)
        };
        if topics.is_empty() {
            return;
        }
        let began = Instant::now();
        let ask = async |topics: &[Arc<str>]| {
            self.client.ask_any(&DescribeConfigs { topics: topics.to_vec(), keys: SETTINGS }).await
        };
        let answers = join_all(topics.chunks(TOPICS_A_REQUEST).map(ask)).await;
        let told = answers.iter().flatten().flatten().filter(|config| config.error.is_ok()).count();
        self.note(Source::Configs, (topics.len(), topics.len().saturating_sub(told)), began);
        let mut forbidden = None;
        {
            let mut state = self.state.lock();
            if !is_recent {
                state.settings_asked = Some(Instant::now());
            }
            for config in answers.into_iter().flatten().flatten() {
                if config.error.is_forbidden() {
                    forbidden = Some(config.error);
                }
                state.set_settings(&config.topic, config.error, &config.values);
            }
            // A right may be missing for some topics only: then the others are still worth asking about.
            if told > 0 || state.topics.values().any(|topic| topic.min_isr.is_some()) {
                state.forbidden.clear(Api::DescribeConfigs);
                return;
            }
        }
        if let Some(error) = forbidden {
            self.forbidden(Api::DescribeConfigs, error);
        }
    }

    /// Asks who the active controller is. With KRaft, Metadata names any broker; with ZooKeeper there is no quorum to be asked,
    /// and Metadata is right.
    async fn gather_controller(&self) {
        let is_due = {
            let state = self.state.lock();
            !state.forbidden.holds(Api::DescribeQuorum)
                && state.controller_asked.is_none_or(|asked| asked.elapsed() >= CONTROLLER_AGE)
        };
        let Some(broker) = self.state.lock().live_brokers().first().copied().filter(|_| is_due) else { return };
        let controller = match self.client.version(broker, Lane::Main, DescribeQuorum::API).await {
            Ok(None) => self.state.lock().topology.as_ref().map(|topology| topology.controller),
            Ok(Some(_)) => match self.client.ask_any(&DescribeQuorum).await {
                Ok(quorum) if quorum.error.is_ok() => {
                    self.state.lock().forbidden.clear(Api::DescribeQuorum);
                    Some(quorum.leader)
                }
                Ok(quorum) if quorum.error.is_forbidden() => {
                    self.forbidden(Api::DescribeQuorum, quorum.error);
                    None
                }
                Ok(_) | Err(_) => None,
            },
            Err(_) => None,
        };
        let mut state = self.state.lock();
        state.controller = controller.filter(|id| *id >= 0);
        state.controller_asked = Some(Instant::now());
    }
}
