//! Real VPN servers, each in a network namespace of its own, and what happens to networks.
//!
//! A [`Network`] is two namespaces with a cable between them: servers run in one, clients and midwatch in the other. What is lost on
//! the way is said in the rules of nftables, so that it is exact.
//!
//! ```no_run
//! # async fn example() -> lab::Result<()> {
//! use lab::vpn::{Implementation, Network, WireguardServer};
//! let network = Network::new()?;
//! let server = WireguardServer::start(&network.server, Implementation::Go).await?;
//! let peer = server.add_peer("10.88.0.2/32", false)?;
//! network.server.rules("udp dport 51820 numgen inc mod 10 == 0 drop")?;
//! # Ok(()) }
//! ```

mod ike;
mod namespace;
mod network;
mod ocserv;
mod openvpn;
mod wireguard;

pub use ike::{Ike, IkeOptions};
pub use namespace::{Namespace, connect_within};
pub use network::{Inside, Network, PAGE, SERVED_NAME, available};
pub use ocserv::Ocserv;
pub use openvpn::{OpenvpnClient, OpenvpnOptions, OpenvpnServer, Wrap};
pub use wireguard::{Implementation, Peer, WireguardServer};
