//! Reading what the daemon exposes.

use std::collections::HashSet;

use super::Outcome;

/// The samples of one scrape.
#[derive(Debug)]
pub struct Scrape {
    text: String,
}

impl Scrape {
    /// Takes the text of an exposition.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// The length of the exposition in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The sum of all samples of that name whose label set contains all of `labels`, written as `name="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.samples(name, labels).map(|(_, value)| value).sum()
    }

    /// The buckets of a histogram, those of several series added up.
    pub fn histogram(&self, name: &str, labels: &[&str]) -> Outcome<Buckets> {
        let mut buckets = Buckets::default();
        for (labels, count) in self.samples(&format!("{name}_bucket"), labels) {
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            let bound: f64 = bound.ok_or("a bucket without a bound")?.replace("+Inf", "inf").parse()?;
            match buckets.0.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, sum)) => *sum += count,
                None => buckets.0.push((bound, count)),
            }
        }
        buckets.0.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(buckets)
    }

    /// The length of all label sets in bytes, and that of those that differ from each other.
    #[allow(clippy::cast_precision_loss, reason = "lengths")]
    pub fn label_sets(&self) -> (f64, f64) {
        let samples = self.text.lines().filter(|line| !line.starts_with('#'));
        let sets = samples.filter_map(|line| Some(line.split_once('{')?.1.rsplit_once('}')?.0));
        let length = |sets: &mut dyn Iterator<Item = &str>| sets.map(str::len).sum::<usize>() as f64;
        let distinct: HashSet<_> = sets.clone().collect();
        (length(&mut sets.clone()), length(&mut distinct.into_iter()))
    }

    fn samples<'s>(&'s self, name: &'s str, labels: &'s [&'s str]) -> impl Iterator<Item = (&'s str, f64)> {
        let lines = self.text.lines().filter_map(move |line| line.strip_prefix(name));
        let samples = lines.filter(|rest| rest.starts_with(['{', ' '])).filter_map(|rest| rest.rsplit_once(' '));
        samples
            .filter(move |(set, _)| labels.iter().all(|label| set.contains(label)))
            .filter_map(|(set, value)| Some((set, value.parse().ok()?)))
    }
}

/// A classic histogram: upper bounds with the number of observations at or below them.
#[derive(Debug, Default, Clone)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// What was observed since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before =
            |bound: f64| earlier.0.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()).map_or(0.0, |b| b.1);
        Self(self.0.iter().map(|(bound, count)| (*bound, count - before(*bound))).collect())
    }

    /// How many observations there are.
    pub fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |last| last.1)
    }

    /// The share of the observations at or below a bound that the histogram has.
    pub fn share_within(&self, bound: f64) -> f64 {
        let within = self.0.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()).map_or(f64::NAN, |b| b.1);
        within / self.count()
    }

    /// The quantile as PromQL's `histogram_quantile` gives it: interpolated within its bucket.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = share * self.count();
        let Some(at) = self.0.iter().position(|(_, count)| *count >= rank) else { return f64::NAN };
        let (low, below) = if at == 0 { (0.0, 0.0) } else { self.0[at - 1] };
        let (high, count) = self.0[at];
        if high.is_infinite() { low } else { low + (high - low) * (rank - below) / (count - below).max(1.0) }
    }

    /// The upper bound of the first bucket: quantiles below it are not resolved.
    pub fn first_bound(&self) -> f64 {
        self.0.first().map_or(f64::NAN, |first| first.0)
    }
}
