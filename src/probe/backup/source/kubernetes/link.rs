//! How kube asks the API server: over the connections that all probes have, so that a failure has its reason, and within limits
//! that kube does not set itself.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Response, Uri};
use kube::Client;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tower::service_fn;

use super::access::{Access, Ready};
use super::shelf::{Part, Shelf};
use crate::probe::backup::source::file::Alone;
use crate::probe::net::{Net, clean, http};
use crate::probe::{Failure, Reason};
use crate::sync::lock;

/// How long the API server may take to begin an answer, and to end one that is no watch.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes that an answer may have which is no watch: 500 objects of the size that etcd allows would be too many.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;
/// The most bytes that a watch may tell of one change; etcd allows an object 1.5 MiB.
const LONGEST_LINE: usize = 4 * 1024 * 1024;
/// Requests come at most this often on the long run, whatever becomes of them: also a server that ends every watch at once is not
/// asked in a busy loop.
const SPACING: Duration = Duration::from_millis(500);
/// So much earlier than that may they come after a pause: lists have pages.
const BURST: Duration = Duration::from_secs(10);

/// Asks for one watch.
pub struct Link {
    /// Resolves and connects.
    pub net: Net,
    /// Whom.
    pub access: Arc<Access>,
    /// Where it is noted that a watch was accepted.
    pub shelf: Arc<Shelf>,
    /// Which watch it is.
    pub part: Part,
    /// When the next request may come.
    pub next: Mutex<Option<Instant>>,
    /// Reads the files that logging in takes.
    pub files: Alone<()>,
}

impl Link {
    /// What kube asks with. Needs a runtime, and leaves a task there that ends with the last copy of the client.
    pub fn client(self) -> Client {
        let link = Arc::new(self);
        let asks = move |request: Request<kube::client::Body>| {
            let link = Arc::clone(&link);
            async move { link.ask(request).await }
        };
        // Each request names its namespace.
        Client::new(service_fn(asks), "default")
    }

    async fn ask(&self, request: Request<kube::client::Body>) -> Result<Response<Answer>, Failure> {
        let is_watch = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        self.pace().await;
        let late = |what| move |_| Failure::new(Reason::Timeout, format!("the API server {what} within 30 s"));
        let opened = timeout(PATIENCE, Box::pin(self.open(request))).await;
        let (response, connection) = opened.map_err(late("began no answer"))??;
        if is_watch && response.status().is_success() {
            self.shelf.is_well(self.part);
            return Ok(response.map(|body| Answer::Watch { body, line: 0, _connection: connection }));
        }
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, Limited::new(body, LONGEST_ANSWER).collect()).await;
        let body = body.map_err(late("ended no answer"))?;
        let body = body.map_err(|error| Failure::new(Reason::Protocol, clean(&error.to_string())))?;
        Ok(Response::from_parts(head, Answer::Whole(Full::new(body.to_bytes()))))
    }

    /// Waits until it is time for another request.
    pub async fn pace(&self) {
        let at = {
            let mut next = lock(&self.next);
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let at = next.map_or(earliest, |next| next.max(earliest));
            *next = Some(at + SPACING);
            at
        };
        sleep_until(at).await;
    }

    async fn open(&self, request: Request<kube::client::Body>) -> Result<(Response<Incoming>, Connection), Failure> {
        let (access, net) = (Arc::clone(&self.access), self.net.clone());
        let Ready { url, tls, authorization } = self.files.work(move |()| access.ready(&net)).await?;
        let (mut head, _) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = format!("{}{path}", url.path.trim_end_matches('/')).parse::<Uri>().map_err(defect)?;
        head.headers.insert(HOST, url.address.to_string().parse().map_err(defect)?);
        if let Some(authorization) = authorization {
            head.headers.insert(AUTHORIZATION, authorization);
        }
        let request = Request::from_parts(head, Empty::<Bytes>::new());
        let (mut sender, driver) =
            http::open(&self.net, (&url.address, tls.as_ref())).await.map_err(|failure| of_server(&failure))?;
        let connection = Connection(tokio::spawn(async move {
            // What went wrong is told to whoever waits for the answer.
            let _ = driver.await;
        }));
        let response = sender.send_request(request).await.map_err(|error| of_server(&http::broken(&error)))?;
        Ok((response, connection))
    }
}

/// A request that cannot be written is a defect.
fn defect(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Internal, format!("cannot ask: {error}"))
}

/// A failure of the connection, which may be one of several that a probe has.
fn of_server(failure: &Failure) -> Failure {
    Failure::new(failure.reason, format!("the API server: {}", failure.detail))
}

/// The task that moves bytes, which ends with its answer.
pub struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer's body.
pub enum Answer {
    /// All of it.
    Whole(Full<Bytes>),
    /// A line for each change, as they come.
    Watch {
        /// Where they come from.
        body: Incoming,
        /// How long the line is that has just begun, in bytes.
        line: usize,
        /// What brings them.
        _connection: Connection,
    },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Watch { body, line, .. } => match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let data = frame.data_ref().map_or(&[][..], |data| data);
                    let longest = data.split(|byte| *byte == b'\n').enumerate().map(|(at, part)| {
                        *line = if at == 0 { *line + part.len() } else { part.len() };
                        *line
                    });
                    let is_long = longest.max().is_some_and(|longest| longest > LONGEST_LINE);
                    let too_long =
                        || Failure::new(Reason::Protocol, "the API server tells a change in more than 4 MiB");
                    Poll::Ready(Some(if is_long { Err(too_long()) } else { Ok(frame) }))
                }
                // A watch that breaks off is one that ended: whether the server is still there shows with the next one.
                Some(Err(error)) if !error.is_parse() => Poll::Ready(None),
                Some(Err(error)) => Poll::Ready(Some(Err(of_server(&http::broken(&error))))),
                None => Poll::Ready(None),
            },
        }
    }
}
