//! The other shards: who is told what is meant for a probe that one of them runs.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::net::http::ask;
use super::net::{Net, Tls, TlsOptions, clean_lines};
use super::{Failure, Reason};
use crate::door::{Answer, HANDED_ON, Knock};
use crate::settings::HttpUrl;
use crate::shard::Shard;

/// What stands for the shard's number in the address of a shard.
const SHARD: &str = "{shard}";
/// For so long an answer is waited for. Clients wait ten seconds or longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many requests are handed on at a time.
const MOST: usize = 32;
/// So much of an answer is read, in bytes.
const ANSWER: usize = 16 << 10;
/// When somebody may come again whom nobody could be found for.
const AGAIN: Duration = Duration::from_secs(5);

/// How the other shards are reached.
#[derive(Debug)]
pub struct Peers {
    /// A URL with a place for the number.
    template: String,
    tls: Option<Tls>,
    net: Net,
    room: Semaphore,
}

impl Peers {
    /// Reaches them at such URLs, over TLS with the system's trust roots if they are of `https`.
    ///
    /// # Errors
    /// It is no such URL; TLS cannot be had.
    pub fn new(template: &str, net: &Net) -> Result<Self, String> {
        let expected =
            || format!("expected a URL with {SHARD} in it, such as http://midwatch-{SHARD}.midwatch-headless:9817");
        let url =
            at(template, 0).filter(|url| template.contains(SHARD) && !url.path.contains('?')).ok_or_else(expected)?;
        let tls = url.is_https.then(|| Tls::new(&TlsOptions::default(), net)).transpose()?;
        Ok(Self { template: template.to_owned(), tls, net: net.clone(), room: Semaphore::new(MOST) })
    }

    async fn ask(&self, shard: u32, prefix: &str, knock: Knock) -> Result<Response<Bytes>, Failure> {
        let malformed = || Failure::new(Reason::Internal, "the request cannot be handed on");
        // Every number leads to a URL if 0 does.
        let url = at(&self.template, shard).ok_or_else(malformed)?;
        let question = if knock.query.is_empty() { "" } else { "?" };
        let path = Zeroizing::new(format!(
            "{}{prefix}{}{question}{}",
            url.path.trim_end_matches('/'),
            *knock.path,
            knock.query
        ));
        // What a door is told does not depend on the method.
        let mut request = Request::post(&**path).header(HOST, url.address.to_string()).header(HANDED_ON, "1");
        if let Some(secret) = knock.secret {
            let bearer = Zeroizing::new([b"Bearer ", &secret[..]].concat());
            let mut value = HeaderValue::from_bytes(&bearer).map_err(|_| malformed())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(knock.body.into())).map_err(|_| malformed())?;
        ask(&self.net, (&url.address, self.tls.as_ref()), request, ANSWER).await
    }
}

/// Where a shard is.
fn at(template: &str, shard: u32) -> Option<HttpUrl> {
    HttpUrl::parse(&template.replace(SHARD, &shard.to_string()))
}

/// Another shard, to which a probe belongs, and the way there.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// The shard.
    pub owner: Shard,
    /// How it is reached; `None` if nobody has said.
    pub peers: Option<Arc<Peers>>,
}

impl Elsewhere {
    /// Hands a request at a door over to that shard, and returns what it says. `what` is the probe in words; `prefix` is what the path
    /// began with. Nobody but the host of the address that was given for the shard is told any of it.
    ///
    /// # Errors
    /// The same, as what to answer and why: nobody can be told, or was not told for sure.
    pub async fn tell(&self, what: &str, prefix: &str, knock: Knock) -> Result<Answer, (Answer, String)> {
        let owner = self.owner;
        let failed = |status, why: &str| {
            let text = format!("{what} belongs to {owner}, {why}");
            let answer = Answer::in_words(status, text.clone());
            (if status.is_server_error() { answer.again_after(AGAIN) } else { answer }, text)
        };
        // One that came from another shard goes no further: they disagree about how many they are, and it would go round.
        let Some(peers) = self.peers.as_ref().filter(|_| !knock.is_handed_on) else {
            return Err(failed(StatusCode::MISDIRECTED_REQUEST, "and is not handed on"));
        };
        let Ok(_room) = peers.room.try_acquire() else {
            return Err(failed(StatusCode::SERVICE_UNAVAILABLE, "and too much is being handed on"));
        };
        let answer = match timeout(PATIENCE, peers.ask(owner.index, prefix, knock)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => {
                let why = format!("which could not be told ({})", failure.reason.label());
                return Err(failed(StatusCode::BAD_GATEWAY, &why));
            }
            Err(_) => return Err(failed(StatusCode::GATEWAY_TIMEOUT, "which did not answer in time")),
        };
        let again = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = clean_lines(&String::from_utf8_lossy(answer.body()));
        Ok(Answer { retry_after: again.map(Duration::from_secs), ..Answer::in_words(answer.status(), text) })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const OWNER: Shard = Shard { index: 3, count: 5 };

    fn to(template: &str) -> Elsewhere {
        Elsewhere { owner: OWNER, peers: Some(Arc::new(Peers::new(template, &Net::default()).unwrap())) }
    }

    #[test]
    fn an_address_has_a_place_for_the_number() {
        let url = |template: &str| Peers::new(template, &Net::default()).map(|peers| at(&peers.template, 12));
        let url = |template: &str| url(template).map(|url| url.unwrap().address.to_string());
        assert_eq!(url("http://m-{shard}.peers:9817"), Ok("m-12.peers:9817".to_owned()));
        assert_eq!(url("https://[::1]/m/{shard}/"), Ok("[::1]:443".to_owned()));
        for bad in ["", "{shard}", "http://m:1", "ftp://m-{shard}", "http://m-{shard}/?x=1", "http://a:b@m-{shard}"] {
            assert!(url(bad).unwrap_err().starts_with("expected a URL with {shard}"), "{bad}");
        }
    }

    /// Takes one request, and answers it so. Returns it.
    async fn peer(listener: TcpListener, answer: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"the end") {
            assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "{}", String::from_utf8_lossy(&got));
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(got).unwrap()
    }

    #[tokio::test]
    async fn a_request_arrives_as_it_came_and_the_answer_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let knock = || Knock {
            path: "nightly/fail".to_owned().into(),
            query: "rid=a%20b&size=1".to_owned(),
            secret: Some(Zeroizing::new(b"a-token".to_vec())),
            body: b"the end".to_vec(),
            ..Knock::default()
        };
        let answer = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nwait\x1b[2Ja";
        let other = to(&format!("http://127.0.0.1:{port}/at/{{shard}}/"));
        let (told, got) = tokio::join!(other.tell("job nightly", "/ping/", knock()), peer(listener, answer));
        let words = Answer::in_words(StatusCode::TOO_MANY_REQUESTS, "wait [2Ja".to_owned());
        assert_eq!(told, Ok(words.again_after(Duration::from_secs(7))));
        assert!(got.starts_with("POST /at/3/ping/nightly/fail?rid=a%20b&size=1 HTTP/1.1\r\n"), "{got}");
        for line in
            [format!("host: 127.0.0.1:{port}"), "authorization: Bearer a-token".into(), "midwatch-handed-on: 1".into()]
        {
            assert!(got.lines().any(|have| have == line), "{line}: {got}");
        }
        // Now nobody listens there, and nothing that is answered or logged holds the token.
        let (answer, why) = other.tell("job nightly", "/ping/", knock()).await.unwrap_err();
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(why, "job nightly belongs to shard 3 of 5, which could not be told (refused)");
        assert_eq!((answer.text, answer.retry_after), (why.into(), Some(AGAIN)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_handed_on_is_refused_by_name() {
        let refused = |told: Result<Answer, (Answer, String)>| {
            let (answer, _) = told.unwrap_err();
            (answer.status.as_u16(), answer.text.into_owned())
        };
        let text = "job nightly belongs to shard 3 of 5, and is not handed on".to_owned();
        let nowhere = Elsewhere { owner: OWNER, peers: None };
        assert_eq!(refused(nowhere.tell("job nightly", "/ping/", Knock::default()).await), (421, text.clone()));
        let again = Knock { is_handed_on: true, ..Knock::default() };
        let somewhere = to("http://127.0.0.1:1/{shard}");
        assert_eq!(refused(somewhere.tell("job nightly", "/ping/", again).await), (421, text));
        // The kernel takes the connection; nobody answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent_one = to(&format!("http://{}/{{shard}}", silent.local_addr().unwrap()));
        let text = "job nightly belongs to shard 3 of 5, which did not answer in time".to_owned();
        assert_eq!(refused(silent_one.tell("job nightly", "/ping/", Knock::default()).await), (504, text));
    }
}
