//! Doors: what is handed to those that answer by themselves, and what never gets there.

use std::net::IpAddr;
use std::pin::Pin;

use hyper::StatusCode;

use super::*;
use crate::door::{Answer, Knock, Opened};
use crate::rate::RateLimit;

/// A made-up door that remembers who knocked.
#[derive(Default)]
struct MadeUpDoor {
    knocks: Mutex<Vec<Knock>>,
    turned_away: AtomicUsize,
    panics: AtomicBool,
}

impl Door for MadeUpDoor {
    fn answer(self: Arc<Self>, knock: Knock) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        self.knocks.lock().unwrap().push(knock);
        Box::pin(async move {
            assert!(!self.panics.load(SeqCst), "the made-up door panics");
            Answer::new(StatusCode::TOO_MANY_REQUESTS, "often").again_after(Duration::from_millis(1500))
        })
    }

    fn turned_away(&self, _: IpAddr) {
        self.turned_away.fetch_add(1, SeqCst);
    }
}

fn open(server: &Running) -> (Arc<MadeUpDoor>, Opened) {
    let door = Arc::new(MadeUpDoor::default());
    let opened = server.site.doors.open("/door/", Arc::clone(&door) as Arc<dyn Door>);
    (door, opened)
}

impl MadeUpDoor {
    fn take(&self) -> Knock {
        self.knocks.lock().unwrap().pop().expect("somebody knocked")
    }

    fn nobody(&self) -> bool {
        self.knocks.lock().unwrap().is_empty()
    }
}

#[tokio::test]
async fn a_request_is_handed_over_and_answered() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let (door, opened) = open(&server);
    for method in ["GET", "HEAD", "POST"] {
        let reply = server.ask(&format!("{method} /door/a%2Fb//../c?d=e&f")).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some("2")), "{method}");
        assert_eq!(reply.body, if method == "HEAD" { "" } else { "often" });
        let knock = door.take();
        assert_eq!((&**knock.path, &*knock.query), ("a%2Fb//../c", "d=e&f"));
        assert_eq!((knock.peer, knock.body), (Some(Ipv4Addr::LOCALHOST.into()), Vec::new()));
        assert!(knock.secret.is_none());
    }
    for (lines, secret) in [
        ("Authorization: Bearer abc\r\n", Some("abc")),
        ("authorization: bEARER  abc \r\n", Some("abc")),
        ("Authorization: Basic YWxpY2U6c2VjcmV0\r\n", Some("secret")),
        ("Authorization: Bearer \r\n", None),
        ("Authorization: Other abc\r\n", None),
        ("Authorization: Bearer abc\r\nAuthorization: Bearer abc\r\n", None),
    ] {
        ask_with(server.addr, "GET /door/", lines).await;
        let knock = door.take();
        assert_eq!(knock.secret.as_ref().map(|secret| &secret[..]), secret.map(str::as_bytes), "{lines}");
        assert!(!format!("{knock:?}").contains("abc"), "{knock:?}");
    }
    for path in ["/door", "/doors/a", "//door/a", "/Door/a", "/%64oor/a"] {
        assert_eq!(server.ask(&format!("GET {path}")).await.status, 404, "{path}");
    }
    assert!(door.nobody());
    drop(opened);
    assert_eq!(server.ask("GET /door/a").await.status, 429, "for a while it is still found");
}

#[tokio::test]
async fn bodies_are_bounded_and_their_end_is_kept() {
    let limits = Limits { door_body_bytes: 3000, door_body_kept: 1000, ..quick() };
    let server = Running::start(MadeUp::new(1), limits).await;
    let (door, _opened) = open(&server);
    let post = "POST /door/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let text = |n: usize| (0..n).map(|n| char::from(b'a' + (n % 26) as u8)).collect::<String>();
    for (length, pieces) in [(0, 1), (1, 1), (1000, 1), (1001, 1), (3000, 1), (3000, 7), (3000, 3000)] {
        let whole = text(length);
        let mut client = server.connect().await;
        let chunk = |piece: &[u8]| format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap());
        let chunks: String = whole.as_bytes().chunks((length / pieces).max(1)).map(chunk).collect();
        client.send(&format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")).await;
        assert_eq!(client.reply().await.unwrap().status, 429);
        assert_eq!(door.take().body, &whole.as_bytes()[length.saturating_sub(1000)..], "{length} in {pieces}");
    }
    let long = text(3001);
    for (what, rest, status) in [
        ("announced", "Content-Length: 100000000\r\n\r\n".to_owned(), 413),
        ("sent", format!("Content-Length: 3001\r\n\r\n{long}"), 413),
        ("chunked", format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n", long.len()), 413),
        ("slow", "Content-Length: 10\r\n\r\nx".to_owned(), 408),
        ("broken", "Transfer-Encoding: chunked\r\n\r\nwhat\r\n".to_owned(), 400),
    ] {
        let mut client = server.connect().await;
        client.send(&format!("{post}{rest}")).await;
        assert_eq!(client.reply().await.expect(what).status, status, "{what}");
    }
    assert_eq!(door.turned_away.load(SeqCst), 5);
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "get"] {
        let reply = server.ask(&format!("{method} /door/a")).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("get, head, post")), "{method}");
    }
    assert_eq!(door.turned_away.load(SeqCst), 10);
    assert!(door.nobody());
}

#[tokio::test]
async fn logins_are_not_for_doors_and_the_rate_is() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let (door, _opened) = open(&server);
    let users = protected::users(4);
    server.protection.send_replace(Arc::new(Protection { users, ..Protection::default() }));
    for (path, status) in [("/door/a", 429), ("/metrics", 401), ("/door", 401), ("/nothing", 401)] {
        assert_eq!(server.ask(&format!("GET {path}")).await.status, status, "{path}");
    }
    door.take();
    let rate_limit = Some(RateLimit::new(Duration::from_secs(3600), 1));
    server.protection.send_replace(Arc::new(Protection { rate_limit, ..Protection::default() }));
    assert_eq!(server.ask("GET /door/a").await.body, "often");
    assert_ne!(server.ask("GET /door/a").await.body, "often");
}

#[tokio::test]
async fn doors_are_where_the_administration_is() {
    let server = Running::listen(MadeUp::new(1), Limits::default(), Some(local()), PATIENCE).await;
    let (door, _opened) = open(&server);
    assert_eq!(server.ask("GET /door/a").await.status, 404);
    assert!(door.nobody());
    assert_eq!(ask(server.admin.unwrap(), "GET /door/a").await.status, 429);
}

#[tokio::test]
async fn who_knocks_during_the_shutdown_is_told_to_come_again() {
    let mut server = Running::start(MadeUp::new(1), Limits::default()).await;
    let (door, _opened) = open(&server);
    let mut half = server.connect().await;
    half.send("POST /door/a HTTP/1.1\r\n").await;
    until("it is accepted", || server.connections() == 1).await;
    // What it sent has been read when another one is answered.
    server.ask("GET /metrics").await;
    server.stop();
    until("it accepts nothing more", || std::net::TcpStream::connect(server.addr).is_err()).await;
    half.send("Host: x\r\n\r\n").await;
    let reply = half.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert!(door.nobody());
}

#[tokio::test]
async fn a_door_that_panics_is_answered_for() {
    let server = Running::start(MadeUp::new(1), Limits::default()).await;
    let (door, _opened) = open(&server);
    door.panics.store(true, SeqCst);
    assert_eq!(server.ask("GET /door/secret").await.status, 500);
    door.panics.store(false, SeqCst);
    assert_eq!(server.ask("GET /door/secret").await.status, 429);
}
