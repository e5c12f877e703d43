//! New connections, for the time that they take and for why there are none.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use crate::probe::kafka::client::connect::{Dialer, Observer, Phase};
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;

/// Adds up the phases of a connection: what a client waits for, without what this side does between them.
#[derive(Default)]
struct Sum(Mutex<Duration>);

impl Observer for Sum {
    fn end(&self, _phase: Phase, took: Duration, _result: Result<(), &Failure>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += took;
    }
}

/// How long a new connection takes until requests may be sent. It is closed again.
///
/// # Errors
/// Why there is none.
pub(super) async fn connect(dialer: &Dialer, address: &HostPort) -> Result<Duration, Failure> {
    let sum = Sum::default();
    // Large, and few: on the heap it is nobody's burden.
    Box::pin(dialer.dial(address, &sum)).await?;
    Ok(sum.0.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Ends only when none of the addresses can be used, and says why: sooner and in better words than librdkafka, which tries
/// for ever.
pub(super) async fn despair(dialer: &Dialer, addresses: &[HostPort], deadline: Instant) -> Failure {
    let mut attempts: FuturesUnordered<_> = addresses
        .iter()
        .map(|address| async move {
            let silent = || Failure::new(Reason::Timeout, format!("{address} does not answer"));
            timeout_at(deadline, connect(dialer, address)).await.unwrap_or_else(|_| Err(silent()))
        })
        .collect();
    let mut last = Failure::new(Reason::Internal, "there is no address");
    while let Some(result) = attempts.next().await {
        match result {
            Ok(_) => std::future::pending::<()>().await,
            Err(failure) => last = failure,
        }
    }
    last
}
