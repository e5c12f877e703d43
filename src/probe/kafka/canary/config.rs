//! The keys of `[probe.kafka_canary.<name>]`.

use std::time::Duration;

use crate::settings::{Endpoint, HostPort, Invalid, Item, Section, Settings, Value};

/// Kafka's own port, which an address may leave out.
const PORT: u16 = 9092;
/// The topic unless the configuration names another.
const TOPIC: &str = "midwatch-canary";
/// How long a record may take unless the configuration says otherwise.
const SLA: Duration = Duration::from_secs(2);

/// The keys of a canary.
#[derive(Debug, PartialEq)]
pub struct Config {
    pub(super) bootstrap: Vec<HostPort>,
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
        let bootstrap = section.required::<Vec<Endpoint<PORT>>>("bootstrap");
        if bootstrap.as_ref().is_some_and(Vec::is_empty) {
            section.problem(Some("bootstrap"), "`bootstrap`: expected at least one address");
        }
        let topic = section.checked::<String>("topic", |name| is_topic(name)).unwrap_or_else(|| TOPIC.to_owned());
        let manage = section.or("manage", Manage::None);
        let sla = section.checked("sla", is_sla).unwrap_or(SLA);
        let bootstrap = bootstrap?.into_iter().map(|endpoint| endpoint.0).collect();
        Some(Self { bootstrap, topic, manage, sla })
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
