//! Bucket bounds: the presets, and bounds rendered once and shared by every histogram that uses them.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, Weak};

use super::exposition::write_number;

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

/// Ascending upper bounds without `+Inf`, with their `le` values rendered.
#[derive(Debug, PartialEq)]
pub struct Buckets {
    bounds: Box<[f64]>,
    rendered: Box<[Box<str>]>,
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
        let rendered = bounds.iter().map(|bound| render(*bound)).collect();
        let buckets = Arc::new(Self { bounds: bounds.into(), rendered });
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

    /// The values of `le`, in order, `+Inf` last.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.rendered.iter().map(|label| &**label).chain(std::iter::once("+Inf"))
    }
}

fn render(bound: f64) -> Box<str> {
    let mut text = Vec::new();
    write_number(&mut text, bound);
    let mut label = String::with_capacity(text.len());
    let _ = write!(label, "{}", String::from_utf8_lossy(&text));
    label.into()
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
        let labels = |also| Buckets::of(&[0.01, 0.05], Some(also)).labels().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(labels(0.025), ["0.01", "0.025", "0.05", "+Inf"]);
        assert_eq!(labels(0.05), ["0.01", "0.05", "+Inf"]);
        assert_eq!(labels(0.1), ["0.01", "0.05", "0.1", "+Inf"]);
    }

    #[test]
    fn equal_bounds_are_shared() {
        assert!(Arc::ptr_eq(&Buckets::of(LAN, None), &Buckets::of(LAN, Some(0.01))));
    }
}
