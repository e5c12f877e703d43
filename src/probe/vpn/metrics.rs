//! What the probe records.

use crate::label_values::label_values;
use crate::metrics::{Counter, Desc, Gauge, Histogram, Phases, VPN};

/// The stages of a knock, in order.
pub(super) const CONNECT: &str = "connect";
pub(super) const TLS: &str = "tls";
pub(super) const HANDSHAKE: &str = "handshake";
pub(super) const INSIDE: &str = "inside";
/// All stages together, which the recorder observes.
pub(super) const TOTAL: &str = "total";

label_values! {
    /// What the server answered with.
    pub enum Reply {
        /// WireGuard's handshake response.
        Response = "response",
        /// A cookie instead of an answer: the server is under load, or takes us for a flood.
        Cookie = "cookie",
        /// OpenVPN's server hard reset.
        ServerReset = "server_reset",
        /// An accepted IKE_SA_INIT.
        SaInit = "sa_init",
        /// IKE's NO_PROPOSAL_CHOSEN.
        NoProposal = "no_proposal_chosen",
        /// IKE's INVALID_KE_PAYLOAD.
        InvalidKe = "invalid_ke_payload",
        /// IKE's INVALID_MAJOR_VERSION.
        InvalidVersion = "invalid_major_version",
        /// Another notification of IKE.
        OtherNotify = "other_notify",
        /// AnyConnect's request to log in.
        AuthRequest = "auth_request",
        /// SSTP's HTTP 200.
        Accepted = "accepted",
    }
}

label_values! {
    /// Why a packet was not taken for an answer.
    pub enum Ignored {
        /// It answers an earlier packet than the last one.
        Late = "late",
        /// It belongs to a session that is not ours: a wrong receiver index, session id or SPI.
        ForeignSession = "foreign_session",
        /// Its authentication is wrong.
        Forged = "forged",
        /// It is no packet of the protocol, or one that does not belong here.
        Malformed = "malformed",
    }
}

static STAGE_DURATION: Histogram<2> = Histogram::new(
    "midwatch_vpn_stage_duration_seconds",
    "Duration of each stage of a knock at the server, failed stages included; handshake is the round trip of the packet that was \
     answered, total is all stages.",
    &["server", "stage"],
    VPN,
)
.known(&[&[CONNECT], &[TLS], &[HANDSHAKE], &[INSIDE], &[TOTAL]]);

static STAGE_FAILURES: Counter<3> = Counter::new(
    "midwatch_vpn_stage_failures_total",
    "Number of knocks that failed, by the stage and the reason they failed for.",
    &["server", "stage", "reason"],
)
.known(&[
    &[CONNECT, "refused"],
    &[CONNECT, "unreachable"],
    &[CONNECT, "timeout"],
    &[CONNECT, "local"],
    &[TLS, "tls"],
    &[TLS, "certificate"],
    &[TLS, "closed"],
    &[TLS, "protocol"],
    &[TLS, "timeout"],
    &[HANDSHAKE, "timeout"],
    &[HANDSHAKE, "refused"],
    &[HANDSHAKE, "unreachable"],
    &[HANDSHAKE, "closed"],
    &[HANDSHAKE, "psk_mismatch"],
    &[HANDSHAKE, "wrap_mismatch"],
    &[HANDSHAKE, "clock_behind"],
    &[HANDSHAKE, "rate_limited"],
    &[HANDSHAKE, "overload"],
    &[HANDSHAKE, "protocol"],
    &[HANDSHAKE, "mismatch"],
    &[HANDSHAKE, "local"],
    &[INSIDE, "data_plane_timeout"],
    &[INSIDE, "timeout"],
    &[INSIDE, "refused"],
    &[INSIDE, "unreachable"],
    &[INSIDE, "closed"],
    &[INSIDE, "mismatch"],
    &[INSIDE, "protocol"],
    &[INSIDE, "resolve"],
    &[INSIDE, "wrong_interface"],
    &[INSIDE, "local"],
]);

/// The stages of a knock.
pub(super) static STAGES: Phases = Phases { duration: &STAGE_DURATION, failures: &STAGE_FAILURES };

pub(super) static UP: Gauge<1> = Gauge::new(
    "midwatch_vpn_up",
    "Whether every stage that was configured went well: the handshake, and every target inside.",
    &["server"],
);

pub(super) static STAGE_SUCCESS: Gauge<2> = Gauge::new(
    "midwatch_vpn_stage_success",
    "Whether the stage went well in the last knock; absent for a stage that was not reached.",
    &["server", "stage"],
);

pub(super) static INSIDE_DURATION: Histogram<2> = Histogram::new(
    "midwatch_vpn_inside_round_trip_seconds",
    "Round trip to a target inside: of each echo, of a connection's handshake, to an answer's first byte; only what was answered.",
    &["server", "inside"],
    VPN,
);

pub(super) static INSIDE_SUCCESS: Gauge<2> = Gauge::new(
    "midwatch_vpn_inside_success",
    "Whether the target inside answered as it should.",
    &["server", "inside"],
);

pub(super) static INSIDE_FAILURES: Counter<3> = Counter::new(
    "midwatch_vpn_inside_failures_total",
    "Number of questions to a target inside that failed, by the reason.",
    &["server", "inside", "reason"],
);

pub(super) static SENT: Counter<2> = Counter::new(
    "midwatch_vpn_packets_sent_total",
    "Number of packets that were sent to be answered, by the stage: first packets of handshakes, and echoes inside.",
    &["server", "stage"],
);

pub(super) static LOST: Counter<2> = Counter::new(
    "midwatch_vpn_packets_lost_total",
    "Number of packets that were sent to be answered and were not, by the stage.",
    &["server", "stage"],
);

pub(super) static LOSS_RATIO: Gauge<2> = Gauge::new(
    "midwatch_vpn_loss_ratio",
    "Share of the last packets (as many as `loss_window` says) that were not answered, by the stage.",
    &["server", "stage"],
);

pub(super) static RETRIES: Counter<1> = Counter::new(
    "midwatch_vpn_handshake_retries_total",
    "Number of first packets that were sent again because nobody answered.",
    &["server"],
);

pub(super) static REPLIES: Counter<2> = Counter::new(
    "midwatch_vpn_replies_total",
    "Number of answers to a knock by what the server answered with.",
    &["server", "reply"],
);

pub(super) static IGNORED: Counter<2> = Counter::new(
    "midwatch_vpn_ignored_packets_total",
    "Number of packets that came from the server's address and were not taken for an answer, by the reason.",
    &["server", "why"],
)
.known(&[&["late"], &["foreign_session"], &["forged"], &["malformed"]]);

pub(super) static CLOCK: Counter<2> = Counter::new(
    "midwatch_vpn_round_trip_clock_total",
    "Number of round trips by whose clock timed them: the kernel's, or the program's where the kernel gave no time.",
    &["server", "clock"],
)
.known(&[&["kernel"], &["user"]]);

pub(super) static CERTIFICATE_EXPIRY: Gauge<1> = Gauge::new(
    "midwatch_vpn_certificate_expiry_timestamp_seconds",
    "Unix time at which the certificate that the server showed expires.",
    &["server"],
);

pub(super) static TLS_INFO: Gauge<2> = Gauge::new(
    "midwatch_vpn_tls_info",
    "Always 1; the version of TLS that the server agreed to.",
    &["server", "version"],
);

pub(super) static ADDRESSES: Gauge<0> =
    Gauge::new("midwatch_vpn_addresses", "Number of addresses of the server's name.", &[]);

pub(super) static KEY_INFO: Gauge<2> = Gauge::new(
    "midwatch_vpn_key_info",
    "Always 1; the beginning of our public key, which no two instances of midwatch may share, because the tunnel would move back and forth.",
    &["server", "key"],
);

/// All of them.
pub(super) const ALL: &[&Desc] = &[
    STAGE_DURATION.desc(),
    STAGE_FAILURES.desc(),
    UP.desc(),
    STAGE_SUCCESS.desc(),
    INSIDE_DURATION.desc(),
    INSIDE_SUCCESS.desc(),
    INSIDE_FAILURES.desc(),
    SENT.desc(),
    LOST.desc(),
    LOSS_RATIO.desc(),
    RETRIES.desc(),
    REPLIES.desc(),
    IGNORED.desc(),
    CLOCK.desc(),
    CERTIFICATE_EXPIRY.desc(),
    TLS_INFO.desc(),
    ADDRESSES.desc(),
    KEY_INFO.desc(),
];
