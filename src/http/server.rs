//! Accepts connections, serves them, and ends them: at their limits, to make room, or at the shutdown.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::admission::Admission;
use super::auth::Verifier;
use super::body::Body;
use super::protection::Protection;
use super::routes::{Desk, Port, internal_error, known};
use super::scrapes::Scrapes;
use super::socket::{Gate, Socket};
use super::{Limits, Site, tls};

/// The pause after a failed accept, usually for want of file descriptors: trying at once would keep a core busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client reads when all connections are busy.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 34\r\n\
    Retry-After: 1\r\nConnection: close\r\n\r\nAll connections are busy just now.";

/// Listens, and serves once it runs. Connections that come before that wait.
#[derive(Debug)]
pub struct Server {
    public: TcpListener,
    admin: Option<TcpListener>,
    limits: Limits,
    protection: watch::Receiver<Arc<Protection>>,
    verifier: Verifier,
    scrapes: Scrapes,
}

impl Server {
    /// Listens on `listen` and, if given, on `admin`. With an administration's address, reload and configuration are
    /// served there only; everything else is served on both, so that who administrates needs one address. The text of
    /// an error names the address.
    pub async fn bind(listen: SocketAddr, admin: Option<SocketAddr>) -> io::Result<Self> {
        let public = bind(listen).await?;
        let admin = match admin {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let protection = watch::Sender::default().subscribe();
        let limits = Limits::default();
        Ok(Self { public, admin, limits, protection, verifier: Verifier::new()?, scrapes: Scrapes::new(&limits) })
    }

    /// Protects both addresses in the way that is sent last. Without this they are open to all.
    #[must_use]
    pub fn with_protection(mut self, protection: watch::Receiver<Arc<Protection>>) -> Self {
        self.protection = protection;
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.scrapes = Scrapes::new(&limits);
        self
    }

    /// Where it listens: the port that was given, or the one the system chose for port 0.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where it listens for the administration, if that is apart.
    pub fn admin_addr(&self) -> Option<io::Result<SocketAddr>> {
        self.admin.as_ref().map(TcpListener::local_addr)
    }

    /// Serves until `shutdown` ends. Then nothing more is accepted, idle connections are closed at once, responses in
    /// flight have `grace` to finish. Dropping the future closes everything at once.
    pub async fn run<S: Site>(self, site: Arc<S>, shutdown: impl Future<Output = ()>, grace: Duration) {
        let closing = watch::Sender::new(false);
        let port = if self.admin.is_some() { Port::Public } else { Port::All };
        let sockets = [Some((self.public, port)), self.admin.map(|socket| (socket, Port::All))];
        let mut listeners: Vec<_> = sockets
            .into_iter()
            .flatten()
            .map(|(socket, port)| Listener {
                socket,
                context: Context {
                    site: Arc::clone(&site),
                    port,
                    limits: self.limits,
                    closing: closing.subscribe(),
                    protection: self.protection.clone(),
                    verifier: self.verifier.clone(),
                    scrapes: self.scrapes.clone(),
                },
                connections: Connections::default(),
            })
            .collect();
        tokio::select! {
            () = shutdown => {}
            _ = join_all(listeners.iter_mut().map(Listener::accept_all)) => {}
        }
        closing.send_replace(true);
        let end = Instant::now() + grace;
        // Taking the connections out of the listeners closes the listening sockets.
        let mut connections: Vec<_> = listeners.into_iter().map(|listener| listener.connections).collect();
        join_all(connections.iter_mut().map(|connections| connections.finish(end))).await;
    }
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    TcpListener::bind(address).await.map_err(named)
}

/// What all connections of a listener have in common.
struct Context<S> {
    site: Arc<S>,
    port: Port,
    limits: Limits,
    closing: watch::Receiver<bool>,
    protection: watch::Receiver<Arc<Protection>>,
    verifier: Verifier,
    scrapes: Scrapes,
}

impl<S> Clone for Context<S> {
    fn clone(&self) -> Self {
        Self {
            site: Arc::clone(&self.site),
            port: self.port,
            limits: self.limits,
            closing: self.closing.clone(),
            protection: self.protection.clone(),
            verifier: self.verifier.clone(),
            scrapes: self.scrapes.clone(),
        }
    }
}

struct Listener<S> {
    socket: TcpListener,
    context: Context<S>,
    connections: Connections,
}

impl<S: Site> Listener<S> {
    /// Accepts connections for as long as it is polled.
    async fn accept_all(&mut self) {
        let (mut failing, mut full) = (false, false);
        loop {
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                // Of the client that went away again, not of this server.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                    continue;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "cannot accept connections, trying on");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if std::mem::take(&mut failing) {
                tracing::info!("accepting connections again");
            }
            let room = self.connections.make_room(&self.context.limits).await;
            if room == full {
                full = !room;
                let most = self.context.limits.connections;
                if full {
                    tracing::warn!(most, "all connections are busy, refusing new ones");
                } else {
                    tracing::info!(most, "serving new connections again");
                }
            }
            if room {
                self.serve(stream, peer.ip());
            } else if self.context.protection.borrow().tls.is_none() {
                refuse(stream);
            }
        }
    }

    fn serve(&mut self, stream: TcpStream, peer: IpAddr) {
        // Small answers are not to wait for the client's acknowledgement. If it cannot be set, they do.
        let _ = stream.set_nodelay(true);
        let gate = Gate::new(peer);
        let socket = Socket::new(stream, Arc::clone(&gate), self.context.limits);
        let task = tokio::spawn(serve(socket, Arc::clone(&gate), self.context.clone()));
        self.connections.0.push(Connection { task, gate });
    }
}

/// Says why, if that can be said without waiting.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write_all(FULL);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
}

struct Connection {
    task: JoinHandle<()>,
    gate: Arc<Gate>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The connections of one listener; those that ended are forgotten when room is needed.
#[derive(Default)]
struct Connections(Vec<Connection>);

impl Connections {
    /// Makes room for one more. If as many as may be are open, the one that has been without a request for longest is
    /// closed: thousands that only sit there do not keep a scrape out. Failing that, the one that has not read its response
    /// for longest. False if all are busy.
    async fn make_room(&mut self, limits: &Limits) -> bool {
        if self.0.len() < limits.connections {
            return true;
        }
        self.0.retain(|connection| !connection.task.is_finished());
        if self.0.len() < limits.connections {
            return true;
        }
        let waiting = self.0.iter().enumerate().filter_map(|(n, open)| Some((open.gate.waiting_since()?, n))).min();
        let stuck =
            || self.0.iter().enumerate().filter_map(|(n, open)| Some((open.gate.stuck_since(limits)?, n))).min();
        let Some((_, longest)) = waiting.or_else(stuck) else { return false };
        let mut connection = self.0.swap_remove(longest);
        connection.task.abort();
        // Its file descriptor is free when the task is gone, not before.
        let _ = (&mut connection.task).await;
        true
    }

    /// Waits until all have ended, and drops those that have not by `end`.
    async fn finish(&mut self, end: Instant) {
        for mut connection in self.0.drain(..) {
            if timeout_at(end, &mut connection.task).await.is_err() {
                tracing::warn!("a connection did not end within the grace period, closing it");
            }
        }
    }
}

/// Serves one connection to its end, over TLS if that is how the server is protected when it begins.
async fn serve<S: Site>(socket: Socket, gate: Arc<Gate>, context: Context<S>) {
    let tls = context.protection.borrow().tls.clone();
    let Some(tls) = tls else { return converse(socket, gate, context).await };
    let mut closing = context.closing.clone();
    let stream = tokio::select! {
        stream = Box::pin(tls::accept(socket, tls)) => stream,
        _ = closing.wait_for(|closing| *closing) => None,
    };
    if let Some(stream) = stream {
        converse(stream, gate, context).await;
    }
}

/// Answers the requests of one connection.
async fn converse<S, T>(stream: T, gate: Arc<Gate>, context: Context<S>)
where
    S: Site,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut closing = context.closing.clone();
    let header_bytes = context.limits.header_bytes.max(8 * 1024);
    let of_requests = Arc::clone(&gate);
    let service = service_fn(move |request| answer(request, Arc::clone(&of_requests), context.clone()));
    let mut connection = pin!(
        http1::Builder::new()
            .max_buf_size(header_bytes)
            // The socket has the deadlines.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service)
    );
    let conversation = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = closing.wait_for(|closing| *closing).map(drop) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    let ended = tokio::select! {
        ended = conversation => ended,
        () = gate.until_cut() => return,
    };
    if let Err(error) = ended {
        // What clients do wrong is for them to know, and theirs to fill a log with.
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection failed");
    }
}

async fn answer<S: Site>(
    request: Request<Incoming>,
    gate: Arc<Gate>,
    context: Context<S>,
) -> Result<Response<Body>, Infallible> {
    let busy = gate.busy();
    let Context { site, port, limits, closing, protection, verifier, scrapes } = context;
    let path = known(request.uri().path());
    let closing = *closing.borrow();
    let protection = Arc::clone(&protection.borrow());
    let admission = Admission { protection: Arc::clone(&protection), verifier };
    let desk = Desk { site, port, limits, closing, admission, scrapes };
    let answer = std::panic::AssertUnwindSafe(desk.answer(request, &busy)).catch_unwind();
    let mut response = answer.await.unwrap_or_else(|_| {
        tracing::error!(path, "the answer to a request panicked");
        internal_error()
    });
    protection.decorate(response.headers_mut());
    Ok(response.map(|content| Body::new(content, busy)))
}
