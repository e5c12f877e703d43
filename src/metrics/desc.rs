//! Declares a metric: its wire name, help, type, labels, and the label values that are known beforehand.
//!
//! A metric is a `static`; the number of its labels is part of its type, so that recording it with too few or too
//! many values does not compile.

/// The type of a metric, as the exposition formats name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Type {
    /// Only ever grows, for the life of its probe.
    Counter,
    /// A value of the last run; each run replaces those of the run before.
    Gauge,
    /// Observations counted into buckets, for the life of its probe.
    Histogram {
        /// The upper bounds used unless the configuration gives others, ascending, without `+Inf`.
        buckets: &'static [f64],
        /// Whether the configuration may give others: true for a type's own fine latencies.
        configurable: bool,
    },
}

/// What the store, the writers and the documentation know of a metric.
#[derive(Debug)]
pub struct Desc {
    /// The full name on the wire, for example `midwatch_probe_success`.
    pub name: &'static str,
    /// One sentence that ends in a full stop; becomes `# HELP`.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Type,
    /// The label names, in the order in which values are given. The identity labels of the probe come before them.
    pub labels: &'static [&'static str],
    /// The tuples of values that the *last* labels are known to take: with labels `member, phase` and known
    /// `[["tcp"], ["tls"]]`, the label `phase` is `tcp` or `tls`. Counters of known tuples start at 0, predictions and
    /// documentation list them. Empty when nothing is known beforehand.
    pub known: &'static [&'static [&'static str]],
}

impl Desc {
    /// The name that OpenMetrics knows the metric by: a counter's is without the `_total` of its samples.
    pub(super) fn family(&self) -> &'static str {
        if self.kind == Type::Counter { self.name.strip_suffix("_total").unwrap_or(self.name) } else { self.name }
    }

    /// The base unit that the name ends with, if it does.
    pub(super) fn unit(&self) -> Option<&'static str> {
        let (_, last) = self.family().rsplit_once('_')?;
        ["seconds", "bytes", "ratio"].contains(&last).then_some(last)
    }
}

/// A metric of the given shape; see [`Gauge`], [`Counter`] and [`Histogram`].
macro_rules! metric {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<const N: usize>(pub(super) Desc);

        impl<const N: usize> $name<N> {
            /// The description of this metric, for lists of all metrics.
            pub const fn desc(&self) -> &Desc {
                &self.0
            }

            /// Declares the tuples of values that the last labels are known to take; see [`Desc::known`].
            pub const fn known(mut self, tuples: &'static [&'static [&'static str]]) -> Self {
                self.0.known = tuples;
                self
            }
        }
    };
}

metric! {
    /// A metric whose value is set.
    Gauge
}
metric! {
    /// A metric that is added to.
    Counter
}
metric! {
    /// A metric whose observations, in base units, are counted into buckets.
    Histogram
}

impl<const N: usize> Gauge<N> {
    /// Declares a gauge.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str; N]) -> Self {
        Self(Desc { name, help, kind: Type::Gauge, labels, known: &[] })
    }
}

impl<const N: usize> Counter<N> {
    /// Declares a counter; its name ends in `_total`.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str; N]) -> Self {
        Self(Desc { name, help, kind: Type::Counter, labels, known: &[] })
    }
}

impl<const N: usize> Histogram<N> {
    /// Declares a histogram whose buckets the probe's `buckets` key replaces.
    pub const fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str; N],
        buckets: &'static [f64],
    ) -> Self {
        Self(Desc { name, help, kind: Type::Histogram { buckets, configurable: true }, labels, known: &[] })
    }

    /// The same histogram with buckets that no configuration changes.
    pub const fn fixed(mut self) -> Self {
        if let Type::Histogram { buckets, .. } = self.0.kind {
            self.0.kind = Type::Histogram { buckets, configurable: false };
        }
        self
    }
}
