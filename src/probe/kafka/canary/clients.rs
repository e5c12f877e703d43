//! librdkafka's two clients: how they are set up, and what they call back.

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, ProducerContext};

use super::books::Books;
use super::config::Config;
use super::errors;
use super::ledger::Id;

/// The producer.
pub(super) type Producer = BaseProducer<Callbacks>;
/// The consumer.
pub(super) type Consumer = BaseConsumer<Callbacks>;

/// The longest that librdkafka waits before it tries a broker again: short enough for a broker that is back to be seen
/// within a run or two.
const RECONNECT_MS: &str = "2000";
/// The longest that a request may stay unanswered before its connection is given up.
const SOCKET_TIMEOUT_MS: &str = "10000";
/// How often librdkafka asks who leads, besides after every error.
const METADATA_MS: &str = "10000";

/// What librdkafka calls back, on the threads that poll.
#[derive(Clone)]
pub(super) struct Callbacks {
    books: Arc<Books>,
}

impl Callbacks {
    /// Everything is entered in `books`.
    pub(super) fn new(books: &Arc<Books>) -> Self {
        Self { books: Arc::clone(books) }
    }
}

impl ClientContext for Callbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = false;

    /// Brokers come and go, and librdkafka says so each time: nothing that a person has to read. What makes a run fail is
    /// in its verdict.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, text: &str) {
        match error.rdkafka_error_code() {
            None | Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::NoError) => {}
            // Of the group, which is named because librdkafka wants one, nothing is used.
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
            Some(code) => self.books.trouble(errors::event(code, text)),
        }
    }
}

impl ConsumerContext for Callbacks {}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = Box<Id>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<Id>) {
        match result {
            Ok(message) => self.books.acked(*id, Some(message.offset()).filter(|offset| *offset >= 0)),
            Err((error, _)) => self.books.failed(*id, &errors::failure("produce", error)),
        }
    }
}

/// What both clients have in common.
fn common(config: &Config) -> ClientConfig {
    let bootstrap: Vec<_> = config.bootstrap.iter().map(ToString::to_string).collect();
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap.join(","))
        .set("client.id", "midwatch-canary")
        .set("reconnect.backoff.max.ms", RECONNECT_MS)
        .set("socket.timeout.ms", SOCKET_TIMEOUT_MS)
        .set("socket.nagle.disable", "true")
        .set("topic.metadata.refresh.interval.ms", METADATA_MS)
        .set("log.connection.close", "false");
    settings
}

/// A producer that sends each record at once and counts it as sent only when all in-sync replicas have it.
///
/// # Errors
/// What librdkafka refuses.
pub(super) fn producer(config: &Config, callbacks: Callbacks) -> KafkaResult<Producer> {
    common(config)
        .set("linger.ms", "0")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", config.sla.as_millis().to_string())
        .create_with_context(callbacks)
}

/// A consumer that reads the partitions it is told to. The group is in name only: nothing is joined, nothing committed.
///
/// # Errors
/// What librdkafka refuses.
pub(super) fn consumer(config: &Config, callbacks: Callbacks) -> KafkaResult<Consumer> {
    common(config)
        .set("group.id", "midwatch-canary")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // An offset that is not there any more means another log: that is for the accounts to know.
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("fetch.error.backoff.ms", "100")
        .create_with_context(callbacks)
}

/// A client for creating topics and partitions.
///
/// # Errors
/// What librdkafka refuses.
pub(super) fn admin(
    config: &Config,
    callbacks: Callbacks,
) -> KafkaResult<rdkafka::admin::AdminClient<Callbacks>> {
    common(config).create_with_context(callbacks)
}
