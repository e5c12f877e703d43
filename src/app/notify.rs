//! Tells the service manager how far the daemon is, by the protocol of `sd_notify(3)`: systemd's, and that of whatever imitates it. Without
//! the variable `NOTIFY_SOCKET` nothing is told, and what cannot be told is no failure of the daemon.

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// The daemon listens and its configuration is in force; `probes` is how many it runs. Also ends what [`reloading`] began.
pub(super) fn ready(probes: usize) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("watching, probes: {probes}"))]);
}

/// The configuration is being loaded anew, because somebody asked for it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // systemd fails a unit of type notify-reload that does not say since when.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "there is no monotonic clock for the service manager"),
    }
}

/// The daemon ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Shows for ever that the runtime still does what is due, twice in the time after which the service manager takes it for dead. Not at
/// all, if it did not ask for it.
pub(super) async fn stay_alive() {
    // A tick must not have no length.
    let half = sd_notify::watchdog_enabled().map(|most| most / 2).filter(|half| !half.is_zero());
    let Some(half) = half else { return };
    let mut tick = interval(half);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
