//! The daemon's own HTTP server: metrics, health, reload, the configuration in force, remembered runs and a plain
//! landing page.
//!
//! `server` accepts connections and ends them, `socket` cuts off clients that are slow, `tls` does handshakes.
//! `admission` lets requests in, with `auth` and `credentials` for logins; a [`Protection`] says which of it is wanted.
//! `routes` turns a request into a response, `query` reads what one is asked for, `body` writes it piece by piece. What is
//! served comes from a [`Site`]: this module knows neither the application nor its configuration, and nothing outside of it
//! uses hyper's server.

mod admission;
mod auth;
mod body;
mod credentials;
#[doc(hidden)]
pub mod fuzz;
mod negotiate;
mod pieces;
mod protection;
mod query;
mod routes;
mod scrapes;
mod server;
mod socket;
#[cfg(test)]
mod tests;
mod tls;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use auth::Users;
pub use protection::Protection;
pub use query::RunsQuery;
pub use server::Server;

use crate::door::Door;
use crate::metrics::Snapshot;

/// What the server serves. It is ready from the start, so it must not be served before the first configuration is applied;
/// during the shutdown the server answers "not ready" by itself.
pub trait Site: Send + Sync + 'static {
    /// What `/metrics` writes. Called once for each scrape, not for `HEAD`.
    fn scrape(&self) -> Snapshot;

    /// Whether OpenMetrics tells when counters and histograms came into being, in a series more for each of them.
    fn openmetrics_created(&self) -> bool;

    /// A scrape is over: its body was handed to the socket, or the client went away. `took` counts from the request.
    fn scraped(&self, took: Duration);

    /// The configuration in force, without its secrets.
    fn config(&self) -> Bytes;

    /// Reads the configuration anew and says what came of it. Every request is answered on its own; the future is
    /// dropped when its client goes away, which must not leave a reload half done.
    fn reload(&self) -> impl Future<Output = Reload> + Send;

    /// The remembered runs that are asked for, for a person.
    ///
    /// # Errors
    /// What there is not, and what there is instead: answered with status 404.
    fn runs(&self, query: &RunsQuery) -> Result<String, String>;

    /// Who answers under that path, if it is none of the server's own pages, and the path as it is told. Served where
    /// the administration is; logins do not apply. Nobody, unless a site has some.
    fn door<'p>(&self, path: &'p str) -> Option<(Arc<dyn Door>, &'p str)> {
        let _ = path;
        None
    }

    /// What the landing page says.
    fn landing(&self) -> Landing;
}

/// The answer to `POST /-/reload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Whether the configuration was applied: answered with status 200, otherwise 422.
    pub ok: bool,
    /// What was done, or every problem, one a line.
    pub text: String,
}

/// What the landing page says beside its links. Everything is escaped by the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    /// The version of the program.
    pub version: Cow<'static, str>,
    /// How many probes run.
    pub probes: usize,
    /// A sentence about which share of all probes these are, if there are others.
    pub share: Option<String>,
}

/// What one client, and all of them together, may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first byte of a request, or from the accepted connection, to the end of its header. A header is one
    /// packet; who needs longer holds a connection on purpose.
    pub header_time: Duration,
    /// Request line and header together, else 431. Room for large cookies and tokens of a proxy in front. Not less
    /// than 8 KiB, which is the least that hyper reads at once.
    pub header_bytes: usize,
    /// For reading a request's body.
    pub body_time: Duration,
    /// A request's body, else 413. No request needs one; a small one is read and ignored, so that the connection stays.
    pub body_bytes: usize,
    /// A body at a door, else 413: it is read, and forgotten but for its end.
    pub door_body_bytes: usize,
    /// So much of the end is told.
    pub door_body_kept: usize,
    /// Between requests on one connection. Longer than usual scrape intervals, so that Prometheus need not reconnect.
    pub idle_time: Duration,
    /// For the client to take what is buffered, three pieces of about 128 KiB at most. A scrape that is not read keeps
    /// the values of its moment in memory.
    pub write_time: Duration,
    /// For a whole response, at whatever pace the client reads it. Longer than any scrape's timeout.
    pub response_time: Duration,
    /// For so long a client may leave something buffered before it may have to make way for others.
    pub stuck_time: Duration,
    /// For the client to close after the last response, while what it still sends is discarded: closed at once, a
    /// connection is reset, and the client may never see why it was refused.
    pub linger_time: Duration,
    /// Scrapes in flight. When there are more, the new one waits, and the one whose client has not read for longest makes
    /// way, then one that is older than `scrape_time`.
    pub scrapes: usize,
    /// For so long a scrape waits until others have made way; then it is answered 503. Shorter than any scrape's timeout.
    pub scrape_wait: Duration,
    /// After so long a scrape may have to make way for others. Nobody waits longer for one unless told to.
    pub scrape_time: Duration,
    /// For so long a login waits for its turn to be verified; then it is answered 503.
    pub login_time: Duration,
    /// Connections on each address. When there are more, the one that has been without a whole request for longest makes
    /// way, then the one that has not read its response for longest; when all are busy, the new one is answered 503. Well below the usual limit of 1024 file descriptors,
    /// because probes need some too.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_time: Duration::from_secs(10),
            header_bytes: 64 * 1024,
            body_time: Duration::from_secs(10),
            body_bytes: 64 * 1024,
            door_body_bytes: 1024 * 1024,
            door_body_kept: 10_000,
            idle_time: Duration::from_secs(150),
            write_time: Duration::from_secs(30),
            response_time: Duration::from_secs(120),
            stuck_time: Duration::from_secs(1),
            scrapes: 40,
            scrape_wait: Duration::from_secs(5),
            scrape_time: Duration::from_secs(10),
            login_time: Duration::from_secs(5),
            linger_time: Duration::from_secs(1),
            connections: 400,
        }
    }
}
