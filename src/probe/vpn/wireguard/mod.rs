//! WireGuard: a full handshake as a configured peer, and the tunnel that it opens.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use super::inside::{Heard, Times, Way};
use super::knock::Knock;
use crate::probe::{Failure, Reason, Shared};
use crate::settings::{Secret, Section};

/// The keys of WireGuard.
#[derive(Debug, PartialEq)]
pub(super) struct Config {
    private_key: Secret,
    server_public_key: String,
    preshared_key: Option<Secret>,
    inside_address: Option<IpAddr>,
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let private_key = section.required("private_key");
        let server_public_key = section.required("server_public_key");
        let preshared_key = section.optional("preshared_key");
        let _ = section.optional::<String>("inside_address");
        Some(Self {
            private_key: private_key?,
            server_public_key: server_public_key?,
            preshared_key,
            inside_address: None,
        })
    }

    /// Whether its tunnel has an address of ours inside.
    pub(super) fn is_for_inside(&self) -> bool {
        self.inside_address.is_some()
    }
}

/// Knocks as a peer.
pub(super) struct Wireguard;

impl Wireguard {
    pub(super) fn new(_config: &Config, _shared: &Shared, _old: Option<&Self>) -> Result<Self, String> {
        Ok(Self)
    }

    pub(super) fn concerns(&self) -> Vec<String> {
        Vec::new()
    }

    pub(super) async fn knock(&self, _knock: &Knock<'_>) -> Result<Tunnel, Failure> {
        Err(Failure::new(Reason::Internal, "not there yet"))
    }
}

/// The tunnel that a handshake opened.
pub(super) struct Tunnel;

impl Way for Tunnel {
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
