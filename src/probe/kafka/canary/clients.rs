//! librdkafka's two clients: how they are set up, and what they call back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, ProducerContext};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::books::Books;
use super::config::Config;
use super::errors;
use super::ledger::Id;
use crate::probe::kafka::access::{Sasl, ScramHash};
use crate::probe::kafka::client::connect::Dialer;
use crate::probe::net::TlsConfig;
use crate::settings::{FileContent, Secret};

/// The producer.
pub(super) type Producer = BaseProducer<Callbacks>;
/// The consumer.
pub(super) type Consumer = BaseConsumer<Callbacks>;

/// How long a token's server may take: librdkafka's thread waits for it.
const TOKEN_PATIENCE: Duration = Duration::from_secs(10);

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
    /// Where everything is entered.
    pub(super) books: Arc<Books>,
    /// Who has tokens.
    pub(super) dialer: Arc<Dialer>,
    /// What fetches them.
    pub(super) runtime: Handle,
}

impl ClientContext for Callbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

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

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let (token, lifetime) = self
            .runtime
            .block_on(async { timeout(TOKEN_PATIENCE, self.dialer.token()).await })?
            .ok_or("there are no tokens")??;
        // librdkafka wants the wall clock's time, in milliseconds.
        let until = SystemTime::now().duration_since(UNIX_EPOCH)? + lifetime;
        let lifetime_ms = i64::try_from(until.as_millis())?;
        // The principal is for librdkafka's log; brokers take it from the token.
        Ok(OAuthToken { token: token.to_string(), principal_name: "midwatch".to_owned(), lifetime_ms })
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
    let bootstrap: Vec<_> = config.access.bootstrap.iter().map(ToString::to_string).collect();
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap.join(","))
        .set("client.id", "midwatch-canary")
        .set("reconnect.backoff.max.ms", RECONNECT_MS)
        .set("socket.timeout.ms", SOCKET_TIMEOUT_MS)
        .set("socket.nagle.disable", "true")
        .set("topic.metadata.refresh.interval.ms", METADATA_MS)
        .set("log.connection.close", "false");
    let (tls, sasl) = (config.access.tls.as_ref(), config.access.sasl.as_ref());
    settings.set(
        "security.protocol",
        match (tls.is_some(), sasl.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        },
    );
    if let Some(tls) = tls {
        set_tls(&mut settings, tls);
    }
    match sasl {
        None => {}
        Some(Sasl::Plain { username, password }) => set_login(&mut settings, "PLAIN", username, password),
        Some(Sasl::Scram { hash: ScramHash::Sha256, username, password }) => {
            set_login(&mut settings, "SCRAM-SHA-256", username, password);
        }
        Some(Sasl::Scram { hash: ScramHash::Sha512, username, password }) => {
            set_login(&mut settings, "SCRAM-SHA-512", username, password);
        }
        Some(Sasl::Bearer(_)) => {
            settings.set("sasl.mechanism", "OAUTHBEARER");
        }
    }
    settings
}

fn set_login(settings: &mut ClientConfig, mechanism: &str, username: &str, password: &Secret) {
    settings.set("sasl.mechanism", mechanism).set("sasl.username", username).set("sasl.password", password.expose());
}

/// The contents of files rather than their paths: what was checked is what is used.
fn set_tls(settings: &mut ClientConfig, tls: &TlsConfig) {
    let text = |file: &FileContent| String::from_utf8_lossy(file.bytes()).into_owned();
    match &tls.ca {
        Some(ca) => settings.set("ssl.ca.pem", text(ca)),
        // The system's roots, wherever this system has them.
        None => settings.set("ssl.ca.location", "probe"),
    };
    if let Some((chain, key)) = &tls.client {
        settings.set("ssl.certificate.pem", text(chain)).set("ssl.key.pem", text(key));
    }
    if tls.insecure {
        settings.set("enable.ssl.certificate.verification", "false");
    }
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
pub(super) fn admin(config: &Config, callbacks: Callbacks) -> KafkaResult<rdkafka::admin::AdminClient<Callbacks>> {
    common(config).create_with_context(callbacks)
}
