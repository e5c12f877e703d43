//! Tokens for OAUTHBEARER: where they come from, and keeping them while they are good.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

#[cfg(feature = "msk-iam")]
use super::msk::MskIam;
use crate::probe::kafka::access::TokenSource;
use crate::probe::net::{Net, Tls, clean, http};
use crate::probe::{Failure, Reason};
use crate::settings::{HttpUrl, Secret};

/// The longest answer of a token server that is read. Tokens have some kilobytes.
const LONGEST_ANSWER: usize = 256 << 10;
/// How long a token is used of which nobody says how long it holds ("recommended", RFC 6749, section 5.1).
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);
/// The longest lifetime that is believed.
const LONGEST_LIFETIME: Duration = Duration::from_secs(86_400);

/// A token that may be shown to brokers.
pub type Token = Arc<Zeroizing<String>>;

/// Tokens, one at a time.
pub(super) struct Tokens {
    source: Source,
    /// Locked while one is fetched, so that connections that are opened at once share it.
    current: Mutex<Option<(Token, Instant)>>,
}

enum Source {
    Oauth(Box<Oauth>),
    Given(Secret),
    #[cfg(feature = "msk-iam")]
    MskIam(MskIam),
}

impl Tokens {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with a certificate or name, in words.
    pub(super) fn new(source: &TokenSource, net: &Net) -> Result<Self, String> {
        let source = match source {
            TokenSource::Oauth { url, client_id, client_secret, scope, tls } => Source::Oauth(Box::new(Oauth {
                net: net.clone(),
                tls: tls.as_ref().map(|tls| tls.build(net)).transpose()?,
                url: url.clone(),
                client_id: client_id.clone(),
                client_secret: client_secret.clone(),
                scope: scope.clone(),
            })),
            TokenSource::Given(token) => Source::Given(token.clone()),
            #[cfg(feature = "msk-iam")]
            TokenSource::MskIam { region, access_key_id, secret_access_key, session_token } => {
                let session_token = session_token.as_ref().map(Secret::expose);
                Source::MskIam(MskIam::new(region, access_key_id, secret_access_key.expose(), session_token))
            }
        };
        Ok(Self { source, current: Mutex::default() })
    }

    /// A token that holds for a while longer; fetches one if there is none.
    ///
    /// # Errors
    /// `auth` if the token server refuses us; whatever keeps us from asking it.
    pub(super) async fn current(&self) -> Result<Token, Failure> {
        self.current_until().await.map(|(token, _)| token)
    }

    /// The same, with how long it may be used.
    ///
    /// # Errors
    /// Those of [`current`](Self::current).
    pub(super) async fn current_until(&self) -> Result<(Token, Duration), Failure> {
        let mut current = self.current.lock().await;
        if let Some((token, until)) = &*current
            && *until > Instant::now()
        {
            return Ok((Arc::clone(token), until.saturating_duration_since(Instant::now())));
        }
        let asked = Instant::now();
        let (token, lifetime) = match &self.source {
            Source::Oauth(oauth) => oauth.fetch().await?,
            Source::Given(token) => (Zeroizing::new(token.expose().to_owned()), UNKNOWN_LIFETIME),
            #[cfg(feature = "msk-iam")]
            Source::MskIam(msk) => msk.sign(std::time::SystemTime::now())?,
        };
        let token = Arc::new(token);
        // A fifth of its life is left for whoever gets it last.
        let until = asked + lifetime.min(LONGEST_LIFETIME) * 4 / 5;
        *current = Some((Arc::clone(&token), until));
        Ok((token, until.saturating_duration_since(Instant::now())))
    }

    /// Gives up the token: a broker refused it.
    pub(super) async fn forget(&self) {
        *self.current.lock().await = None;
    }
}

/// An OAuth 2.0 server that is asked with the client credentials grant (RFC 6749, section 4.4).
struct Oauth {
    net: Net,
    tls: Option<Tls>,
    url: HttpUrl,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
}

impl Oauth {
    async fn fetch(&self) -> Result<(Zeroizing<String>, Duration), Failure> {
        let named = |failure: Failure| {
            Failure::new(failure.reason, format!("token server {}: {}", self.url.address, failure.detail))
        };
        self.ask().await.map_err(named)
    }

    async fn ask(&self) -> Result<(Zeroizing<String>, Duration), Failure> {
        let at = (&self.url.address, self.tls.as_ref());
        let response = http::ask(&self.net, at, self.request()?, LONGEST_ANSWER).await?;
        let (status, body) = (response.status(), response.into_body());
        read(status, &body)
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        // Both are encoded as in a form before they become one text (RFC 6749, section 2.3.1).
        let id = form(&self.client_id);
        let credentials = Zeroizing::new(format!("{id}:{}", *Zeroizing::new(form(self.client_secret.expose()))));
        let mut authorization =
            header::HeaderValue::from_str(&format!("Basic {}", BASE64.encode(credentials.as_bytes())))
                .map_err(defect)?;
        authorization.set_sensitive(true);
        let scope = self.scope.as_deref().map_or_else(String::new, |scope| format!("&scope={}", form(scope)));
        Request::post(self.url.path.as_str())
            .header(header::HOST, self.url.address.to_string())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, authorization)
            .body(Full::from(format!("grant_type=client_credentials{scope}")))
            .map_err(defect)
    }
}

fn defect(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Internal, format!("cannot ask: {error}"))
}

/// Reads a token server's answer (RFC 6749, sections 5.1 and 5.2).
///
/// # Errors
/// `auth` if it refuses us, `rejected` if it cannot answer now, `protocol` if this is no such answer.
pub(super) fn read(status: StatusCode, body: &[u8]) -> Result<(Zeroizing<String>, Duration), Failure> {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| json.get(key).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    if !status.is_success() {
        let reason = if status.is_client_error() { Reason::Auth } else { Reason::Rejected };
        let words = [text("error"), text("error_description")].into_iter().flatten().collect::<Vec<_>>().join(": ");
        return Err(Failure::new(reason, clean(&format!("{} {words}", status.as_u16()))));
    }
    let token = text("access_token")
        .ok_or_else(|| Failure::new(Reason::Protocol, "the answer is not JSON with an `access_token`"))?;
    if !is_token(token) {
        return Err(Failure::new(Reason::Protocol, "the token holds characters that no token has"));
    }
    let lifetime = json.get("expires_in").and_then(serde_json::Value::as_u64);
    Ok((Zeroizing::new(token.to_owned()), lifetime.map_or(UNKNOWN_LIFETIME, Duration::from_secs)))
}

/// Whether it can be a token: it becomes part of a message whose fields end with control characters (RFC 6750, section 2.1 has
/// what it may hold).
pub(in super::super) fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A value as it is written in a form (`application/x-www-form-urlencoded`).
pub(super) fn form(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
