//! What is recorded of the cluster as a whole, its brokers and their disks.

use crate::metrics::Gauge;

pub(in super::super) static BROKERS: Gauge<0> = Gauge::new("kafka_brokers", "Number of live brokers.", &[]);

pub(in super::super) static BROKER_INFO: Gauge<2> =
    Gauge::new("kafka_broker_info", "Where a live broker listens, as it advertises.", &["id", "address"]);

pub(in super::super) static CLUSTER_PARTITIONS: Gauge<0> =
    Gauge::new("kafka_cluster_partitions", "Number of partitions of all topics.", &[]);

pub(in super::super) static CLUSTER_OFFLINE: Gauge<0> =
    Gauge::new("kafka_cluster_offline_partitions", "Number of partitions without a leader.", &[]);

pub(in super::super) static CLUSTER_URP: Gauge<0> = Gauge::new(
    "kafka_cluster_under_replicated_partitions",
    "Number of partitions with a replica out of sync that is not just being added.",
    &[],
);

pub(in super::super) static CLUSTER_UNDER_MIN_ISR: Gauge<0> = Gauge::new(
    "kafka_cluster_under_min_isr_partitions",
    "Number of partitions with fewer replicas in sync than producers with acks=all need.",
    &[],
);

pub(in super::super) static CLUSTER_NOT_PREFERRED: Gauge<0> = Gauge::new(
    "kafka_cluster_leader_not_preferred_partitions",
    "Number of partitions that another broker than the preferred one leads.",
    &[],
);

pub(in super::super) static CONTROLLER: Gauge<1> =
    Gauge::new("kafka_cluster_controller", "Set to 1 for the active controller.", &["broker"]);

pub(in super::super) static BROKER_LEADERS: Gauge<1> =
    Gauge::new("kafka_broker_leader_partitions", "Number of partitions that the broker leads.", &["broker"]);

pub(in super::super) static BROKER_REPLICAS: Gauge<1> = Gauge::new(
    "kafka_broker_replica_partitions",
    "Number of partitions that the broker holds a replica of.",
    &["broker"],
);

pub(in super::super) static LEADER_SKEW: Gauge<1> = Gauge::new(
    "kafka_broker_leader_skew_ratio",
    "Number of partitions that the broker leads over the mean of all brokers.",
    &["broker"],
);

pub(in super::super) static REPLICA_SKEW: Gauge<1> = Gauge::new(
    "kafka_broker_replica_skew_ratio",
    "Number of replicas that the broker holds over the mean of all brokers.",
    &["broker"],
);

pub(in super::super) static IMBALANCE: Gauge<1> = Gauge::new(
    "kafka_broker_preferred_leader_imbalance_ratio",
    "Share of the partitions whose preferred leader the broker is that another one leads.",
    &["broker"],
);

pub(in super::super) static DIR_SIZE: Gauge<2> = Gauge::new(
    "kafka_broker_log_dir_size_bytes",
    "Size of the replicas in the log directory; with a filter of topics, of those that it admits.",
    &["broker", "log_dir"],
);

pub(in super::super) static DIR_TOTAL: Gauge<2> = Gauge::new(
    "kafka_broker_log_dir_total_bytes",
    "Size of the disk that holds the log directory.",
    &["broker", "log_dir"],
);

pub(in super::super) static DIR_USABLE: Gauge<2> = Gauge::new(
    "kafka_broker_log_dir_usable_bytes",
    "What is free on the disk that holds the log directory.",
    &["broker", "log_dir"],
);

pub(in super::super) static DIR_OFFLINE: Gauge<2> = Gauge::new(
    "kafka_broker_log_dir_offline",
    "Whether the broker has given the log directory up.",
    &["broker", "log_dir"],
);
