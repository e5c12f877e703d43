//! A socket that gives up on slow clients. hyper has no limit for writing, and its one limit for reading does not tell
//! a client that takes its time between two scrapes from one that takes its time over a header.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// How much is discarded at most of what a client sends after the last response. A client that sends more than this
/// within the linger time is not one that waits for an answer.
const MOST_DISCARDED: usize = 4 * 1024 * 1024;

/// What a connection does, shared by its socket, its requests, and the one who may close it to make room.
#[derive(Debug)]
pub(super) struct Gate(Mutex<(Stage, Instant)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was read since the last response.
    Idle,
    /// A header is being read, or none has been yet.
    Header,
    /// A request's body is awaited, which has a deadline of its own.
    Body,
    /// A request is being answered.
    Busy,
}

impl Gate {
    /// Of a connection that was just accepted.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new((Stage::Header, Instant::now()))))
    }

    /// A request begins, its header is read. It is over when the result is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.enter(Stage::Busy);
        Busy(Arc::clone(self))
    }

    /// Since when the connection is without a complete request; `None` while it has one.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let (stage, since) = *self.lock();
        (stage != Stage::Busy).then_some(since)
    }

    fn read_deadline(&self, limits: &Limits) -> Option<Instant> {
        let (stage, since) = *self.lock();
        match stage {
            Stage::Idle => Some(since + limits.idle_time),
            Stage::Header => Some(since + limits.header_time),
            Stage::Body | Stage::Busy => None,
        }
    }

    fn received(&self) {
        let mut state = self.lock();
        if state.0 == Stage::Idle {
            *state = (Stage::Header, Instant::now());
        }
    }

    fn enter(&self, stage: Stage) {
        *self.lock() = (stage, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, (Stage, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered, until its response is written or given up.
#[derive(Debug)]
pub(super) struct Busy(Arc<Gate>);

impl Busy {
    /// Waits for the request's body. Until it is there, the connection may have to make way like one without a request:
    /// bodies that never come would otherwise keep every scrape out.
    pub(super) async fn body<T>(&self, body: impl Future<Output = T>) -> T {
        self.0.enter(Stage::Body);
        let result = body.await;
        self.0.enter(Stage::Busy);
        result
    }

    /// Waits for a login to be verified, during which the same holds: those who guess passwords would keep every scrape out.
    pub(super) async fn login<T>(&self, login: impl Future<Output = T>) -> T {
        self.body(login).await
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
    /// The deadline for what is buffered, and whether something is.
    writing: Pin<Box<Sleep>>,
    stuck: bool,
    /// Set when the writing side is shut: what was discarded since.
    discarded: Option<usize>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, gate: Arc<Gate>, limits: Limits) -> Self {
        let now = Instant::now();
        let timer = || Box::pin(sleep_until(now));
        Self { stream, gate, limits, reading: timer(), writing: timer(), stuck: false, discarded: None }
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

    /// Passes on what writing gave, or gives up if the client has not taken what is buffered in time. The time starts
    /// with the first refusal and ends when everything is taken, so that a client that takes a byte now and then
    /// gains nothing.
    fn written(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            return result;
        }
        if !self.stuck {
            self.stuck = true;
            self.writing.as_mut().reset(Instant::now() + self.limits.write_time);
        }
        ready!(self.writing.as_mut().poll(cx));
        // Reset, not closed: the kernel would keep what it has buffered for such a client for minutes.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its response")))
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
        self.stuck = false;
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
