//! The deeper stage: TLS over the control channel, up to where the server has shown its certificate and all is agreed on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep_until};

use super::Opened;
use super::packet::{Body, Opcode};
use super::reliable::Reliable;
use crate::probe::net::{Shown, Tls};
use crate::probe::vpn::knock::Knock;
use crate::probe::vpn::metrics;
use crate::probe::{Failure, Reason};

/// The longest datagram that we send: what servers keep to, too (`--tls-mtu`'s default).
const MTU: usize = 1_250;
/// The bytes of a packet besides its wrapping and payload: the head, all acknowledgements, the session and the id.
const FRAME: usize = 9 + 1 + 8 * 4 + 8 + 4;
/// The least that a packet carries, even if the client's key leaves no room.
const LEAST: usize = 100;
/// The shortest wait for an acknowledgement.
const MIN_PATIENCE: Duration = Duration::from_millis(300);
/// How much may wait between the packets and TLS.
const BUFFER: usize = 64 << 10;

/// Does TLS over a session that the server has answered. When it is done, nothing more is sent.
///
/// With TLS 1.3 the server judges a client's certificate only after that, so it is not noticed if it refuses ours, or misses it. With
/// TLS 1.2 it then falls silent.
///
/// # Errors
/// What is wrong with the server's certificate or its TLS; what became of the way there.
pub(super) async fn examine(knock: &Knock<'_>, tls: &Tls, opened: Opened<'_>) -> Result<(), Failure> {
    let stage = knock.stage(metrics::TLS);
    let (near, far) = duplex(BUFFER);
    let handshake = tls.examine(near, knock.host, Some(Instant::now() + knock.time_left()));
    let shown = beside(handshake, Pump::new(knock, opened).run(far)).await;
    if let Some(leaf) = &shown.leaf {
        knock.certificate(leaf);
    }
    if let Some(version) = shown.version {
        knock.tls_version(version);
    }
    match shown.result {
        Ok(_) => {
            stage.done();
            Ok(())
        }
        Err(failure) if failure.reason == Reason::Timeout => {
            let words = match shown.leaf {
                None => {
                    "the server did not go on with TLS; it may have no version of TLS in common with us, or be stuck"
                }
                Some(_) => {
                    "the server showed its certificate and then fell silent, as it does with TLS 1.2 when it wants a certificate of \
                     ours, or another one"
                }
            };
            Err(stage.fail(Failure::new(Reason::Timeout, words)))
        }
        Err(failure) => Err(stage.fail(failure)),
    }
}

/// Runs the handshake, and what carries it beside it, whose failure is the one that tells why.
async fn beside<S>(handshake: impl Future<Output = Shown<S>>, pump: impl Future<Output = Failure>) -> Shown<S> {
    tokio::pin!(handshake);
    let failure = tokio::select! {
        biased;
        shown = &mut handshake => return shown,
        failure = pump => failure,
    };
    // Its stream has ended.
    let shown = handshake.await;
    Shown { result: shown.result.map_err(|_| failure), ..shown }
}

/// Carries bytes between TLS and the server.
struct Pump<'p> {
    knock: &'p Knock<'p>,
    opened: Opened<'p>,
    reliable: Reliable,
    /// How many bytes of TLS go into a packet.
    room: usize,
}

impl<'p> Pump<'p> {
    fn new(knock: &'p Knock<'p>, opened: Opened<'p>) -> Self {
        let room = MTU.saturating_sub(FRAME + opened.session.overhead()).max(LEAST);
        let patience = (opened.round_trip * 3).max(MIN_PATIENCE);
        let reliable = Reliable::new(opened.session.ours, opened.peer.session, patience);
        Self { knock, opened, reliable, room }
    }

    /// Goes on until there is no way to the server any more, and says why.
    async fn run(mut self, mut tls: DuplexStream) -> Failure {
        loop {
            if let Err(failure) = self.step(&mut tls).await {
                return failure;
            }
        }
    }

    async fn step(&mut self, tls: &mut DuplexStream) -> Result<(), Failure> {
        let mut bytes = vec![0; self.room];
        let due = self.reliable.due().filter(|_| self.opened.link.is_lossy());
        tokio::select! {
            length = tls.read(&mut bytes), if self.reliable.has_room() => {
                // A stream in memory has no errors, and its end is ours too.
                let length = length.unwrap_or(0);
                if length == 0 {
                    return Err(Failure::new(Reason::Closed, "TLS ended"));
                }
                bytes.truncate(length);
                let body = self.reliable.push(bytes, Instant::now());
                self.send(&body).await
            }
            packet = self.opened.link.receive() => self.receive(&packet?, tls).await,
            () = until(due) => {
                for body in self.reliable.overdue(Instant::now()) {
                    self.send(&body).await?;
                }
                Ok(())
            }
        }
    }

    /// Acknowledges before TLS has the bytes: what it makes of them may be the end.
    async fn receive(&mut self, packet: &[u8], tls: &mut DuplexStream) -> Result<(), Failure> {
        let opened = self.opened.session.open(packet);
        match opened.and_then(|(head, body)| self.reliable.receive(head, body)) {
            Err(why) => self.knock.ignored(why),
            Ok(bytes) => {
                if let Some(body) = self.reliable.acknowledgement() {
                    let packet = self.opened.session.packet(Opcode::Ack, &body);
                    self.opened.link.send(&packet).await?;
                }
                // It fails if TLS has ended, which whoever runs both knows.
                let _ = tls.write_all(&bytes).await;
            }
        }
        Ok(())
    }

    /// Sends a piece of TLS. With the first one goes the client's key, if the server has forgotten it.
    async fn send(&mut self, body: &Body) -> Result<(), Failure> {
        let with_key = self.opened.peer.wants_key && body.id == Some(1);
        let opcode = if with_key { Opcode::ControlWkc } else { Opcode::Control };
        let packet = self.opened.session.packet(opcode, body);
        self.opened.link.send(&packet).await
    }
}

/// Waits for the time, or for ever.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
