//! Asks a bucket for what is in it.

use std::time::SystemTime;

use chrono::DateTime;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response, StatusCode, header};

use super::config::{Config, Credentials, Style};
use super::sign::{Question, escape, headers, query};
use super::xml::{self, Page, Refusal};
use crate::probe::net::http::Connection;
use crate::probe::net::{Net, Tls, clean};
use crate::probe::{Failure, Reason};
use crate::settings::HostPort;

/// The largest page of a listing that is read, in bytes: a thousand objects with keys of 1024 bytes, escaped.
const LARGEST_PAGE: usize = 4 << 20;
/// So many objects are asked for at once, which is as many as servers give.
const PAGE: &str = "1000";

/// A bucket.
pub struct Client {
    net: Net,
    tls: Option<Tls>,
    address: HostPort,
    /// The header `Host`.
    host: String,
    /// What the paths of all objects begin with, escaped.
    root: String,
    region: String,
    credentials: Option<Credentials>,
    /// What the keys of all objects begin with that are asked for.
    prefix: String,
}

/// A connection that is kept from one question to the next, and how many questions there were.
#[derive(Default)]
pub struct Line {
    connection: Option<Connection>,
    /// How many requests were sent.
    pub requests: u64,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug)]
pub enum From<'f> {
    /// With the first key.
    Start,
    /// After that key.
    After(&'f str),
    /// Where the last page ended, which gave this token.
    Token(&'f str),
}

impl Client {
    /// No I/O. `prefix` is what keys must begin with.
    ///
    /// # Errors
    /// What is wrong with a certificate or name, in words.
    pub fn new(config: &Config, prefix: String, net: &Net) -> Result<Self, String> {
        let HostPort { host, port } = &config.endpoint.address;
        let bucket = &config.bucket;
        let (host, root) = match config.style {
            Style::Path => (host.clone(), format!("/{}", escape(bucket, ""))),
            Style::VirtualHost => (format!("{bucket}.{host}"), String::new()),
        };
        let address = HostPort { host, port: *port };
        let shown = address.to_string();
        // As clients write it, and sign it: without the port that goes without saying.
        let usual = if config.endpoint.is_https { ":443" } else { ":80" };
        let host = shown.strip_suffix(usual).unwrap_or(&shown).to_owned();
        let tls = config.tls.as_ref().map(|tls| tls.build(net)).transpose()?;
        let (region, credentials) = (config.region.clone(), config.credentials.clone());
        Ok(Self { net: net.clone(), tls, address, host, root, region, credentials, prefix })
    }

    /// The next page of the listing.
    ///
    /// # Errors
    /// What keeps us from asking; why the server refuses; `protocol` for what is no page.
    pub async fn page(&self, line: &mut Line, from: From<'_>) -> Result<Page, Failure> {
        let mut parameters =
            vec![("list-type", "2"), ("encoding-type", "url"), ("max-keys", PAGE), ("prefix", &*self.prefix)];
        match from {
            From::Start => {}
            From::After(key) => parameters.push(("start-after", key)),
            From::Token(token) => parameters.push(("continuation-token", token)),
        }
        let path = if self.root.is_empty() { "/" } else { &self.root };
        let answer = self.ask(line, (path, &query(&mut parameters)), LARGEST_PAGE).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(&answer));
        }
        let what =
            |problem| Failure::new(Reason::Protocol, format!("{}: the listing cannot be read: {problem}", self.host));
        xml::page(answer.body()).map_err(what)
    }

    /// An object of at most `limit` bytes; `None` if it is not there.
    ///
    /// # Errors
    /// What keeps us from asking; why the server refuses.
    pub async fn object(&self, line: &mut Line, key: &str, limit: usize) -> Result<Option<Bytes>, Failure> {
        let path = format!("{}/{}", self.root, escape(key, "/"));
        let answer = self.ask(line, (&path, ""), limit).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.into_body())),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(&answer)),
        }
    }

    /// Asks over the connection there is, or a new one: also if the server closed the old one just now.
    async fn ask(&self, line: &mut Line, at: (&str, &str), limit: usize) -> Result<Response<Bytes>, Failure> {
        if let Some(mut connection) = line.connection.take()
            && connection.is_ready().await
        {
            line.requests += 1;
            match connection.ask(self.request(at)?, limit).await {
                Ok(answer) => {
                    line.connection = Some(connection);
                    return Ok(answer);
                }
                Err(failure) if failure.reason == Reason::Closed => {}
                Err(failure) => return Err(self.named(&failure)),
            }
        }
        let named = |failure: Failure| self.named(&failure);
        let connection = Connection::open(&self.net, (&self.address, self.tls.as_ref())).await;
        let mut connection = connection.map_err(named)?;
        line.requests += 1;
        let answer = connection.ask(self.request(at)?, limit).await.map_err(named)?;
        line.connection = Some(connection);
        Ok(answer)
    }

    fn request(&self, (path, query): (&str, &str)) -> Result<Request<Full<Bytes>>, Failure> {
        let defect = |error: &dyn std::fmt::Display| Failure::new(Reason::Internal, format!("cannot ask: {error}"));
        let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let mut request = Request::get(uri).header(header::HOST, &self.host);
        if let Some(credentials) = &self.credentials {
            let question = Question { host: &self.host, path, query };
            for (name, value) in headers(&question, credentials.key(), &self.region, SystemTime::now()) {
                let mut value = header::HeaderValue::from_str(&value).map_err(|error| defect(&error))?;
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        request.body(Full::default()).map_err(|error| defect(&error))
    }

    fn named(&self, failure: &Failure) -> Failure {
        Failure::new(failure.reason, clean(&format!("{}: {}", self.address, failure.detail)))
    }

    /// Why the server does not answer what was asked.
    fn refused(&self, answer: &Response<Bytes>) -> Failure {
        let Refusal { code, mut message, region } = xml::refusal(answer.body());
        // A server may repeat what it was told.
        let told =
            self.credentials.iter().flat_map(|credentials| [Some(credentials.key().id), credentials.key().token]);
        for secret in told.flatten() {
            message = message.replace(secret, "…");
        }
        let region = answer
            .headers()
            .get("x-amz-bucket-region")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
            .or(region);
        let status = answer.status();
        let is_elsewhere = status.is_redirection() || code == "AuthorizationHeaderMalformed";
        let hint = match region {
            Some(region) if is_elsewhere && region != self.region => format!("; the bucket is in the region {region}"),
            _ if code == "RequestTimeTooSkewed" => skew(answer.headers()),
            _ => String::new(),
        };
        let words =
            [code.as_str(), &message].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let words = format!("{} answered {} {}{hint}", self.host, status.as_u16(), clean(&words));
        Failure::new(reason(status, &code), clean(words.trim_end()))
    }
}

/// The kind of a refusal ("Error responses" in the reference of the Amazon S3 API).
fn reason(status: StatusCode, code: &str) -> Reason {
    match (code, status.as_u16()) {
        ("RequestTimeTooSkewed", _) => Reason::Local,
        ("SlowDown" | "ServiceUnavailable" | "TooManyRequests" | "Throttling", _) | (_, 429 | 503) => Reason::Overload,
        ("AuthorizationHeaderMalformed", 400) => Reason::Rejected,
        ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) | (_, 401 | 403) => Reason::Auth,
        _ => Reason::Rejected,
    }
}

/// By how much the clock here differs from the server's.
fn skew(headers: &HeaderMap) -> String {
    let date = headers.get(header::DATE).and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
    let Some(date) = date else { return "; the clock here differs from the server's".to_owned() };
    let seconds = (DateTime::<chrono::Utc>::from(SystemTime::now()) - date.to_utc()).num_seconds();
    let way = if seconds < 0 { "behind" } else { "ahead of" };
    format!("; the clock here is {} s {way} the server's", seconds.abs())
}
