//! New connections, for the time that they take and for why there are none.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::config::Config;
use crate::probe::net::{Net, connect_any};
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;

/// Connects as the configuration says.
pub(super) struct Connector {
    net: Net,
}

impl Connector {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with a certificate or a key, in words.
    pub(super) fn new(_config: &Config, net: &Net) -> Result<Self, String> {
        Ok(Self { net: net.clone() })
    }

    /// How long a new connection takes: name, TCP as the kernel timed it, TLS. It is closed again.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<Duration, Failure> {
        // Reading the system's configuration anew is no part of asking a name server.
        self.net.prepare(host).await?;
        let started = Instant::now();
        let addresses = self.net.resolve(host).await?;
        let resolved = started.elapsed();
        let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let connected = connect_any(&addresses).await?;
        Ok(resolved + connected.handshake)
    }

    /// Ends only when none of the addresses can be reached, and says why: sooner and in better words than librdkafka, which
    /// tries for ever.
    pub(super) async fn reach_any(&self, addresses: &[HostPort], deadline: Instant) -> Failure {
        let mut attempts: FuturesUnordered<_> = addresses
            .iter()
            .map(|address| async move {
                let silent = || Failure::new(Reason::Timeout, format!("{address} does not answer"));
                timeout_at(deadline, self.connect(&address.host, address.port)).await.unwrap_or_else(|_| Err(silent()))
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
}
