//! What a broker answers instead of data.

use std::fmt;

use crate::probe::{Failure, Reason};

/// An error code of Kafka (`org.apache.kafka.common.protocol.Errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i16);

/// Declares the codes that we know by name.
macro_rules! codes {
    ($($name:ident = $code:literal),* $(,)?) => {
        impl ErrorCode {
            $(#[doc = concat!("Code ", $code, ".")]
            #[allow(dead_code, reason = "some are only named in messages")]
            pub const $name: Self = Self($code);)*

            /// Kafka's name of the code, if it is one that brokers answer our requests with.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    UNKNOWN_SERVER_ERROR = -1,
    NONE = 0,
    OFFSET_OUT_OF_RANGE = 1,
    UNKNOWN_TOPIC_OR_PARTITION = 3,
    LEADER_NOT_AVAILABLE = 5,
    NOT_LEADER_OR_FOLLOWER = 6,
    REQUEST_TIMED_OUT = 7,
    REPLICA_NOT_AVAILABLE = 9,
    COORDINATOR_LOAD_IN_PROGRESS = 14,
    COORDINATOR_NOT_AVAILABLE = 15,
    NOT_COORDINATOR = 16,
    INVALID_TOPIC_EXCEPTION = 17,
    INVALID_GROUP_ID = 24,
    TOPIC_AUTHORIZATION_FAILED = 29,
    GROUP_AUTHORIZATION_FAILED = 30,
    CLUSTER_AUTHORIZATION_FAILED = 31,
    UNSUPPORTED_SASL_MECHANISM = 33,
    ILLEGAL_SASL_STATE = 34,
    UNSUPPORTED_VERSION = 35,
    NOT_CONTROLLER = 41,
    INVALID_REQUEST = 42,
    KAFKA_STORAGE_ERROR = 56,
    LOG_DIR_NOT_FOUND = 57,
    SASL_AUTHENTICATION_FAILED = 58,
    LISTENER_NOT_FOUND = 72,
    GROUP_ID_NOT_FOUND = 69,
    FENCED_LEADER_EPOCH = 74,
    UNKNOWN_LEADER_EPOCH = 75,
    OFFSET_NOT_AVAILABLE = 78,
    UNSTABLE_OFFSET_COMMIT = 88,
    THROTTLING_QUOTA_EXCEEDED = 89,
    UNKNOWN_TOPIC_ID = 100,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl ErrorCode {
    /// Whether there is no error.
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// Whether an ACL forbids what was asked for: asking again will not help.
    pub const fn is_forbidden(self) -> bool {
        matches!(
            self,
            Self::TOPIC_AUTHORIZATION_FAILED | Self::GROUP_AUTHORIZATION_FAILED | Self::CLUSTER_AUTHORIZATION_FAILED
        )
    }

    /// Whether our idea of who leads which partition is out of date.
    pub const fn is_stale_topology(self) -> bool {
        matches!(
            self,
            Self::UNKNOWN_TOPIC_OR_PARTITION
                | Self::LEADER_NOT_AVAILABLE
                | Self::NOT_LEADER_OR_FOLLOWER
                | Self::FENCED_LEADER_EPOCH
                | Self::UNKNOWN_LEADER_EPOCH
                | Self::UNKNOWN_TOPIC_ID
        )
    }

    /// Whether our idea of who coordinates a group is out of date, or the coordinator is not ready.
    pub const fn is_stale_coordinator(self) -> bool {
        matches!(self, Self::COORDINATOR_LOAD_IN_PROGRESS | Self::COORDINATOR_NOT_AVAILABLE | Self::NOT_COORDINATOR)
    }

    /// The failure of a request that was answered with this code; `what` names the request.
    pub fn failure(self, what: &str) -> Failure {
        let reason = match self {
            Self::SASL_AUTHENTICATION_FAILED | Self::UNSUPPORTED_SASL_MECHANISM | Self::ILLEGAL_SASL_STATE => {
                Reason::Auth
            }
            Self::THROTTLING_QUOTA_EXCEEDED => Reason::Overload,
            Self::REQUEST_TIMED_OUT => Reason::Timeout,
            _ => Reason::Rejected,
        };
        Failure::new(reason, format!("{what}: {self}"))
    }
}
