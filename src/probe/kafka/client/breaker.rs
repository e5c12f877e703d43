//! Keeps us from trying a dead broker again and again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::probe::Failure;

/// How long a broker is left alone after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. A collector that runs every 10 s and finds out after 5 s that a broker is silent tries it again in
/// every second run at the latest, so that a broker that is back is seen within two runs.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What is known of a broker's health. It decides only about new connections: one that is open goes on being used, so
/// that slow disks, asked over the one connection, do not silence the other.
///
/// Half-open is implicit: when the pause is over, one connection of a lane is tried, because a lane has only one, and
/// everybody waits for it.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether the last exchange went well.
    up: Option<bool>,
    /// Failures since the last success, those within a pause not counted.
    failures: u32,
    /// The pause that goes on, and why.
    pause: Option<(Instant, Failure)>,
}

impl Breaker {
    /// Whether the last exchange went well; `None` if there was none.
    pub(super) fn is_up(&self) -> Option<bool> {
        self.state().up
    }

    /// Whether a new connection may be tried now.
    ///
    /// # Errors
    /// The last failure, saying when the next attempt may be.
    pub(super) fn admit(&self) -> Result<(), Failure> {
        match &self.state().pause {
            Some((until, failure)) if *until > Instant::now() => {
                let left = (*until - Instant::now()).as_secs_f64();
                Err(Failure::new(failure.reason, format!("not tried again for {left:.1} s after: {}", failure.detail)))
            }
            _ => Ok(()),
        }
    }

    /// The broker answered.
    pub(super) fn succeeded(&self) {
        *self.state() = State { up: Some(true), ..State::default() };
    }

    /// An exchange failed in a way that tells nothing of the next one.
    pub(super) fn stumbled(&self) {
        self.state().up = Some(false);
    }

    /// A connection could not be opened, or stayed silent: a pause begins.
    pub(super) fn failed(&self, failure: &Failure) {
        let mut state = self.state();
        state.up = Some(false);
        let now = Instant::now();
        // The other lane's failure within the pause is the same one. But whoever met it has used up its time, and what it asks
        // next is not to wait for that long again.
        if let Some((until, _)) = state.pause.as_mut().filter(|(until, _)| *until > now) {
            *until = (*until).max(now + FIRST_PAUSE.mul_f64(jitter()));
            return;
        }
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(state.failures.min(8))).min(LONGEST_PAUSE);
        state.failures += 1;
        state.pause = Some((now + pause.mul_f64(jitter()), failure.clone()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share from three quarters to one: probes of one broker that fail together do not try again together.
fn jitter() -> f64 {
    let mut random = [0];
    // Without random numbers the pauses are merely equal.
    let _ = getrandom::fill(&mut random);
    1.0 - f64::from(random[0]) / 255.0 / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Reason;

    fn silent() -> Failure {
        Failure::new(Reason::Timeout, "no answer")
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let breaker = Breaker::default();
        assert_eq!(breaker.is_up(), None);
        for longest in [1, 2, 4, 8, 15, 15, 15] {
            breaker.admit().unwrap();
            breaker.failed(&silent());
            let refused = breaker.admit().unwrap_err();
            assert_eq!(refused.reason, Reason::Timeout);
            assert!(refused.detail.ends_with(" s after: no answer"), "{refused}");
            let longest = Duration::from_secs(longest);
            tokio::time::advance(longest.mul_f64(0.74)).await;
            breaker.admit().unwrap_err();
            // A second failure in the same pause does not make the next one longer, and this one only as long as one failure does.
            breaker.failed(&silent());
            breaker.admit().unwrap_err();
            tokio::time::advance(longest.mul_f64(0.27).max(FIRST_PAUSE)).await;
        }
        assert_eq!(breaker.is_up(), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_it() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            breaker.failed(&silent());
            tokio::time::advance(LONGEST_PAUSE).await;
        }
        breaker.succeeded();
        breaker.admit().unwrap();
        assert_eq!(breaker.is_up(), Some(true));
        breaker.failed(&silent());
        tokio::time::advance(FIRST_PAUSE).await;
        breaker.admit().unwrap();
        breaker.stumbled();
        breaker.admit().unwrap();
        assert_eq!(breaker.is_up(), Some(false));
    }
}
