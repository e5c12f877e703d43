//! Administration by Kafka's own tools: slow, a second or two each, and the truth to compare with.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::options::Version;
use crate::{Error, Result, until};

const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";

/// What Kafka's own tool says of a group and a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// The committed offset, if any.
    pub committed: Option<i64>,
    /// The offset of the next record to be produced.
    pub end: Option<i64>,
    /// The lag, where there is a commit.
    pub lag: Option<i64>,
    /// The member that has the partition.
    pub member: Option<String>,
}

/// Where a partition should be.
#[derive(Debug, Clone)]
pub struct Move<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The ids of the brokers, the preferred leader first.
    pub replicas: &'a [i32],
}

/// What a right is for. `*` stands for all.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// The cluster.
    Cluster,
    /// A topic.
    Topic(&'a str),
    /// Topics whose name starts with this.
    TopicPrefix(&'a str),
    /// A consumer group.
    Group(&'a str),
}

impl Resource<'_> {
    fn arguments(self) -> Vec<String> {
        let words = match self {
            Resource::Cluster => vec!["--cluster"],
            Resource::Topic(name) => vec!["--topic", name],
            Resource::TopicPrefix(name) => vec!["--topic", name, "--resource-pattern-type", "prefixed"],
            Resource::Group(name) => vec!["--group", name],
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

impl Cluster {
    /// Offsets and lag of every group, by group, topic and partition.
    pub async fn describe_groups(&self) -> Result<BTreeMap<(String, String, i32), GroupOffset>> {
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let text = self.tool(class, &["--describe", "--all-groups", "--offsets"]).await?;
        parse_groups(&text).map_err(|line| Error::Unexpected(format!("`{line}` in: {text}")))
    }

    /// Starts to move partitions, at most so many bytes per second into or out of each broker. [`Cluster::finish_moves`] lifts that.
    pub async fn reassign(&self, moves: &[Move<'_>], throttle: Option<u64>) -> Result<()> {
        let limit = throttle.map(|bytes| bytes.to_string());
        let mut more = vec!["--execute", "--additional"];
        if let Some(limit) = &limit {
            more.extend(["--throttle", limit]);
        }
        self.moves(&plan(moves, |_| None), &more).await.map(drop)
    }

    /// Starts to move a partition's replica on one broker to that broker's second disk, at most so many bytes per second.
    pub async fn move_to_second_disk(&self, one: &Move<'_>, broker: i32, throttle: Option<u64>) -> Result<()> {
        let disk = self.log_dirs(broker)[1].clone();
        let limit = throttle.map(|bytes| bytes.to_string());
        let mut more = vec!["--execute", "--additional"];
        if let Some(limit) = &limit {
            more.extend(["--replica-alter-log-dirs-throttle", limit]);
        }
        let plan = plan(std::slice::from_ref(one), |id| (id == broker).then(|| disk.clone()));
        self.moves(&plan, &more).await.map(drop)
    }

    /// The moves under way, a line each: `topic-partition: replicas: 1,2. adding: 2. removing: 1.`
    pub async fn moves_under_way(&self) -> Result<Vec<String>> {
        let text = self.tool(REASSIGN, &["--list"]).await?;
        Ok(text.lines().filter(|line| line.contains(": replicas: ")).map(str::to_owned).collect())
    }

    /// Waits until nothing moves any more, and lifts the limits of these moves.
    pub async fn finish_moves(&self, moves: &[Move<'_>], patience: Duration) -> Result<()> {
        until("partitions to be moved", patience, async || match self.moves_under_way().await {
            Ok(lines) if lines.is_empty() => Ok(()),
            Ok(lines) => Err(lines.join("; ")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        self.moves(&plan(moves, |_| None), &["--verify"]).await.map(drop)
    }

    /// Gives up moves that are under way, and lifts their limits.
    pub async fn cancel_moves(&self, moves: &[Move<'_>]) -> Result<()> {
        self.moves(&plan(moves, |_| None), &["--cancel"]).await.map(drop)
    }

    /// Makes the first replica of every partition its leader, where it is in sync.
    pub async fn elect_preferred(&self) -> Result<()> {
        let arguments = ["--election-type", "preferred", "--all-topic-partitions"];
        self.tool("org.apache.kafka.tools.LeaderElectionCommand", &arguments).await.map(drop)
    }

    /// Sets settings of a topic, and leaves its others.
    pub async fn set_topic(&self, topic: &str, settings: &[(&str, &str)]) -> Result<()> {
        let list: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let arguments = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", &list.join(",")];
        self.tool("kafka.admin.ConfigCommand", &arguments).await.map(drop)
    }

    /// Gives a user rights, in Kafka's words: `Describe`, `DescribeConfigs`, `Read`, ...
    pub async fn allow(&self, user: &str, operations: &[&str], resources: &[Resource<'_>]) -> Result<()> {
        self.acl("--add", user, operations, resources).await
    }

    /// Takes back rights that were given.
    pub async fn disallow(&self, user: &str, operations: &[&str], resources: &[Resource<'_>]) -> Result<()> {
        self.acl("--remove", user, operations, resources).await
    }

    async fn acl(&self, what: &str, user: &str, operations: &[&str], resources: &[Resource<'_>]) -> Result<()> {
        let class = match self.version() {
            Version::Current => "org.apache.kafka.tools.AclCommand",
            Version::V3_9 => "kafka.admin.AclCommand",
        };
        let mut arguments: Vec<String> =
            [what, "--force", "--allow-principal"].into_iter().map(str::to_owned).collect();
        arguments.push(format!("User:{user}"));
        for operation in operations {
            arguments.extend(["--operation".to_owned(), (*operation).to_owned()]);
        }
        arguments.extend(resources.iter().copied().flat_map(Resource::arguments));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.tool(class, &arguments).await.map(drop)
    }

    async fn moves(&self, plan: &Value, arguments: &[&str]) -> Result<String> {
        let file = self.folder().join("moves.json");
        fs::write(&file, plan.to_string()).map_err(Error::io(file.display().to_string()))?;
        let file = file.display().to_string();
        let mut all = vec!["--reassignment-json-file", file.as_str()];
        all.extend(arguments);
        self.tool(REASSIGN, &all).await
    }
}

/// The tool's file. `disk` says on which disk of a broker a replica should be, if that matters.
fn plan(moves: &[Move<'_>], disk: impl Fn(i32) -> Option<String>) -> Value {
    let rows = moves.iter().map(|Move { topic, partition, replicas }| {
        let disks: Vec<String> = replicas.iter().map(|&id| disk(id).unwrap_or_else(|| "any".to_owned())).collect();
        json!({ "topic": topic, "partition": partition, "replicas": replicas, "log_dirs": disks })
    });
    json!({ "version": 1, "partitions": rows.collect::<Vec<Value>>() })
}

/// Reads the tool's tables, one per group, each with a line of headings. The error is the line that does not fit.
fn parse_groups(text: &str) -> Result<BTreeMap<(String, String, i32), GroupOffset>, String> {
    let mut headings: Vec<&str> = Vec::new();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["GROUP", ..] => headings = words,
            [] => headings.clear(),
            // Between the tables it says which group has no members.
            _ if headings.is_empty() || words.len() != headings.len() => {}
            _ => {
                let of = |name: &str| {
                    let place = headings.iter().position(|heading| *heading == name);
                    place.map(|place| words[place]).ok_or_else(|| line.to_owned())
                };
                let number = |name: &str| of(name).map(|word| word.parse::<i64>().ok());
                let partition = of("PARTITION")?;
                // A group without commits has one row that says nothing.
                let Ok(partition) = partition.parse() else { continue };
                let member = Some(of("CONSUMER-ID")?.to_owned()).filter(|id| id != "-");
                let offset = GroupOffset {
                    committed: number("CURRENT-OFFSET")?,
                    end: number("LOG-END-OFFSET")?,
                    lag: number("LAG")?,
                    member,
                };
                rows.insert((of("GROUP")?.to_owned(), of("TOPIC")?.to_owned(), partition), offset);
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_s_tables_are_read() {
        let text = "
Consumer group 'billing' has no active members.

GROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID
billing         orders          0          7               10              3               -               -               -

GROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID
live            orders          1          -               10              -               lab-1           /127.0.0.1      lab
";
        let rows = parse_groups(text).unwrap();
        let key = |group: &str, partition| (group.to_owned(), "orders".to_owned(), partition);
        assert_eq!(rows.len(), 2);
        let expected = GroupOffset { committed: Some(7), end: Some(10), lag: Some(3), member: None };
        assert_eq!(rows[&key("billing", 0)], expected);
        let expected = GroupOffset { committed: None, end: Some(10), lag: None, member: Some("lab-1".to_owned()) };
        assert_eq!(rows[&key("live", 1)], expected);
    }
}
