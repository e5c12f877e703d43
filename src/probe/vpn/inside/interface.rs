//! The way through an interface that somebody else keeps up: `wg0`, `tun0`.
//!
//! Every socket is bound to the device (`SO_BINDTODEVICE`), so that the routing table cannot lead a packet around the tunnel. That
//! packets left by it is proved by the interface's own count: it must have grown by what was sent.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::icmp::Echo;
use super::{Check, Heard, Inside, NO_ANSWER, Times, Way};
use crate::probe::net::{Connected, Datagrams, Received, Sent, connect_through, may_send_echoes, read_failure};
use crate::probe::vpn::knock::Knock;
use crate::probe::{Failure, Reason};

/// The most that is read of an answer before it is judged to be none.
const MAX_ANSWER: usize = 16 * 1_024;

/// An interface by its name.
#[derive(Debug)]
pub(in crate::probe::vpn) struct Interface {
    name: String,
    echoes: AtomicU16,
}

/// The interface during one visit.
pub(in crate::probe::vpn) struct Visit<'i> {
    interface: &'i Interface,
    knock: &'i Knock<'i>,
    /// How many packets it had sent before.
    before: u64,
    /// How many we have handed to it since, at least.
    sent: AtomicU64,
}

impl Interface {
    pub(in crate::probe::vpn) fn new(name: String) -> Self {
        Self { name, echoes: AtomicU16::new(0) }
    }

    /// What will not work here.
    pub(in crate::probe::vpn) fn concerns(&self, targets: &[Inside]) -> Vec<String> {
        let mut all = Vec::new();
        if !self.path("").exists() {
            all.push(format!("there is no interface {} here (yet): every run fails until there is", self.name));
        }
        let has_icmp = targets.iter().any(|target| matches!(target.check, Check::Icmp { .. }));
        if has_icmp && !may_send_echoes() {
            all.push(
                "echoes cannot be sent: the process has neither CAP_NET_RAW nor a group within net.ipv4.ping_group_range".to_owned(),
            );
        }
        all
    }

    /// Begins a visit.
    ///
    /// # Errors
    /// `unreachable` if there is no such interface: a tunnel that is gone.
    pub(in crate::probe::vpn) fn visit<'i>(&'i self, knock: &'i Knock<'i>) -> Result<Visit<'i>, Failure> {
        let gone = || Failure::new(Reason::Unreachable, format!("there is no interface {}", self.name));
        Ok(Visit { interface: self, knock, before: self.packets_sent().ok_or_else(gone)?, sent: AtomicU64::new(0) })
    }

    fn path(&self, below: &str) -> PathBuf {
        Path::new("/sys/class/net").join(&self.name).join(below)
    }

    /// The interface's own count (Linux' Documentation/ABI/testing/sysfs-class-net-statistics).
    fn packets_sent(&self) -> Option<u64> {
        fs::read_to_string(self.path("statistics/tx_packets")).ok()?.trim().parse().ok()
    }
}

impl Visit<'_> {
    fn name(&self) -> Option<&str> {
        Some(&self.interface.name)
    }

    /// The time between the two.
    fn round_trip(&self, socket: &Datagrams, sent: &Sent, received: &Received) -> Duration {
        let (time, clock) = socket.round_trip(sent, received);
        self.knock.timed(clock);
        time
    }

    fn count(&self, packets: u64) {
        self.sent.fetch_add(packets, Ordering::Relaxed);
    }
}

impl Way for Visit<'_> {
    async fn echo(&self, to: IpAddr, _until: Instant) -> Result<Duration, Failure> {
        let socket = Datagrams::icmp(to, self.name())?;
        let echo = Echo::new(self.interface.echoes.fetch_add(1, Ordering::Relaxed))?;
        let sent = socket.send(&echo.request(socket.local_addr()?.ip(), to)).await?;
        self.count(1);
        let mut buffer = [0; 2_048];
        loop {
            let received = socket.receive(&mut buffer).await?;
            let message = socket.message(buffer.get(..received.length).unwrap_or_default());
            if echo.is_answered_by(message, to.is_ipv4()) {
                return Ok(self.round_trip(&socket, &sent, &received));
            }
        }
    }

    async fn converse(
        &self,
        to: SocketAddr,
        say: &[u8],
        listen: &(dyn Fn(&[u8]) -> Heard + Sync),
        until: Instant,
    ) -> Result<Times, Failure> {
        let Connected { mut stream, handshake, clock, .. } = connect_through(to, &self.interface.name).await?;
        self.knock.timed(clock);
        // The first packet and the acknowledgement of its answer.
        self.count(2);
        if say.is_empty() {
            return Ok(Times { connect: handshake, answer: None });
        }
        let began = Instant::now();
        stream.write_all(say).await.map_err(|error| Failure::io("write", &error))?;
        self.count(1);
        let (mut bytes, mut first) = (Vec::new(), None);
        loop {
            let silence = |_| Failure::new(Reason::Timeout, NO_ANSWER);
            let read = timeout_at(until, stream.read_buf(&mut bytes)).await.map_err(silence)?;
            let read = read.map_err(|error| read_failure("read", &error))?;
            let answer = *first.get_or_insert_with(|| began.elapsed());
            match listen(&bytes) {
                Heard::All(result) => return result.map(|()| Times { connect: handshake, answer: Some(answer) }),
                Heard::More if read == 0 => {
                    return Err(Failure::new(Reason::Closed, "the connection ended before its answer did"));
                }
                Heard::More if bytes.len() > MAX_ANSWER => {
                    return Err(Failure::new(Reason::Protocol, "the answer is longer than any that is expected"));
                }
                Heard::More => {}
            }
        }
    }

    async fn question(
        &self,
        to: SocketAddr,
        say: &[u8],
        listen: &(dyn Fn(&[u8]) -> Heard + Sync),
        _until: Instant,
    ) -> Result<Duration, Failure> {
        let socket = Datagrams::connect(to, self.name())?;
        let sent = socket.send(say).await?;
        self.count(1);
        let mut buffer = vec![0; 65_535];
        loop {
            let received = socket.receive(&mut buffer).await?;
            if let Heard::All(result) = listen(buffer.get(..received.length).unwrap_or_default()) {
                return result.map(|()| self.round_trip(&socket, &sent, &received));
            }
        }
    }

    fn prove(&self) -> Result<(), Failure> {
        let wrong = |words: String| Err(Failure::new(Reason::WrongInterface, words));
        let name = &self.interface.name;
        let Some(now) = self.interface.packets_sent() else {
            return wrong(format!("the interface {name} has vanished meanwhile"));
        };
        let (sent, left) = (self.sent.load(Ordering::Relaxed), now.wrapping_sub(self.before));
        if left < sent {
            return wrong(format!("{sent} packets or more were sent through {name}, but {left} left by it"));
        }
        Ok(())
    }
}
