//! Many clients that mean harm, at the limits that are served with or shorter times, and one scrape beside them.

use super::*;

/// A scrape beside an attack.
async fn scrape(server: &Running, series: usize) {
    let reply = timeout(PATIENCE, server.ask("GET /metrics")).await.expect("a scrape is served");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.lines().count(), series + 2);
}

#[tokio::test]
async fn fifty_slow_headers() {
    let server = Running::start(MadeUp::new(10), quick()).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut client = server.connect().await;
        client.send("GET /metrics HTTP/1.1\r\nHost: x\r\nX-").await;
        slow.push(client);
    }
    scrape(&server, 10).await;
    for client in &mut slow {
        assert_eq!(client.ends().await, b"");
    }
    server.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_slow_readers_of_sixty_megabytes() {
    const SERIES: usize = 550_000;
    let short = Duration::from_secs(3);
    let limits = Limits { write_time: short, idle_time: short, ..Limits::default() };
    let server = Running::start(MadeUp::new(SERIES), limits).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut client = server.connect().await;
        client.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        slow.push(client);
    }
    // More scrapes than may be in flight: this one is refused until one of them has not read for long enough.
    let served = async {
        loop {
            let reply = server.ask("GET /metrics").await;
            if reply.status == 200 {
                break reply;
            }
            assert_eq!(reply.status, 503);
        }
    };
    let whole = timeout(PATIENCE, served).await.expect("a scrape is served");
    assert_eq!(whole.body.lines().count(), SERIES + 2);
    assert!(whole.bytes.len() > 50_000_000, "{} bytes", whole.bytes.len());
    server.nothing_is_left().await;
    for client in &mut slow {
        assert!(client.ends().await.len() < whole.bytes.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections() {
    const IDLE: usize = 10_000;
    let may_open = rlimit::increase_nofile_limit(IDLE as u64 + 2_000).unwrap();
    assert!(
        may_open > IDLE as u64 + 1_000,
        "this test opens {IDLE} connections; the limit of open files is {may_open}"
    );
    let server = Running::start(MadeUp::new(10), Limits::default()).await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(server.connect().await);
        if idle.len() % 2_500 == 0 {
            scrape(&server, 10).await;
        }
    }
    scrape(&server, 10).await;
    assert!(server.connections() <= Limits::default().connections);
    for client in &mut idle[..IDLE - Limits::default().connections] {
        client.ends().await;
    }
}

#[tokio::test]
async fn headers_of_a_megabyte() {
    let server = Running::start(MadeUp::new(10), Limits::default()).await;
    let (megabyte, mut clients) = ("x".repeat(1 << 20), Vec::new());
    for start in ["GET /metrics HTTP/1.1\r\nX: ", "GET /", "GET /metrics HTTP/1.1\r\n"].iter().cycle().take(30) {
        let mut client = server.connect().await;
        // It is refused before all of it is sent.
        let _ = timeout(PATIENCE, client.stream.write_all(format!("{start}{megabyte}").as_bytes())).await.unwrap();
        clients.push(client);
    }
    scrape(&server, 10).await;
    for client in &mut clients {
        let said = client.ends().await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&said));
    }
    server.nothing_is_left().await;
}
