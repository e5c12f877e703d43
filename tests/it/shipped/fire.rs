//! The shipped rules and the shipped example for Alertmanager in fast motion, and what people are told of a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use lab::alertmanager::Alertmanager;
use lab::prometheus::{Options, Prometheus};
use lab::rules::Acceleration;
use lab::until;
use lab::webhook::{Notice, Webhook};
use tempfile::TempDir;
use tokio::time::sleep;

/// How much faster time passes for rules and for Alertmanager: their five minutes are ten seconds.
pub const FACTOR: u32 = 30;
/// How long a fault may take to be told, or to be forgotten. Not a measure of speed.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long nothing must happen before it counts as nothing: the longest window and `for` of alerts about outages, and then some.
const CALM: Duration = Duration::from_secs(16);

/// An alert as the table of faults names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert(String);

/// By name, severity and the labels that say what it is about.
pub fn alert(name: &str, severity: &str, labels: &[(&str, &str)]) -> Alert {
    let mut labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    Alert(format!("{name} {severity} {}", labels.join(" ")))
}

/// All labels matter but who scraped, and the owner, by whom it was sent where it arrived.
fn named(labels: &BTreeMap<String, String>) -> Alert {
    let of = |wanted: &str| labels.get(wanted).map_or("", String::as_str);
    let apart = ["alertname", "severity", "job", "owner"];
    let rest = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let rest: Vec<_> = rest.filter(|(name, _)| !apart.contains(name)).collect();
    alert(of("alertname"), of("severity"), &rest)
}

/// What a fault must lead to.
#[derive(Default)]
pub struct Expected {
    /// What arrives, and at which of the example's receivers.
    pub told: Vec<(&'static str, Alert)>,
    /// What fires and is not told, because what is told explains it.
    pub inhibited: Vec<Alert>,
}

impl Expected {
    /// Nothing is told, because nobody need do anything.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// This arrives at that receiver.
    pub fn told(mut self, receiver: &'static str, alert: Alert) -> Self {
        self.told.push((receiver, alert));
        self
    }

    /// All that fires.
    fn alerts(&self) -> BTreeSet<Alert> {
        self.told.iter().map(|(_, alert)| alert).chain(&self.inhibited).cloned().collect()
    }

    /// This fires and does not arrive.
    pub fn inhibited(mut self, alert: Alert) -> Self {
        self.inhibited.push(alert);
        self
    }
}

/// What has happened since a moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    told: BTreeSet<(String, Alert)>,
    /// What fires now, told or not.
    firing: BTreeSet<Alert>,
    inhibited: BTreeSet<Alert>,
    /// What would fire if it went on.
    pending: BTreeSet<Alert>,
}

/// Prometheus, Alertmanager and a webhook, watching one midwatch or several.
pub struct Watch {
    pub prometheus: Prometheus,
    alertmanager: Alertmanager,
    webhook: Webhook,
    _rules: TempDir,
}

impl Watch {
    /// Starts all three; `scraping` says of whom.
    pub async fn start(scraping: Options) -> Self {
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
        let rules = tempfile::tempdir().unwrap();
        // Ages in seconds. Those of certificates, restore tests and slow backups are not about outages: they stay as they are.
        let fast = Acceleration::new(FACTOR)
            .threshold("ProbeStale", 120)
            .threshold("KafkaConsumerGroupLagSeconds", 300)
            .threshold("KafkaConsumerGroupStalled", 600);
        let files = fast.copy(&alerts, rules.path()).unwrap();
        let webhook = Webhook::open().await.unwrap();
        let example = std::fs::read_to_string(alerts.join("alertmanager/alertmanager.yml")).unwrap();
        let example = fast.alertmanager(&example).replace("https://alerts.example", &webhook.url());
        let alertmanager = Alertmanager::start(&example).await.unwrap();
        let options = files.into_iter().fold(scraping, Options::rules).alertmanager(alertmanager.address());
        let prometheus = Prometheus::with(options).await.unwrap();
        prometheus.wait_for("midwatch:probe_owner:info").await.unwrap();
        Self { prometheus, alertmanager, webhook, _rules: rules }
    }

    /// Nothing is told while all is well.
    pub async fn nothing_is_told(&self, what: &str) {
        self.calm(what).await;
        self.fault(what, Expected::nothing(), async || {}, async || {}).await;
    }

    /// Does harm, waits until people are told what they must be told and nothing more is to come, and checks that this is all;
    /// makes good again, waits until nothing fires, and checks that nothing else was told meanwhile.
    pub async fn fault(&self, what: &str, expected: Expected, harm: impl AsyncFnOnce(), mend: impl AsyncFnOnce()) {
        let before = self.webhook.notices().len();
        harm().await;
        self.is_told(what, before, &expected).await;
        mend().await;
        self.calm(what).await;
        // What was inhibited may be told when it outlasts what inhibited it. Nothing else may.
        let alerts = expected.alerts();
        let told = self.seen(before).await.told;
        assert!(told.iter().all(|(_, alert)| alerts.contains(alert)), "{what}, being mended: {told:#?}");
    }

    /// The same for what is not made good again.
    pub async fn last_fault(&self, what: &str, expected: Expected) {
        self.is_told(what, self.webhook.notices().len(), &expected).await;
    }

    async fn is_told(&self, what: &str, before: usize, expected: &Expected) {
        let told: BTreeSet<_> = expected.told.iter().map(|(to, alert)| ((*to).to_owned(), alert.clone())).collect();
        let inhibited: BTreeSet<_> = expected.inhibited.iter().cloned().collect();
        let alerts = expected.alerts();
        if alerts.is_empty() {
            sleep(CALM).await;
        }
        let title = format!("what {what} leads to");
        let waiting = until(&title, PATIENCE, async || {
            let seen = self.seen(before).await;
            let is_whole = told.is_subset(&seen.told) && inhibited.is_subset(&seen.inhibited);
            if is_whole && seen.pending.is_empty() { Ok(seen) } else { Err(format!("{seen:#?}")) }
        });
        let seen = waiting.await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((&seen.told, &seen.inhibited), (&told, &inhibited), "{what}");
        assert!(seen.firing.is_subset(&alerts), "{what}: {seen:#?}");
    }

    /// Waits until nothing fires and nothing is about to, and Alertmanager knows.
    pub async fn calm(&self, what: &str) {
        let waiting = until("calm", PATIENCE, async || {
            let seen = self.seen(usize::MAX).await;
            let known = self.alertmanager.alerts().await.map_err(|error| error.to_string())?;
            let is_calm = known.is_empty() && seen.firing.is_empty() && seen.pending.is_empty();
            if is_calm { Ok(()) } else { Err(format!("{seen:#?}")) }
        });
        waiting.await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    /// What has arrived after the first `before` notices, and what fires now.
    async fn seen(&self, before: usize) -> Seen {
        let notices = self.webhook.notices();
        let new = notices.iter().skip(before).filter(|notice| notice.is_firing);
        let told = new.map(|notice: &Notice| (notice.receiver.clone(), named(&notice.labels))).collect();
        let inhibited = self.alertmanager.alerts().await.unwrap_or_default();
        let inhibited = inhibited.iter().filter(|known| known.is_inhibited).map(|known| named(&known.labels)).collect();
        let in_state = async |state: &str| {
            let samples = self.prometheus.query(&format!("ALERTS{{alertstate=\"{state}\"}}")).await.unwrap();
            let labels = samples.into_iter().map(|mut sample| {
                sample.labels.remove("__name__");
                sample.labels.remove("alertstate");
                named(&sample.labels)
            });
            labels.collect()
        };
        Seen { told, firing: in_state("firing").await, inhibited, pending: in_state("pending").await }
    }
}
