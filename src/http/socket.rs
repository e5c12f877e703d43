//! A socket that gives up on slow clients. hyper has no limit for writing, and its one limit for reading does not tell
//! a client that takes its time between two scrapes from one that takes its time over a header.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// How much is discarded at most of what a client sends after the last response. A client that sends more than this
/// within the linger time is not one that waits for an answer.
const MOST_DISCARDED: usize = 4 * 1024 * 1024;

/// What a connection does, shared by its socket, its requests, and those who may close it to make room.
#[derive(Debug)]
pub(super) struct Gate {
    /// Who is at the other end.
    pub(super) peer: IpAddr,
    state: Mutex<State>,
    /// Told to end the connection.
    cut: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    stage: Stage,
    since: Instant,
    /// Since when the client has not taken all that is buffered for it.
    stuck: Option<Instant>,
    cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was read since the last response.
    Idle,
    /// A header is being read, or none has been yet.
    Header,
    /// A request waits for something that has a deadline of its own.
    Unsettled,
    /// A request is being answered.
    Busy,
}

impl Gate {
    /// Of a connection that was just accepted from `peer`.
    pub(super) fn new(peer: IpAddr) -> Arc<Self> {
        let state = State { stage: Stage::Header, since: Instant::now(), stuck: None, cut: false };
        Arc::new(Self { peer, state: Mutex::new(state), cut: Notify::new() })
    }

    /// A request begins, its header is read. It is over when the result is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.enter(Stage::Busy);
        Busy(Arc::clone(self))
    }

    /// Since when the connection is without a complete request; `None` while it has one.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.stage != Stage::Busy).then_some(state.since)
    }

    /// Since when the client has not taken what is buffered for it; `None` if it has, or if that is not long ago: a client
    /// that reads as fast as it can is stuck now and then too.
    pub(super) fn stuck_since(&self, limits: &Limits) -> Option<Instant> {
        self.lock().stuck.filter(|since| since.elapsed() >= limits.stuck_time)
    }

    /// Ends the connection, to make room.
    pub(super) fn cut(&self) {
        self.lock().cut = true;
        self.cut.notify_one();
    }

    /// Waits until the connection is to end.
    pub(super) async fn until_cut(&self) {
        self.cut.notified().await;
    }

    fn read_deadline(&self, limits: &Limits) -> Option<Instant> {
        let state = self.lock();
        match state.stage {
            Stage::Idle => Some(state.since + limits.idle_time),
            Stage::Header => Some(state.since + limits.header_time),
            Stage::Unsettled | Stage::Busy => None,
        }
    }

    /// Until when the client must have taken what is buffered. The time starts with the first refusal and ends when all
    /// is taken, so that a client that takes a byte now and then gains nothing; and a response has an end at any pace.
    fn write_deadline(&self, limits: &Limits) -> Instant {
        let mut state = self.lock();
        let stuck = *state.stuck.get_or_insert_with(Instant::now) + limits.write_time;
        if state.stage == Stage::Busy { stuck.min(state.since + limits.response_time) } else { stuck }
    }

    fn taken(&self) {
        self.lock().stuck = None;
    }

    fn received(&self) {
        let mut state = self.lock();
        if state.stage == Stage::Idle {
            (state.stage, state.since) = (Stage::Header, Instant::now());
        }
    }

    fn enter(&self, stage: Stage) {
        let mut state = self.lock();
        (state.stage, state.since) = (stage, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered, until its response is written or given up.
#[derive(Debug)]
pub(super) struct Busy(Arc<Gate>);

impl Busy {
    /// The connection.
    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.0
    }

    /// Waits for what keeps a request from being answered: its body, the verification of its login, a place for its scrape.
    /// Meanwhile the connection may have to make way like one without a request: bodies that never come, and guesses of
    /// passwords, would otherwise keep everybody else out.
    pub(super) async fn unsettled<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.0.enter(Stage::Unsettled);
        let result = waiting.await;
        self.0.enter(Stage::Busy);
        result
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(Stage::Idle);
    }
}

/// A client's socket with deadlines.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    gate: Arc<Gate>,
    limits: Limits,
    reading: Pin<Box<Sleep>>,
    /// The deadline for what is buffered.
    writing: Pin<Box<Sleep>>,
    /// Set when the writing side is shut: what was discarded since.
    discarded: Option<usize>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, gate: Arc<Gate>, limits: Limits) -> Self {
        let now = Instant::now();
        let timer = || Box::pin(sleep_until(now));
        Self { stream, gate, limits, reading: timer(), writing: timer(), discarded: None }
    }

    /// The first byte that the client sends, which stays to be read; `None` if it sends none. Within the time for a header.
    pub(super) async fn peek(&mut self) -> io::Result<Option<u8>> {
        poll_fn(|cx| {
            let mut byte = [0];
            let mut buf = ReadBuf::new(&mut byte);
            match self.stream.poll_peek(cx, &mut buf) {
                Poll::Ready(result) => Poll::Ready(result.map(|_| buf.filled().first().copied())),
                Poll::Pending => self.poll_overdue(cx).map(Err),
            }
        })
        .await
    }

    /// Ready when the client should have sent something by now.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(deadline) = self.gate.read_deadline(&self.limits) else { return Poll::Pending };
        if self.reading.deadline() != deadline {
            self.reading.as_mut().reset(deadline);
        }
        ready!(self.reading.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client sends no request"))
    }

    /// Passes on what writing gave, or gives up if the client has not taken what is buffered in time.
    fn written(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            return result;
        }
        let deadline = self.gate.write_deadline(&self.limits);
        if self.writing.deadline() != deadline {
            self.writing.as_mut().reset(deadline);
        }
        ready!(self.writing.as_mut().poll(cx));
        self.gate.lock().cut = true;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its response")))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.gate.lock().cut {
            // Reset, not closed: the kernel would keep what it has buffered for such a client for minutes.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if result.is_ready() {
            if buf.filled().len() > before {
                self.gate.received();
            }
            return result;
        }
        self.poll_overdue(cx).map(Err)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when the socket has taken all that it had buffered.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.gate.taken();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.discarded.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.discarded = Some(0);
            let end = Instant::now() + self.limits.linger_time;
            self.reading.as_mut().reset(end);
        }
        let mut bin = [0; 4096];
        while self.discarded < Some(MOST_DISCARDED) && self.reading.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut bin);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    self.discarded = self.discarded.map(|sum| sum + buf.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
