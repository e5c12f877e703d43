//! What the canary records. The label `broker` is the id of the broker that led the partition when the record was sent.

use crate::metrics::{Counter, Desc, Gauge, Histogram, LAN, Recorder};

pub(super) static PRODUCE_LATENCY: Histogram<1> = Histogram::new(
    "kafka_canary_produce_latency_seconds",
    "Time from handing a record to the producer until all in-sync replicas had it, by the broker that led its partition.",
    &["broker"],
    LAN,
);

pub(super) static END_TO_END_LATENCY: Histogram<1> = Histogram::new(
    "kafka_canary_end_to_end_latency_seconds",
    "Time from handing a record to the producer until the consumer had it, late ones included.",
    &["broker"],
    LAN,
);

pub(super) static CONNECT_LATENCY: Histogram<1> = Histogram::new(
    "kafka_canary_connect_latency_seconds",
    "Time that a new connection to the broker's advertised address took until requests may be sent: name, TCP, TLS and login if they are used, and the question for API versions.",
    &["broker"],
    LAN,
);

pub(super) static PRODUCED: Counter<1> = Counter::new(
    "kafka_canary_records_produced_total",
    "Number of records handed to the producer, whatever became of them.",
    &["broker"],
);

pub(super) static CONSUMED: Counter<1> = Counter::new(
    "kafka_canary_records_consumed_total",
    "Number of records that came back, each counted once.",
    &["broker"],
);

pub(super) static LOST: Counter<1> = Counter::new(
    "kafka_canary_records_lost_total",
    "Number of records that were acknowledged and that the consumer, having read past them, never saw.",
    &["broker"],
);

pub(super) static LATE: Counter<1> = Counter::new(
    "kafka_canary_records_late_total",
    "Number of records that came back after the time that was allowed for it.",
    &["broker"],
);

pub(super) static DUPLICATED: Counter<1> = Counter::new(
    "kafka_canary_records_duplicated_total",
    "Number of times that a record was in the log once more.",
    &["broker"],
);

pub(super) static FAILED: Counter<1> = Counter::new(
    "kafka_canary_records_failed_total",
    "Number of records that were not acknowledged in the time that was allowed for it, or refused.",
    &["broker"],
);

pub(super) static AVAILABLE: Gauge<1> = Gauge::new(
    "kafka_canary_available",
    "Whether the broker could be connected to in the last run and every record came back in time; 0 for a replica that is down.",
    &["broker"],
);

/// All of them.
pub(super) const ALL: &[&Desc] = &[
    PRODUCE_LATENCY.desc(),
    END_TO_END_LATENCY.desc(),
    CONNECT_LATENCY.desc(),
    PRODUCED.desc(),
    CONSUMED.desc(),
    LOST.desc(),
    LATE.desc(),
    DUPLICATED.desc(),
    FAILED.desc(),
    AVAILABLE.desc(),
];

/// Makes the broker's counters exist: one that begins with its first loss hides it from `increase()`.
pub(super) fn start_counters(rec: &Recorder, broker: &str) {
    for counter in [&PRODUCED, &CONSUMED, &LOST, &LATE, &DUPLICATED, &FAILED] {
        rec.add(counter, [broker], 0.0);
    }
}
