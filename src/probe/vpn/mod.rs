//! Knocks at a VPN server as a client does, and goes through the tunnel.
//!
//! A run resolves the server's name, knocks at one or all of its addresses one after the other, and asks targets inside: through
//! the tunnel that the handshake opened (WireGuard), or through an interface that somebody else keeps up. So a server that is
//! down, one that answers but leads nowhere, and one that works are told apart.
//!
//! Handshakes cost servers memory, and some shut everybody out when there are too many: each address has a [budget] that
//! all probes share, and intervals have a floor.

mod budget;
mod config;
#[cfg(test)]
mod config_tests;
mod exchange;
pub mod fuzz;
mod ikev2;
mod inside;
mod knock;
mod metrics;
mod openvpn;
mod protocol;
mod random;
#[cfg(test)]
mod testing;

mod tls;
mod wireguard;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use self::config::{Addresses, Config};
use self::inside::Interface;
use self::knock::{Knock, Losses};
use self::protocol::{Opened, Protocol};
use super::{Cycle, Failure, Floor, Probe, Reason, Shared, net};
use crate::metrics::{Desc, Recorder};
use crate::sync::lock;

/// The probe type `vpn`.
pub(super) struct Vpn {
    config: Arc<Config>,
    net: net::Net,
    protocol: Option<Protocol>,
    interface: Option<Interface>,
    losses: Arc<Losses>,
    /// Targets inside that are none any more, until the next run ends their series.
    gone: Mutex<Vec<String>>,
}

impl Probe for Vpn {
    const TYPE: &'static str = "vpn";
    const METRICS: &'static [&'static Desc] = metrics::ALL;
    const REASONS: &'static [Reason] = &[
        Reason::Resolve,
        Reason::Refused,
        Reason::Unreachable,
        Reason::Closed,
        Reason::Tls,
        Reason::Certificate,
        Reason::Protocol,
        Reason::Mismatch,
        Reason::Overload,
        Reason::Local,
        Reason::PskMismatch,
        Reason::WrapMismatch,
        Reason::DataPlaneTimeout,
        Reason::RateLimited,
        Reason::ClockBehind,
        Reason::WrongInterface,
    ];
    type Config = Config;

    fn new(config: &Arc<Config>, shared: &Shared, previous: Option<&Self>) -> Result<Self, String> {
        let old = previous.and_then(|previous| previous.protocol.as_ref());
        let protocol = config.protocol.as_ref().map(|config| Protocol::new(config, shared, old)).transpose()?;
        let losses = previous.map_or_else(|| Arc::new(Losses::default()), |previous| Arc::clone(&previous.losses));
        let interface = config.interface.clone().map(Interface::new);
        let labels = |config: &Config| config.inside.iter().map(|target| target.label.clone()).collect::<Vec<_>>();
        let mut gone = previous.map_or_else(Vec::new, |previous| labels(&previous.config));
        gone.retain(|label| !labels(config).contains(label));
        let (net, gone) = (shared.net.clone(), Mutex::new(gone));
        Ok(Self { config: Arc::clone(config), net, protocol, interface, losses, gone })
    }

    fn floor(config: &Config) -> Option<Floor> {
        config.protocol.as_ref().map(|protocol| protocol.floor(config.ports().len()))
    }

    fn concerns(&self) -> Vec<String> {
        let protocol = self.protocol.iter().flat_map(Protocol::concerns);
        protocol.chain(self.interface.iter().flat_map(|interface| interface.concerns(&self.config.inside))).collect()
    }

    async fn run(&self, _cycle: Cycle, rec: &mut Recorder) -> Result<(), Failure> {
        let rec = &*rec;
        for label in std::mem::take(&mut *lock(&self.gone)) {
            rec.end(&["inside"], &label);
        }
        let Some(server) = &self.config.server else { return self.through_interface_alone(rec).await };
        let addresses = self.net.resolve(&server.host).await?;
        let taken = match self.config.addresses {
            Addresses::First => &addresses[..1.min(addresses.len())],
            Addresses::All => &addresses[..],
        };
        let ports = self.config.ports();
        let all: Vec<_> = taken.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port))).collect();
        #[allow(clippy::cast_precision_loss, reason = "a small count")]
        rec.set(&metrics::ADDRESSES, [], addresses.len() as f64);
        let names: Vec<_> = all.iter().map(|address| self.config.label(server, *address)).collect();
        self.losses.retain(&names, rec);
        for (place, (address, name)) in all.iter().zip(&names).enumerate() {
            let target = rec.target(name).phases(&metrics::STAGES);
            // Those that are still to come have as much time as this one.
            let share = rec.time_left() / u32::try_from(all.len() - place).unwrap_or(u32::MAX);
            let knock = Knock::new((rec, &target), (name, &server.host, *address), &self.config, &self.losses)
                .until(Instant::now() + share * 19 / 20);
            let result = self.visit(&knock).await;
            knock.verdict(&result);
            drop(knock);
            target.finish(result);
        }
        Ok(())
    }

    fn expected(&self, label: &str) -> Vec<String> {
        match label {
            "server" | "target" => self.config.labels(),
            "inside" => self.config.inside.iter().map(|target| target.label.clone()).collect(),
            "stage" => self.stages().into_iter().map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

impl Vpn {
    /// The stages that a knock goes through.
    fn stages(&self) -> Vec<&'static str> {
        let mut stages = self.protocol.as_ref().map_or_else(Vec::new, Protocol::stages);
        if !self.config.inside.is_empty() {
            stages.push(metrics::INSIDE);
        }
        stages.push(metrics::TOTAL);
        stages
    }

    /// Knocks at one address and asks the targets inside.
    async fn visit(&self, knock: &Knock<'_>) -> Result<(), Failure> {
        let opened = match &self.protocol {
            Some(protocol) => {
                knock.expects(protocol.replies());
                protocol.knock(knock).await?
            }
            None => Opened::Nothing,
        };
        if self.config.inside.is_empty() {
            return Ok(());
        }
        match (opened, &self.interface) {
            (_, Some(interface)) => match interface.visit(knock) {
                Ok(way) => inside::ask(knock, &way, &self.config.inside).await,
                Err(failure) => Err(knock.stage(metrics::INSIDE).fail(failure)),
            },
            (Opened::Tunnel(tunnel), None) => inside::ask(knock, &*tunnel, &self.config.inside).await,
            // Excluded when the configuration is read.
            (Opened::Nothing, None) => Ok(()),
        }
    }

    /// Nobody is knocked at: the interface is the target.
    async fn through_interface_alone(&self, rec: &Recorder) -> Result<(), Failure> {
        let Some(name) = &self.config.interface else { return Ok(()) };
        let target = rec.target(name).phases(&metrics::STAGES);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let knock = Knock::new((rec, &target), (name, name, nowhere), &self.config, &self.losses)
            .until(Instant::now() + rec.time_left() * 19 / 20);
        let result = self.visit(&knock).await;
        knock.verdict(&result);
        drop(knock);
        target.finish(result);
        Ok(())
    }
}
