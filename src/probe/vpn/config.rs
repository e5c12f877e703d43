//! The keys of `[probe.vpn.<name>]`.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::inside::Inside;
use super::{ikev2, openvpn, tls, wireguard};
use crate::settings::{HostPort, Invalid, Item, Section, Settings, Value};

/// The keys of a VPN probe.
#[derive(Debug, PartialEq)]
pub struct Config {
    /// Whom to knock at; `None` is nobody: only targets inside, through an interface.
    pub(super) server: Option<Server>,
    pub(super) addresses: Addresses,
    pub(super) protocol: Option<ProtocolConfig>,
    /// How many times a packet is sent that nobody answers.
    pub(super) attempts: u32,
    /// Of how many packets the loss is told.
    pub(super) loss_window: usize,
    /// What is asked through the tunnel.
    pub(super) inside: Vec<Inside>,
    /// The interface that leads inside, where it is not a tunnel of our own.
    pub(super) interface: Option<String>,
}

/// A server by its name or address.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Server {
    pub(super) host: String,
    /// `None` is the protocol's own ports.
    pub(super) port: Option<u16>,
}

/// Which addresses of a name are knocked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Addresses {
    /// The one that a client would try first.
    #[default]
    First,
    /// Each, with a verdict of its own.
    All,
}

impl Value for Addresses {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[("first", Self::First), ("all", Self::All)])
    }
}

/// The keys of the protocol.
#[derive(Debug, PartialEq)]
pub(super) enum ProtocolConfig {
    Wireguard(wireguard::Config),
    Openvpn(openvpn::Config),
    Ikev2(ikev2::Config),
    Anyconnect(tls::Config),
    Sstp(tls::Config),
}

#[derive(Clone, Copy, PartialEq)]
enum Name {
    Wireguard,
    Openvpn,
    Ikev2,
    Anyconnect,
    Sstp,
}

impl Value for Name {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.choice(&[
            ("wireguard", Self::Wireguard),
            ("openvpn", Self::Openvpn),
            ("ikev2", Self::Ikev2),
            ("anyconnect", Self::Anyconnect),
            ("sstp", Self::Sstp),
        ])
    }
}

impl Value for Server {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let text = item.text("\"host:port\" or \"host\"")?;
        // A port that is not there must be told from one that is: 1 stands for the former while the rest is checked.
        let has_port = text.rsplit_once(':').is_some_and(|(host, _)| !host.starts_with('[') || host.ends_with(']'));
        let whole = if has_port { text.to_owned() } else { format!("{text}:1") };
        let HostPort { host, port } =
            whole.parse().map_err(|why| Invalid::new(format!("expected \"host:port\" or \"host\"; {why}")))?;
        Ok(Self { host, port: has_port.then_some(port) })
    }
}

impl Settings for Config {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let name = section.optional::<Name>("protocol");
        let server = section.optional::<Server>("server");
        let addresses = section.or("addresses", Addresses::default());
        let attempts = section.checked("attempts", |n: &u32| within(n, &(1..=10))).unwrap_or(3);
        let loss_window = section.checked("loss_window", |n: &usize| within(n, &(10..=100_000))).unwrap_or(100);
        let interface = section.checked("interface", |name: &String| is_interface(name));
        let inside = Inside::read_all(section);
        let protocol = match name {
            Some(Name::Wireguard) => wireguard::Config::read(section).map(ProtocolConfig::Wireguard),
            Some(Name::Openvpn) => openvpn::Config::read(section).map(ProtocolConfig::Openvpn),
            Some(Name::Ikev2) => ikev2::Config::read(section).map(ProtocolConfig::Ikev2),
            Some(Name::Anyconnect) => tls::Config::read(section).map(ProtocolConfig::Anyconnect),
            Some(Name::Sstp) => tls::Config::read(section).map(ProtocolConfig::Sstp),
            None => None,
        };
        if section.has("addresses") && !section.has("server") {
            section.problem(Some("addresses"), "`addresses`: needs a `server`");
        }
        if section.has("protocol") {
            if !section.has("server") {
                section.problem(None, "missing field `server`");
            }
            if name.is_some() && protocol.is_none() {
                return None;
            }
        } else if section.has("server") || !section.has("interface") {
            section.problem(None, "missing field `protocol` (or an `interface` that leads `inside`, and no `server`)");
        }
        let inside = inside?;
        let has_tunnel = matches!(&protocol, Some(ProtocolConfig::Wireguard(config)) if config.is_for_inside());
        if let (Some(ProtocolConfig::Wireguard(config)), None) = (&protocol, &interface)
            && let Some(far) = inside.iter().find(|target| !config.reaches(target.ip()))
        {
            let family = if far.ip().is_ipv4() { "IPv4" } else { "IPv6" };
            let label = &far.label;
            section.problem(Some("inside"), format!("`inside`: {label} is {family}, and our `inside_address` is not"));
        }
        match (inside.is_empty(), interface.is_some()) {
            (false, false) if name == Some(Name::Wireguard) && !has_tunnel => {
                section.problem(Some("inside"), "`inside`: needs an `inside_address` (or an `interface`)");
            }
            (false, false) if !has_tunnel => section.problem(
                Some("inside"),
                "`inside`: needs an `interface` that leads there; only WireGuard's tunnel is one of our own",
            ),
            (true, true) => section.problem(Some("interface"), "`interface`: needs targets `inside`"),
            _ => {}
        }
        if section.has("server") && server.is_none() {
            return None;
        }
        let server = server.map(|server| server.completed(protocol.as_ref()));
        Some(Self { server, addresses, protocol, attempts, loss_window, inside, interface })
    }
}

impl Server {
    /// With the port that the protocol has, if it has only one.
    fn completed(self, protocol: Option<&ProtocolConfig>) -> Self {
        let port = self.port.or(match protocol.map(ProtocolConfig::ports) {
            Some([port]) => Some(*port),
            _ => None,
        });
        Self { port, ..self }
    }
}

impl ProtocolConfig {
    /// Where the protocol's servers listen unless somebody says otherwise.
    fn ports(&self) -> &'static [u16] {
        match self {
            Self::Wireguard(_) => &[51820],
            Self::Openvpn(_) => &[1194],
            Self::Ikev2(_) => &[500, 4500],
            Self::Anyconnect(_) | Self::Sstp(_) => &[443],
        }
    }
}

impl Config {
    /// The ports that are knocked at.
    pub(super) fn ports(&self) -> Vec<u16> {
        match (self.server.as_ref().and_then(|server| server.port), &self.protocol) {
            (Some(port), _) => vec![port],
            (None, Some(protocol)) => protocol.ports().to_vec(),
            (None, None) => Vec::new(),
        }
    }

    /// What the address is called: as the operator wrote it, or itself where each has a verdict of its own.
    pub(super) fn label(&self, server: &Server, address: SocketAddr) -> String {
        match self.addresses {
            Addresses::First => HostPort { host: server.host.clone(), port: address.port() }.to_string(),
            Addresses::All => address.to_string(),
        }
    }

    /// The labels that are known without asking a name server.
    pub(super) fn labels(&self) -> Vec<String> {
        let Some(server) = &self.server else { return self.interface.clone().into_iter().collect() };
        let of_port = |port| HostPort { host: server.host.clone(), port }.to_string();
        match self.addresses {
            Addresses::First => self.ports().into_iter().map(of_port).collect(),
            Addresses::All => Vec::new(),
        }
    }
}

fn within<T: PartialOrd + Display>(value: &T, range: &RangeInclusive<T>) -> Result<(), String> {
    if range.contains(value) { Ok(()) } else { Err(format!("must be from {} to {}", range.start(), range.end())) }
}

/// What the kernel takes for the name of an interface (`dev_valid_name` in Linux' net/core/dev.c).
fn is_interface(name: &str) -> Result<(), String> {
    let good = (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if good { Ok(()) } else { Err("is not the name of an interface".to_owned()) }
}
