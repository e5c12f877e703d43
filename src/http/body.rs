//! The body of a response, written piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

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
    /// Pieces that are made when the socket has room for them: the client's pace decides, and the memory used is that
    /// of one piece and of the one being sent.
    Pieces { pieces: Box<dyn Iterator<Item = Vec<u8>> + Send>, _over: Finally },
    /// The same for `HEAD`: of unknown length, and never written.
    Unwritten,
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
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.content {
            Content::Text(text) => Some(std::mem::take(text)).filter(|text| !text.is_empty()),
            Content::Pieces { pieces, .. } => pieces.next().map(Bytes::from),
            Content::Unwritten => None,
        };
        Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Text(text) if text.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Text(text) => SizeHint::with_exact(text.len() as u64),
            Content::Pieces { .. } | Content::Unwritten => SizeHint::default(),
        }
    }
}
