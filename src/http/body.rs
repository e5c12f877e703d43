//! The body of a response, written piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

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
    Pieces(Pieces),
    /// The same for `HEAD`: of unknown length, and never written.
    Unwritten,
}

/// A text in pieces, and what happens when it is over.
pub(super) struct Pieces {
    pieces: Box<dyn Iterator<Item = Vec<u8>> + Send>,
    /// What comes between two pieces.
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _over: Finally,
}

impl Pieces {
    pub(super) fn new(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static, over: Finally) -> Self {
        Self { pieces: Box::new(pieces), pause: None, _over: over }
    }

    /// The next piece. Lets the runtime do something else first: hyper goes on for as long as the socket takes what it
    /// gets, and the runtime's timers, by which runs start, would wait for the end of a large scrape.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        // Not a wake-up of our own: only after this one does a worker look at timers and sockets before it goes on.
        self.pause = Some(Box::pin(tokio::task::yield_now()));
        Poll::Ready(self.pieces.next())
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
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.content {
            Content::Text(text) => Some(std::mem::take(text)).filter(|text| !text.is_empty()),
            Content::Pieces(pieces) => ready!(pieces.poll_next(cx)).map(Bytes::from),
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
            Content::Pieces(_) | Content::Unwritten => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::socket::Gate;

    #[tokio::test]
    async fn others_run_between_the_pieces() {
        let turns = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&turns);
        let pieces = (0..3).map(move |_| seen.load(Ordering::Relaxed).to_string().into_bytes());
        let content = Content::Pieces(Pieces::new(pieces, Finally::new(|| {})));
        let other = tokio::spawn(async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let body = Body::new(content, Gate::new().busy()).collect().await.unwrap().to_bytes();
        other.abort();
        assert_eq!(body, "012");
    }
}
