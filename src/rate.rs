//! How often something may happen.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;

/// A token bucket. It is the generic cell rate algorithm (ITU-T I.371): all that is kept is the time at which the bucket will be
/// full again.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    /// How far that time may be ahead.
    tolerance: Duration,
    full: Mutex<Instant>,
}

impl RateLimit {
    /// One event for each `interval`, and `burst` at once, of which there is at least one.
    pub fn new(interval: Duration, burst: u32) -> Self {
        let tolerance = interval.saturating_mul(burst.saturating_sub(1));
        Self { interval, tolerance, full: Mutex::new(Instant::now()) }
    }

    /// Lets one more happen now.
    ///
    /// # Errors
    /// After how long it may.
    pub fn admit(&self) -> Result<(), Duration> {
        self.ask(|full, begin| *full = begin + self.interval)
    }

    /// Whether one more may happen now, which changes nothing.
    ///
    /// # Errors
    /// After how long it may.
    pub fn check(&self) -> Result<(), Duration> {
        self.ask(|_, _| ())
    }

    /// Whether nothing of the burst is used up.
    pub fn is_full(&self) -> bool {
        *lock(&self.full) <= Instant::now()
    }

    fn ask(&self, granted: impl FnOnce(&mut Instant, Instant)) -> Result<(), Duration> {
        let now = Instant::now();
        let mut full = lock(&self.full);
        let begin = (*full).max(now);
        let ahead = begin.duration_since(now);
        if ahead > self.tolerance {
            return Err(ahead - self.tolerance);
        }
        granted(&mut full, begin);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_admitted_and_then_one_for_each_interval() {
        let second = Duration::from_secs(1);
        let limit = RateLimit::new(second, 3);
        let count = || (0..10).filter(|_| limit.admit().is_ok()).count();
        assert_eq!(count(), 3);
        tokio::time::advance(second - Duration::from_millis(1)).await;
        assert_eq!(count(), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(count(), 1);
        tokio::time::advance(100 * second).await;
        assert_eq!(count(), 3, "no more than a burst is saved up");
        assert_eq!(limit.admit(), Err(second));
        assert_eq!((limit.check(), limit.is_full()), (Err(second), false));
        tokio::time::advance(second).await;
        assert_eq!((limit.check(), limit.check(), limit.is_full()), (Ok(()), Ok(()), false), "looking costs nothing");
        tokio::time::advance(2 * second).await;
        assert!(limit.is_full());
    }
}
