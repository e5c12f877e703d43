//! An open connection: a task that sends requests as they come and hands out the answers in the same order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::api::api_versions::Versions;
use super::connect::{Dialer, Observer, Opened, Phase, Stream};
use super::frame::{self, Frames};
use super::peer::Health;
use crate::probe::net::read_failure;
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    /// In words.
    pub(super) failure: Failure,
    /// Whether the broker closed the connection between two answers, as it does with one that was idle for long. Nothing
    /// of an answer was there, so that the request may be sent again.
    pub(super) by_peer: bool,
}

impl Lost {
    fn closed(words: &'static str) -> Self {
        Self { failure: Failure::new(Reason::Closed, words), by_peer: true }
    }
}

/// How far a connection has come.
#[derive(Clone)]
enum Stage {
    Opening,
    Open(Arc<Versions>),
    Closed(Lost),
}

/// A request on its way.
struct Pending {
    bytes: BytesMut,
    deadline: Instant,
    reply: oneshot::Sender<Result<Bytes, Lost>>,
}

/// A request that is to be answered next but for those before it.
struct Waiting {
    correlation: i32,
    deadline: Instant,
    reply: oneshot::Sender<Result<Bytes, Lost>>,
}

/// A connection, from the moment somebody wants one. Dropping it closes it.
///
/// Whoever waits for an answer may go away: answers come in the order of the requests and are numbered, so the one nobody
/// waits for is read and thrown away, and the connection stays good. Its deadline holds all the same: a broker that stays
/// silent beyond it loses the connection.
pub(super) struct Connection {
    queue: mpsc::UnboundedSender<Pending>,
    stage: watch::Receiver<Stage>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Begins to open one. It has `limit` for that, whoever waits for it.
    pub(super) fn open(dialer: Arc<Dialer>, address: HostPort, health: Arc<Health>, limit: Duration) -> Self {
        let (queue, requests) = mpsc::unbounded_channel();
        let (report, stage) = watch::channel(Stage::Opening);
        let deadline = Instant::now() + limit;
        let task = tokio::spawn(async move {
            let progress = Progress { phase: Mutex::new(None), health: &health };
            let opened = match timeout_at(deadline, dialer.dial(&address, &progress)).await {
                Ok(result) => result,
                Err(_) => Err(progress.timed_out()),
            };
            match opened {
                Ok(opened) => {
                    health.breaker.succeeded();
                    let Opened { stream, versions, expires } = opened;
                    report.send_replace(Stage::Open(Arc::new(versions)));
                    let driver = Driver::new(stream, &health, dialer.login.is_none());
                    driver.run(requests, &report, expires).await;
                }
                Err(failure) => {
                    let failure = Failure::new(failure.reason, format!("{address}: {}", failure.detail));
                    health.breaker.failed(&failure);
                    report.send_replace(Stage::Closed(Lost { failure, by_peer: false }));
                }
            }
        });
        Self { queue, stage, task: task.abort_handle() }
    }

    /// Whether it is of no use any more.
    pub(super) fn is_closed(&self) -> bool {
        // A task that ended without a word, with its runtime, took the sender with it.
        matches!(*self.stage.borrow(), Stage::Closed(_)) || self.stage.has_changed().is_err()
    }

    /// Whether it can be used at once.
    pub(super) fn is_open(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Open(_)) && self.stage.has_changed().is_ok()
    }

    /// Waits until it is open. Says what the broker speaks.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(super) async fn ready(&self) -> Result<Arc<Versions>, Lost> {
        let mut stage = self.stage.clone();
        match stage.wait_for(|stage| !matches!(stage, Stage::Opening)).await.as_deref() {
            Ok(Stage::Open(versions)) => Ok(Arc::clone(versions)),
            Ok(Stage::Closed(lost)) => Err(lost.clone()),
            Ok(Stage::Opening) | Err(_) => Err(Lost::closed("the connection was given up")),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn exchange(&self, bytes: BytesMut, deadline: Instant) -> Result<Bytes, Lost> {
        let (reply, answer) = oneshot::channel();
        let pending = Pending { bytes, deadline, reply };
        self.queue.send(pending).map_err(|_| Lost::closed("the broker closed the connection"))?;
        answer.await.unwrap_or_else(|_| Err(Lost { by_peer: false, ..Lost::closed("the connection was given up") }))
    }
}

/// Remembers what a connection is being opened with.
struct Progress<'h> {
    phase: Mutex<Option<Phase>>,
    health: &'h Health,
}

impl Progress<'_> {
    fn timed_out(&self) -> Failure {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner).map_or("start", Phase::label);
        Failure::new(Reason::Timeout, format!("connecting took too long, in the phase {phase}"))
    }
}

impl Observer for Progress<'_> {
    fn begin(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = Some(phase);
    }

    fn asked(&self, api: super::api::Api, is_answered: bool) {
        self.health.count(api, is_answered);
    }
}

/// Why a connection ends.
enum End {
    /// Nobody uses it any more.
    Unused,
    /// It is of no use any more.
    Lost(Lost),
}

struct Driver<'h> {
    health: &'h Health,
    is_anonymous: bool,
    has_answered: bool,
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    frames: Frames,
    /// What is to be written, and whether all that was written is flushed.
    out: BytesMut,
    is_flushed: bool,
    waiting: VecDeque<Waiting>,
    correlation: i32,
}

impl<'h> Driver<'h> {
    fn new(stream: Box<dyn Stream>, health: &'h Health, is_anonymous: bool) -> Self {
        let (reader, writer) = split(stream);
        Self {
            health,
            is_anonymous,
            has_answered: false,
            reader,
            writer,
            frames: Frames::default(),
            out: BytesMut::new(),
            is_flushed: true,
            waiting: VecDeque::new(),
            correlation: 0,
        }
    }

    /// Works until nobody uses the connection any more or it is of no use any more. From `expires` on, new requests go
    /// elsewhere, and those that wait get their answers.
    async fn run(
        mut self,
        mut requests: mpsc::UnboundedReceiver<Pending>,
        report: &watch::Sender<Stage>,
        expires: Option<Instant>,
    ) {
        let end = {
            let mut work = std::pin::pin!(self.drive(&mut requests));
            match expires {
                None => work.await,
                Some(expires) => match timeout_at(expires, &mut work).await {
                    Ok(end) => end,
                    Err(_) => {
                        report.send_replace(Stage::Closed(Lost::closed("the login has to be made anew")));
                        work.await
                    }
                },
            }
        };
        let End::Lost(mut lost) = end else { return };
        if lost.by_peer && !self.has_answered && self.is_anonymous {
            lost.failure.detail = format!("{}; does this listener want a login?", lost.failure.detail).into();
        }
        // Before anybody is told, so that whoever asks again finds the breaker as it now is.
        match lost.failure.reason {
            Reason::Timeout => self.health.breaker.failed(&lost.failure),
            // A broker that closes an idle connection is as well as before.
            _ if self.waiting.is_empty() && lost.by_peer => {}
            _ => self.health.breaker.stumbled(),
        }
        report.send_replace(Stage::Closed(lost.clone()));
        requests.close();
        for waiting in self.waiting.drain(..) {
            // Whoever waited may be gone.
            let _ = waiting.reply.send(Err(lost.clone()));
        }
        while let Some(pending) = requests.recv().await {
            let _ = pending.reply.send(Err(lost.clone()));
        }
    }

    async fn drive(&mut self, requests: &mut mpsc::UnboundedReceiver<Pending>) -> End {
        loop {
            let deadline = self.waiting.front().map(|waiting| waiting.deadline);
            tokio::select! {
                // Requests first: those that are there go out in one piece.
                biased;
                pending = requests.recv() => match pending {
                    Some(pending) => self.enqueue(pending),
                    None => return End::Unused,
                },
                result = self.frames.fill(&mut self.reader) => {
                    let result = match result {
                        Ok(0) => Err(self.ended()),
                        Ok(_) => self.dispatch(),
                        Err(error) => Err(Lost { by_peer: self.frames.is_empty(), failure: read_failure("read", &error) }),
                    };
                    if let Err(lost) = result {
                        return End::Lost(lost);
                    }
                }
                result = flush(&mut self.writer, &mut self.out), if !self.is_flushed => match result {
                    Ok(()) => {
                        self.is_flushed = true;
                        self.out = BytesMut::new();
                    }
                    Err(error) => {
                        let failure = read_failure("write", &error);
                        return End::Lost(Lost { by_peer: self.frames.is_empty(), failure });
                    }
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let failure = Failure::new(Reason::Timeout, "the broker did not answer in time");
                    return End::Lost(Lost { by_peer: false, failure });
                }
            }
        }
    }

    fn enqueue(&mut self, pending: Pending) {
        let Pending { mut bytes, deadline, reply } = pending;
        self.correlation = self.correlation.wrapping_add(1);
        frame::number(&mut bytes, self.correlation);
        self.out.extend_from_slice(&bytes);
        self.is_flushed = false;
        self.waiting.push_back(Waiting { correlation: self.correlation, deadline, reply });
    }

    /// Hands out the answers that are complete.
    fn dispatch(&mut self) -> Result<(), Lost> {
        let broken = |failure| Lost { by_peer: false, failure };
        while let Some(answer) = self.frames.next().map_err(broken)? {
            let expected = self.waiting.front().map(|waiting| waiting.correlation);
            match self.waiting.pop_front() {
                Some(waiting) if frame::correlation(&answer) == expected => {
                    self.has_answered = true;
                    self.health.breaker.succeeded();
                    // Whoever waited may be gone.
                    let _ = waiting.reply.send(Ok(answer));
                }
                waiting => {
                    // It gets the reason as well.
                    self.waiting.extend(waiting);
                    return Err(broken(Failure::new(Reason::Protocol, "the broker answered another request")));
                }
            }
        }
        Ok(())
    }

    fn ended(&self) -> Lost {
        if self.frames.is_empty() {
            Lost::closed("the broker closed the connection")
        } else {
            Lost { by_peer: false, ..Lost::closed("the broker closed the connection within an answer") }
        }
    }
}

/// Writes all of `out`. Nothing is written twice when it is dropped before it is done and called again.
async fn flush(writer: &mut WriteHalf<Box<dyn Stream>>, out: &mut BytesMut) -> std::io::Result<()> {
    while out.has_remaining() {
        writer.write_buf(out).await?;
    }
    writer.flush().await
}
