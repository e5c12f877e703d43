//! What the collector says of itself, and of a client's way to the brokers.

use crate::metrics::{Counter, Gauge, Histogram, LAN, Phases};

pub(in super::super) static SOURCE_SUCCESS: Gauge<1> =
    Gauge::new("kafka_collector_success", "Whether the last round of the source brought anything.", &["source"]).known(
        &[
            &["offsets"],
            &["commits"],
            &["time_lag"],
            &["metadata"],
            &["groups"],
            &["reassignments"],
            &["configs"],
            &["log_dirs"],
        ],
    );

pub(in super::super) static SOURCE_TIME: Gauge<1> = Gauge::new(
    "kafka_collector_last_success_timestamp_seconds",
    "When the source last brought anything, as Unix time.",
    &["source"],
)
.known(&[
    &["offsets"],
    &["commits"],
    &["time_lag"],
    &["metadata"],
    &["groups"],
    &["reassignments"],
    &["configs"],
    &["log_dirs"],
]);

pub(in super::super) static SOURCE_DURATION: Gauge<1> =
    Gauge::new("kafka_collector_duration_seconds", "Duration of the last round of the source.", &["source"]).known(&[
        &["offsets"],
        &["commits"],
        &["time_lag"],
        &["metadata"],
        &["groups"],
        &["reassignments"],
        &["configs"],
        &["log_dirs"],
    ]);

pub(in super::super) static SOURCE_PARTIAL: Gauge<1> = Gauge::new(
    "kafka_collector_partial",
    "Whether something is missing from the last round of the source, so that sums are withheld.",
    &["source"],
)
.known(&[
    &["offsets"],
    &["commits"],
    &["time_lag"],
    &["metadata"],
    &["groups"],
    &["reassignments"],
    &["configs"],
    &["log_dirs"],
]);

pub(in super::super) static REQUESTS: Counter<2> = Counter::new(
    "kafka_collector_requests_total",
    "Number of requests sent; broker -1 is whichever answers first.",
    &["broker", "api"],
);

pub(in super::super) static REQUEST_ERRORS: Counter<2> = Counter::new(
    "kafka_collector_request_errors_total",
    "Number of requests that were not answered, or refused.",
    &["broker", "api"],
);

pub(in super::super) static BROKER_UP: Gauge<1> = Gauge::new(
    "kafka_collector_broker_up",
    "Whether the broker answered its last request; also for brokers that hold replicas and have left the cluster.",
    &["broker"],
);

pub(in super::super) static SERIES_DROPPED: Counter<1> = Counter::new(
    "kafka_collector_series_dropped_total",
    "Number of values left out because their metric had as many series as it may have.",
    &["family"],
);

pub(in super::super) static ADDRESSES: Gauge<1> = Gauge::new(
    "kafka_broker_addresses",
    "Number of addresses that the name resolves to by which the broker advertises itself.",
    &["broker"],
);

/// The phases of a client's way to a broker, in order.
pub(in super::super) const RESOLVE: &str = "resolve";
pub(in super::super) const TCP: &str = "tcp";
pub(in super::super) const TLS: &str = "tls";
pub(in super::super) const API_VERSIONS: &str = "api_versions";
pub(in super::super) const AUTH: &str = "auth";

pub(super) static CONNECT_DURATION: Histogram<2> = Histogram::new("kafka_broker_connect_duration_seconds", "Duration of each phase of a new connection to the address that the broker advertises, failed phases included; total is all of them.", &["broker", "phase"], LAN).known(&[&[RESOLVE], &[TCP], &[TLS], &[API_VERSIONS], &[AUTH], &["total"]]);

pub(super) static CONNECT_FAILURES: Counter<3> = Counter::new(
    "kafka_broker_connect_failures_total",
    "Number of new connections that failed, by the phase and the reason they failed for.",
    &["broker", "phase", "reason"],
)
.known(&[
    &[RESOLVE, "resolve"],
    &[RESOLVE, "local"],
    &[RESOLVE, "timeout"],
    &[TCP, "refused"],
    &[TCP, "unreachable"],
    &[TCP, "closed"],
    &[TCP, "timeout"],
    &[TCP, "local"],
    &[TLS, "tls"],
    &[TLS, "certificate"],
    &[TLS, "closed"],
    &[TLS, "local"],
    &[TLS, "timeout"],
    &[API_VERSIONS, "protocol"],
    &[API_VERSIONS, "rejected"],
    &[API_VERSIONS, "closed"],
    &[API_VERSIONS, "timeout"],
    &[AUTH, "auth"],
    &[AUTH, "protocol"],
    &[AUTH, "rejected"],
    &[AUTH, "closed"],
    &[AUTH, "timeout"],
]);

/// The phases of a new connection to a broker.
pub(in super::super) static CONNECT: Phases = Phases { duration: &CONNECT_DURATION, failures: &CONNECT_FAILURES };
