//! Bucket bounds: the presets, and bounds rendered once and shared by every histogram that uses them.

use std::sync::{Arc, Mutex, Weak};

use super::NativeRule;
use super::exposition::{write_canonical, write_number};

/// Bounds in seconds for a service in the same network: at least ten a decade where its latencies lie.
pub const LAN: &[f64] = &[
    0.0001, 0.0002, 0.0003, 0.0004, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.006, 0.0075,
    0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0,
    10.0, 30.0,
];

/// Bounds in seconds for a service across a wide-area network.
pub const WAN: &[f64] = &[
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.125, 0.15, 0.2,
    0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0,
];

/// Bounds in seconds for a tunnel across the Internet: its handshake, and round trips through it. At least ten a decade
/// from 1 ms to 1 s, where answers lie; above it few, near the seconds after which handshakes are tried again.
pub const VPN: &[f64] = &[
    0.0005, 0.00075, 0.001, 0.00125, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.006, 0.0075, 0.01, 0.0125, 0.015,
    0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0, 1.5, 2.0,
    3.0, 5.0, 7.5, 10.0, 15.0, 30.0,
];

/// Bounds in seconds for backups: from ten seconds to a day.
pub const BACKUP: &[f64] = &[
    10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0, 5400.0, 7200.0, 10800.0, 14400.0,
    21600.0, 28800.0, 43200.0, 86400.0,
];

/// Twelve bounds in seconds for durations whose details are told elsewhere.
pub const COARSE: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Ascending upper bounds without `+Inf`, with what is written of them rendered.
#[derive(Debug, PartialEq)]
pub struct Buckets {
    bounds: Box<[f64]>,
    /// `le="0.5"} ` for each bound and `+Inf`, the end of a line's labels.
    lines: Lines,
    /// The same with numbers as OpenMetrics wants them: `1.0`, `1e+06`.
    canonical: Lines,
}

type Lines = Box<[Box<[u8]>]>;

/// What a histogram counts by: classic buckets always, and native ones beside them. Both from the same observations.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scales {
    /// None but `+Inf` for what is no histogram.
    pub(super) buckets: Arc<Buckets>,
    pub(super) native: Option<NativeRule>,
}

impl Scales {
    /// How many places for exemplars a row has: one for each classic bucket, and one for what is no histogram.
    pub(super) fn places(&self) -> usize {
        self.buckets.count()
    }
}

/// The bounds in use. Thousands of probes have the same few, so they are kept once.
static IN_USE: Mutex<Vec<Weak<Buckets>>> = Mutex::new(Vec::new());

impl Buckets {
    /// The given bounds, with `also` inserted where it belongs unless it is there already.
    pub fn of(bounds: &[f64], also: Option<f64>) -> Arc<Self> {
        let mut bounds = bounds.to_vec();
        if let Some(extra) = also {
            let at = bounds.partition_point(|bound| *bound < extra);
            if bounds.get(at) != Some(&extra) {
                bounds.insert(at, extra);
            }
        }
        let mut in_use = IN_USE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        in_use.retain(|buckets| buckets.strong_count() > 0);
        if let Some(same) = in_use.iter().filter_map(Weak::upgrade).find(|buckets| *buckets.bounds == *bounds) {
            return same;
        }
        let lines = |write: fn(&mut Vec<u8>, f64)| {
            bounds.iter().chain(&[f64::INFINITY]).map(|bound| render(*bound, write)).collect()
        };
        let (lines, canonical) = (lines(write_number), lines(write_canonical));
        let buckets = Arc::new(Self { bounds: bounds.into(), lines, canonical });
        in_use.push(Arc::downgrade(&buckets));
        buckets
    }

    /// How many buckets there are, that of `+Inf` included.
    pub fn count(&self) -> usize {
        self.bounds.len() + 1
    }

    /// The index of the bucket that counts `value`: bounds are inclusive, as `le` says.
    pub fn index(&self, value: f64) -> usize {
        self.bounds.partition_point(|bound| *bound < value)
    }

    /// The upper bounds, without `+Inf`.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// How the labels of each bucket end, `le="0.5"} `, `+Inf` last; `canonical`: with numbers as OpenMetrics has them.
    pub(crate) fn lines(&self, canonical: bool) -> impl Iterator<Item = &[u8]> {
        let lines = if canonical { &self.canonical } else { &self.lines };
        lines.iter().map(|line| &**line)
    }
}

fn render(bound: f64, write: fn(&mut Vec<u8>, f64)) -> Box<[u8]> {
    let mut line = b"le=\"".to_vec();
    write(&mut line, bound);
    line.extend_from_slice(b"\"} ");
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_ascend_and_have_the_sizes_that_the_documentation_names() {
        for (preset, len) in [(LAN, 36), (WAN, 28), (VPN, 41), (BACKUP, 19), (COARSE, 12)] {
            assert!(preset.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(preset.len(), len);
        }
    }

    #[test]
    fn presets_are_what_the_documentation_lists() {
        let page = include_str!("../../docs/CONFIGURATION.md");
        for (name, preset) in [("lan", LAN), ("wan", WAN), ("vpn", VPN), ("backup", BACKUP)] {
            let (_, row) = page.split_once(&format!("| `\"{name}\"` | ")).expect("a row");
            let (listed, _) = row.split_once(':').expect("what they are for");
            let bounds = listed.split(", ").flat_map(|group| {
                let (numbers, unit) = group.rsplit_once(' ').expect("a unit");
                let unit: f64 = match unit {
                    "ms" => 0.001,
                    "s" => 1.0,
                    "min" => 60.0,
                    "h" => 3600.0,
                    other => panic!("{other}"),
                };
                numbers.split(' ').map(move |number| number.parse::<f64>().expect("a number") * unit)
            });
            let bounds: Vec<f64> = bounds.collect();
            assert_eq!(bounds.len(), preset.len(), "{name}");
            for (listed, bound) in bounds.iter().zip(preset) {
                assert!((listed / bound - 1.0).abs() < 1e-9, "{name}: {listed} {bound}");
            }
        }
    }

    #[test]
    fn the_bounds_for_tunnels_are_at_least_ten_a_decade_where_answers_lie() {
        for decade in [0.001..0.01, 0.01..0.1, 0.1..1.0] {
            assert!(VPN.iter().filter(|bound| decade.contains(*bound)).count() >= 10, "{decade:?}");
        }
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_that_bound() {
        let buckets = Buckets::of(&[1.0, 2.0], None);
        assert_eq!([0.5, 1.0, 1.5, 2.0, 2.5].map(|value| buckets.index(value)), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn an_extra_bound_is_inserted_once() {
        let bounds = |also| Buckets::of(&[0.01, 0.05], Some(also)).bounds().to_vec();
        assert_eq!(bounds(0.025), [0.01, 0.025, 0.05]);
        assert_eq!(bounds(0.05), [0.01, 0.05]);
        assert_eq!(bounds(0.1), [0.01, 0.05, 0.1]);
    }

    #[test]
    fn equal_bounds_are_shared() {
        assert!(Arc::ptr_eq(&Buckets::of(LAN, None), &Buckets::of(LAN, Some(0.01))));
    }
}
