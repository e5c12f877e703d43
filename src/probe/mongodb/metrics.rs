//! What the probe records.

use crate::metrics::{Counter, Desc, Gauge, Histogram, LAN, Phases};

/// The phases of a new connection, in order.
pub(super) const RESOLVE: &str = "resolve";
pub(super) const TCP: &str = "tcp";
pub(super) const TLS: &str = "tls";
pub(super) const HELLO: &str = "hello";
pub(super) const AUTH: &str = "auth";
pub(super) const COMMAND: &str = "command";
/// All phases together, which the recorder observes.
pub(super) const TOTAL: &str = "total";

static CONNECT_DURATION: Histogram<2> = Histogram::new(
    "midwatch_mongodb_connect_duration_seconds",
    "Duration of each phase of a new connection to a member, failed phases included; total is all of them.",
    &["member", "phase"],
    LAN,
)
.known(&[&[RESOLVE], &[TCP], &[TLS], &[HELLO], &[AUTH], &[COMMAND], &[TOTAL]]);

static CONNECT_FAILURES: Counter<3> = Counter::new(
    "midwatch_mongodb_connect_failures_total",
    "Number of new connections that failed, by the phase and the reason they failed for.",
    &["member", "phase", "reason"],
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
    &[HELLO, "protocol"],
    &[HELLO, "rejected"],
    &[HELLO, "not_primary"],
    &[HELLO, "overload"],
    &[HELLO, "tls"],
    &[HELLO, "closed"],
    &[HELLO, "timeout"],
    &[AUTH, "auth"],
    &[AUTH, "protocol"],
    &[AUTH, "rejected"],
    &[AUTH, "not_primary"],
    &[AUTH, "overload"],
    &[AUTH, "closed"],
    &[AUTH, "timeout"],
    &[COMMAND, "protocol"],
    &[COMMAND, "rejected"],
    &[COMMAND, "not_primary"],
    &[COMMAND, "overload"],
    &[COMMAND, "closed"],
    &[COMMAND, "timeout"],
]);

pub(super) static TCP_CLOCK: Counter<2> = Counter::new(
    "midwatch_mongodb_connect_tcp_clock_total",
    "Number of TCP handshakes by whose clock timed them: the kernel's, or the program's where the kernel has no true time.",
    &["member", "clock"],
)
.known(&[&["kernel"], &["user"]]);

/// The phases of a new connection to a member.
pub(super) static CONNECT: Phases = Phases { duration: &CONNECT_DURATION, failures: &CONNECT_FAILURES };

pub(super) static MEMBER_STATE: Gauge<2> = Gauge::new(
    "midwatch_mongodb_member_state",
    "What the member says it is: 1 for its state and 0 for all others.",
    &["member", "state"],
)
.known(&[
    &["primary"],
    &["secondary"],
    &["hidden"],
    &["arbiter"],
    &["other"],
    &["standalone"],
    &["uninitialized"],
    &["mongos"],
    &["unreachable"],
]);

pub(super) static PRIMARIES: Gauge<0> =
    Gauge::new("midwatch_mongodb_primaries", "Number of members that say they are the primary.", &[]);

pub(super) static ELECTION_TERM: Gauge<0> =
    Gauge::new("midwatch_mongodb_election_term", "The term in which the primary was elected.", &[]);

pub(super) static PRIMARY_CHANGES: Counter<0> = Counter::new(
    "midwatch_mongodb_primary_changes_total",
    "Number of times that another member than before was the primary.",
    &[],
);

pub(super) static RESTARTS: Counter<1> = Counter::new(
    "midwatch_mongodb_restarts_total",
    "Number of times that the member's process was another one than before.",
    &["member"],
);

pub(super) static REPLICA_SET: Gauge<0> =
    Gauge::new("midwatch_mongodb_replica_set", "Whether any member that answered belongs to a replica set.", &[]);

pub(super) static CERTIFICATE_EXPIRY: Gauge<1> = Gauge::new(
    "midwatch_mongodb_certificate_expiry_timestamp_seconds",
    "Unix time at which the certificate that the member showed expires.",
    &["member"],
);

/// All of them.
pub(super) const ALL: &[&Desc] = &[
    CONNECT_DURATION.desc(),
    CONNECT_FAILURES.desc(),
    TCP_CLOCK.desc(),
    MEMBER_STATE.desc(),
    PRIMARIES.desc(),
    ELECTION_TERM.desc(),
    PRIMARY_CHANGES.desc(),
    RESTARTS.desc(),
    REPLICA_SET.desc(),
    CERTIFICATE_EXPIRY.desc(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Reason;
    use crate::probe::Probe;
    use crate::probe::mongodb::Mongodb;
    use crate::probe::mongodb::hello::MemberState;

    #[test]
    fn every_state_is_known() {
        let known: Vec<_> = MEMBER_STATE.desc().known.iter().map(|tuple| tuple[0]).collect();
        let all: Vec<_> = MemberState::ALL.iter().map(|state| state.label()).collect();
        assert_eq!(known, all);
    }

    #[test]
    fn every_reason_of_a_phase_is_one_of_the_probe() {
        let reasons: Vec<_> =
            Mongodb::REASONS.iter().chain(&[Reason::Timeout, Reason::Internal]).map(|reason| reason.label()).collect();
        for tuple in CONNECT_FAILURES.desc().known {
            assert!(reasons.contains(&tuple[1]), "{tuple:?}");
        }
        for reason in reasons.iter().filter(|reason| **reason != "internal") {
            assert!(CONNECT_FAILURES.desc().known.iter().any(|tuple| tuple[1] == *reason), "{reason} in no phase");
        }
    }
}
