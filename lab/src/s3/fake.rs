//! A FAKE bucket: it answers `ListObjectsV2` with objects that it makes up, a page at a time, and looks at no signature.
//!
//! It exists because a million objects need more time to put than there is, and because no real server can be told to refuse, to
//! break off, or to give the same page again and again. Everything else is tested on a real server ([`super::S3`]).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::{Error, Result};

/// An object: its key, its size, and when it was written, in unix seconds.
pub type Object = (String, u64, u64);

/// What is in the bucket: so many objects, and each by its place in the order of keys.
#[derive(Clone)]
pub struct Objects {
    /// How many.
    pub count: usize,
    /// The one at a place.
    pub at: Arc<dyn Fn(usize) -> Object + Send + Sync>,
}

/// How the fake answers instead of well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With that status, these lines of the head, and that body.
    Answer(u16, &'static str, String),
    /// With half of the page, and the length of all of it.
    BreakOff,
    /// With half of the page, as if it were all.
    Cut,
    /// With the same page, whatever is asked for, and that there are more.
    Again,
    /// With a body of so many bytes that is no end of a page.
    Endless(usize),
    /// With pages without objects, for ever.
    Empty,
    /// Well, but only after that time.
    Late(Duration),
    /// Well, and closes the connection without having said so.
    Close,
}

#[derive(Default)]
struct Script {
    objects: Option<Objects>,
    fault: Option<Fault>,
    /// So many requests are answered well before the fault begins.
    after: usize,
    asked: Vec<String>,
    connections: usize,
}

/// A FAKE bucket on a loopback port. Gone on drop.
pub struct FakeBucket {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl FakeBucket {
    /// Opens one with these objects.
    pub async fn open(objects: Objects) -> Result<FakeBucket> {
        let what = "opening a fake bucket";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::io(what))?;
        let address = listener.local_addr().map_err(Error::io(what))?;
        let script = Arc::new(Mutex::new(Script { objects: Some(objects), ..Script::default() }));
        let task = tokio::spawn(serve(listener, Arc::clone(&script)));
        Ok(FakeBucket { address, script, task })
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds other objects from now on.
    pub fn hold(&self, objects: Objects) {
        lock(&self.script).objects = Some(objects);
    }

    /// Answers well so many times, and then so.
    pub fn fail(&self, after: usize, fault: Fault) {
        let mut script = lock(&self.script);
        (script.after, script.fault) = (after, Some(fault));
    }

    /// Answers well from now on.
    pub fn mend(&self) {
        lock(&self.script).fault = None;
    }

    /// What was asked since the last time: paths with their queries.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.script).asked)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        lock(&self.script).connections
    }
}

impl Drop for FakeBucket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(script: &Mutex<Script>) -> std::sync::MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>) {
    // Dropped with this task, and with them all connections.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        lock(&script).connections += 1;
        connections.spawn(answer_all(stream, Arc::clone(&script)));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers requests until the client goes, or a fault ends the connection.
async fn answer_all(stream: TcpStream, script: Arc<Mutex<Script>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut header) = (String::new(), String::new());
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        while header != "\r\n" {
            header.clear();
            if stream.read_line(&mut header).await? == 0 {
                return Ok(());
            }
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (objects, fault) = {
            let mut script = lock(&script);
            script.asked.push(target.clone());
            let fault = if script.after == 0 { script.fault.clone() } else { None };
            script.after = script.after.saturating_sub(1);
            (script.objects.clone(), fault)
        };
        let Some(objects) = objects else { return Ok(()) };
        if let Some(Fault::Late(time)) = fault {
            tokio::time::sleep(time).await;
        }
        let (bytes, is_last) = answer(&objects, &target, fault.as_ref());
        stream.write_all(&bytes).await?;
        if is_last {
            return stream.shutdown().await;
        }
    }
}

/// The answer, and whether the connection ends after it.
fn answer(objects: &Objects, target: &str, fault: Option<&Fault>) -> (Vec<u8>, bool) {
    let whole = |status: u16, head: &str, body: &str| {
        format!("HTTP/1.1 {status} Lab\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    match fault {
        Some(Fault::Answer(status, head, body)) => (whole(*status, head, body), false),
        Some(Fault::BreakOff) => {
            let mut bytes = whole(200, "", &page(objects, target));
            bytes.truncate(bytes.len() / 2);
            (bytes, true)
        }
        Some(Fault::Cut) => {
            let page = page(objects, target);
            (whole(200, "", &page[..page.len() / 2]), false)
        }
        Some(Fault::Again) => {
            let page = page(objects, "").replace("<IsTruncated>false", "<IsTruncated>true");
            let token = "<NextContinuationToken>again</NextContinuationToken></ListBucketResult>";
            (whole(200, "", &page.replace("</ListBucketResult>", token)), false)
        }
        Some(Fault::Endless(bytes)) => {
            (whole(200, "", &format!("<ListBucketResult>{}", "<Contents/>".repeat(bytes / 11))), false)
        }
        Some(Fault::Empty) => {
            let token: usize =
                value(target, "continuation-token").and_then(|token| token.parse().ok()).unwrap_or(0) + 1;
            let page = format!(
                "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
            );
            (whole(200, "", &page), false)
        }
        Some(Fault::Close) => (whole(200, "", &page(objects, target)), true),
        Some(Fault::Late(_)) | None => (whole(200, "", &page(objects, target)), false),
    }
}

/// A page of at most a thousand objects. Keys are such as need no escaping.
fn page(objects: &Objects, target: &str) -> String {
    let key = |at: usize| (objects.at)(at).0;
    let first = match (value(target, "continuation-token"), value(target, "start-after")) {
        (Some(token), _) => token.parse().unwrap_or(0),
        (None, Some(after)) => partition_point(objects.count, |at| key(at) <= after),
        (None, None) => 0,
    };
    let prefix = value(target, "prefix").unwrap_or_default();
    let first = first.max(partition_point(objects.count, |at| key(at) < prefix));
    let end = partition_point(objects.count, |at| key(at) < prefix || key(at).starts_with(&prefix));
    let last = (first + 1000).min(end);
    let mut text = String::with_capacity(300_000);
    // Writing to a string does not fail.
    let _ = write!(text, "<ListBucketResult><IsTruncated>{}</IsTruncated>", last < end);
    if last < end {
        let _ = write!(text, "<NextContinuationToken>{last}</NextContinuationToken>");
    }
    for at in first..last {
        let (key, size, modified) = (objects.at)(at);
        let time = OffsetDateTime::from_unix_timestamp(i64::try_from(modified).unwrap_or(0));
        let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let _ = write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.000Z</LastModified>\
             <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>{size}</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
    }
    text.push_str("</ListBucketResult>");
    text
}

/// The first place of an ascending order that is not `before`.
fn partition_point(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = usize::midpoint(low, high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// A parameter of the query, its slashes unescaped.
fn value(target: &str, name: &str) -> Option<String> {
    let query = target.split_once('?')?.1;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%2F", "/"))
}
