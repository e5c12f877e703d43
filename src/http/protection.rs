//! What a request has to pass before anybody looks at what it asks for.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::auth::Users;

/// How a server is protected. It can be replaced while the server runs: TLS then concerns new connections, the rest
/// every request.
#[derive(Default)]
pub struct Protection {
    /// How TLS is spoken; `None` for plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Who may log in. If nobody is named, everybody is let in without.
    pub users: Users,
    /// What every response carries, in place of the same header of its own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How many requests are answered.
    pub rate_limit: Option<RateLimit>,
}

/// Shows no user.
impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection")
            .field("tls", &self.tls.is_some())
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}

impl Protection {
    /// Adds what every response carries.
    pub(super) fn decorate(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}

/// A token bucket for all requests together. It is the generic cell rate algorithm (ITU-T I.371): all that is kept is the
/// time at which the bucket will be full again.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    /// How far that time may be ahead.
    tolerance: Duration,
    full: Mutex<Instant>,
}

impl RateLimit {
    /// One request for each `interval`, and `burst` at once, of which there is at least one.
    pub fn new(interval: Duration, burst: u32) -> Self {
        let tolerance = interval.saturating_mul(burst.saturating_sub(1));
        Self { interval, tolerance, full: Mutex::new(Instant::now()) }
    }

    /// Whether one more request may be answered now.
    pub(super) fn admits(&self) -> bool {
        let now = Instant::now();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*full).max(now);
        let admitted = begin.duration_since(now) <= self.tolerance;
        if admitted {
            *full = begin + self.interval;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_admitted_and_then_one_for_each_interval() {
        let second = Duration::from_secs(1);
        let limit = RateLimit::new(second, 3);
        let count = || (0..10).filter(|_| limit.admits()).count();
        assert_eq!(count(), 3);
        tokio::time::advance(second - Duration::from_millis(1)).await;
        assert_eq!(count(), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(count(), 1);
        tokio::time::advance(100 * second).await;
        assert_eq!(count(), 3, "no more than a burst is saved up");
    }
}
