//! What is exposed: the same label sets and values for every contender.

use std::time::Duration;

use midwatch::metrics::{Gauge, Histogram, LAN};

/// Observations in each histogram.
pub const OBSERVATIONS: u64 = 50;

/// The names of the labels beside those of the probe's identity.
pub const LABELS: [&str; 3] = ["group", "topic", "partition"];
/// The labels of the probe's identity.
pub const IDENTITY: [(&str, &str); 2] = [("probe", "kafka-production"), ("type", "kafka")];
/// What all metrics here say of themselves.
pub const HELP: &str = "What a benchmark exposes.";

/// Gauges of whole numbers.
pub static LAG: Gauge<3> = Gauge::new("invented_kafka_consumergroup_lag", HELP, &LABELS);
/// Gauges of seconds, down to the nanosecond.
pub static SECONDS: Gauge<3> = Gauge::new("invented_kafka_consumergroup_lag_seconds", HELP, &LABELS);
/// Histograms of seconds.
pub static LATENCY: Histogram<3> = Histogram::new("invented_kafka_request_duration_seconds", HELP, &LABELS, LAN);

/// Which of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Gauges of whole numbers, as Kafka's lags are.
    Whole,
    /// Gauges of seconds.
    Fractions,
    /// Histograms with the bounds for a network of one's own, native buckets beside them.
    Histograms,
}

impl Content {
    /// All of them, by what they are called on a command line.
    pub const ALL: [(&'static str, Self); 3] =
        [("whole", Self::Whole), ("fractions", Self::Fractions), ("histograms", Self::Histograms)];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, content)| *content)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, content)| *content == self).map_or("", |(name, _)| name)
    }

    /// The metric's name.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Whole => LAG.desc().name,
            Self::Fractions => SECONDS.desc().name,
            Self::Histograms => LATENCY.desc().name,
        }
    }

    /// How many label sets make about so many series, that is lines.
    pub fn rows(self, series: u64) -> u64 {
        match self {
            Self::Whole | Self::Fractions => series,
            // Buckets, that of `+Inf`, sum, count.
            Self::Histograms => series / (LAN.len() as u64 + 3),
        }
    }
}

/// The nth label set: partitions of topics that groups read.
pub fn labels(n: u64) -> [String; 3] {
    [format!("billing-invoices-{:04}", n / 2_000), format!("orders.events.v1-{:05}", n / 20), format!("{}", n % 20)]
}

/// The value of the nth gauge, `turn` by `turn` another one.
pub fn value(content: Content, n: u64, turn: u64) -> f64 {
    // Some lags are 0, most have up to seven digits.
    let random = random(n.wrapping_add(turn << 40));
    match content {
        Content::Whole => f64::from((random as u32) >> (8 + (random >> 59))),
        _ => Duration::from_nanos(random % 30_000_000_000).as_secs_f64(),
    }
}

/// The observations of the nth histogram: from a tenth of a millisecond to a tenth of a second, most of them fast.
pub fn observations(n: u64) -> impl Iterator<Item = f64> {
    (0..OBSERVATIONS).map(move |nth| {
        let random = random(n * OBSERVATIONS + nth);
        Duration::from_nanos(100_000 + random % 1_000_000 * (1 + (random >> 57)) / 2).as_secs_f64()
    })
}

/// Splitmix64's output function: as good as random, and the same at every run.
fn random(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
