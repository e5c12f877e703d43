//! A broker's properties.

use std::fmt::Write as _;
use std::path::Path;

use super::access::Files;
use super::broker::Ports;
use super::options::Options;

/// The text of the file of a node, by its place among all.
pub(super) fn of(index: usize, ports: &[Ports], options: &Options, files: &Files, folder: &Path) -> String {
    let id = i32::try_from(index + 1).unwrap_or(i32::MAX);
    let voters: Vec<String> =
        (1..).zip(ports).map(|(id, ports): (i32, _)| format!("{id}@{}", ports.controller.address())).collect();
    let own = &ports[index];
    let (client, internal, controller) = (own.client.number(), own.internal.address(), own.controller.address());
    let advertised = options.advertised.get(index).cloned().unwrap_or_else(|| own.client.address());
    let replication = ports.len().min(3).to_string();
    let in_sync = ports.len().min(2).to_string();
    let mut text = String::new();
    let mut set = |name: &str, value: &str| {
        // Writing to a string never fails.
        let _ = writeln!(text, "{name}={value}");
    };
    set("process.roles", "broker,controller");
    set("node.id", &id.to_string());
    set("broker.rack", &format!("rack-{id}"));
    set("controller.quorum.voters", &voters.join(","));
    set("listeners", &format!("CLIENT://0.0.0.0:{client},INTERNAL://{internal},CONTROLLER://{controller}"));
    set("advertised.listeners", &format!("CLIENT://{advertised},INTERNAL://{internal}"));
    let client = options.access.protocol();
    set("listener.security.protocol.map", &format!("CLIENT:{client},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"));
    set("inter.broker.listener.name", "INTERNAL");
    set("controller.listener.names", "CONTROLLER");
    set("log.dirs", &log_dirs(folder, id).join(","));
    for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.num.partitions"), "6");
        set(&format!("{topic}.replication.factor"), &replication);
    }
    set("transaction.state.log.min.isr", &in_sync);
    set("share.coordinator.state.topic.min.isr", &in_sync);
    for (name, value) in FIXED {
        set(name, value);
    }
    for (name, value) in options.access.properties(files).iter().chain(&options.properties) {
        set(name, value);
    }
    text
}

/// The folders that a broker takes for its disks. Two, so that a partition can move between them.
pub(super) fn log_dirs(folder: &Path, id: i32) -> [String; 2] {
    ["a", "b"].map(|disk| folder.join(format!("broker-{id}-{disk}")).display().to_string())
}

/// What is the same everywhere. Times are shorter than Kafka's own, so that tests need not wait, but not so short that a machine that
/// is busy compiling makes brokers lose each other.
const FIXED: [(&str, &str); 22] = [
    ("auto.create.topics.enable", "false"),
    ("group.coordinator.rebalance.protocols", "classic,consumer"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.heartbeat.interval.ms", "200"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("broker.session.timeout.ms", "4000"),
    ("replica.lag.time.max.ms", "5000"),
    ("controlled.shutdown.enable", "false"),
    // Records with timestamps of long ago are for tests to keep.
    ("log.retention.ms", "-1"),
    ("delete.topic.enable", "true"),
    ("log.segment.delete.delay.ms", "1000"),
    ("log.cleaner.backoff.ms", "500"),
    // Allocated at once, 128 MiB by default.
    ("log.cleaner.dedupe.buffer.size", "4194304"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    ("num.recovery.threads.per.data.dir", "1"),
    ("background.threads", "2"),
    ("transaction.remove.expired.transaction.cleanup.interval.ms", "10000"),
];
