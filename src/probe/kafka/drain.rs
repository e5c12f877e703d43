//! How long a group needs to catch up.

use tokio::time::Instant;

/// Over how long the speed of catching up is averaged, in seconds.
const WINDOW: f64 = 60.0;

/// How fast a lag shrinks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drain {
    last: Option<(i64, Instant)>,
    /// Records per second, weighted; and the sum of the weights, which the first values do not fill.
    closing: f64,
    weight: f64,
}

impl Drain {
    /// Notes the lag of a moment.
    pub(super) fn saw(&mut self, lag: i64, at: Instant) {
        if let Some((before, then)) = self.last {
            let seconds = at.saturating_duration_since(then).as_secs_f64();
            if seconds <= 0.0 {
                return;
            }
            let fade = (-seconds / WINDOW).exp();
            #[allow(clippy::cast_precision_loss, reason = "a speed does not need the last bits of a lag")]
            let closing = (before - lag) as f64 / seconds;
            self.closing = self.closing * fade + closing * (1.0 - fade);
            self.weight = self.weight * fade + (1.0 - fade);
        }
        self.last = Some((lag, at));
    }

    /// Seconds until the lag is gone at the present speed; none while it does not shrink.
    pub(super) fn seconds(&self) -> Option<f64> {
        let (lag, _) = self.last?;
        if lag == 0 {
            return Some(0.0);
        }
        let closing = self.closing / self.weight;
        #[allow(clippy::cast_precision_loss, reason = "a time does not need the last bits of a lag")]
        let lag = lag as f64;
        // Also false when there is no speed yet.
        if closing > 0.0 { Some(lag / closing) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shrinking_lag_has_an_end() {
        let (start, mut drain) = (Instant::now(), Drain::default());
        drain.saw(1000, start);
        assert_eq!(drain.seconds(), None);
        for round in 1..=5u32 {
            drain.saw(1000 - 100 * i64::from(round), start + Duration::from_secs(10) * round);
        }
        assert!((drain.seconds().unwrap() - 50.0).abs() < 1e-6, "{drain:?}");
        drain.saw(5000, start + Duration::from_secs(60));
        assert_eq!(drain.seconds(), None);
        drain.saw(0, start + Duration::from_secs(70));
        assert_eq!(drain.seconds(), Some(0.0));
    }
}
