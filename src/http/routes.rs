//! Which request gets which response.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::{Instant, timeout};

use super::admission::Admission;
use super::body::{Content, Finally, Scrape};
use super::negotiate::{self, Coding};
use super::pieces::Pieces;
use super::scrapes::Scrapes;
use super::socket::Busy;
use super::{Limits, RunsQuery, Site, credentials};
use crate::door::{Answer, Door, HANDED_ON, Knock};
use crate::metrics::exposition::{Format, Writer};

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What an address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// Everything: the only address there is, or the administration's.
    All,
    /// Everything but what belongs to the administration's address.
    Public,
}

/// Everything that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Landing,
    Metrics,
    Healthy,
    Ready,
    Config,
    Runs,
    Reload,
}

impl Route {
    /// Path, route, and what the landing page says about it.
    const TABLE: [(&'static str, Self, &'static str); 7] = [
        ("/", Self::Landing, "this page"),
        ("/metrics", Self::Metrics, "what Prometheus reads"),
        ("/-/healthy", Self::Healthy, "whether the process answers"),
        ("/-/ready", Self::Ready, "whether a configuration is applied"),
        ("/config", Self::Config, "the configuration in force, without secrets"),
        ("/runs", Self::Runs, "the last runs of the probes"),
        ("/-/reload", Self::Reload, "POST: read the configuration anew"),
    ];

    fn find(path: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(known, ..)| *known == path).map(|(_, route, _)| *route)
    }

    /// Whether it shows or changes more than who may scrape should see and do.
    fn is_administration(self) -> bool {
        matches!(self, Self::Config | Self::Runs | Self::Reload)
    }

    fn allowed(self) -> &'static str {
        if self == Self::Reload { "POST" } else { "GET, HEAD" }
    }

    fn allows(self, method: &Method) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// What a client wants metrics in.
#[derive(Clone, Copy)]
struct Wanted {
    format: Format,
    coding: Coding,
}

/// What a request is answered from.
pub(super) struct Desk<S> {
    pub(super) site: Arc<S>,
    pub(super) port: Port,
    pub(super) limits: Limits,
    /// Whether the server is shutting down.
    pub(super) closing: bool,
    /// What comes before everything else.
    pub(super) admission: Admission,
    /// The scrapes in flight.
    pub(super) scrapes: Scrapes,
}

impl<S: Site> Desk<S> {
    /// Answers one request. `busy` is its connection.
    pub(super) async fn answer(self, request: Request<Incoming>, busy: &Busy) -> Response<Content> {
        // First of all, so that a stranger learns nothing of what there is.
        let door = self.door(request.uri().path());
        let mut admitted = self.admission.rate();
        if admitted.is_ok() && door.is_none() {
            admitted = self.admission.login(request.headers(), busy, self.limits.login_time).await;
        }
        if let Err(refused) = admitted {
            return self.discard_body(request.into_body(), busy).await.err().unwrap_or(refused);
        }
        // RFC 9112, section 3.2: whoever did not say whom it asks may be a proxy that was led astray.
        if request.version() == Version::HTTP_11 && !request.headers().contains_key(header::HOST) {
            return last(plain(StatusCode::BAD_REQUEST, "The request has no Host.\n"));
        }
        if let Some((door, knock)) = door {
            return self.knock(&door, knock, request, busy).await;
        }
        let Some(route) = Route::find(request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "There is no such page.\n");
        };
        if route.is_administration() && self.port == Port::Public {
            return plain(StatusCode::NOT_FOUND, "This is served on the administration's address only.\n");
        }
        if !route.allows(request.method()) {
            return wrong_method(route.allowed());
        }
        let head = request.method() == Method::HEAD;
        let query = request.uri().query().map(str::to_owned);
        let wanted = Wanted {
            format: negotiate::format(request.headers(), self.site.openmetrics_created()),
            coding: negotiate::coding(request.headers()),
        };
        if let Err(refused) = self.discard_body(request.into_body(), busy).await {
            return refused;
        }
        match route {
            Route::Landing => respond(StatusCode::OK, HTML, text(self.landing())),
            Route::Metrics => self.metrics(wanted, head, busy).await,
            Route::Healthy => plain(StatusCode::OK, "healthy\n"),
            Route::Ready => self.ready(),
            Route::Config => plain(StatusCode::OK, self.site.config()),
            Route::Runs => self.runs(query.as_deref().unwrap_or_default()),
            Route::Reload => self.reload().await,
        }
    }

    /// The door to a path, and what it is told.
    fn door(&self, path: &str) -> Option<(Arc<dyn Door>, Knock)> {
        // On the administration's address only, if there is one.
        let (door, path) = self.site.door(path).filter(|_| self.port == Port::All)?;
        Some((door, Knock { path: path.to_owned().into(), ..Knock::default() }))
    }

    /// Has a door answer.
    async fn knock(
        &self,
        door: &Arc<dyn Door>,
        mut knock: Knock,
        request: Request<Incoming>,
        busy: &Busy,
    ) -> Response<Content> {
        const ALLOWED: &str = "GET, HEAD, POST";
        if ![Method::GET, Method::HEAD, Method::POST].contains(request.method()) {
            door.turned_away(busy.gate().peer);
            return last(wrong_method(ALLOWED));
        }
        if self.closing {
            let text = "midwatch is ending\n";
            return last(answered(
                Answer::new(StatusCode::SERVICE_UNAVAILABLE, text).again_after(Duration::from_secs(1)),
            ));
        }
        let mut sent = request.headers().get_all(header::AUTHORIZATION).iter();
        // Of two of them, which one counts would depend on who reads.
        if let (Some(header), None) = (sent.next(), sent.next()) {
            knock.secret = credentials::secret(header.as_bytes());
        }
        knock.peer = Some(busy.gate().peer);
        knock.is_handed_on = request.headers().contains_key(HANDED_ON);
        knock.query = request.uri().query().unwrap_or_default().to_owned();
        let Limits { door_body_bytes, door_body_kept, .. } = self.limits;
        match self.read_body(request.into_body(), (door_body_bytes, door_body_kept), busy).await {
            Ok(body) => knock.body = body,
            Err(refused) => {
                door.turned_away(busy.gate().peer);
                return refused;
            }
        }
        answered(Arc::clone(door).answer(knock).await)
    }

    /// Reads a body, which no page needs, so that the connection can be used again.
    async fn discard_body(&self, body: Incoming, busy: &Busy) -> Result<(), Response<Content>> {
        self.read_body(body, (self.limits.body_bytes, 0), busy).await.map(drop)
    }

    /// Reads a body, and keeps the last bytes of it. Refuses one that is too large before reading it, or, if its length was
    /// not announced, as soon as it shows.
    async fn read_body(
        &self,
        body: Incoming,
        (most, kept): (usize, usize),
        busy: &Busy,
    ) -> Result<Vec<u8>, Response<Content>> {
        let too_large = || last(plain(StatusCode::PAYLOAD_TOO_LARGE, "No request here needs such a body.\n"));
        if body.size_hint().lower() > most as u64 {
            return Err(too_large());
        }
        if body.is_end_stream() {
            return Ok(Vec::new());
        }
        let mut body = Limited::new(body, most);
        let read = async {
            let mut end = Vec::new();
            while let Some(frame) = body.frame().await {
                if let Some(data) = frame?.data_ref() {
                    end.extend_from_slice(data.get(data.len().saturating_sub(kept)..).unwrap_or_default());
                    end.drain(..end.len().saturating_sub(kept));
                }
            }
            Ok(end)
        };
        match busy.unsettled(timeout(self.limits.body_time, read)).await {
            Ok(Ok(end)) => Ok(end),
            Ok(Err(problem)) => {
                let problem: Box<dyn std::error::Error + Send + Sync> = problem;
                let broken = || last(plain(StatusCode::BAD_REQUEST, "The request's body is broken.\n"));
                Err(if problem.is::<LengthLimitError>() { too_large() } else { broken() })
            }
            Err(_) => Err(last(plain(StatusCode::REQUEST_TIMEOUT, "The request's body did not come in time.\n"))),
        }
    }

    async fn metrics(&self, wanted: Wanted, head: bool, busy: &Busy) -> Response<Content> {
        let Wanted { format, coding } = wanted;
        let content = if head { Some(Content::Unwritten) } else { self.scrape(wanted, busy).await };
        let Some(content) = content else {
            let mut refused = plain(StatusCode::SERVICE_UNAVAILABLE, "There are too many scrapes just now.\n");
            refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return refused;
        };
        let mut response = respond(StatusCode::OK, format.content_type(), content);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if let Some(name) = coding.name() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        response
    }

    /// `None` if there are too many scrapes in flight.
    async fn scrape(&self, Wanted { format, coding }: Wanted, busy: &Busy) -> Option<Content> {
        let (site, started) = (Arc::clone(&self.site), Instant::now());
        let in_flight = busy.unsettled(self.scrapes.begin(busy.gate(), &self.limits)).await?;
        let over = {
            let site = Arc::clone(&site);
            Finally::new(move || {
                drop(in_flight);
                site.scraped(started.elapsed());
            })
        };
        let make = move || Pieces::new(Writer::new(site.scrape(), format), coding);
        Some(Content::Scrape(Scrape::new(self.scrapes.turns(), make, over)))
    }

    fn ready(&self) -> Response<Content> {
        if self.closing {
            plain(StatusCode::SERVICE_UNAVAILABLE, "not ready: shutting down\n")
        } else {
            plain(StatusCode::OK, "ready\n")
        }
    }

    fn runs(&self, query: &str) -> Response<Content> {
        match RunsQuery::parse(query).map(|query| self.site.runs(&query)) {
            Ok(Ok(text)) => plain(StatusCode::OK, text),
            Ok(Err(text)) => plain(StatusCode::NOT_FOUND, text),
            Err(problem) => plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        }
    }

    async fn reload(&self) -> Response<Content> {
        let reload = self.site.reload().await;
        let status = if reload.ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        let mut text = reload.text;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        plain(status, text)
    }

    fn landing(&self) -> String {
        let landing = self.site.landing();
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>midwatch</title></head>\n<body>\n\
             <h1>midwatch</h1>\n<p>Version {}, probes: {}.{}</p>\n<ul>\n",
            escape(&landing.version),
            landing.probes,
            landing.share.map(|share| format!(" {}", escape(&share))).unwrap_or_default()
        );
        for (path, route, about) in Route::TABLE {
            if route == Route::Landing || route.is_administration() && self.port == Port::Public {
                continue;
            }
            let link = if route == Route::Reload { path.to_owned() } else { format!("<a href=\"{path}\">{path}</a>") };
            page += &format!("<li>{link}: {about}</li>\n");
        }
        page + "</ul>\n</body>\n</html>\n"
    }
}

/// The answer to a request whose handler panicked.
pub(super) fn internal_error() -> Response<Content> {
    last(plain(StatusCode::INTERNAL_SERVER_ERROR, "An internal error, which the log names.\n"))
}

pub(super) fn plain(status: StatusCode, what: impl Into<Bytes>) -> Response<Content> {
    respond(status, PLAIN, text(what))
}

fn wrong_method(allowed: &'static str) -> Response<Content> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, format!("The method here is {allowed}.\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// What a door says.
fn answered(Answer { status, text, retry_after }: Answer) -> Response<Content> {
    let text: Bytes = match text {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    };
    let mut response = plain(status, text);
    if let Some(time) = retry_after {
        // Whole seconds, and not too early.
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

/// The path for the log: a page of the server's own. Others may hold secrets.
pub(super) fn known(path: &str) -> &'static str {
    Route::TABLE.iter().find(|(known, ..)| *known == path).map_or("none of the pages", |(known, ..)| known)
}

fn text(text: impl Into<Bytes>) -> Content {
    Content::Text(text.into())
}

fn respond(status: StatusCode, content_type: &'static str, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Everything here is of this moment.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Metrics and configuration hold texts of others: no browser may take them for a page or a script.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

/// Closes the connection after this response.
fn last(mut response: Response<Content>) -> Response<Content> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}
