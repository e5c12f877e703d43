//! The times of the records that groups have yet to read: asked for by timestamp, until each is known well enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::super::client::Lane;
use super::super::client::api::list_offsets::{Asked, ListOffsets, TopicOffsets};
use super::super::state::Source;
use super::super::timeline::Target;
use super::{Answers, Collector, tally, wall_ms};

/// How many rounds of questions a cycle has.
const ROUNDS: usize = 3;
/// How many partitions a cycle may ask about: the others have their turn in the next one.
const PARTITIONS: usize = 5_000;
/// How many timestamps a round may ask for in all partitions together, as far as each then has its least.
const QUESTIONS: usize = 4_800;
/// The least and the most that one partition may ask for in a round, whatever the number of its groups.
const OF_PARTITION: (usize, usize) = (4, 64);
/// The most that one group may ask for in a partition in a round: more make the answer no better.
const OF_GROUP: usize = 16;

/// A partition by topic and number.
type Place = (Arc<str>, i32);
/// Where groups stand whose ages are not known well enough, by partition.
type Wanting = BTreeMap<Place, Vec<Target>>;
/// Partition and timestamps, by topic.
type Questions = BTreeMap<Arc<str>, BTreeMap<i32, Vec<i64>>>;

impl Collector {
    /// Asks until every age is known well enough, or the rounds are over.
    pub(super) async fn gather_time_lag(&self) {
        let began = Instant::now();
        let (mut asked, mut failed) = (0, 0);
        let mut wanting = self.wanting();
        for _ in 0..ROUNDS {
            let questions = self.questions(&mut wanting);
            if questions.is_empty() {
                break;
            }
            let requests = self.by_leader(&questions);
            let ask = async |(broker, request, timestamps): (i32, ListOffsets, Timestamps)| {
                let answer = self.client.ask(broker, Lane::Main, &request).await;
                (broker, answer.map(|topics| (topics, timestamps)))
            };
            let answers: Answers<(Vec<TopicOffsets>, Timestamps)> = join_all(requests.into_iter().map(ask)).await;
            let (counts, _) = tally(&answers);
            (asked, failed) = (asked + counts.0, failed + counts.1);
            self.learn(answers);
        }
        self.note(Source::TimeLag, (asked, failed), began);
    }

    /// The partitions that have a turn in this cycle.
    fn wanting(&self) -> Wanting {
        let mut state = self.state.lock();
        let now = wall_ms();
        let mut wanting = Wanting::new();
        for (name, partitions) in state.targets() {
            let Some(topic) = state.topics.get(&name) else { continue };
            for (index, mut targets) in partitions {
                let Some(known) = topic.partition(index) else { continue };
                targets.retain(|target| !known.timeline.questions(*target, now, 1).is_empty());
                if !targets.is_empty() {
                    wanting.insert((Arc::clone(&name), index), targets);
                }
            }
        }
        take_turns(wanting, &mut state.time_lag_turn)
    }

    /// What to ask next. Partitions that have nothing to ask any more are dropped.
    fn questions(&self, wanting: &mut Wanting) -> Questions {
        let state = self.state.lock();
        let now = wall_ms();
        // Few may ask much, many little each.
        let most = (QUESTIONS / wanting.len().max(1)).clamp(OF_PARTITION.0, OF_PARTITION.1);
        let mut questions = Questions::new();
        wanting.retain(|(name, index), targets| {
            let Some(known) = state.topics.get(name).and_then(|topic| topic.partition(*index)) else { return false };
            targets.retain(|target| !known.timeline.questions(*target, now, 1).is_empty());
            let each = (most / targets.len().max(1)).clamp(1, OF_GROUP);
            let mut timestamps: Vec<_> =
                targets.iter().flat_map(|target| known.timeline.questions(*target, now, each)).take(most).collect();
            timestamps.sort_unstable();
            timestamps.dedup();
            if !timestamps.is_empty() {
                questions.entry(Arc::clone(name)).or_default().insert(*index, timestamps);
            }
            !targets.is_empty()
        });
        questions
    }

    /// Requests to leaders. A partition may be in a request once, so several timestamps make several requests.
    fn by_leader(&self, questions: &Questions) -> Vec<(i32, ListOffsets, Timestamps)> {
        let state = self.state.lock();
        let mut requests: BTreeMap<(i32, usize), (ListOffsets, Timestamps)> = BTreeMap::new();
        for (name, partitions) in questions {
            let Some(topic) = state.topics.get(name) else { continue };
            for (index, timestamps) in partitions {
                let Some(known) = topic.partition(*index) else { continue };
                for (layer, timestamp) in timestamps.iter().enumerate() {
                    let (request, asked) = requests.entry((known.leader, layer)).or_default();
                    if request.topics.last().is_none_or(|(last, _)| last != name) {
                        request.topics.push((Arc::clone(name), Vec::new()));
                    }
                    let question = Asked { partition: *index, leader_epoch: known.leader_epoch, timestamp: *timestamp };
                    if let Some((_, questions)) = request.topics.last_mut() {
                        questions.push(question);
                    }
                    asked.insert((Arc::clone(name), *index), *timestamp);
                }
            }
        }
        requests.into_iter().map(|((leader, _), (request, asked))| (leader, request, asked)).collect()
    }

    fn learn(&self, answers: Answers<(Vec<TopicOffsets>, Timestamps)>) {
        let mut state = self.state.lock();
        for (topics, timestamps) in answers.into_iter().filter_map(|(_, answer)| answer.ok()) {
            for topic in topics {
                let name: Arc<str> = topic.name.into();
                for told in topic.partitions {
                    let key = (Arc::clone(&name), told.partition);
                    let (Some(asked), true) = (timestamps.get(&key), told.error.is_ok()) else { continue };
                    if let Some(partition) = state.partition_mut(&name, told.partition) {
                        let found = (told.offset >= 0).then_some((told.offset, told.timestamp));
                        partition.timeline.learn(*asked, found, partition.end.0);
                    }
                }
            }
        }
    }
}

/// The timestamp that a request asks for in each partition.
type Timestamps = BTreeMap<Place, i64>;

/// As many partitions as a cycle may ask about, on from the one that is the next to have a turn.
fn take_turns(mut wanting: Wanting, next: &mut Option<Place>) -> Wanting {
    if wanting.len() <= PARTITIONS {
        return wanting;
    }
    let later = next.take().map(|next| wanting.split_off(&next)).unwrap_or_default();
    let mut waiting = later.into_iter().chain(wanting);
    let chosen = waiting.by_ref().take(PARTITIONS).collect();
    *next = waiting.next().map(|(place, _)| place);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_its_turn() {
        let all: Wanting = (0..12_345).map(|index| (("orders".into(), index), Vec::new())).collect();
        let (mut next, mut turns) = (None, BTreeMap::new());
        for _ in 0..5 {
            let chosen = take_turns(all.clone(), &mut next);
            assert_eq!(chosen.len(), PARTITIONS);
            for place in chosen.into_keys() {
                *turns.entry(place).or_insert(0) += 1;
            }
        }
        assert_eq!(turns.len(), all.len());
        assert!(turns.values().all(|turns| (2..=3).contains(turns)));
        let few: Wanting = all.into_iter().take(PARTITIONS).collect();
        assert_eq!(take_turns(few, &mut next).len(), PARTITIONS);
    }
}
