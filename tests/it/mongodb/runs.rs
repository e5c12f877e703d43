//! `/runs`: from the list of probes to one run with its phases.

use lab::mongodb::ReplicaSet;
use lab::mongodb::driver::bson::doc;
use lab::net::{Peer, Then};

use super::probe;
use crate::support::{Midwatch, eventually, midwatch};

const RHYTHM: &str = "interval = \"500ms\"\ntimeout = \"400ms\"\n";

/// A page that is there.
async fn page(daemon: &Midwatch, query: &str) -> String {
    let (status, text) = daemon.request("GET", &format!("/runs{query}")).await.unwrap();
    assert_eq!(status, 200, "{query}: {text}");
    text
}

/// A page that is not there, and what is said instead.
async fn refused(daemon: &Midwatch, query: &str, status: u16) -> String {
    let (answered, text) = daemon.request("GET", &format!("/runs{query}")).await.unwrap();
    assert_eq!(answered, status, "{query}: {text}");
    assert!(is_harmless(&text), "{text:?}");
    text
}

/// Whether a terminal would show the text and do nothing else.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !c.is_control())
}

/// The id in the first line of a list that holds all of these words.
async fn find(daemon: &Midwatch, query: &str, words: &[&str]) -> String {
    eventually("a run in the list", async || {
        let list = page(daemon, query).await;
        let line = list.lines().find(|line| words.iter().all(|word| line.contains(word)))?;
        Some(line.split_whitespace().next()?.to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_found_and_shown_with_its_phases() {
    let set = ReplicaSet::start(3).await.unwrap();
    let hosts = set.hosts();
    let daemon =
        Midwatch::start(&[probe("orders", &hosts, RHYTHM), probe("\"x.y-z\"", &hosts[..1], RHYTHM)].concat()).await;

    let good = find(&daemon, "?probe=orders", &["good"]).await;
    let overview = page(&daemon, "").await;
    assert!(overview.lines().any(|line| line.starts_with("mongodb orders ")), "{overview}");
    assert!(overview.lines().any(|line| line.starts_with("mongodb x.y-z ")), "{overview}");

    let shown = page(&daemon, &format!("?probe=orders&type=mongodb&id={good}")).await;
    assert!(shown.starts_with(&format!("mongodb orders\nrun {good}, cycle main, ended 2")), "{shown}");
    for host in &hosts {
        assert!(shown.contains(&format!("\n✓ {host}  ")), "{shown}");
    }
    for phase in ["tcp", "hello", "command", "total"] {
        let lines = shown.lines().filter(|line| line.trim_start().starts_with(&format!("{phase} ")));
        assert_eq!(lines.count(), 3, "{phase}: {shown}");
    }
    assert!(shown.contains("\n3 of 3 succeeded in "), "{shown}");
    let only = page(&daemon, &format!("?probe=orders&id={good}&target={}", hosts[1].replace(':', "%3a"))).await;
    assert!(only.contains(&hosts[1]) && !only.contains(&hosts[0]) && !only.contains(&hosts[2]), "{only}");

    let head = daemon.request("HEAD", "/runs?probe=orders").await;
    assert_eq!(head, Some((200, String::new())));

    // A member that is gone: the run that met it names it, and the good run is still there.
    set.kill(2);
    let failed = find(&daemon, "?probe=orders", &["failed", &hosts[2], "nothing listens there (refused)"]).await;
    let shown = page(&daemon, &format!("?probe=orders&id={failed}")).await;
    assert!(shown.contains(&format!("\n✗ {}\n", hosts[2])), "{shown}");
    assert!(shown.lines().any(|line| line.trim_start().starts_with("tcp ") && line.ends_with("✗ refused")), "{shown}");
    assert!(shown.contains("    nothing listens there (refused): "), "{shown}");
    let list = page(&daemon, &format!("?probe=orders&target={}", hosts[2])).await;
    assert!(list.lines().any(|line| line.starts_with(&failed)), "{list}");
    let log = daemon.log();
    let words = ["the probe fails", "probe=mongodb.orders ", &format!("target=\"{}\"", hosts[2])];
    let warned = log.lines().find(|line| words.iter().all(|word| line.contains(word))).expect(&log);
    let run = warned.split("run=").nth(1).unwrap().split(' ').next().unwrap();
    let warned = page(&daemon, &format!("?probe=orders&id={run}")).await;
    assert!(warned.contains(&format!("\n✗ {}\n", hosts[2])), "{warned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_remembered_is_said_with_what_is() {
    let peer = Peer::silent().await.unwrap();
    let daemon = Midwatch::start(&probe("orders", &[peer.address().to_string()], RHYTHM)).await;
    let id = find(&daemon, "?probe=orders", &["no answer in time (timeout)"]).await;
    let known = "Runs are remembered for: mongodb orders.\n";

    for (query, said) in [
        ("?probe=order", format!("No probe `order` runs here. {known}")),
        ("?probe=orders&type=kafka", format!("No probe `orders` of type `kafka` runs here. {known}")),
        ("?probe=%1b%5B2Jorders", format!("No probe `\\u{{1b}}[2Jorders` runs here. {known}")),
        ("?probe=orders&target=db1:1", format!("has a target `db1:1`. Targets: {}.\n", peer.address())),
        ("?probe=orders&id=0123456789abcdef", "mongodb orders does not remember run 0123456789abcdef.".to_owned()),
        (&format!("?probe=orders&id={id}&target=%0a"), format!("Run {id} has no target `\\u{{a}}`.")),
    ] {
        let text = refused(&daemon, query, 404).await;
        assert!(text.contains(&said), "{query}: {text}");
    }
    for query in ["?probe=orders&id=1", "?probe=orders&id=%ff", "?probe=%", "?id=0123456789abcdef", "?name=x"] {
        refused(&daemon, query, 400).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hostile_peer_says_reaches_no_terminal() {
    let said = "\u{1b}[2J\u{1b}]0;mine\u{7}\r\n\u{9b}31m\u{202e}\u{61c} failed";
    let mut answer = doc! { "ok": 0.0, "code": 1, "codeName": said, "errmsg": said }.to_vec().unwrap();
    let length = i32::try_from(answer.len() + 21).unwrap();
    let header = [length, 7, 1, 2013, 0].map(i32::to_le_bytes).concat();
    answer.splice(..0, header.into_iter().chain([0]));
    let peer = Peer::scripted(answer, Then::Hold).await.unwrap();
    let daemon = Midwatch::start(&probe("hostile", &[peer.address().to_string()], RHYTHM)).await;
    let id = find(&daemon, "?probe=hostile", &["failed", "the peer refused the request (rejected)", "mine"]).await;
    let config = daemon.config().to_str().unwrap();
    let printed = midwatch(&["probe", "mongodb", "hostile", "--config", config]).stdout;
    let printed = String::from_utf8(printed).unwrap();
    let list = page(&daemon, "?probe=hostile").await;
    let shown = page(&daemon, &format!("?probe=hostile&id={id}")).await;
    for text in [printed, list, shown] {
        assert!(text.contains("mine") && is_harmless(&text), "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{61c}']), "{text:?}");
    }
}
