//! The keys of `[probe.kafka_canary.<name>]`.

use std::time::Duration;

use crate::probe::kafka::access::{Access, Sasl};
use crate::settings::{Invalid, Item, Section, Settings, Value};

/// The topic unless the configuration names another.
const TOPIC: &str = "midwatch-canary";
/// How long a record may take unless the configuration says otherwise.
const SLA: Duration = Duration::from_secs(2);

/// The keys of a canary.
#[derive(Debug, PartialEq)]
pub struct Config {
    pub(super) access: Access,
    pub(super) topic: String,
    pub(super) manage: Manage,
    /// How long a record may take to be acknowledged, and to come back.
    pub(super) sla: Duration,
}

/// What the canary may do to its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manage {
    /// Nothing.
    None,
    /// Create it, and give it a partition for each broker that leads none by preference.
    Create,
}

impl Value for Manage {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[("none", Self::None), ("create", Self::Create)])
    }
}

impl Settings for Config {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let access = Access::read(section);
        let topic = section.checked::<String>("topic", |name| is_topic(name)).unwrap_or_else(|| TOPIC.to_owned());
        let manage = section.or("manage", Manage::None);
        let sla = section.checked("sla", is_sla).unwrap_or(SLA);
        let access = access?;
        if access.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) {
            section.problem(Some("tls"), "`tls`: librdkafka checks the host's own name, it has no `server_name`");
        }
        if manage == Manage::Create && matches!(access.sasl, Some(Sasl::Bearer(_))) {
            let words = "`manage`: librdkafka cannot create topics with a token: create the topic, and use \"none\"";
            section.problem(Some("manage"), words);
        }
        Some(Self { access, topic, manage, sla })
    }
}

/// Kafka's own rule for names (`org.apache.kafka.common.internals.Topic`).
fn is_topic(name: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.len() <= 249 && name.bytes().all(good) && !matches!(name, "." | "..") {
        return Ok(());
    }
    Err("expected the name of a topic: up to 249 ASCII letters, digits, `.`, `_` and `-`".to_owned())
}

fn is_sla(sla: &Duration) -> Result<(), String> {
    if (Duration::from_millis(50)..=Duration::from_secs(300)).contains(sla) {
        return Ok(());
    }
    Err("must be from 50ms to 5m".to_owned())
}
