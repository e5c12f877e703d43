//! What is recorded of partitions that are being moved.

use crate::metrics::{Counter, Gauge};

pub(in super::super) static MOVING: Gauge<0> = Gauge::new(
    "kafka_reassignment_partitions_in_progress",
    "Number of partitions whose replicas are being moved.",
    &[],
);

pub(in super::super) static MOVE_BROKER_REMAINING: Gauge<1> = Gauge::new(
    "kafka_reassignment_remaining_bytes",
    "What the broker has yet to receive of the partitions that are being moved to it.",
    &["broker"],
);

pub(in super::super) static MOVE_BROKER_RATE: Gauge<1> =
    Gauge::new("kafka_reassignment_rate_bytes_per_second", "How fast that shrinks.", &["broker"]);

pub(in super::super) static MOVE_ETA: Gauge<0> = Gauge::new(
    "kafka_reassignment_eta_seconds",
    "Time until all moves are over at the present rates; absent while that is not known.",
    &[],
);

pub(in super::super) static MOVE_REMAINING: Gauge<3> = Gauge::new(
    "kafka_reassignment_partition_remaining_bytes",
    "What the broker has yet to receive of the partition.",
    &["topic", "partition", "broker"],
);

pub(in super::super) static MOVE_RECORDS: Gauge<3> = Gauge::new(
    "kafka_reassignment_partition_remaining_records",
    "Number of records that the broker has yet to receive of the partition.",
    &["topic", "partition", "broker"],
);

pub(in super::super) static MOVE_PARTITION_ETA: Gauge<3> = Gauge::new(
    "kafka_reassignment_partition_eta_seconds",
    "Time until the broker has the partition at the present rate; absent while that is not known.",
    &["topic", "partition", "broker"],
);

pub(in super::super) static MOVE_STALLED: Gauge<3> = Gauge::new(
    "kafka_reassignment_partition_stalled",
    "Whether three measurements in a row, over at least 20 seconds, saw no progress.",
    &["topic", "partition", "broker"],
);

pub(in super::super) static MOVE_STARTED: Gauge<3> = Gauge::new(
    "kafka_reassignment_partition_started_timestamp_seconds",
    "When the move was first seen, as Unix time.",
    &["topic", "partition", "broker"],
);

pub(in super::super) static MOVES_STARTED: Counter<0> =
    Counter::new("kafka_reassignments_started_total", "Number of partitions seen to begin to move.", &[]);

pub(in super::super) static MOVES_COMPLETED: Counter<0> =
    Counter::new("kafka_reassignments_completed_total", "Number of partitions seen to have moved.", &[]);

pub(in super::super) static MOVES_CANCELLED: Counter<0> =
    Counter::new("kafka_reassignments_cancelled_total", "Number of partitions whose move was cancelled.", &[]);
