//! A socket for UDP, or ICMP, whose round trips the kernel times.
//!
//! The kernel stamps a packet when it hands it to the device and when it takes one from it (`SO_TIMESTAMPING`, Linux'
//! Documentation/networking/timestamping.rst). The difference of the two has neither our event loop in it nor our scheduler.
//! Stamps are of the real-time clock, so only differences of two that are close are used, and only if the monotonic clock
//! does not contradict them: a clock that is stepped between the two gives our own time instead.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, TimestampingFlag, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::connect::Clock;
use super::{Failure, Reason};
use crate::sync::lock;

/// By how much a kernel's round trip may exceed ours, which holds it: two clocks are read, and neither is exact.
const TOLERANCE: Duration = Duration::from_micros(50);
/// By how much the real-time clock may go on differently from the monotonic one: the two are read one after the other, and
/// whoever reads them may be interrupted.
const STEP: Duration = Duration::from_millis(1);
/// How many stamps of packets sent are remembered until somebody asks.
const REMEMBERED: usize = 64;

/// A UDP or ICMP socket that is connected to one peer: what others send does not arrive, and what the network says of the peer does.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    peer: SocketAddr,
    /// Whether the kernel stamps packets.
    is_stamped: bool,
    /// Whether what arrives begins with a header of IPv4, as on a raw socket (raw(7)).
    has_header: bool,
    sent: Mutex<Outgoing>,
}

/// What is known of packets sent. The kernel numbers those of a socket from 0 (`SOF_TIMESTAMPING_OPT_ID`).
#[derive(Debug, Default)]
struct Outgoing {
    next: u32,
    stamps: Vec<(u32, Duration)>,
}

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    number: u32,
    /// When we asked for it to be sent.
    pub at: Instant,
    /// The same by the clock that stamps are of.
    real: SystemTime,
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its bytes in the buffer.
    pub length: usize,
    /// When we had it.
    pub at: Instant,
    /// The same by the clock that stamps are of.
    real: SystemTime,
    /// When the kernel had it, since 1970.
    stamp: Option<Duration>,
}

impl Datagrams {
    /// A socket for that peer, through that interface if one is named (`SO_BINDTODEVICE`).
    ///
    /// # Errors
    /// `unreachable` without a way there, `local` for what this process lacks.
    pub fn connect(peer: SocketAddr, interface: Option<&str>) -> Result<Self, Failure> {
        Self::open(peer, interface, &[(Type::DGRAM, Protocol::UDP)])
    }

    /// A socket for ICMP with that peer: a raw one, or one for echoes only where this process may open no other (icmp(7)).
    ///
    /// # Errors
    /// `local` if it may open neither, `unreachable` without a way there.
    pub fn icmp(peer: IpAddr, interface: Option<&str>) -> Result<Self, Failure> {
        let protocol = if peer.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        Self::open(SocketAddr::new(peer, 0), interface, &[(Type::RAW, protocol), (Type::DGRAM, protocol)])
    }

    fn open(peer: SocketAddr, interface: Option<&str>, kinds: &[(Type, Protocol)]) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::io(&format!("open a socket to {peer}"), &error);
        let (kind, socket) = first_allowed(Domain::for_address(peer), kinds).map_err(failed)?;
        let has_header = kind == Type::RAW && peer.is_ipv4();
        if let Some(interface) = interface {
            bind_to_device(&socket, interface)?;
        }
        socket.connect(&peer.into()).map_err(failed)?;
        let wanted = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
        // Where the platform has no stamps, round trips are timed by our own clock, and say so.
        let is_stamped = setsockopt(&socket, sockopt::Timestamping, &wanted).is_ok();
        let socket = UdpSocket::from_std(socket.into()).map_err(failed)?;
        Ok(Self { socket, peer, is_stamped, has_header, sent: Mutex::default() })
    }

    /// Our own address.
    ///
    /// # Errors
    /// `local` if the kernel does not say.
    pub fn local_addr(&self) -> Result<SocketAddr, Failure> {
        self.socket.local_addr().map_err(|error| Failure::io("ask for our own address", &error))
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// What the network said of the peer, also of an earlier packet: `refused`, `unreachable`; `local`.
    pub async fn send(&self, packet: &[u8]) -> Result<Sent, Failure> {
        let (at, real) = (Instant::now(), SystemTime::now());
        self.socket.send(packet).await.map_err(|error| self.failure("send to", &error))?;
        let mut sent = lock(&self.sent);
        let number = sent.next;
        sent.next = sent.next.wrapping_add(1);
        Ok(Sent { number, at, real })
    }

    /// Waits for a packet; what is longer than the buffer is cut off.
    ///
    /// # Errors
    /// What the network said of the peer: `refused`, `unreachable`.
    pub async fn receive(&self, buffer: &mut [u8]) -> Result<Received, Failure> {
        // What the network says of the peer makes a socket erroneous, not readable.
        let interest = Interest::READABLE | Interest::ERROR;
        let received = self.socket.async_io(interest, || self.take(buffer, MsgFlags::empty())).await;
        received.map_err(|error| self.failure("receive from", &error)).map(|(length, stamp, _)| Received {
            length,
            at: Instant::now(),
            real: SystemTime::now(),
            stamp,
        })
    }

    /// What arrived, without the header of IPv4 that there may be.
    pub fn message<'b>(&self, packet: &'b [u8]) -> &'b [u8] {
        if !self.has_header {
            return packet;
        }
        let header = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
        packet.get(header..).unwrap_or_default()
    }

    /// The time between the two, and whose clock it is.
    pub fn round_trip(&self, sent: &Sent, received: &Received) -> (Duration, Clock) {
        let ours = received.at.saturating_duration_since(sent.at);
        let kernels = received.stamp.and_then(|arrived| arrived.checked_sub(self.stamp_of(sent)?));
        match kernels {
            Some(kernels) if kernels <= ours + TOLERANCE && !is_stepped(sent, received) => (kernels, Clock::Kernel),
            _ => (ours, Clock::User),
        }
    }

    fn failure(&self, what: &str, error: &io::Error) -> Failure {
        Failure::io(&format!("{what} {}", self.peer), error)
    }

    /// When the kernel handed the packet to the device. It says so on the socket's queue of errors.
    fn stamp_of(&self, sent: &Sent) -> Option<Duration> {
        if !self.is_stamped {
            return None;
        }
        let mut outgoing = lock(&self.sent);
        while let Ok((_, Some(stamp), Some(number))) = self.take(&mut [0; 1], MsgFlags::MSG_ERRQUEUE) {
            outgoing.stamps.push((number, stamp));
            if outgoing.stamps.len() > REMEMBERED {
                outgoing.stamps.remove(0);
            }
        }
        outgoing.stamps.iter().rev().find(|(number, _)| *number == sent.number).map(|(_, stamp)| *stamp)
    }

    /// One packet, or one message of the queue of errors: its length, its stamp, and the number of the packet it is about.
    fn take(&self, buffer: &mut [u8], flags: MsgFlags) -> io::Result<(usize, Option<Duration>, Option<u32>)> {
        let mut control = nix::cmsg_space!(nix::sys::socket::Timestamps, [u8; 256]);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            flags | MsgFlags::MSG_DONTWAIT,
        )?;
        let (mut stamp, mut number) = (None, None);
        for part in message.cmsgs().into_iter().flatten() {
            match part {
                ControlMessageOwned::ScmTimestampsns(stamps) => stamp = Some(Duration::from(stamps.system)),
                ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                    number = Some(error.ee_data);
                }
                _ => {}
            }
        }
        Ok((message.bytes, stamp.filter(|stamp| !stamp.is_zero()), number))
    }
}

/// Whether the real-time clock was set between the two: it went on by more or less than the monotonic one.
fn is_stepped(sent: &Sent, received: &Received) -> bool {
    let ours = received.at.saturating_duration_since(sent.at);
    received.real.duration_since(sent.real).map_or(true, |real| real.abs_diff(ours) > STEP)
}

/// Whether this process may send echoes.
pub fn may_send_echoes() -> bool {
    let kinds = [(Type::RAW, Protocol::ICMPV4), (Type::DGRAM, Protocol::ICMPV4)];
    first_allowed(Domain::IPV4, &kinds).is_ok()
}

/// Opens a socket of the first of these kinds that this process may open.
fn first_allowed(domain: Domain, kinds: &[(Type, Protocol)]) -> io::Result<(Type, Socket)> {
    let mut last = Err(io::ErrorKind::Unsupported.into());
    for (kind, protocol) in kinds {
        last = Socket::new(domain, kind.nonblocking(), Some(*protocol)).map(|socket| (*kind, socket));
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Has everything that the socket sends leave through that interface.
///
/// # Errors
/// `unreachable` if there is no such interface, `local` if this process may not choose it.
pub fn bind_to_device(socket: &Socket, interface: &str) -> Result<(), Failure> {
    socket.bind_device(Some(interface.as_bytes())).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => Failure::new(Reason::Unreachable, format!("there is no interface {interface}")),
        _ => Failure::new(Reason::Local, format!("cannot send through the interface {interface}: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that answers each packet after a while.
    async fn echo(delay: Duration) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2_000];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                tokio::time::sleep(delay).await;
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn the_kernel_times_round_trips() {
        let peer = echo(Duration::from_millis(5)).await;
        let socket = Datagrams::connect(peer, None).unwrap();
        let mut kernels = 0;
        for turn in 0..20_u8 {
            let sent = socket.send(&[turn; 100]).await.unwrap();
            let mut buffer = [0; 200];
            let received = socket.receive(&mut buffer).await.unwrap();
            assert_eq!((received.length, buffer[99]), (100, turn));
            let ours = received.at - sent.at;
            let (time, clock) = socket.round_trip(&sent, &received);
            assert!(time >= Duration::from_millis(5) && time <= ours + TOLERANCE, "{time:?} {ours:?}");
            kernels += usize::from(clock == Clock::Kernel);
        }
        // The first packet may have no stamp: the kernel begins to stamp when somebody asks.
        assert!(kernels >= 18, "{kernels}");
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_at_once() {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let socket = Datagrams::connect(peer, None).unwrap();
        socket.send(b"anybody?").await.unwrap();
        assert_eq!(socket.receive(&mut [0; 10]).await.unwrap_err().reason, Reason::Refused);
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_said() {
        let failure = Datagrams::connect("127.0.0.1:9".parse().unwrap(), Some("nowhere0")).unwrap_err();
        assert_eq!(failure.reason, Reason::Unreachable, "{failure}");
    }
}
