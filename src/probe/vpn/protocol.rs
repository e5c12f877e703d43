//! The protocols, as the run sees them.

use std::time::Duration;

use super::config::ProtocolConfig;
use super::ikev2::Ikev2;
use super::knock::Knock;
use super::metrics::{self, Reply};
use super::openvpn::Openvpn;
use super::tls::{Anyconnect, Sstp};
use super::wireguard::{Tunnel, Wireguard};
use crate::probe::{Failure, Floor, Shared};

/// Who knocks.
pub(super) enum Protocol {
    Wireguard(Box<Wireguard>),
    Openvpn(Openvpn),
    Ikev2(Ikev2),
    Anyconnect(Anyconnect),
    Sstp(Sstp),
}

/// What a knock opened.
pub(super) enum Opened<'k> {
    /// Nothing that we can go through.
    Nothing,
    /// A tunnel.
    Tunnel(Box<Tunnel<'k>>),
}

impl Protocol {
    /// Builds what the configuration asks for; what `old` knows and still applies is taken over.
    pub(super) fn new(config: &ProtocolConfig, shared: &Shared, old: Option<&Self>) -> Result<Self, String> {
        Ok(match config {
            ProtocolConfig::Wireguard(config) => {
                let old = old.and_then(|old| if let Self::Wireguard(old) = old { Some(&**old) } else { None });
                Self::Wireguard(Box::new(Wireguard::new(config, shared, old)?))
            }
            ProtocolConfig::Openvpn(config) => Self::Openvpn(Openvpn::new(config, shared)?),
            ProtocolConfig::Ikev2(config) => Self::Ikev2(Ikev2::new(config)),
            ProtocolConfig::Anyconnect(config) => Self::Anyconnect(Anyconnect::new(config, shared)?),
            ProtocolConfig::Sstp(config) => Self::Sstp(Sstp::new(config, shared)?),
        })
    }

    /// The protocol's own stages, in order.
    pub(super) fn stages(&self) -> Vec<&'static str> {
        match self {
            Self::Wireguard(_) | Self::Ikev2(_) => vec![metrics::HANDSHAKE],
            Self::Openvpn(openvpn) => openvpn.stages(),
            Self::Anyconnect(_) | Self::Sstp(_) => vec![metrics::CONNECT, metrics::TLS, metrics::HANDSHAKE],
        }
    }

    /// What servers answer with.
    pub(super) fn replies(&self) -> &'static [Reply] {
        match self {
            Self::Wireguard(_) => &[Reply::Response, Reply::Cookie],
            Self::Openvpn(_) => &[Reply::ServerReset],
            Self::Ikev2(_) => &[
                Reply::SaInit,
                Reply::Cookie,
                Reply::NoProposal,
                Reply::InvalidKe,
                Reply::InvalidVersion,
                Reply::OtherNotify,
            ],
            Self::Anyconnect(_) => &[Reply::AuthRequest],
            Self::Sstp(_) => &[Reply::Accepted],
        }
    }

    /// What will not work well here.
    pub(super) fn concerns(&self) -> Vec<String> {
        match self {
            Self::Wireguard(wireguard) => wireguard.concerns(),
            Self::Openvpn(openvpn) => openvpn.concerns(),
            Self::Ikev2(_) => Vec::new(),
            Self::Anyconnect(anyconnect) => anyconnect.concerns(),
            Self::Sstp(sstp) => sstp.concerns(),
        }
    }

    /// Knocks once.
    ///
    /// # Errors
    /// Why the server cannot be said to be there.
    pub(super) async fn knock<'k>(&self, knock: &'k Knock<'_>) -> Result<Opened<'k>, Failure> {
        match self {
            Self::Wireguard(wireguard) => {
                return Ok(Opened::Tunnel(Box::new(wireguard.knock(knock).await?)));
            }
            Self::Openvpn(openvpn) => openvpn.knock(knock).await?,
            Self::Ikev2(ikev2) => ikev2.knock(knock).await?,
            Self::Anyconnect(anyconnect) => anyconnect.knock(knock).await?,
            Self::Sstp(sstp) => sstp.knock(knock).await?,
        }
        Ok(Opened::Nothing)
    }
}

impl ProtocolConfig {
    /// The shortest interval that does the server no harm, with so many knocks a run.
    pub(super) fn floor(&self, knocks: usize) -> Floor {
        let (seconds, why) = match self {
            Self::Wireguard(_) => {
                (1, "each handshake replaces the peer's session, and servers drop those that follow too fast")
            }
            Self::Openvpn(config) if config.leaves_session() => (
                10,
                "a TLS handshake leaves a session on an OpenVPN server until its time for handshakes is over (hand-window, 60 s)",
            ),
            Self::Openvpn(_) => (
                5,
                "an OpenVPN server answers 100 first packets in 10 seconds, everybody's together (connect-freq-initial), and then \
                 shuts real clients out",
            ),
            Self::Ikev2(config) if config.leaves_state() => (
                10,
                "an accepted IKE_SA_INIT leaves a half-open SA for 30 seconds, and at five of one address the server goes silent",
            ),
            Self::Ikev2(_) => (1, "a server's protection against floods would be measured, not the server"),
            Self::Anyconnect(_) => {
                (20, "ocserv shuts an address out that connects 80 times in 20 minutes (max-ban-score, ban-reset-time)")
            }
            Self::Sstp(_) => (5, "each knock is a whole TLS handshake on the server"),
        };
        let knocks = u32::try_from(knocks.max(1)).unwrap_or(u32::MAX);
        let each = if matches!(self, Self::Ikev2(_)) { knocks } else { 1 };
        Floor { interval: Duration::from_secs(seconds) * each, why }
    }
}
