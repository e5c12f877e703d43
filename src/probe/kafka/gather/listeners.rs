//! A client's way to each broker: what the name that it advertises resolves to, and how long each step of a new connection there
//! takes. A broker whose registration in DNS is stale is found here, while connections that are open already hide it.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::super::client::connect::{Observer, Phase};
use super::super::metrics::{ADDRESSES, API_VERSIONS, AUTH, CONNECT, RESOLVE, TCP, TLS};
use super::Collector;
use crate::metrics::{self, Recorder, Target};
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;

impl Collector {
    /// One round of the listeners cycle: a new connection to each live broker, closed at once.
    ///
    /// # Errors
    /// Nobody tells what brokers there are.
    pub(in super::super) async fn try_listeners(&self, rec: &Recorder) -> Result<(), Failure> {
        self.ensure_listed().await?;
        let topology = self.state.lock().topology.clone();
        self.forget_brokers(rec);
        let brokers = topology.iter().flat_map(|topology| &topology.brokers);
        join_all(brokers.map(async |broker| {
            let id = broker.id.to_string();
            let target = rec.target(&id).phases(&CONNECT);
            target.note(format!("{}:{}", broker.host, broker.port));
            let address = HostPort { host: broker.host.to_string(), port: broker.port };
            let visit = Visit { rec, id: &id, target: &target, open: Mutex::default() };
            // As long as the collector itself waits for a connection. A phase that is open then is recorded as timed out, and
            // the run goes on to its end.
            let opened = timeout(self.client.limit(), self.client.dialer().dial(&address, &visit)).await;
            drop(visit);
            target.finish(match opened {
                Ok(opened) => opened.map(drop),
                Err(_) => Err(Failure::new(Reason::Timeout, format!("{address}: no connection in time"))),
            });
        }))
        .await;
        Ok(())
    }
}

impl Collector {
    /// Ends the series of brokers that neither are in the cluster nor hold a replica any more.
    fn forget_brokers(&self, rec: &Recorder) {
        let mut state = self.state.lock();
        let known = state.known_brokers();
        for broker in state.seen_brokers.difference(&known) {
            rec.forget(&["broker"], &broker.to_string());
        }
        state.seen_brokers = known;
    }
}

/// Records the phases of a connection. One that is open when the deadline drops it is recorded as timed out.
struct Visit<'r> {
    rec: &'r Recorder,
    id: &'r str,
    target: &'r Target,
    open: Mutex<Option<metrics::Phase<'r>>>,
}

impl<'r> Visit<'r> {
    fn swap(&self, next: Option<metrics::Phase<'r>>) -> Option<metrics::Phase<'r>> {
        std::mem::replace(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner), next)
    }
}

impl Observer for Visit<'_> {
    fn begin(&self, phase: Phase) {
        let name = match phase {
            Phase::Resolve => RESOLVE,
            Phase::Tcp => TCP,
            Phase::Tls => TLS,
            Phase::ApiVersions => API_VERSIONS,
            Phase::Auth => AUTH,
        };
        self.swap(Some(self.target.phase(name)));
    }

    fn end(&self, _phase: Phase, took: Duration, result: Result<(), &Failure>) {
        let Some(open) = self.swap(None) else { return };
        match result {
            Ok(()) => open.done_in(took),
            Err(failure) => open.fail(failure),
        }
    }

    fn resolved(&self, addresses: &[IpAddr]) {
        self.rec.set(&ADDRESSES, [self.id], super::super::show::count(addresses.len()));
    }
}
