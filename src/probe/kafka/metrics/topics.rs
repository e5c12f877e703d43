//! What is recorded of topics and partitions.

use crate::metrics::{Counter, Gauge};

pub(in super::super) static TOPIC_PARTITIONS: Gauge<1> =
    Gauge::new("kafka_topic_partitions", "Number of partitions of the topic.", &["topic"]);

pub(in super::super) static PARTITION_END: Gauge<2> = Gauge::new(
    "kafka_topic_partition_current_offset",
    "Offset of the next record that consumers will see.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_START: Gauge<2> = Gauge::new(
    "kafka_topic_partition_oldest_offset",
    "Offset of the oldest record that is retained.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_LEADER: Gauge<2> = Gauge::new(
    "kafka_topic_partition_leader",
    "Broker id of the leader, -1 if there is none.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_REPLICAS: Gauge<2> = Gauge::new(
    "kafka_topic_partition_replicas",
    "Number of replicas of the partition, those that are being added included.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_ISR: Gauge<2> = Gauge::new(
    "kafka_topic_partition_in_sync_replica",
    "Number of replicas of the partition that are in sync.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_PREFERRED: Gauge<2> = Gauge::new(
    "kafka_topic_partition_leader_is_preferred",
    "Whether the preferred leader leads the partition.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_URP: Gauge<2> = Gauge::new(
    "kafka_topic_partition_under_replicated_partition",
    "Whether a replica that is not just being added is out of sync.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_OFFLINE: Gauge<2> = Gauge::new(
    "kafka_topic_partition_offline",
    "Set to 1 for each partition without a leader.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_UNDER_MIN_ISR: Gauge<2> = Gauge::new(
    "kafka_topic_partition_under_min_isr",
    "Set to 1 for each partition with fewer replicas in sync than producers with acks=all need.",
    &["topic", "partition"],
);

pub(in super::super) static PARTITION_HOT: Gauge<2> = Gauge::new(
    "kafka_topic_partition_hot",
    "Set to 1 for each partition that receives far more than the other partitions of its topic.",
    &["topic", "partition"],
);

pub(in super::super) static LEADER_CHANGES: Counter<1> = Counter::new(
    "kafka_topic_leader_changes_total",
    "Number of times that a partition of the topic was seen with another leader than before.",
    &["topic"],
);

pub(in super::super) static COUNT_CHANGES: Counter<2> = Counter::new(
    "kafka_topic_partition_count_changes_total",
    "Number of times that the topic was seen with more or fewer partitions than before.",
    &["topic", "direction"],
)
.known(&[&["increase"], &["decrease"]]);

pub(in super::super) static COUNT_CHANGED: Gauge<1> = Gauge::new(
    "kafka_topic_partitions_last_change_timestamp_seconds",
    "When the number of partitions of the topic was last seen to change, as Unix time; absent until it does.",
    &["topic"],
);

pub(in super::super) static REPLICATION: Gauge<1> = Gauge::new(
    "kafka_topic_replication_factor",
    "Number of replicas of a partition of the topic, those that are being added left out; the least of all partitions.",
    &["topic"],
);

pub(in super::super) static TOPIC_SIZE: Gauge<1> =
    Gauge::new("kafka_topic_size_bytes", "Size of all replicas of the topic on the disks of all brokers.", &["topic"]);

pub(in super::super) static HOT_RATIO: Gauge<1> = Gauge::new(
    "kafka_topic_hot_partition_ratio",
    "Rate of records of the busiest partition of the topic over the mean of all.",
    &["topic"],
);

pub(in super::super) static HOT_ID: Gauge<1> =
    Gauge::new("kafka_topic_hot_partition_id", "Number of the busiest partition of the topic.", &["topic"]);

pub(in super::super) static RATE_CV: Gauge<1> = Gauge::new(
    "kafka_topic_partition_rate_cv",
    "Coefficient of variation of the rates of records of the partitions of the topic.",
    &["topic"],
);
