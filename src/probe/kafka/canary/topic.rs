//! The canary's topic: created, and given a partition for a new broker, if the configuration lets it. What is there is
//! never moved, changed or removed.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::clients::{self, Callbacks};
use super::config::Config;
use super::errors;
use super::view::View;
use crate::probe::{Failure, Reason};

/// How many copies there are of a record, if there are as many brokers.
const REPLICAS: usize = 3;
/// How long the controller may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the topic, with a partition for each broker that is up.
///
/// # Errors
/// What the controller answers; that somebody else was faster is none.
pub(super) fn create(config: &Config, callbacks: Callbacks, view: &View) -> Result<(), Failure> {
    let count = view.brokers.len();
    let replicas = count.min(REPLICAS);
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(number(replicas));
    // A broker that is down leaves two of three, and then records are as safe as ever.
    let in_sync = if replicas == REPLICAS { "2" } else { "1" };
    let topic = NewTopic::new(&config.topic, number(count), replication)
        .set("cleanup.policy", "delete")
        .set("retention.ms", "3600000")
        .set("min.insync.replicas", in_sync);
    let runtime = callbacks.runtime.clone();
    let admin = clients::admin(config, callbacks).map_err(|error| errors::failure("create the topic", &error))?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let answer = runtime.block_on(admin.create_topics([&topic], &options));
    judge("create the topic", answer, Code::TopicAlreadyExists)
}

/// Gives the topic a partition for each broker that none prefers as its leader.
///
/// # Errors
/// What the controller answers; that somebody else was faster is none.
pub(super) fn extend(config: &Config, callbacks: Callbacks, view: &View) -> Result<(), Failure> {
    let new = additions(view);
    if new.is_empty() {
        return Ok(());
    }
    let assignment: Vec<&[i32]> = new.iter().map(Vec::as_slice).collect();
    let partitions = NewPartitions::new(&config.topic, view.partitions.len() + new.len()).assign(&assignment);
    let runtime = callbacks.runtime.clone();
    let admin = clients::admin(config, callbacks).map_err(|error| errors::failure("add partitions", &error))?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let answer = runtime.block_on(admin.create_partitions([&partitions], &options));
    judge("add partitions", answer, Code::InvalidPartitions)
}

fn judge(what: &str, answer: KafkaResult<Vec<TopicResult>>, fine: Code) -> Result<(), Failure> {
    let results = answer.map_err(|error| errors::failure(what, &error))?;
    match results.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some((_, code)) if code == fine => Ok(()),
        Some((_, code)) => Err(errors::failure(what, &KafkaError::AdminOp(code))),
    }
}

/// The replicas of the partitions that are missing, the broker that shall lead first. None while a partition has no
/// leader or a broker that holds the topic is down: a broker that is away is not to be mistaken for one that is new.
fn additions(view: &View) -> Vec<Vec<i32>> {
    let whole = view.partitions.iter().all(|partition| partition.leader.is_some());
    let all_up = view.everyone().len() == view.brokers.len();
    let Some(copies) = view.partitions.first().map(|partition| partition.replicas.len()).filter(|_| whole && all_up)
    else {
        return Vec::new();
    };
    let preferred: BTreeSet<_> = view.partitions.iter().filter_map(|partition| partition.replicas.first()).collect();
    let ids: Vec<i32> = view.brokers.keys().copied().collect();
    let around = |from: usize| ids.iter().cycle().skip(from).take(copies.min(ids.len())).copied().collect();
    let new = ids.iter().enumerate().filter(|(_, id)| !preferred.contains(id));
    new.map(|(at, _)| around(at)).collect()
}

/// What a run says that finds the topic missing just as it is made.
pub(super) fn being_made(topic: &str) -> Failure {
    Failure::new(Reason::Rejected, format!("the topic {topic} is being created"))
}

#[cfg(test)]
mod tests {
    use super::super::view::Partition;
    use super::*;
    use crate::settings::HostPort;

    fn view(brokers: &[i32], partitions: &[&[i32]]) -> View {
        let brokers = brokers.iter().map(|id| (*id, HostPort { host: "b".to_owned(), port: 1 })).collect();
        let partitions = partitions.iter().enumerate().map(|(id, replicas)| Partition {
            id: i32::try_from(id).unwrap(),
            leader: replicas.first().copied(),
            replicas: replicas.to_vec(),
        });
        View { brokers, partitions: partitions.collect(), problem: None }
    }

    #[test]
    fn a_new_broker_gets_a_partition_that_it_leads() {
        assert_eq!(additions(&view(&[1, 2, 3], &[&[1, 2], &[2, 3], &[3, 1]])), Vec::<Vec<i32>>::new());
        assert_eq!(additions(&view(&[1, 2, 3], &[&[1, 2], &[2, 1]])), [[3, 1]]);
        assert_eq!(additions(&view(&[1, 2, 3, 4], &[&[3, 2, 1], &[1, 3, 2]])), [[2, 3, 4], [4, 1, 2]]);
    }

    #[test]
    fn nothing_is_added_while_something_is_amiss() {
        assert_eq!(additions(&view(&[1, 3], &[&[1, 2]])), Vec::<Vec<i32>>::new(), "a replica is down");
        let mut leaderless = view(&[1, 2], &[&[1]]);
        leaderless.partitions[0].leader = None;
        assert_eq!(additions(&leaderless), Vec::<Vec<i32>>::new());
        assert_eq!(additions(&view(&[1, 2], &[])), Vec::<Vec<i32>>::new());
    }
}
