//! The times of the records that groups have yet to read: asked for by timestamp, until each is known well enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::super::client::Lane;
use super::super::client::api::list_offsets::{Asked, ListOffsets, TopicOffsets};
use super::super::state::Source;
use super::{Answers, Collector, tally, wall_ms};

/// How many rounds of questions a cycle has.
const ROUNDS: usize = 3;
/// How many partitions a cycle may ask about, all rounds together: what is left waits for the next cycle.
const QUESTIONS: usize = 5_000;
/// How many timestamps are asked for at once in one partition, when few partitions ask.
const AT_ONCE: usize = 16;

/// Partition and timestamp, by topic.
type Questions = BTreeMap<Arc<str>, BTreeMap<i32, Vec<i64>>>;

impl Collector {
    /// Asks until every age is known well enough, the rounds are over, or the questions used up.
    pub(super) async fn gather_time_lag(&self) {
        let began = Instant::now();
        let (mut left, mut asked, mut failed) = (QUESTIONS, 0, 0);
        for _ in 0..ROUNDS {
            let questions = self.questions(left);
            if questions.is_empty() {
                break;
            }
            left -= questions.values().flat_map(BTreeMap::values).map(Vec::len).sum::<usize>().min(left);
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

    /// What is worth asking, at most `left` questions.
    fn questions(&self, left: usize) -> Questions {
        let state = self.state.lock();
        let (round, now) = (state.offsets_round, wall_ms());
        let mut wanting: BTreeMap<(&Arc<str>, i32), Vec<i64>> = BTreeMap::new();
        let targets = state
            .groups
            .values()
            .flat_map(|group| &group.topics)
            .flat_map(|(name, topic)| topic.commits.iter().map(move |commit| (name, commit)));
        for (name, commit) in targets {
            let Some((target, partition)) = state.topics.get(name).and_then(|log| commit.target(log, round)) else {
                continue;
            };
            let questions = partition.timeline.questions(target, now, AT_ONCE);
            if !questions.is_empty() {
                wanting.entry((name, commit.partition)).or_default().extend(questions);
            }
        }
        // Few may ask much; many ask little each, and everyone has a turn.
        let each = (left / wanting.len().max(1)).clamp(1, AT_ONCE);
        let mut questions = Questions::new();
        for ((name, partition), mut timestamps) in wanting.into_iter().take(left) {
            timestamps.truncate(each);
            timestamps.sort_unstable();
            timestamps.dedup();
            questions.entry(Arc::clone(name)).or_default().insert(partition, timestamps);
        }
        questions
    }

    /// Requests to leaders. A partition may be in a request once, so several timestamps make several requests.
    fn by_leader(&self, questions: &Questions) -> Vec<(i32, ListOffsets, Timestamps)> {
        let state = self.state.lock();
        let mut requests: BTreeMap<(i32, usize), (ListOffsets, Timestamps)> = BTreeMap::new();
        for (name, partitions) in questions {
            let Some(topic) = state.topics.get(name) else { continue };
            for (index, timestamps) in partitions {
                let place = usize::try_from(*index).unwrap_or(usize::MAX);
                let Some(known) = topic.partitions.get(place) else { continue };
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
type Timestamps = BTreeMap<(Arc<str>, i32), i64>;
