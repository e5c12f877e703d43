//! How evenly load and roles are spread: over the partitions of a topic, and over the brokers of a cluster.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// The time constant of a partition's rate, in seconds.
const TIME_CONSTANT: f64 = 60.0;
/// From which modified z-score on a partition stands out: the value that Iglewicz and Hoaglin recommend.
const HOT_SCORE: f64 = 3.5;
/// More than how many times the mean of its topic a hot partition has.
const HOT_RATIO: f64 = 2.0;
/// Below this many partitions none is called hot: of two, neither is the odd one.
const HOT_PARTITIONS: usize = 3;
/// How many records per second a hot partition has at least. Less is no load, however uneven.
const HOT_RATE: f64 = 1.0;

/// How fast a partition grows: the exponential moving average of the records per second between two looks at its end.
///
/// The average starts at 0 and is divided by the weight that all rates so far have in it. So it is the plain rate after two
/// looks, and not pulled towards 0 until the time constant has passed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    end: i64,
    /// `f32`: half of the memory, for 100 000 partitions, and precise enough for a rate.
    average: f32,
    weight: f32,
    at: Option<Instant>,
}

impl Rate {
    /// The partition's end was `end` at `at`. An end that went back ends the averaging: the log was truncated or recreated.
    pub fn saw(&mut self, end: i64, at: Instant) {
        let Some(before) = self.at else {
            return *self = Self { end, at: Some(at), ..Self::default() };
        };
        if end < self.end {
            return *self = Self { end, at: Some(at), ..Self::default() };
        }
        let seconds = at.saturating_duration_since(before).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let share = -(-seconds / TIME_CONSTANT).exp_m1();
        let rate = end.saturating_sub(self.end) as f64 / seconds;
        self.average += ((rate - f64::from(self.average)) * share) as f32;
        self.weight += ((1.0 - f64::from(self.weight)) * share) as f32;
        (self.end, self.at) = (end, Some(at));
    }

    /// Records per second, after two looks.
    pub fn per_second(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| f64::from(self.average) / f64::from(self.weight))
    }

    /// Forgets all: the topic is another one of the same name.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// How unevenly the partitions of a topic are loaded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopicSkew {
    /// The largest rate divided by the mean; 1 if nothing is produced.
    pub ratio: f64,
    /// The coefficient of variation: standard deviation (of all, not of a sample) divided by the mean; 0 if nothing is produced.
    pub cv: f64,
    /// The partition with the largest rate, the lowest of several.
    pub hottest: i32,
    /// The partitions that stand out, ascending.
    pub hot: Vec<i32>,
}

/// The skew of a topic whose partitions have these rates, in records per second. None without partitions.
///
/// Hot is a partition whose modified z-score is above 3.5, after B. Iglewicz and D. Hoaglin, "How to Detect and Handle
/// Outliers" (1993): 0.6745 (x − median) / MAD, or (x − median) / (1.253314 × mean absolute deviation) where more than half of
/// all are equal and the MAD is 0. A mean and standard deviation would hide the one they look for: with five partitions no
/// score can exceed 2. It has to have more than twice the mean and at least one record per second as well.
pub(super) fn topic_skew(rates: &[(i32, f64)]) -> Option<TopicSkew> {
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let by_rate = |one: &&(i32, f64), other: &&(i32, f64)| one.1.total_cmp(&other.1).then(other.0.cmp(&one.0));
    let &(hottest, largest) = rates.iter().max_by(by_rate)?;
    if mean <= 0.0 || !mean.is_finite() {
        return Some(TopicSkew { ratio: 1.0, cv: 0.0, hottest, hot: Vec::new() });
    }
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    Some(TopicSkew { ratio: largest / mean, cv: variance.sqrt() / mean, hottest, hot: hot(rates, mean) })
}

fn hot(rates: &[(i32, f64)], mean: f64) -> Vec<i32> {
    if rates.len() < HOT_PARTITIONS {
        return Vec::new();
    }
    let middle = median(rates.iter().map(|(_, rate)| *rate).collect());
    let deviations: Vec<f64> = rates.iter().map(|(_, rate)| (rate - middle).abs()).collect();
    let mean_deviation = deviations.iter().sum::<f64>() / deviations.len() as f64;
    let deviation = median(deviations);
    // Rates are averages: differences of rounding are none.
    let unit = if deviation > middle * 1e-6 { deviation / 0.6745 } else { mean_deviation * 1.253_314 };
    let stands_out = |rate: f64| rate >= HOT_RATE && rate > HOT_RATIO * mean && rate - middle > HOT_SCORE * unit;
    let mut hot: Vec<i32> =
        rates.iter().filter(|(_, rate)| stands_out(*rate)).map(|(partition, _)| *partition).collect();
    hot.sort_unstable();
    hot
}

/// The median; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// What a broker has of the cluster's partitions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BrokerShare {
    pub broker: i32,
    /// Partitions that it leads.
    pub leaders: usize,
    /// Replicas that it has.
    pub replicas: usize,
    /// Its leaders divided by the mean of all brokers; 1 if there are none.
    pub leader_skew: f64,
    /// Its replicas divided by the mean of all brokers; 1 if there are none.
    pub replica_skew: f64,
    /// The share of the partitions it is the preferred leader of (the first replica) that it does not lead: what Kafka compares
    /// with `leader.imbalance.per.broker.percentage` (`KafkaController.checkAndTriggerAutoLeaderRebalance`). 0 if it is the
    /// preferred leader of none.
    pub imbalance: f64,
}

/// What each of `brokers` has of the partitions, given as leader (−1: none) and replicas. In ascending order. Brokers that are not listed,
/// because they are down, count neither in the result nor in the means.
pub(super) fn broker_shares<'p>(
    brokers: &[i32],
    partitions: impl Iterator<Item = (i32, &'p [i32])>,
) -> Vec<BrokerShare> {
    #[derive(Default)]
    struct Has {
        leaders: usize,
        replicas: usize,
        preferred: usize,
        led_by_others: usize,
    }
    let mut all: BTreeMap<i32, Has> = brokers.iter().map(|broker| (*broker, Has::default())).collect();
    for (leader, replicas) in partitions {
        if let Some(has) = all.get_mut(&leader) {
            has.leaders += 1;
        }
        for replica in replicas {
            if let Some(has) = all.get_mut(replica) {
                has.replicas += 1;
            }
        }
        if let Some(has) = replicas.first().and_then(|preferred| all.get_mut(preferred)) {
            has.preferred += 1;
            has.led_by_others += usize::from(replicas.first() != Some(&leader));
        }
    }
    let mean = |of: fn(&Has) -> usize| all.values().map(of).sum::<usize>() as f64 / all.len() as f64;
    let (leaders, replicas) = (mean(|has| has.leaders), mean(|has| has.replicas));
    let skew = |count: usize, mean: f64| if mean > 0.0 { count as f64 / mean } else { 1.0 };
    let share = |(broker, has): (&i32, &Has)| BrokerShare {
        broker: *broker,
        leaders: has.leaders,
        replicas: has.replicas,
        leader_skew: skew(has.leaders, leaders),
        replica_skew: skew(has.replicas, replicas),
        imbalance: has.led_by_others as f64 / has.preferred.max(1) as f64,
    };
    all.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn skew(rates: &[f64]) -> TopicSkew {
        let rates: Vec<(i32, f64)> = (0..).zip(rates.iter().copied()).collect();
        topic_skew(&rates).unwrap()
    }

    #[test]
    fn rate_is_right_from_the_second_look_on_and_forgets_slowly() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), None);
        rate.saw(5000, start);
        assert_eq!(rate.per_second(), None);
        rate.saw(6000, start);
        assert_eq!(rate.per_second(), None);
        for look in 1..=10_u32 {
            rate.saw(5000 + i64::from(look) * 300, start + Duration::from_secs(10) * look);
            assert!((rate.per_second().unwrap() - 30.0).abs() < 1e-3);
        }
        // Nothing more for one time constant: what is left is about 1/e.
        let settled = start + Duration::from_secs(100_000);
        let mut rate = Rate::default();
        rate.saw(0, start);
        rate.saw(3_000_000, settled);
        for look in 1..=6_u32 {
            rate.saw(3_000_000, settled + Duration::from_secs(10) * look);
        }
        assert!((rate.per_second().unwrap() - 30.0 * (-1.0_f64).exp()).abs() < 1e-3);
        rate.saw(10, settled + Duration::from_secs(70));
        assert_eq!(rate.per_second(), None, "the log was truncated");
        rate.saw(20, settled + Duration::from_secs(80));
        assert!((rate.per_second().unwrap() - 1.0).abs() < 1e-3);
        rate.reset();
        assert_eq!(rate.per_second(), None);
        assert!(size_of::<Rate>() <= 32);
    }

    #[test]
    fn hot_partition_is_found_whatever_the_others_do() {
        assert_eq!(topic_skew(&[]), None);
        let even = skew(&[10.0; 6]);
        assert_eq!((even.ratio, even.cv, even.hottest, even.hot), (1.0, 0.0, 0, vec![]));
        let idle = skew(&[0.0; 6]);
        assert_eq!((idle.ratio, idle.cv, idle.hot), (1.0, 0.0, vec![]));
        let one = skew(&[10.0, 11.0, 9.0, 100.0, 10.5]);
        assert_eq!((one.hottest, one.hot), (3, vec![3]));
        assert!((one.ratio - 100.0 / 28.1).abs() < 1e-9);
        // All others equal: the MAD is 0.
        assert_eq!(skew(&[10.0, 10.0, 10.0, 10.0, 10.0, 100.0]).hot, [5]);
        assert_eq!(skew(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 100.0]).hot, [6]);
        // Not twice the mean, hardly any load, or too few partitions.
        assert!(skew(&[10.0, 10.1, 9.9, 10.0, 15.0]).hot.is_empty());
        assert!(skew(&[0.01, 0.011, 0.009, 0.01, 0.9]).hot.is_empty());
        assert!(skew(&[1.0, 100.0]).hot.is_empty());
        assert_eq!(skew(&[10.0, 11.0, 100.0, 9.0, 12.0, 90.0, 8.0, 10.0]).hot, [2, 5]);
        let (first, second) = (topic_skew(&[(7, 5.0), (3, 5.0)]).unwrap(), skew(&[3.0, 1.0]));
        assert_eq!(first.hottest, 3);
        assert!((second.cv - 0.5).abs() < 1e-12);
    }

    #[test]
    fn brokers_are_compared_with_their_mean_and_with_what_they_should_lead() {
        let partitions: [(i32, &[i32]); 5] = [(1, &[1, 2]), (2, &[1, 2]), (1, &[2, 1]), (-1, &[9, 3]), (1, &[1, 3])];
        let shares = broker_shares(&[2, 1, 3], partitions.into_iter());
        let short: Vec<_> = shares.iter().map(|share| (share.broker, share.leaders, share.replicas)).collect();
        assert_eq!(short, [(1, 3, 4), (2, 1, 3), (3, 0, 2)]);
        let near = |one: f64, other: f64| (one - other).abs() < 1e-12;
        assert!(near(shares[0].leader_skew, 3.0 / (4.0 / 3.0)) && near(shares[0].replica_skew, 4.0 / 3.0));
        assert!(
            near(shares[0].imbalance, 1.0 / 3.0) && near(shares[1].imbalance, 1.0) && near(shares[2].imbalance, 0.0)
        );
        assert!(broker_shares(&[], partitions.into_iter()).is_empty());
        let none = broker_shares(&[1], std::iter::empty());
        assert_eq!((none[0].leader_skew, none[0].replica_skew, none[0].imbalance), (1.0, 1.0, 0.0));
    }

    proptest! {
        #[test]
        fn skew_is_finite_and_consistent(rates in vec(0.0..1e6_f64, 1..50)) {
            let skew = skew(&rates);
            let count = rates.len() as f64;
            prop_assert!(skew.ratio >= 1.0 - 1e-9 && skew.ratio <= count + 1e-9);
            prop_assert!(skew.cv >= 0.0 && skew.cv <= count.sqrt() + 1e-9);
            prop_assert!(skew.hot.is_empty() || skew.hot.contains(&skew.hottest));
            // A mean has fewer than half of all above twice itself.
            prop_assert!(skew.hot.len() * 2 < rates.len() + 1);
        }
    }
}
