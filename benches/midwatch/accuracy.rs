//! How right the round trips of UDP knocks are, against a responder that logs its own delay by the kernel's stamps.
//!
//! What is measured is the socket that every knock over UDP, and every echo, goes through. What lies between the two logs, the
//! loopback device, counts as an error.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lab::load::Hog;
use midwatch::probe::net::{Clock, Datagrams};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, TimestampingFlag, Timestamps, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::Outcome;
use super::child::{Child, answer_all};
use super::report::Table;

/// The argument that makes the benchmark a responder.
pub const CHILD: &str = "responder";

/// How many round trips are measured, and how far apart.
const ROUNDS: u64 = 1_500;
const PAUSE: Duration = Duration::from_millis(4);
/// The longest that the responder waits by itself before it answers.
const MOST: u64 = 3_000;
/// The stamps of the first packets may be missing: the kernel begins to stamp when somebody asks.
const FIRST: u64 = 20;

/// The child: answers each packet after a while that differs, and logs how long it had it.
pub fn child() -> Outcome<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let wanted = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
    setsockopt(&socket, sockopt::Timestamping, &wanted)?;
    let port = f64::from(socket.local_addr()?.port());
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    std::thread::spawn(move || {
        for round in 0_u64.. {
            let Ok(delay) = answer(&socket, Duration::from_micros(round * 7_919 % MOST)) else { break };
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(delay.unwrap_or(-1.0));
        }
    });
    answer_all(&[port], |_| Ok(std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner))))
}

/// Answers one packet. Says how long the kernel had it on this side, in seconds, if it says.
fn answer(socket: &UdpSocket, wait: Duration) -> Outcome<Option<f64>> {
    let mut buffer = [0; 256];
    let (length, from, arrived) = receive(socket, &mut buffer, MsgFlags::empty())?;
    std::thread::sleep(wait);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(&buffer[..length])], &[], MsgFlags::empty(), from.as_ref())?;
    // Sending over the loopback device stamps before it returns.
    let left = receive(socket, &mut [0; 1], MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT)
        .ok()
        .and_then(|(_, _, left)| left);
    Ok(arrived.zip(left).and_then(|(arrived, left)| Some(left.checked_sub(arrived)?.as_secs_f64())))
}

type Arrival = (usize, Option<SockaddrStorage>, Option<Duration>);

fn receive(socket: &UdpSocket, buffer: &mut [u8], flags: MsgFlags) -> Outcome<Arrival> {
    let mut control = nix::cmsg_space!(Timestamps, [u8; 256]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let stamp = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmTimestampsns(stamps) => Some(Duration::from(stamps.system)),
        _ => None,
    });
    Ok((message.bytes, message.address, stamp))
}

/// Idle, and with twice as many busy processes as there are cores.
pub async fn measure() -> Outcome<()> {
    let columns = ["error of a round trip", "p50", "p99", "longest", "by the kernel's clock", "target"];
    let title = format!("Accuracy: {ROUNDS} round trips over UDP against a responder that logs its own delay");
    let mut table = Table::with_columns(&title, &columns);
    let idle = Errors::of().await?;
    let hogs = (0..std::thread::available_parallelism()?.get())
        .map(|cpu| Hog::start(2, cpu))
        .collect::<Result<Vec<_>, _>>()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let loaded = Errors::of().await?;
    drop(hogs);
    let kernel = |p50: f64, p99: f64| p50 <= 25e-6 && p99 <= 150e-6;
    idle.row(&mut table, "kernel's stamps, idle", true, ("p50 ≤ 25 µs, p99 ≤ 150 µs", kernel));
    loaded.row(
        &mut table,
        "kernel's stamps, twice as busy as there are cores",
        true,
        ("p50 ≤ 25 µs, p99 ≤ 150 µs", kernel),
    );
    idle.row(&mut table, "our own clock, idle", false, ("p99 ≤ 1 ms", |_, p99| p99 <= 1e-3));
    loaded.row(&mut table, "our own clock, twice as busy as there are cores", false, ("", |_, _| true));
    table.print();
    Ok(())
}

/// By how much round trips were wrong, in seconds.
struct Errors {
    kernels: Vec<f64>,
    ours: Vec<f64>,
    share: f64,
}

impl Errors {
    async fn of() -> Outcome<Self> {
        let (mut child, ready) = Child::start(&[CHILD]).await?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a port")]
        let port = *ready.first().ok_or("no port")? as u16;
        let socket = Datagrams::connect(SocketAddr::from(([127, 0, 0, 1], port)), None)?;
        let (mut measured, mut buffer) = (Vec::new(), [0; 256]);
        for round in 0..FIRST + ROUNDS {
            let sent = socket.send(&round.to_be_bytes()).await?;
            let received = socket.receive(&mut buffer).await?;
            if buffer[..received.length] != round.to_be_bytes() {
                return Err("the answer to another packet".into());
            }
            measured.push((socket.round_trip(&sent, &received), received.at - sent.at));
            tokio::time::sleep(PAUSE).await;
        }
        let truth = child.ask("take").await?;
        child.end().await?;
        if truth.len() != measured.len() {
            return Err(format!("{} of {} packets in the responder's log", truth.len(), measured.len()).into());
        }
        let pairs = || {
            measured.iter().zip(&truth).skip(usize::try_from(FIRST).unwrap_or(0)).filter(|(_, truth)| **truth >= 0.0)
        };
        let error = |time: Duration, truth: f64| (time.as_secs_f64() - truth).abs();
        let stamped = pairs().filter(|(((_, clock), _), _)| *clock == Clock::Kernel);
        let kernels: Vec<_> = stamped.map(|(((time, _), _), truth)| error(*time, *truth)).collect();
        let ours: Vec<_> = pairs().map(|((_, time), truth)| error(*time, *truth)).collect();
        #[allow(clippy::cast_precision_loss, reason = "small counts")]
        let share = kernels.len() as f64 / ours.len().max(1) as f64;
        Ok(Self { kernels, ours, share })
    }

    fn row(&self, table: &mut Table, what: &str, is_kernels: bool, (target, is_met): (&str, fn(f64, f64) -> bool)) {
        let mut errors = if is_kernels { self.kernels.clone() } else { self.ours.clone() };
        errors.sort_by(f64::total_cmp);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place"
        )]
        let at = |share: f64| {
            errors.get(((errors.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(f64::NAN)
        };
        let shown = |seconds: f64| format!("{:.1} µs", seconds * 1e6);
        let target = if is_met(at(0.5), at(0.99)) { target.to_owned() } else { format!("{target} **missed**") };
        let share = if is_kernels { format!("{:.1} %", self.share * 100.0) } else { String::new() };
        table.cells(&[what.to_owned(), shown(at(0.5)), shown(at(0.99)), shown(at(1.0)), share, target]);
    }
}
