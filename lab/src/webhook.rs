//! Where Alertmanager's notifications go: an HTTP server that takes whatever is posted as JSON and remembers the alerts in it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Error, Result};

/// The most bytes of a notification: far more than one of the lab's has.
const LIMIT: u64 = 1 << 20;
/// How long a notification may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// An alert of a notification. Alertmanager repeats those of a group whenever one of them changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which path it was posted to, without the leading slash: tests tell receivers apart by it.
    pub receiver: String,
    /// Whether it fires; otherwise it is resolved.
    pub is_firing: bool,
    /// Its labels; the name is `alertname`.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Notice {
    /// A label's value; empty if there is none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// An annotation's value; empty if there is none.
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.get(name).map_or("", String::as_str)
    }
}

/// A webhook on a loopback port. Gone on drop.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    notices: Mutex<Vec<Notice>>,
    /// Told of the number of notices whenever there are more.
    count: watch::Sender<usize>,
}

impl Webhook {
    /// Opens one.
    pub async fn open() -> Result<Webhook> {
        let what = "opening a webhook";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::io(what))?;
        let address = listener.local_addr().map_err(Error::io(what))?;
        let shared = Arc::new(Shared { notices: Mutex::default(), count: watch::Sender::new(0) });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Webhook { address, shared, task })
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has arrived so far, in the order of arrival.
    pub fn notices(&self) -> Vec<Notice> {
        self.shared.notices().clone()
    }

    /// Waits for a notice like that, however long it takes; looks first at what there is.
    pub async fn wait_for(&self, mut is_like_that: impl FnMut(&Notice) -> bool) -> Result<Notice> {
        let mut count = self.shared.count.subscribe();
        let mut seen = 0;
        loop {
            let found = {
                let notices = self.shared.notices();
                let found = notices.iter().skip(seen).find(|notice| is_like_that(notice)).cloned();
                seen = notices.len();
                found
            };
            if let Some(notice) = found {
                return Ok(notice);
            }
            let closed = |_| Error::Unexpected("the webhook is closed".to_owned());
            count.wait_for(|count| *count > seen).await.map_err(closed)?;
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn notices(&self) -> MutexGuard<'_, Vec<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            // A client that breaks off has told nothing, and tries again.
            tokio::spawn(async move { timeout(PATIENCE, answer(stream, &shared)).await });
        }
    }
}

/// Answers one request, and closes the connection.
async fn answer(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while stream.read_line(&mut head).await? > 2 {
        let line = head.lines().next_back().unwrap_or_default().to_ascii_lowercase();
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap_or(0);
        }
    }
    let mut body = Vec::new();
    (&mut stream).take(u64::min(length, LIMIT)).read_to_end(&mut body).await?;
    let receiver = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let status = match notices(receiver, &body) {
        Some(new) => {
            let count = {
                let mut notices = shared.notices();
                notices.extend(new);
                notices.len()
            };
            shared.count.send_replace(count);
            "200 OK"
        }
        None => "400 Bad Request",
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

/// The alerts of a notification; nothing if it is none.
fn notices(receiver: &str, body: &[u8]) -> Option<Vec<Notice>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let strings = |value: &Value| {
        let pairs = value.as_object()?.iter();
        Some(pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect())
    };
    let notice = |alert: &Value| {
        Some(Notice {
            receiver: receiver.to_owned(),
            is_firing: alert["status"] == "firing",
            labels: strings(&alert["labels"])?,
            annotations: strings(&alert["annotations"])?,
        })
    };
    body["alerts"].as_array()?.iter().map(notice).collect()
}
