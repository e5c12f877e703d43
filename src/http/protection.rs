//! What a request has to pass before anybody looks at what it asks for.

use std::fmt;
use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::auth::Users;
use crate::rate::RateLimit;

/// How a server is protected. It can be replaced while the server runs: TLS then concerns new connections, the rest
/// every request.
#[derive(Default)]
pub struct Protection {
    /// How TLS is spoken; `None` for plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Who may log in. If nobody is named, everybody is let in without.
    pub users: Users,
    /// What every response carries, in place of the same header of its own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How many requests are answered.
    pub rate_limit: Option<RateLimit>,
}

/// Shows no user.
impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection")
            .field("tls", &self.tls.is_some())
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}

impl Protection {
    /// Adds what every response carries.
    pub(super) fn decorate(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}
