//! The server over real sockets, before clients that behave and clients that do not.

mod attacks;
mod doors;
mod protected;
mod scrapes;

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Landing, Limits, Protection, Reload, RunsQuery, Server, Site};
use crate::door::{Door, Doors};
use crate::metrics::{BucketRule, Gauge, Live, SeriesSet, Snapshot};

static VALUE: Gauge<1> = Gauge::new("made_up_value", "A made-up value.", &["n"]);

/// Long enough for anything that happens at all; a test that waits for this long fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A made-up site, as large as the test needs it.
struct MadeUp {
    set: Arc<SeriesSet>,
    /// Scrapes that began, and those that are over.
    begun: AtomicUsize,
    scraped: AtomicUsize,
    reload: Mutex<Reload>,
    reloads: AtomicUsize,
    /// Reloads end when there is a permit for them.
    permits: Semaphore,
    panics: AtomicBool,
    doors: Doors,
}

impl MadeUp {
    fn new(series: usize) -> Arc<Self> {
        let set = SeriesSet::new([("probe", "made-up")], BucketRule::default());
        Live::new(Arc::clone(&set)).record(|rec| {
            for n in 0..series {
                rec.set(&VALUE, [&format!("{n:0>60}")], 1.0);
            }
        });
        Arc::new(Self {
            set,
            begun: AtomicUsize::new(0),
            scraped: AtomicUsize::new(0),
            reload: Mutex::new(Reload { ok: true, text: "1 added".into() }),
            reloads: AtomicUsize::new(0),
            permits: Semaphore::new(1000),
            panics: AtomicBool::new(false),
            doors: Doors::default(),
        })
    }

    /// With reloads that do not end before permits are added.
    fn held() -> Arc<Self> {
        let site = Self::new(1);
        site.permits.forget_permits(1000);
        site
    }

    async fn reloading(&self, requests: usize) {
        until("requests reach their handler", || self.reloads.load(SeqCst) == requests).await;
    }
}

impl Site for MadeUp {
    fn scrape(&self) -> Snapshot {
        self.begun.fetch_add(1, SeqCst);
        Snapshot::from(&*self.set)
    }

    fn openmetrics_created(&self) -> bool {
        false
    }

    fn scraped(&self, _: Duration) {
        self.scraped.fetch_add(1, SeqCst);
    }

    fn config(&self) -> Bytes {
        assert!(!self.panics.load(SeqCst), "the made-up site panics");
        "[server]\npassword = \"<secret>\"\n".into()
    }

    async fn reload(&self) -> Reload {
        let n = self.reloads.fetch_add(1, SeqCst);
        self.permits.acquire().await.unwrap().forget();
        let mut reload = self.reload.lock().unwrap().clone();
        reload.text += &format!(" (request {n})");
        reload
    }

    fn runs(&self, query: &RunsQuery) -> Result<String, String> {
        let text = format!("{:?} {:?}\n", query.probe, query.target);
        if query.probe.as_deref() == Some("unknown") { Err(text) } else { Ok(text) }
    }

    fn door<'p>(&self, path: &'p str) -> Option<(Arc<dyn Door>, &'p str)> {
        self.doors.find(path)
    }

    fn landing(&self) -> Landing {
        Landing { version: Cow::Borrowed("1.2.3<script>&\"'"), probes: 7, share: None }
    }
}

/// A server that runs, and stops when it is dropped or told to.
struct Running {
    addr: SocketAddr,
    admin: Option<SocketAddr>,
    site: Arc<MadeUp>,
    protection: watch::Sender<Arc<Protection>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    async fn start(site: Arc<MadeUp>, limits: Limits) -> Self {
        Self::listen(site, limits, None, PATIENCE).await
    }

    async fn listen(site: Arc<MadeUp>, limits: Limits, admin: Option<SocketAddr>, grace: Duration) -> Self {
        let protection = watch::Sender::default();
        let server =
            Server::bind(local(), admin).await.unwrap().with_limits(limits).with_protection(protection.subscribe());
        let addr = server.local_addr().unwrap();
        let admin = server.admin_addr().map(Result::unwrap);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let task = tokio::spawn(server.run(Arc::clone(&site), shutdown, grace));
        Self { addr, admin, site, protection, stop: Some(stop), task }
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.addr).await.unwrap(), unread: Vec::new() }
    }

    async fn ask(&self, request: &str) -> Reply {
        ask(self.addr, request).await
    }

    /// Until every connection's task is gone.
    async fn nothing_is_left(&self) {
        until("connections end", || self.connections() == 0).await;
    }

    /// How many connections have a task. Beside these the test, the server and its listener hold the site.
    fn connections(&self) -> usize {
        Arc::strong_count(&self.site) - 3
    }
}

struct Client<S = TcpStream> {
    stream: S,
    unread: Vec<u8>,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
    bytes: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next response, by its own framing; `None` if the connection ends first.
    async fn reply(&mut self) -> Option<Reply> {
        timeout(PATIENCE, self.read_reply(true)).await.expect("a response or the end")
    }

    async fn read_reply(&mut self, with_body: bool) -> Option<Reply> {
        let end = loop {
            match find(&self.unread, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.more().await.then_some(())?,
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap().to_lowercase();
        let status = head[9..12].parse().unwrap();
        let mut body = Vec::new();
        if !with_body {
        } else if let Some(length) = value(&head, "content-length") {
            self.take(length.parse().unwrap(), &mut body).await?;
        } else if value(&head, "transfer-encoding") == Some("chunked") {
            while self.chunk(&mut body).await? {}
        } else {
            while self.more().await {}
            body.append(&mut self.unread);
        }
        Some(Reply { status, head, body: String::from_utf8_lossy(&body).into_owned(), bytes: body })
    }

    async fn chunk(&mut self, body: &mut Vec<u8>) -> Option<bool> {
        let end = loop {
            match find(&self.unread, b"\r\n") {
                Some(end) => break end,
                None => self.more().await.then_some(())?,
            }
        };
        let size = std::str::from_utf8(&self.unread[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        self.unread.drain(..end + 2);
        self.take(size, body).await?;
        self.take(2, &mut Vec::new()).await?;
        Some(size > 0)
    }

    async fn take(&mut self, length: usize, into: &mut Vec<u8>) -> Option<()> {
        while self.unread.len() < length {
            self.more().await.then_some(())?;
        }
        into.extend(self.unread.drain(..length));
        Some(())
    }

    async fn more(&mut self) -> bool {
        self.unread.reserve(1 << 16);
        // A reset ends the connection as well as an orderly close.
        self.stream.read_buf(&mut self.unread).await.is_ok_and(|n| n > 0)
    }

    /// Reads until the server closes.
    async fn ends(&mut self) -> Vec<u8> {
        timeout(PATIENCE, async { while self.more().await {} }).await.expect("the server closes the connection");
        std::mem::take(&mut self.unread)
    }
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        value(&self.head, name)
    }
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// One request, "GET /path", on a connection of its own.
async fn ask(addr: SocketAddr, request: &str) -> Reply {
    ask_with(addr, request, "").await
}

/// The same with further header lines.
async fn ask_with(addr: SocketAddr, request: &str, lines: &str) -> Reply {
    let mut client = Client { stream: TcpStream::connect(addr).await.unwrap(), unread: Vec::new() };
    client.send(&format!("{request} HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n")).await;
    let with_body = !request.starts_with("HEAD");
    timeout(PATIENCE, client.read_reply(with_body)).await.unwrap().expect("a response")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// Short limits for tests that wait for them, long enough for clients that do not on a busy machine.
fn quick() -> Limits {
    let short = Duration::from_millis(500);
    Limits { header_time: short, body_time: short, write_time: short, idle_time: PATIENCE, ..Limits::default() }
}

#[tokio::test]
async fn every_page_answers() {
    let server = Running::start(MadeUp::new(3), Limits::default()).await;
    for (request, status, content_type, part) in [
        ("GET /", 200, "text/html; charset=utf-8", "probes: 7"),
        ("GET /metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "# TYPE made_up_value gauge\n"),
        ("GET /metrics?x=y", 200, "text/plain; version=0.0.4; charset=utf-8", "made_up_value{probe=\"made-up\",n=\"0"),
        ("GET http://elsewhere/-/healthy", 200, "text/plain; charset=utf-8", "healthy\n"),
        ("GET /-/healthy", 200, "text/plain; charset=utf-8", "healthy\n"),
        ("GET /-/ready", 200, "text/plain; charset=utf-8", "ready\n"),
        ("GET /config", 200, "text/plain; charset=utf-8", "<secret>"),
        ("POST /-/reload", 200, "text/plain; charset=utf-8", "1 added (request 0)\n"),
        ("GET /runs", 200, "text/plain; charset=utf-8", "None None\n"),
        ("GET /runs?probe=a%20b&target=c:1", 200, "text/plain; charset=utf-8", "Some(\"a b\") Some(\"c:1\")\n"),
        ("GET /runs?probe=unknown", 404, "text/plain; charset=utf-8", "Some(\"unknown\") None\n"),
        ("GET /runs?probe=%", 400, "text/plain; charset=utf-8", "percent sign"),
        ("GET /runs?probe=a&id=1", 400, "text/plain; charset=utf-8", "is not the id of a run"),
        ("GET /nothing", 404, "text/plain; charset=utf-8", "no such page"),
        ("GET /metrics/", 404, "text/plain; charset=utf-8", "no such page"),
        ("OPTIONS *", 404, "text/plain; charset=utf-8", "no such page"),
        ("CONNECT there:443", 404, "text/plain; charset=utf-8", "no such page"),
    ] {
        let reply = server.ask(request).await;
        assert_eq!(reply.status, status, "{request}");
        assert_eq!(reply.header("content-type"), Some(content_type), "{request}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{request}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{request}");
        assert!(reply.body.contains(part), "{request}: {}", reply.body);
    }
}

#[tokio::test]
async fn the_landing_page_escapes_what_it_is_given() {
    let server = Running::start(MadeUp::new(0), Limits::default()).await;
    let page = server.ask("GET /").await.body;
    assert!(page.contains("1.2.3&lt;script&gt;&amp;&quot;&#39;"), "{page}");
    assert!(page.contains("<a href=\"/metrics\">/metrics</a>"), "{page}");
    assert!(!page.contains("<script"), "{page}");
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let server = Running::start(MadeUp::new(0), Limits::default()).await;
    for path in ["/", "/metrics", "/-/healthy", "/-/ready", "/config", "/runs"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get", "WHAT"] {
            let reply = server.ask(&format!("{method} {path}")).await;
            assert_eq!((reply.status, reply.header("allow")), (405, Some("get, head")), "{method} {path}");
        }
    }
    for method in ["GET", "HEAD", "PUT"] {
        let reply = server.ask(&format!("{method} /-/reload")).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("post")), "{method}");
    }
    assert_eq!(server.site.reloads.load(SeqCst), 0);
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let server = Running::start(MadeUp::new(10), Limits::default()).await;
    for path in ["/", "/metrics", "/-/healthy", "/-/ready", "/config", "/runs", "/runs?probe=unknown", "/nothing"] {
        let get = server.ask(&format!("GET {path}")).await;
        let mut client = server.connect().await;
        client.send(&format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        let all = String::from_utf8(client.ends().await).unwrap().to_lowercase();
        let (head, body) = all.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{path}");
        for name in ["content-type", "content-length", "cache-control"] {
            assert_eq!(value(head, name), get.header(name), "{path}: {name}");
        }
    }
    // One scrape, by GET.
    until("the scrape is counted", || server.site.scraped.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn administration_is_on_its_own_address_only() {
    let server = Running::listen(MadeUp::new(1), Limits::default(), Some(local()), PATIENCE).await;
    let admin = server.admin.unwrap();
    for request in ["POST /-/reload", "GET /config", "GET /runs", "GET /runs?probe=a", "GET /-/reload"] {
        let reply = server.ask(request).await;
        assert_eq!(reply.status, 404, "{request}");
        assert!(reply.body.contains("administration's address"), "{}", reply.body);
    }
    for path in ["/config", "/runs"] {
        assert!(!server.ask("GET /").await.body.contains(path));
        assert!(ask(admin, "GET /").await.body.contains(path));
    }
    assert_eq!(ask(admin, "POST /-/reload").await.status, 200);
    assert_eq!(ask(admin, "GET /config").await.status, 200);
    assert_eq!(ask(admin, "GET /runs").await.status, 200);
    for request in ["GET /metrics", "GET /-/healthy", "GET /-/ready"] {
        assert_eq!(server.ask(request).await.status, 200, "{request}");
        assert_eq!(ask(admin, request).await.status, 200, "{request}");
    }
}

#[tokio::test]
async fn a_failed_reload_is_422_with_every_problem() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    *server.site.reload.lock().unwrap() = Reload { ok: false, text: "a.toml:1:2: one\na.toml:3:4: two".into() };
    let reply = server.ask("POST /-/reload").await;
    assert_eq!((reply.status, &*reply.body), (422, "a.toml:1:2: one\na.toml:3:4: two (request 0)\n"));
}

#[tokio::test]
async fn each_reload_gets_its_own_answer() {
    let server = Running::start(MadeUp::held(), Limits::default()).await;
    let addr = server.addr;
    let asked: Vec<_> = (0..20).map(|_| tokio::spawn(async move { ask(addr, "POST /-/reload").await.body })).collect();
    server.site.reloading(20).await;
    server.site.permits.add_permits(20);
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.unwrap());
    }
    answers.sort();
    answers.dedup();
    assert_eq!(answers.len(), 20);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let server = Running::start(MadeUp::held(), Limits::default()).await;
    let mut client = server.connect().await;
    client.send("POST /-/reload HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.site.reloading(1).await;
    drop(client);
    server.nothing_is_left().await;
}

#[tokio::test]
async fn a_panic_is_answered_500_and_ends_nothing_else() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    server.site.panics.store(true, SeqCst);
    assert_eq!(server.ask("GET /config").await.status, 500);
    assert_eq!(server.ask("GET /metrics").await.status, 200);
    server.site.panics.store(false, SeqCst);
    assert_eq!(server.ask("GET /config").await.status, 200);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let error = Server::bind(server.addr, None).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", server.addr)), "{error}");
    let error = Server::bind(local(), Some(server.addr)).await.unwrap_err();
    assert!(error.to_string().contains(&server.addr.to_string()), "{error}");
}

#[tokio::test]
async fn large_headers_are_refused() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let x = "x".repeat(1024 * 1024);
    let many: String = (0..1000).map(|n| format!("x-{n}: y\r\n")).collect();
    for (what, request) in [
        ("one header", format!("GET /metrics HTTP/1.1\r\nx: {x}\r\n\r\n")),
        ("many headers", format!("GET /metrics HTTP/1.1\r\n{many}\r\n")),
    ] {
        let mut client = server.connect().await;
        client.send(&request).await;
        assert_eq!(client.reply().await.expect(what).status, 431, "{what}");
        client.ends().await;
    }
    let mut client = server.connect().await;
    client.send(&format!("GET /{x} HTTP/1.1\r\n\r\n")).await;
    assert!(matches!(client.reply().await.unwrap().status, 414 | 431));
    assert_eq!(server.ask("GET /metrics").await.status, 200);
}

#[tokio::test]
async fn bodies_are_refused_when_large_slow_or_broken() {
    let server = Running::start(MadeUp::new(1), quick()).await;
    let x = "x".repeat(100 * 1024);
    let post = "POST /-/reload HTTP/1.1\r\nHost: x\r\n";
    for (what, rest, status) in [
        ("announced", "Content-Length: 99999999999\r\n\r\n".to_owned(), 413),
        ("expecting", "Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n".to_owned(), 413),
        ("sent", format!("Content-Length: {}\r\n\r\n{x}", x.len()), 413),
        ("chunked", format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{x}\r\n", x.len()), 413),
        ("slow", "Content-Length: 10\r\n\r\nx".to_owned(), 408),
        ("broken", "Transfer-Encoding: chunked\r\n\r\nwhat\r\n".to_owned(), 400),
    ] {
        let mut client = server.connect().await;
        client.send(&format!("{post}{rest}")).await;
        assert_eq!(client.reply().await.expect(what).status, status, "{what}");
        client.ends().await;
    }
    assert_eq!(server.site.reloads.load(SeqCst), 0);
    // A small one is ignored, and the connection goes on.
    let mut client = server.connect().await;
    client.send(&format!("{post}Content-Length: 5\r\n\r\nhello{post}\r\n")).await;
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert_eq!(client.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn garbage_is_answered_400() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    for garbage in ["\u{16}\u{3}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0"] {
        let mut client = server.connect().await;
        client.send(garbage).await;
        assert_eq!(client.reply().await.map(|reply| reply.status), Some(400), "{garbage:?}");
        client.ends().await;
    }
}

#[tokio::test]
async fn clients_that_are_slow_to_ask_are_cut_off() {
    let server = Running::start(MadeUp::new(1), quick()).await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.send("GET /metrics HTTP/1.1\r\nHost:").await;
    // The second request of a connection has no longer either.
    let mut second = server.connect().await;
    second.send("GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(second.reply().await.unwrap().status, 200);
    second.send("GET /").await;
    // Nor has one that sends a little now and then.
    let mut drip = server.connect().await;
    let dripping = async {
        while drip.stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("it is cut off");
    for mut client in [silent.ends().await, slow.ends().await, second.ends().await] {
        assert_eq!(client.drain(..).count(), 0);
    }
    server.nothing_is_left().await;
}

#[tokio::test]
async fn an_idle_connection_is_kept_longer_than_a_slow_header_but_not_for_ever() {
    let limits = Limits { idle_time: 6 * quick().header_time, ..quick() };
    let server = Running::start(MadeUp::new(1), limits).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.reply().await.unwrap().status, 200);
        sleep(2 * limits.header_time).await;
    }
    assert_eq!(client.ends().await, b"");
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_disturbs_no_other_scrape() {
    // 15 MB, more than the buffers of the kernel take.
    let server = Running::start(MadeUp::new(150_000), quick()).await;
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut client = server.connect().await;
        client.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        slow.push(client);
    }
    let whole = server.ask("GET /metrics").await;
    assert_eq!(whole.body.lines().count(), 150_002);
    until("every scrape is over", || server.site.scraped.load(SeqCst) == 6).await;
    server.nothing_is_left().await;
    for mut client in slow {
        assert!(client.ends().await.len() < whole.body.len());
    }
}

/// Runs itself in a process of its own, which may open few files: the limit is the whole process's.
#[tokio::test]
async fn it_recovers_from_running_out_of_file_descriptors() {
    const CHILD: &str = "MIDWATCH_TEST_FEW_FILES";
    if std::env::var_os(CHILD).is_none() {
        let name = "http::tests::it_recovers_from_running_out_of_file_descriptors";
        let mut child = tokio::process::Command::new("sh");
        child.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
        let output = child.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    assert_eq!(server.ask("GET /metrics").await.status, 200);
    server.nothing_is_left().await;
    let mut files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    // The client takes the last one; the kernel has accepted it, the server cannot.
    files.pop();
    let mut client = server.connect().await;
    client.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(timeout(Duration::from_millis(300), client.reply()).await.is_err());
    drop(files);
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert_eq!(server.ask("GET /metrics").await.status, 200);
}

#[tokio::test]
async fn connections_without_a_request_make_way_for_new_ones() {
    let server = Running::start(MadeUp::new(1), Limits { connections: 8, ..Limits::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(server.connect().await);
    }
    assert_eq!(server.ask("GET /metrics").await.status, 200);
    assert!(server.connections() <= 8);
    for client in &mut silent[..40] {
        client.ends().await;
    }
}

#[tokio::test]
async fn bodies_that_never_come_keep_no_scrape_out() {
    let limits = Limits { connections: 8, body_time: 10 * PATIENCE, ..Limits::default() };
    let server = Running::start(MadeUp::new(1), limits).await;
    let mut slow = Vec::new();
    for request in ["GET /metrics", "HEAD /metrics", "POST /-/reload", "GET /-/healthy"].iter().cycle().take(8) {
        let mut client = server.connect().await;
        // The server says when it begins to wait for the body.
        let rest = "Host: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
        client.send(&format!("{request} HTTP/1.1\r\n{rest}")).await;
        let told = timeout(PATIENCE, client.read_reply(false)).await.unwrap().unwrap();
        assert_eq!(told.status, 100, "{request}");
        client.send("x").await;
        slow.push(client);
    }
    for _ in 0..3 {
        assert_eq!(server.ask("GET /metrics").await.status, 200);
    }
    // The first to come is the first to go, without an answer; who is left is served once the body is there.
    assert_eq!(slow[0].ends().await, b"");
    slow[7].send("123456789").await;
    assert_eq!(slow[7].reply().await.unwrap().status, 200);
    assert_eq!(server.site.reloads.load(SeqCst), 0);
}

#[tokio::test]
async fn when_all_connections_are_busy_new_ones_are_refused_until_one_ends() {
    let server = Running::start(MadeUp::held(), Limits { connections: 4, ..Limits::default() }).await;
    let mut busy = Vec::new();
    for n in 1..=4 {
        let mut client = server.connect().await;
        client.send("POST /-/reload HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.site.reloading(n).await;
        busy.push(client);
    }
    for _ in 0..20 {
        let reply = server.connect().await.reply().await.unwrap();
        assert_eq!((reply.status, &*reply.body), (503, "All connections are busy just now."));
    }
    server.site.permits.add_permits(4);
    for client in &mut busy {
        assert_eq!(client.reply().await.unwrap().status, 200);
    }
    assert_eq!(server.ask("GET /metrics").await.status, 200);
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let mut client = server.connect().await;
    client.send("GET /-/healthy HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.reply().await.unwrap().status, 400);
}

#[tokio::test]
async fn requests_follow_each_other_on_a_connection() {
    let server = Running::start(MadeUp::new(1000), Limits::default()).await;
    let mut client = server.connect().await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    for _ in 0..3 {
        client.send(&request("/metrics")).await;
        assert_eq!(client.reply().await.unwrap().body.lines().count(), 1002);
    }
    client.send(&[request("/-/ready"), request("/metrics"), request("/no"), request("/config")].concat()).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.reply().await.unwrap().status);
    }
    assert_eq!(statuses, [200, 200, 404, 200]);
}

#[tokio::test]
async fn http_1_0_is_served_without_chunks() {
    let server = Running::start(MadeUp::new(1000), Limits::default()).await;
    let mut client = server.connect().await;
    client.send("GET /metrics HTTP/1.0\r\n\r\n").await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("transfer-encoding")), (200, None));
    assert_eq!(reply.body.lines().count(), 1002);
}

#[tokio::test]
async fn a_shutdown_waits_for_responses_and_accepts_nothing_more() {
    let mut server = Running::start(MadeUp::held(), Limits::default()).await;
    let mut idle = server.connect().await;
    idle.send("GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.reply().await.unwrap().status, 200);
    let mut half = server.connect().await;
    half.send("GET /-/ready HTTP/1.1\r\n").await;
    let mut busy = server.connect().await;
    busy.send("POST /-/reload HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.site.reloading(1).await;

    server.stop();
    idle.ends().await;
    assert!(TcpStream::connect(server.addr).await.is_err());
    half.send("Host: x\r\n\r\n").await;
    let reply = half.reply().await.unwrap();
    assert_eq!((reply.status, &*reply.body), (503, "not ready: shutting down\n"));
    assert!(!server.task.is_finished());
    server.site.permits.add_permits(1);
    let reply = busy.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    drop((idle, half, busy));
    timeout(PATIENCE, &mut server.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_when_the_grace_period_does() {
    let grace = Duration::from_millis(100);
    let mut server = Running::listen(MadeUp::held(), Limits::default(), None, grace).await;
    let mut busy = server.connect().await;
    busy.send("POST /-/reload HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.site.reloading(1).await;
    server.stop();
    timeout(PATIENCE, &mut server.task).await.expect("it ends").unwrap();
    assert_eq!(busy.ends().await, b"");
    until("its task is gone", || Arc::strong_count(&server.site) == 1).await;
}
