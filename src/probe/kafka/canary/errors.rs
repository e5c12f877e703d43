//! What librdkafka says of a failure, as a reason and words.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::probe::net::clean;
use crate::probe::{Failure, Reason};

/// A failure for an error that librdkafka returned. What it may quote of the configuration is left out.
pub(super) fn failure(what: &str, error: &KafkaError) -> Failure {
    match error {
        KafkaError::ClientConfig(_, _, key, _) => {
            Failure::new(Reason::Local, format!("{what}: librdkafka refuses the setting {key}"))
        }
        // The text is that of a setting or of the system; a certificate that cannot be read is the usual one.
        KafkaError::ClientCreation(text) => told(what, Code::Fail, Reason::Local, text),
        other => match other.rdkafka_error_code() {
            Some(code) => Failure::new(reason(code), clean(&format!("{what}: {code}"))),
            None => Failure::new(Reason::Internal, clean(&format!("{what}: {other}"))),
        },
    }
}

/// A failure for an event with a text of librdkafka's, which is more precise than the code.
pub(super) fn event(code: Code, text: &str) -> Failure {
    told("librdkafka", code, reason(code), text)
}

fn told(what: &str, code: Code, fallback: Reason, text: &str) -> Failure {
    let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    // Errors of the operating system and of OpenSSL have no code of their own, only their words.
    let reason = match code {
        Code::SSL if has(&["certificate verify failed", "Broker certificate could not be verified"]) => {
            Reason::Certificate
        }
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Fail => {
            if has(&["Connection refused"]) {
                Reason::Refused
            } else if has(&["No route to host", "Network is unreachable", "Host is unreachable"]) {
                Reason::Unreachable
            } else if has(&["timed out", "timeout"]) {
                Reason::Timeout
            } else {
                fallback
            }
        }
        _ => fallback,
    };
    Failure::new(reason, clean(&format!("{what}: {text}")))
}

/// The reason that a code alone stands for.
fn reason(code: Code) -> Reason {
    match code {
        Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
            Reason::Timeout
        }
        Code::Resolve => Reason::Resolve,
        Code::AllBrokersDown | Code::BrokerNotAvailable => Reason::Unreachable,
        Code::BrokerTransportFailure | Code::NetworkException | Code::BrokerDestroy => Reason::Closed,
        Code::SSL => Reason::Tls,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Reason::Auth,
        Code::LeaderNotAvailable | Code::NotLeaderForPartition => Reason::NotPrimary,
        Code::ThrottlingQuotaExceeded => Reason::Overload,
        Code::QueueFull | Code::CriticalSystemResource => Reason::Local,
        Code::Underflow | Code::BadMessage | Code::UnsupportedFeature => Reason::Protocol,
        Code::Inconsistent | Code::State | Code::Conflict | Code::InvalidArgument => Reason::Internal,
        _ => Reason::Rejected,
    }
}

/// A failure for what the brokers say of the topic.
pub(super) fn of_topic(topic: &str, code: Code) -> Failure {
    let words = match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic => {
            format!("the topic {topic} does not exist: create it, or let midwatch with manage = \"create\"")
        }
        Code::TopicAuthorizationFailed => format!("this user may not use the topic {topic}"),
        other => format!("the topic {topic}: {other}"),
    };
    Failure::new(reason(code), words)
}

/// Whether no retry will help before somebody changes something.
pub(super) fn is_final(reason: Reason) -> bool {
    matches!(reason, Reason::Auth | Reason::Certificate | Reason::Tls)
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaConfRes;

    use super::*;

    #[test]
    fn words_tell_more_than_codes() {
        for (code, text, expected) in [
            (
                Code::BrokerTransportFailure,
                "a:1/1: Connect to ipv4#1.2.3.4:1 failed: Connection refused",
                Reason::Refused,
            ),
            (
                Code::BrokerTransportFailure,
                "a:1/1: Connect to ipv4#1.2.3.4:1 failed: No route to host",
                Reason::Unreachable,
            ),
            (Code::BrokerTransportFailure, "a:1/1: Disconnected (after 3ms in state UP)", Reason::Closed),
            (
                Code::SSL,
                "a:1/1: SSL handshake failed: error:…:certificate verify failed: (after 1ms)",
                Reason::Certificate,
            ),
            (Code::SSL, "a:1/1: SSL handshake failed: Disconnected", Reason::Tls),
            (Code::Authentication, "a:1/1: SASL authentication error: Invalid credentials", Reason::Auth),
            (Code::AllBrokersDown, "1/1 brokers are down", Reason::Unreachable),
        ] {
            assert_eq!(event(code, text).reason, expected, "{text}");
        }
    }

    #[test]
    fn values_of_settings_are_not_repeated() {
        let error = KafkaError::ClientConfig(
            RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "no hunter2".into(),
            "sasl.password".into(),
            "hunter2".into(),
        );
        let failure = failure("the producer", &error);
        assert!(failure.detail.contains("sasl.password") && !failure.detail.contains("hunter2"), "{failure}");
    }
}
