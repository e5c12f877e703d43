//! Who is let in: the rate limit, then the login. Whatever is asked for, known or not, has to pass here first; only doors know by
//! themselves whom to let in.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::auth::{Login, Verifier};
use super::body::Content;
use super::credentials;
use super::protection::Protection;
use super::routes::plain;
use super::socket::Busy;
use crate::rate::RateLimit;

/// What decides about a request.
pub(super) struct Admission {
    pub(super) protection: Arc<Protection>,
    pub(super) verifier: Verifier,
}

impl Admission {
    /// Lets a request in as long as there are not too many, or says so.
    #[allow(clippy::result_large_err, reason = "made once, for who is refused")]
    pub(super) fn rate(&self) -> Result<(), Response<Content>> {
        match self.protection.rate_limit.as_ref().map(RateLimit::admit) {
            Some(Err(_)) => Err(plain(StatusCode::TOO_MANY_REQUESTS, "There are more requests than are allowed.\n")),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Lets a user in, or says why not. A login that has to be verified waits for its turn for as long as `patience`.
    pub(super) async fn login(
        &self,
        headers: &HeaderMap,
        busy: &Busy,
        patience: Duration,
    ) -> Result<(), Response<Content>> {
        let users = &self.protection.users;
        if users.is_empty() {
            return Ok(());
        }
        let mut sent = headers.get_all(header::AUTHORIZATION).iter();
        // Two of them are no login: which one counts would depend on who reads.
        let (Some(first), None) = (sent.next(), sent.next()) else { return Err(unauthorized()) };
        let Some(credentials) = credentials::parse(first.as_bytes()) else { return Err(unauthorized()) };
        if self.verifier.remembers(users, &credentials) {
            return Ok(());
        }
        match busy.unsettled(self.verifier.verify(users, credentials, busy.gate().peer, patience)).await {
            Login::Accepted => Ok(()),
            Login::Refused => Err(unauthorized()),
            Login::Busy => {
                let text = "Too many logins are being verified just now.\n";
                let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                Err(response)
            }
        }
    }
}

/// The same words whatever is wrong or missing.
fn unauthorized() -> Response<Content> {
    let mut response = plain(StatusCode::UNAUTHORIZED, "This needs a user name and a password.\n");
    let challenge = HeaderValue::from_static("Basic realm=\"midwatch\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}
