//! One TCP connection inside the tunnel: smoltcp, fed with packets of this connection only. No sockets, no time of its own.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::packet::Inner;
use crate::probe::{Failure, Reason};

/// The longest packet: what every IPv6 link takes, so that it fits into the tunnel's packets everywhere.
const MTU: usize = 1_280;
/// How much the peer may send before it is read.
const WINDOW: usize = 4_096;
/// How many packets wait to be sent; what is beyond is sent again by TCP.
const QUEUED: usize = 64;

/// A connection.
pub(super) struct Stream {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    ours: SocketAddr,
    to: SocketAddr,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The peer has not answered yet.
    Opening,
    /// Both sides may speak.
    Open,
    /// The peer will say no more.
    Ended,
    /// There is none, or none any more.
    Closed,
}

impl Stream {
    /// Begins to connect. `say` is how much will be said at most.
    ///
    /// # Errors
    /// `unreachable` for an address that no host can have.
    pub(super) fn connect(ours: SocketAddr, to: SocketAddr, (seed, say): (u64, usize)) -> Result<Self, Failure> {
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, Moment::ZERO);
        let length = if ours.is_ipv4() { 32 } else { 128 };
        // Everybody is behind a router that has no address of its own; the tunnel needs none.
        interface.update_ip_addrs(|all| all.push(IpCidr::new(ours.ip().into(), length)).unwrap_or(()));
        let _ = match ours.ip() {
            IpAddr::V4(ip) => interface.routes_mut().add_default_ipv4_route(ip),
            IpAddr::V6(ip) => interface.routes_mut().add_default_ipv6_route(ip),
        };
        let room = |bytes| SocketBuffer::new(vec![0; bytes]);
        let mut socket = Socket::new(room(WINDOW), room(say.max(1)));
        // Whoever waits for an answer must not wait for an acknowledgement.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.connect(interface.context(), to, ours).map_err(|_| {
            Failure::new(Reason::Unreachable, format!("no host inside can have the address {}", to.ip()))
        })?;
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Ok(Self { wire, interface, sockets, handle, ours, to })
    }

    /// Whether a packet belongs to this connection.
    pub(super) fn takes(&self, inner: &Inner<'_>) -> bool {
        inner.is_of_connection(self.to, self.ours)
    }

    /// Goes on, with a packet of this connection if one arrived. `since` is the time since the beginning.
    pub(super) fn go_on(&mut self, since: Duration, arrived: Option<Vec<u8>>) {
        self.wire.arrived = arrived;
        self.interface.poll(moment(since), &mut self.wire, &mut self.sockets);
    }

    /// The next packet that is to be sent.
    pub(super) fn outgoing(&mut self) -> Option<Vec<u8>> {
        self.wire.to_send.pop_front()
    }

    /// When it is to go on if nothing arrives.
    pub(super) fn due(&mut self, since: Duration) -> Option<Duration> {
        self.interface.poll_delay(moment(since), &self.sockets).map(Into::into)
    }

    /// How far it is.
    pub(super) fn stage(&self) -> Stage {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        match socket.state() {
            State::Closed | State::TimeWait => Stage::Closed,
            State::SynSent | State::SynReceived | State::Listen => Stage::Opening,
            _ if socket.may_recv() => Stage::Open,
            _ => Stage::Ended,
        }
    }

    /// Says something; what there is no room for is left out, and there is none only if more is said than was announced.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        let _ = self.socket().send_slice(bytes);
    }

    /// Adds what the peer has said to `heard`.
    pub(super) fn hear(&mut self, heard: &mut Vec<u8>) {
        let socket = self.socket();
        while socket.can_recv() {
            let read = socket.recv(|bytes| {
                heard.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            if !matches!(read, Ok(1..)) {
                break;
            }
        }
    }

    /// Says that we have nothing more to say.
    pub(super) fn close(&mut self) {
        self.socket().close();
    }

    /// Ends it at once; the peer is told with the next packet.
    pub(super) fn abort(&mut self) {
        self.socket().abort();
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

fn moment(since: Duration) -> Moment {
    Moment::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// What smoltcp takes for a network.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) arrived: Option<Vec<u8>>,
    pub(super) to_send: VecDeque<Vec<u8>>,
}

/// A packet that arrived.
pub(super) struct Arrived(Vec<u8>);

/// Room for a packet that is to be sent.
pub(super) struct Room<'w>(&'w mut VecDeque<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Moment) -> Option<(Arrived, Room<'_>)> {
        Some((Arrived(self.arrived.take()?), Room(&mut self.to_send)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Room<'_>> {
        (self.to_send.len() < QUEUED).then_some(Room(&mut self.to_send))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut all = DeviceCapabilities::default();
        (all.medium, all.max_transmission_unit) = (Medium::Ip, MTU);
        all
    }
}

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
