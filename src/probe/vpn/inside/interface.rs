//! The way through an interface that somebody else keeps up.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use super::{Heard, Inside, Times, Way};
use crate::probe::{Failure, Reason};

/// An interface by its name.
#[derive(Debug)]
pub(in crate::probe::vpn) struct Interface {
    name: String,
}

impl Interface {
    pub(in crate::probe::vpn) fn new(name: String) -> Self {
        Self { name }
    }

    /// What will not work here.
    pub(in crate::probe::vpn) fn concerns(&self, _targets: &[Inside]) -> Vec<String> {
        let _ = &self.name;
        Vec::new()
    }
}

impl Way for Interface {
    async fn echo(&self, _to: IpAddr, _until: Instant) -> Result<Duration, Failure> {
        Err(Failure::new(Reason::Internal, "not there yet"))
    }

    async fn converse(
        &self,
        _to: SocketAddr,
        _say: &[u8],
        _listen: &(dyn Fn(&[u8]) -> Heard + Sync),
        _until: Instant,
    ) -> Result<Times, Failure> {
        Err(Failure::new(Reason::Internal, "not there yet"))
    }

    async fn question(
        &self,
        _to: SocketAddr,
        _say: &[u8],
        _listen: &(dyn Fn(&[u8]) -> Heard + Sync),
        _until: Instant,
    ) -> Result<Duration, Failure> {
        Err(Failure::new(Reason::Internal, "not there yet"))
    }

    fn prove(&self) -> Result<(), Failure> {
        Ok(())
    }
}
