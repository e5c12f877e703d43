//! Partitions that are being moved: which, how much is left, how fast.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::client::api::Api;
use super::super::client::api::list_offsets::{As, Asked, LATEST, ListOffsets};
use super::super::client::api::log_dirs::DescribeLogDirs;
use super::super::client::api::metadata::Metadata;
use super::super::client::api::reassignments::{ListReassignments, Reassignment};
use super::super::client::{ErrorCode, Lane};
use super::super::moves::{Moving, Sample};
use super::super::state::Source;
use super::{Collector, wall};
use crate::metrics::Recorder;
use crate::probe::Failure;

/// How long after its first measurement a replica is measured again, if the run has that much time. A throttled replica receives in
/// bursts: within two seconds it was seen to receive half of what it does in the long run.
const FIRST_STEP: Duration = Duration::from_secs(5);

/// Broker, topic and partition.
type Replica = (i32, Arc<str>, i32);

impl Collector {
    /// One round of the moves cycle: nothing while nothing is known to move. What was measured for the first time is measured again
    /// a little later: one measurement has no rate, and whoever looks wants to know how long it takes.
    ///
    /// # Errors
    /// Nobody tells what moves.
    pub(in super::super) async fn measure_moves(&self, rec: &Recorder) -> Result<(), Failure> {
        let is_quiet = {
            let state = self.state.lock();
            !state.moves.is_active() && state.sources.has_brought(Source::Reassignments)
        };
        if is_quiet {
            return Ok(());
        }
        let listed = self.gather_moves().await;
        self.measure().await;
        listed?;
        let lacks_rates = self.state.lock().moves.lacks_rates();
        if lacks_rates {
            tokio::time::sleep(FIRST_STEP.min(rec.time_left() * 7 / 10)).await;
            self.measure().await;
        }
        Ok(())
    }

    /// Measures each replica that is being added.
    async fn measure(&self) {
        let replicas = self.moving_replicas();
        if replicas.is_empty() {
            return;
        }
        let (sizes, ends) = tokio::join!(self.sizes(&replicas), self.ends(&replicas));
        let mut state = self.state.lock();
        let leaders: HashMap<(Arc<str>, i32), i32> = state.moving_leaders().collect();
        state.moves.measured(Instant::now(), |topic, partition, broker| {
            let key = |broker: i32| (broker, Arc::from(topic), partition);
            let leader = leaders.get(&(Arc::from(topic), partition)).copied();
            Sample {
                leader_bytes: leader.and_then(|leader| sizes.get(&key(leader)).copied()),
                replica_bytes: sizes.get(&key(broker)).copied(),
                leader_end: leader.and_then(|leader| ends.get(&key(leader)).copied()),
                replica_end: ends.get(&key(broker)).copied(),
            }
        });
    }

    /// Asks which partitions are being moved.
    pub(super) async fn gather_moves(&self) -> Result<(), Failure> {
        if self.state.lock().forbidden.holds(Api::ListPartitionReassignments) {
            return Ok(());
        }
        let _listing = self.listing_moves.lock().await;
        let began = Instant::now();
        let answer = self.list_moves().await;
        self.note(Source::Reassignments, (1, usize::from(answer.is_err())), began);
        let Some(listing) = answer? else { return Ok(()) };
        self.state.lock().forbidden.clear(Api::ListPartitionReassignments);
        let ended = self.state.lock().ended_moves(&listing);
        // Whether a move that is over was completed or cancelled shows in the replicas that are left, asked for after it.
        let replicas = if ended.is_empty() { BTreeMap::new() } else { self.replicas_of(ended).await? };
        let moving = listing.iter().map(|moving| {
            let Reassignment { topic, partition, replicas, adding, removing } = moving;
            Moving { topic, partition: *partition, replicas, adding, removing }
        });
        let moving: Vec<_> = moving.collect();
        let now = |topic: &str, partition: i32| replicas.get(topic)?.get(usize::try_from(partition).ok()?).cloned();
        self.state.lock().moves.listed(&moving, now, wall());
        Ok(())
    }

    /// What moves; none if an ACL forbids to know.
    async fn list_moves(&self) -> Result<Option<Vec<Reassignment>>, Failure> {
        let timeout_ms = i32::try_from(self.config.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = ListReassignments { timeout_ms };
        let mut answer = self.client.ask_any(&request).await?;
        if answer.error == ErrorCode::NOT_CONTROLLER {
            // With ZooKeeper only the controller knows, and Metadata names it.
            let controller = self.state.lock().topology.as_ref().map(|topology| topology.controller);
            answer = self.client.ask(controller.unwrap_or(-1), Lane::Main, &request).await?;
        }
        if answer.error.is_forbidden() {
            self.forbidden(Api::ListPartitionReassignments, answer.error);
            return Ok(None);
        }
        if !answer.error.is_ok() {
            return Err(answer.error.failure("ListPartitionReassignments"));
        }
        Ok(Some(answer.partitions.into_iter().filter(|moving| self.config.topics.admits(&moving.topic)).collect()))
    }

    /// The replicas of each partition of some topics.
    async fn replicas_of(&self, topics: BTreeSet<Arc<str>>) -> Result<BTreeMap<Arc<str>, Vec<Vec<i32>>>, Failure> {
        let names = topics.iter().map(ToString::to_string).collect();
        let topology = self.client.ask_any(&Metadata { topics: Some(names) }).await?;
        let known = topology.topics.into_iter().filter(|topic| topic.error.is_ok());
        let replicas = known.map(|topic| {
            (topic.name, topic.partitions.into_iter().map(|partition| partition.replicas.into_vec()).collect())
        });
        Ok(replicas.collect())
    }

    /// The replicas whose progress is of interest: those that come, and their leaders.
    fn moving_replicas(&self) -> BTreeSet<Replica> {
        let state = self.state.lock();
        let leaders = state.moving_leaders().map(|((topic, partition), leader)| (leader, topic, partition));
        let adding = state.moves.each().map(|view| (view.broker, Arc::clone(view.topic), view.partition));
        leaders.chain(adding).collect()
    }

    /// Sizes in bytes.
    async fn sizes(&self, replicas: &BTreeSet<Replica>) -> HashMap<Replica, u64> {
        if self.state.lock().forbidden.holds(Api::DescribeLogDirs) {
            return HashMap::new();
        }
        let mut requests: BTreeMap<i32, BTreeMap<Arc<str>, BTreeSet<i32>>> = BTreeMap::new();
        for (broker, topic, partition) in replicas {
            requests.entry(*broker).or_default().entry(Arc::clone(topic)).or_default().insert(*partition);
        }
        let request = |topics: BTreeMap<_, _>| DescribeLogDirs { topics: Some(topics.into_iter().collect()) };
        let requests = requests.into_iter().map(|(broker, topics)| (broker, request(topics))).collect();
        let mut sizes = HashMap::new();
        for (broker, answer) in self.ask_each(Lane::Storage, requests).await {
            for (topic, partitions) in answer.into_iter().flat_map(|dirs| dirs.dirs).flat_map(|dir| dir.topics) {
                let topic: Arc<str> = topic.into();
                for replica in partitions.iter().filter(|replica| !replica.is_future) {
                    let key = (broker, Arc::clone(&topic), replica.partition);
                    sizes.insert(key, u64::try_from(replica.bytes).unwrap_or(0));
                }
            }
        }
        sizes
    }

    /// Where the logs of replicas end, each as the broker that holds it says.
    async fn ends(&self, replicas: &BTreeSet<Replica>) -> HashMap<Replica, i64> {
        let mut requests: BTreeMap<i32, BTreeMap<Arc<str>, Vec<Asked>>> = BTreeMap::new();
        for (broker, topic, partition) in replicas {
            let asked = Asked { partition: *partition, leader_epoch: -1, timestamp: LATEST };
            requests.entry(*broker).or_default().entry(Arc::clone(topic)).or_default().push(asked);
        }
        let request =
            |topics: BTreeMap<_, _>| ListOffsets { as_replica: As::Debugger, topics: topics.into_iter().collect() };
        let requests = requests.into_iter().map(|(broker, topics)| (broker, request(topics))).collect();
        let mut ends = HashMap::new();
        for (broker, answer) in self.ask_each(Lane::Main, requests).await {
            for topic in answer.into_iter().flatten() {
                let name: Arc<str> = topic.name.into();
                for told in topic.partitions.iter().filter(|told| told.error.is_ok() && told.offset >= 0) {
                    ends.insert((broker, Arc::clone(&name), told.partition), told.offset);
                }
            }
        }
        ends
    }
}

impl super::super::state::State {
    /// The leaders of the partitions that move.
    fn moving_leaders(&self) -> impl Iterator<Item = ((Arc<str>, i32), i32)> {
        self.moves.each().filter_map(|view| {
            let topic = self.topics.get(view.topic)?;
            let partition = topic.partitions.get(usize::try_from(view.partition).ok()?)?;
            Some(((Arc::clone(view.topic), view.partition), partition.leader))
        })
    }

    /// The topics of moves that are listed no more.
    fn ended_moves(&self, listing: &[Reassignment]) -> BTreeSet<Arc<str>> {
        let listed: BTreeSet<_> = listing.iter().map(|moving| (&*moving.topic, moving.partition)).collect();
        let ended = self.moves.keys().filter(|(topic, partition)| !listed.contains(&(&***topic, *partition)));
        ended.map(|(topic, _)| Arc::clone(topic)).collect()
    }
}
