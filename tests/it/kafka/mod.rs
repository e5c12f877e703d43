//! The probe types of Kafka against real clusters.

mod access;
mod canary;
mod faults;
mod groups;
mod lag;
mod moves;
mod requests;
mod time_lag;

use std::time::{SystemTime, UNIX_EPOCH};

use lab::kafka::Cluster;

use crate::support::{Metrics, Midwatch};

pub const LAG: &str = "kafka_consumergroup_lag";
pub const LAG_SECONDS: &str = "kafka_consumergroup_lag_seconds";

/// Keys of a probe that looks at everything often, with time enough for brokers on a machine that is busy.
pub const QUICK: &str = "interval = \"2s\"\ntimeout = \"1900ms\"\nrequest_timeout = \"1500ms\"\ncluster_interval = \"2s\"\n\
                         storage_interval = \"2s\"\nmoves_interval = \"2s\"\nlisteners_interval = \"2s\"\n";

/// A probe's section for all brokers of a cluster, then further lines.
pub fn probe(name: &str, cluster: &Cluster, rest: &str) -> String {
    let addresses: Vec<_> = cluster.addresses().iter().map(|address| format!("\"{address}\"")).collect();
    format!("[probe.kafka.{name}]\nbootstrap = [{}]\n{rest}\n\n", addresses.join(", "))
}

/// The wall clock in milliseconds, which is what records are stamped with.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a clock before the year 292 million")
}

/// When the last round of a source began that brought anything, in Unix seconds, by a probe's name.
pub fn round_began(metrics: &Metrics, probe: &str, source: &str) -> Option<f64> {
    let of = [("probe", probe), ("source", source)];
    let ended = metrics.get("kafka_collector_last_success_timestamp_seconds", &of)?;
    Some(ended - metrics.get("kafka_collector_duration_seconds", &of)?)
}

/// Metrics of a round of the offsets cycle that came after a round of the cluster cycle, both begun after this was called: what is
/// true of the cluster now shows in them.
pub async fn looked_again(daemon: &Midwatch, probe: &str) -> Metrics {
    for source in ["metadata", "commits"] {
        #[allow(clippy::cast_precision_loss, reason = "a time in ms has fewer than 53 bits")]
        let asked = now_ms() as f64 / 1000.0;
        let began = |metrics: &Metrics| round_began(metrics, probe, source).is_some_and(|began| began > asked);
        daemon.until(&format!("a round of {source}"), |metrics| began(metrics).then_some(())).await;
    }
    daemon.metrics().await
}
