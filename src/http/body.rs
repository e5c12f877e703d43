//! The body of a response, written piece by piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use super::pieces::Pieces;
use super::socket::Busy;

/// Does something when it is dropped, however the response ended.
pub(super) struct Finally(Option<Box<dyn FnOnce() + Send>>);

impl Finally {
    pub(super) fn new(what: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(what)))
    }
}

impl Drop for Finally {
    fn drop(&mut self) {
        if let Some(what) = self.0.take() {
            what();
        }
    }
}

/// What a response says.
pub(super) enum Content {
    /// A small text, whole.
    Text(Bytes),
    /// The pieces of a scrape.
    Scrape(Scrape),
    /// The same for `HEAD`: of unknown length, and never written.
    Unwritten,
}

/// A body that is made beside the runtime's workers: formatting and compressing half a million series takes as long as many
/// runs of probes, which are not to wait for it. One piece is made while the one before is sent, and no more: the client's
/// pace decides, and memory is that of a few pieces.
pub(super) struct Scrape {
    state: State,
    _over: Finally,
}

enum State {
    Ahead(JoinHandle<io::Result<(Pieces, Option<Bytes>)>>),
    Ended,
}

impl Scrape {
    /// Begins with what `make` makes. `over` happens when the body was sent or given up.
    pub(super) fn new(make: impl FnOnce() -> io::Result<Pieces> + Send + 'static, over: Finally) -> Self {
        Self { state: State::begin(make), _over: over }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let State::Ahead(piece) = &mut self.state else { return Poll::Ready(None) };
        // A panic is an error too: the client must not take what there is for the whole.
        let piece = ready!(Pin::new(piece).poll(cx)).map_err(io::Error::other).flatten();
        self.state = State::Ended;
        Poll::Ready(match piece {
            Ok((pieces, Some(piece))) => {
                self.state = State::begin(|| Ok(pieces));
                Some(Ok(piece))
            }
            Ok((_, None)) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

impl State {
    fn begin(make: impl FnOnce() -> io::Result<Pieces> + Send + 'static) -> Self {
        Self::Ahead(spawn_blocking(move || {
            let mut pieces = make()?;
            let piece = pieces.next()?;
            Ok((pieces, piece))
        }))
    }
}

/// The body that hyper writes. While it lives, its connection counts as busy.
pub(super) struct Body {
    content: Content,
    _busy: Busy,
}

impl Body {
    pub(super) fn new(content: Content, busy: Busy) -> Self {
        Self { content, _busy: busy }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.content {
            Content::Text(text) => Some(std::mem::take(text)).filter(|text| !text.is_empty()).map(Ok),
            Content::Scrape(scrape) => ready!(scrape.poll_next(cx)),
            Content::Unwritten => None,
        };
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Text(text) if text.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Text(text) => SizeHint::with_exact(text.len() as u64),
            Content::Scrape(_) | Content::Unwritten => SizeHint::default(),
        }
    }
}
