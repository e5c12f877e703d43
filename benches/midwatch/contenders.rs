//! Who exposes: midwatch, the two crates that others use, and a plain copy of the same bytes.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use midwatch::metrics::exposition::{Format, Writer};
use midwatch::metrics::{BucketRule, Gauges, LAN, Recorder, SeriesSet, Store};
use prometheus::{Encoder as _, GaugeVec, HistogramOpts, HistogramVec, Opts, TextEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};
use prometheus_client::registry::Registry;

use super::Outcome;
use super::content::{self, Content, HELP, IDENTITY, LABELS};

/// So many values are recorded at once where a recorder's own memory is not to be measured.
const CHUNK: u64 = 1_000;

/// Something that can be scraped.
pub trait Contender {
    /// Scrapes into `buffer`, whose memory may be used again; says how many bytes that were.
    fn scrape(&mut self, buffer: &mut Vec<u8>) -> Outcome<usize>;

    /// The whole text of a scrape.
    fn text(&mut self) -> Outcome<Vec<u8>> {
        let mut text = Vec::new();
        self.scrape(&mut text)?;
        Ok(text)
    }
}

/// Makes the contender of that name.
pub fn contender(name: &str, content: Content, rows: u64) -> Outcome<Box<dyn Contender>> {
    Ok(match name {
        "midwatch" => Box::new(Midwatch::new(content, rows, Format::Text)),
        "openmetrics" => Box::new(Midwatch::new(content, rows, Format::OpenMetrics { created: false })),
        "protobuf" => Box::new(Midwatch::new(content, rows, Format::Protobuf)),
        "prometheus" => Box::new(Prometheus::new(content, rows)?),
        "prometheus-client" => Box::new(Client::new(content, rows)),
        "copy" => Box::new(Copy::new(content, rows)?),
        _ => return Err("there is no such contender".into()),
    })
}

/// midwatch's own store and writer, as its server uses them.
#[derive(Debug)]
pub struct Midwatch {
    /// The store.
    pub store: Arc<Store>,
    set: Arc<SeriesSet>,
    recorder: Recorder,
    content: Content,
    rows: u64,
    format: Format,
}

impl Midwatch {
    /// A store with so many rows of that content.
    pub fn new(content: Content, rows: u64, format: Format) -> Self {
        let (store, set) = (Arc::new(Store::default()), SeriesSet::new(IDENTITY, BucketRule::default()));
        store.add(&set);
        let midwatch = Self { store, set, recorder: Recorder::default(), content, rows, format };
        for first in (0..rows).step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
            midwatch.record(first..rows.min(first + CHUNK), 0);
            midwatch.recorder.commit(&midwatch.set, "main", Gauges::Keep);
        }
        midwatch
    }

    /// Records other values for all gauges, as a run of the probe does: none of them shows yet.
    pub fn record_all(&self, turn: u64) {
        self.record(0..self.rows, turn);
    }

    /// Shows what was recorded, as the end of a run does.
    pub fn commit(&self) {
        self.recorder.commit(&self.set, "main", Gauges::Replace);
    }

    fn record(&self, rows: std::ops::Range<u64>, turn: u64) {
        for n in rows {
            let labels = content::labels(n);
            let labels = labels.each_ref().map(String::as_str);
            match self.content {
                Content::Whole => self.recorder.set(&content::LAG, labels, content::value(self.content, n, turn)),
                Content::Fractions => {
                    self.recorder.set(&content::SECONDS, labels, content::value(self.content, n, turn));
                }
                Content::Histograms => {
                    content::observations(n).for_each(|seen| self.recorder.observe(&content::LATENCY, labels, seen));
                }
            }
        }
    }
}

impl Contender for Midwatch {
    fn scrape(&mut self, buffer: &mut Vec<u8>) -> Outcome<usize> {
        let (mut writer, mut bytes) = (Writer::new(self.store.snapshot(), self.format), 0);
        buffer.clear();
        while writer.write(buffer) {
            bytes += buffer.len();
            buffer.clear();
        }
        Ok(bytes)
    }

    fn text(&mut self) -> Outcome<Vec<u8>> {
        Ok(Writer::new(self.store.snapshot(), self.format).rest())
    }
}

/// The `prometheus` crate with its text encoder.
struct Prometheus {
    registry: prometheus::Registry,
}

impl Prometheus {
    fn new(content: Content, rows: u64) -> Outcome<Self> {
        let names: Vec<_> = IDENTITY.iter().map(|(name, _)| *name).chain(LABELS).collect();
        let registry = prometheus::Registry::new();
        let all =
            |n| IDENTITY.iter().map(|(_, value)| (*value).to_owned()).chain(content::labels(n)).collect::<Vec<_>>();
        if content == Content::Histograms {
            let options = HistogramOpts::new(content.metric(), HELP).buckets(LAN.to_vec());
            let family = HistogramVec::new(options, &names)?;
            for n in 0..rows {
                let histogram = family.with_label_values(&all(n));
                content::observations(n).for_each(|seen| histogram.observe(seen));
            }
            registry.register(Box::new(family))?;
        } else {
            let family = GaugeVec::new(Opts::new(content.metric(), HELP), &names)?;
            for n in 0..rows {
                family.with_label_values(&all(n)).set(content::value(content, n, 0));
            }
            registry.register(Box::new(family))?;
        }
        Ok(Self { registry })
    }
}

impl Contender for Prometheus {
    fn scrape(&mut self, buffer: &mut Vec<u8>) -> Outcome<usize> {
        buffer.clear();
        TextEncoder::new().encode(&self.registry.gather(), buffer)?;
        Ok(buffer.len())
    }
}

/// The `prometheus-client` crate with its OpenMetrics text.
struct Client {
    registry: Registry,
}

/// The label type that costs it least: names are not allocated, and the number of labels is known.
type Labels = [(&'static str, String); 5];

impl Client {
    fn new(content: Content, rows: u64) -> Self {
        let all = |n| -> Labels {
            let [(probe, kafka), (kind, kafka_kind)] = IDENTITY;
            let [group, topic, partition] = content::labels(n);
            [
                (probe, kafka.to_owned()),
                (kind, kafka_kind.to_owned()),
                (LABELS[0], group),
                (LABELS[1], topic),
                (LABELS[2], partition),
            ]
        };
        let mut registry = Registry::default();
        let help = HELP.trim_end_matches('.');
        if content == Content::Histograms {
            let make: fn() -> Histogram =
                || Histogram::new_classic_and_native(LAN.iter().copied(), NativeHistogramConfig::new(1.1));
            let family = Family::<Labels, Histogram, _>::new_with_constructor(make);
            for n in 0..rows {
                let histogram = family.get_or_create_owned(&all(n));
                content::observations(n).for_each(|seen| histogram.observe(seen));
            }
            registry.register(content.metric(), help, family);
        } else {
            let family = Family::<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
            for n in 0..rows {
                family.get_or_create(&all(n)).set(content::value(content, n, 0));
            }
            registry.register(content.metric(), help, family);
        }
        Self { registry }
    }
}

impl Contender for Client {
    fn scrape(&mut self, buffer: &mut Vec<u8>) -> Outcome<usize> {
        // It writes strings; the buffer's memory is used again.
        let mut text = String::from_utf8(std::mem::take(buffer))?;
        text.clear();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        *buffer = text.into_bytes();
        Ok(buffer.len())
    }
}

/// The limit: midwatch's text, already rendered, copied as a whole into memory that was written to before.
struct Copy {
    text: Vec<u8>,
}

impl Copy {
    fn new(content: Content, rows: u64) -> Outcome<Self> {
        Ok(Self { text: Midwatch::new(content, rows, Format::Text).text()? })
    }
}

impl Contender for Copy {
    fn scrape(&mut self, buffer: &mut Vec<u8>) -> Outcome<usize> {
        buffer.clear();
        buffer.extend_from_slice(&self.text);
        Ok(std::hint::black_box(buffer).len())
    }
}

/// What a text says, whatever the order of its lines and labels and however it writes numbers: the sum of the hashes of
/// its samples.
pub fn digest(text: &str) -> Outcome<u64> {
    let mut sum = 0_u64;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').ok_or("a line without a value")?;
        let (name, labels) = series.split_once('{').ok_or("a series without labels")?;
        let mut labels: Vec<_> = labels.trim_end_matches('}').split(',').map(canonical).collect();
        labels.sort_unstable();
        let mut hasher = DefaultHasher::new();
        (name, labels, value.parse::<f64>()?.to_bits()).hash(&mut hasher);
        sum = sum.wrapping_add(hasher.finish());
    }
    Ok(sum)
}

/// A label; bounds are numbers that may be written in several ways.
fn canonical(label: &str) -> String {
    let bound = label.strip_prefix("le=\"").and_then(|rest| rest.trim_end_matches('"').parse::<f64>().ok());
    bound.map_or_else(|| label.to_owned(), |bound| format!("le={bound}"))
}
