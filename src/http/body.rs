//! The body of a response, written piece by piece.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Semaphore;
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
/// pace decides, and memory is that of a few pieces. Each piece waits for its turn, because dozens of scrapes at once would
/// take all cores from the runtime's workers.
pub(super) struct Scrape {
    state: State,
    turns: Arc<Semaphore>,
    _over: Finally,
}

impl Drop for Scrape {
    fn drop(&mut self) {
        if let State::Ahead(piece) = &self.state {
            // One that still waits for its turn would keep its snapshot until then.
            piece.abort();
        }
    }
}

enum State {
    Ahead(JoinHandle<io::Result<(Pieces, Option<Bytes>)>>),
    Ended,
}

impl Scrape {
    /// Begins with what `make` makes. `over` happens when the body was sent or given up.
    pub(super) fn new(
        turns: &Arc<Semaphore>,
        make: impl FnOnce() -> io::Result<Pieces> + Send + 'static,
        over: Finally,
    ) -> Self {
        Self { state: State::begin(turns, make), turns: Arc::clone(turns), _over: over }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let State::Ahead(piece) = &mut self.state else { return Poll::Ready(None) };
        // A panic is an error too: the client must not take what there is for the whole.
        let piece = ready!(Pin::new(piece).poll(cx)).map_err(io::Error::other).flatten();
        self.state = State::Ended;
        Poll::Ready(match piece {
            Ok((pieces, Some(piece))) => {
                self.state = State::begin(&self.turns, || Ok(pieces));
                Some(Ok(piece))
            }
            Ok((_, None)) => None,
            Err(error) => {
                tracing::error!(%error, "a scrape cannot be completed");
                Some(Err(error))
            }
        })
    }
}

impl State {
    fn begin(turns: &Arc<Semaphore>, make: impl FnOnce() -> io::Result<Pieces> + Send + 'static) -> Self {
        let turn = Arc::clone(turns).acquire_owned();
        Self::Ahead(tokio::spawn(async move {
            let turn = turn.await.map_err(io::Error::other)?;
            let work = move || {
                let _turn = turn;
                let mut pieces = make()?;
                let piece = pieces.next()?;
                Ok((pieces, piece))
            };
            spawn_blocking(work).await.map_err(io::Error::other).flatten()
        }))
    }
}

/// The body that hyper writes. While it lives, its connection counts as busy.
pub(super) struct Body {
    content: Content,
    busy: Busy,
}

impl Body {
    pub(super) fn new(content: Content, busy: Busy) -> Self {
        Self { content, busy }
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
        if let Some(Err(_)) = &next {
            // A client of HTTP/1.0 knows the end of a body by that of the connection: it has to be seen to be broken.
            self.busy.gate().cut();
        }
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::http::negotiate::Coding;
    use crate::metrics::Store;
    use crate::metrics::exposition::{Format, Writer};

    fn pieces() -> io::Result<Pieces> {
        let format = Format::OpenMetrics { created: false };
        Pieces::new(Writer::new(Store::default().snapshot(), format), Coding::Identity)
    }

    #[tokio::test]
    async fn a_turn_is_kept_while_a_piece_is_made_and_not_while_it_is_sent() {
        let (turns, free) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicUsize::new(7)));
        let make = {
            let (turns, free) = (Arc::clone(&turns), Arc::clone(&free));
            move || {
                free.store(turns.available_permits(), Ordering::SeqCst);
                pieces()
            }
        };
        let mut scrape = Scrape::new(&turns, make, Finally::new(|| {}));
        let text = poll_fn(|cx| scrape.poll_next(cx)).await.unwrap().unwrap();
        assert_eq!(&*text, b"# EOF\n");
        assert_eq!(free.load(Ordering::SeqCst), 0);
        assert!(poll_fn(|cx| scrape.poll_next(cx)).await.is_none());
        assert_eq!(turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_scrape_that_is_given_up_does_not_wait_for_its_turn() {
        let turns = Arc::new(Semaphore::new(0));
        let kept = Arc::new(());
        let make = {
            let kept = Arc::clone(&kept);
            move || {
                drop(kept);
                pieces()
            }
        };
        drop(Scrape::new(&turns, make, Finally::new(|| {})));
        let given_up = async {
            while Arc::strong_count(&kept) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), given_up).await.unwrap();
    }
}
