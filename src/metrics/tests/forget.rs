//! What is forgotten is gone whole; what stays keeps its values.

use crate::metrics::testing::{Scrape, text};
use crate::metrics::{BucketRule, Counter, Gauge, Gauges, Histogram, Recorder, SeriesSet};

static STATE: Gauge<1> = Gauge::new("state", "A gauge.", &["member"]);
static EVENTS: Counter<2> = Counter::new("events_total", "A counter.", &["kind", "member"]);
static TIMES: Histogram<1> = Histogram::new("times", "A histogram.", &["member"], &[1.0, 2.0]);
static VERDICT: Counter<1> = Counter::new("verdict_total", "A counter of the engine.", &["target"]);

#[test]
fn a_forgotten_member_takes_all_its_series_and_no_others() {
    let (rec, verdict) = (Recorder::default(), Recorder::default());
    let set = SeriesSet::new([], BucketRule::default());
    for forgotten in [None, Some("a"), Some("c"), Some("b")] {
        for (n, member) in (1_u8..).zip(["a", "b", "c"]) {
            rec.set(&STATE, [member], f64::from(n));
            rec.add(&EVENTS, ["start", member], f64::from(n));
            rec.observe(&TIMES, [member], f64::from(n));
            verdict.add(&VERDICT, [member], f64::from(n));
        }
        forgotten.iter().for_each(|member| rec.forget(&["member"], member));
        rec.commit_with(&verdict, &set, "main", Gauges::Replace);
        set.assert_consistent();
        let scrape = Scrape::parse(&text(&*set)).unwrap();
        for (name, label) in
            [("state", "member"), ("events_total", "member"), ("times_sum", "member"), ("verdict_total", "target")]
        {
            let mut left = scrape.values(name, label);
            left.sort_unstable();
            let expected: Vec<_> = ["a", "b", "c"].into_iter().filter(|member| Some(*member) != forgotten).collect();
            assert_eq!(left, expected, "{name} without {forgotten:?}");
        }
    }
    // b was forgotten last and c before it: what c recorded since is one run's worth, what a recorded is two.
    let scrape = Scrape::parse(&text(&*set)).unwrap();
    assert_eq!(scrape.get("times_sum", "member=a"), Some(2.0));
    assert_eq!(scrape.get("times_bucket", "le=1 member=a"), Some(2.0));
    assert_eq!(scrape.get("times_sum", "member=c"), Some(3.0));
    assert_eq!(scrape.get("times_bucket", "le=2 member=c"), Some(0.0));
    assert_eq!(scrape.get("times_count", "member=c"), Some(1.0));
}
