//! Scrapes in every format and coding, and what becomes of those that are not read.

use std::io::Read as _;

use super::*;

const CODINGS: [&str; 3] = ["identity", "gzip", "zstd"];

/// What a client asks for, and the content type that it gets.
const FORMATS: [(&str, &str); 3] = [
    ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
    ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        "application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily; encoding=delimited",
    ),
];

fn decoded(reply: &Reply) -> Vec<u8> {
    let mut decoded = Vec::new();
    match reply.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(&*reply.bytes).read_to_end(&mut decoded).unwrap(),
        Some("zstd") => zstd::stream::read::Decoder::new(&*reply.bytes).unwrap().read_to_end(&mut decoded).unwrap(),
        other => {
            assert_eq!(other, None);
            decoded.extend_from_slice(&reply.bytes);
            decoded.len()
        }
    };
    decoded
}

#[tokio::test]
async fn every_format_is_the_same_in_every_coding() {
    // Several pieces, also when they are compressed.
    let server = Running::start(MadeUp::new(60_000), Limits::default()).await;
    for (accept, content_type) in FORMATS {
        let mut plain = None;
        for coding in CODINGS {
            let lines = format!("Accept: {accept}\r\nAccept-Encoding: {coding}\r\n");
            let reply = ask_with(server.addr, "GET /metrics", &lines).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("content-type"), Some(content_type));
            assert_eq!(reply.header("content-encoding"), Some(coding).filter(|coding| *coding != "identity"));
            assert_eq!(reply.header("vary"), Some("accept, accept-encoding"));
            let decoded = decoded(&reply);
            assert!(decoded.len() > 5_000_000, "{} bytes", decoded.len());
            assert!(coding == "identity" || reply.bytes.len() < decoded.len() / 10, "{coding}: {}", reply.bytes.len());
            assert_eq!(*plain.get_or_insert_with(|| decoded.clone()), decoded, "{accept} {coding}");
            let head = ask_with(server.addr, "HEAD /metrics", &lines).await;
            let lines = |reply: &Reply| {
                let own = |line: &&str| !line.starts_with("date") && !line.starts_with("transfer-encoding");
                reply.head.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(lines(&head), lines(&reply));
        }
    }
    // One more for each that was read to its end, none for HEAD.
    until("every scrape is over", || server.site.scraped.load(SeqCst) == 9).await;
}

#[tokio::test]
async fn a_site_without_series_is_an_empty_text() {
    let server = Running::start(MadeUp::new(0), Limits::default()).await;
    for coding in CODINGS {
        let reply = ask_with(server.addr, "GET /metrics", &format!("Accept-Encoding: {coding}\r\n")).await;
        assert_eq!((reply.status, decoded(&reply)), (200, Vec::new()), "{coding}");
    }
    let open = ask_with(server.addr, "GET /metrics", "Accept: application/openmetrics-text\r\n").await;
    assert_eq!(open.body, "# EOF\n");
}

/// A client that asks for a scrape, which begins, and does not read it.
async fn stuck(server: &Running) -> Client {
    let (mut client, before) = (server.connect().await, server.site.begun.load(SeqCst));
    client.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    until("the scrape begins", || server.site.begun.load(SeqCst) > before).await;
    client
}

#[tokio::test]
async fn who_does_not_read_makes_way_for_who_does() {
    // 15 MB, more than the buffers of the kernel take.
    for (scrapes, connections) in [(3, 400), (400, 3)] {
        let stuck_time = Duration::from_millis(200);
        let limits = Limits { scrapes, connections, stuck_time, write_time: 10 * PATIENCE, ..Limits::default() };
        let server = Running::start(MadeUp::new(150_000), limits).await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(stuck(&server).await);
        }
        // Refused until they are stuck for long enough; then served, however many do not read.
        let mut last = 0;
        let served = async {
            while last != 200 {
                last = server.ask("HEAD /-/healthy").await.status;
                if last == 200 {
                    last = server.ask("GET /metrics").await.status;
                }
                assert!([200, 503].contains(&last), "{last}");
            }
        };
        timeout(PATIENCE, served).await.expect("a scrape is served");
        until("one of those who do not read is cut off", || server.site.scraped.load(SeqCst) > 1).await;
        drop(silent);
        server.nothing_is_left().await;
    }
}

#[tokio::test]
async fn scrapes_beyond_the_limit_wait_and_are_told_to_come_back() {
    let wait = Duration::from_millis(300);
    let (stuck_time, write_time) = (10 * PATIENCE, 10 * PATIENCE);
    let limits = Limits { scrapes: 2, scrape_wait: wait, stuck_time, write_time, ..Limits::default() };
    let server = Running::start(MadeUp::new(150_000), limits).await;
    let (one, other) = (stuck(&server).await, stuck(&server).await);
    let refused = server.ask("GET /metrics").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(server.ask("GET /-/healthy").await.status, 200, "other pages are served");
    drop((one, other));
    server.nothing_is_left().await;
    assert_eq!(server.ask("GET /metrics").await.status, 200);
}

#[tokio::test]
async fn scrapes_wait_for_their_place() {
    let limits = Limits { scrapes: 1, scrape_wait: PATIENCE, stuck_time: 10 * PATIENCE, ..Limits::default() };
    let server = Running::start(MadeUp::new(150_000), limits).await;
    let first = stuck(&server).await;
    let next = (server.ask("GET /metrics"), server.ask("GET /metrics"));
    let next = async { futures_util::join!(next.0, next.1) };
    let mut next = Box::pin(next);
    assert!(timeout(Duration::from_millis(300), &mut next).await.is_err(), "the only place is taken");
    drop(first);
    let (one, other) = next.await;
    assert_eq!((one.status, other.status), (200, 200));
}

#[tokio::test]
async fn a_scrape_that_takes_too_long_makes_way_although_its_client_reads() {
    let limits = Limits { scrapes: 1, scrape_time: Duration::from_millis(500), ..Limits::default() };
    let server = Running::start(MadeUp::new(300_000), limits).await;
    let mut slow = stuck(&server).await;
    let reading = async {
        let mut bytes = vec![0; 16 * 1024];
        while slow.stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let (whole, ()) = futures_util::join!(server.ask("GET /metrics"), reading);
    assert_eq!((whole.status, whole.body.lines().count()), (200, 300_002));
}

#[tokio::test]
async fn a_response_has_an_end_at_any_pace() {
    let limits = Limits { response_time: Duration::from_secs(1), ..Limits::default() };
    let server = Running::start(MadeUp::new(300_000), limits).await;
    let mut client = stuck(&server).await;
    // Fast enough never to leave the same bytes for long, and far too slow for all of them.
    let reading = async {
        let mut bytes = vec![0; 16 * 1024];
        while client.stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, reading).await.expect("it is cut off");
    server.nothing_is_left().await;
}
