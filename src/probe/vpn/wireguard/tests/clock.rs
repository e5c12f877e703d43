//! Clocks that are set back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::fake::Fake;
use super::{Bench, Folder, PLENTY, Pair, Reason};
use crate::probe::vpn::metrics::Ignored;
use crate::probe::vpn::wireguard::clock_mark;
use crate::probe::vpn::wireguard::config::Keys;
use crate::probe::vpn::wireguard::session::{Data, Handshake, Session};
use crate::probe::{Shared, State};

const HOUR: Duration = Duration::from_secs(3_600);

fn shared(state: State, dir: &Path) -> Shared {
    state.set_dir(Some(dir));
    Shared { state, ..Shared::default() }
}

fn keys(pair: &Pair) -> Keys {
    Keys::of(pair.own, pair.server_public().to_bytes())
}

#[tokio::test]
async fn a_clock_behind_the_last_process_s_is_said_at_load_and_explains_silence() {
    let (pair, dir) = (Pair::new(), tempfile::tempdir().unwrap());
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = silent.local_addr().unwrap();
    let now = clock_mark::now().unwrap();
    clock_mark::write(dir.path(), &keys(&pair).name(), now + HOUR).unwrap();
    let bench = Bench::with(Folder::new(&pair, server, ""), &shared(State::default(), dir.path()), None);
    let concerns = bench.concerns();
    assert_eq!(concerns.len(), 1, "{concerns:?}");
    assert!(concerns[0].contains("clock is 3") && concerns[0].contains("behind"), "{concerns:?}");
    let failure = bench.fails().await;
    assert_eq!(failure.reason, Reason::ClockBehind, "{failure}");
    assert_eq!(bench.sum("midwatch_vpn_stage_failures_total", "reason=clock_behind"), 1.0);

    let other = Pair { own: pair.own, server: super::random() };
    let bench = Bench::with(Folder::new(&other, server, ""), &shared(State::default(), dir.path()), None);
    assert_eq!(bench.concerns(), Vec::<String>::new(), "what one server has seen is nothing to another");
    assert_eq!(bench.fails().await.reason, Reason::Timeout);
}

#[tokio::test]
async fn a_server_that_answers_sets_the_mark() {
    let (pair, dir) = (Pair::new(), tempfile::tempdir().unwrap());
    let name = keys(&pair).name();
    let now = clock_mark::now().unwrap();
    clock_mark::write(dir.path(), &name, now + HOUR).unwrap();
    let server = Fake::new(&pair).await.start();
    let bench = Bench::with(Folder::new(&pair, server, ""), &shared(State::of_daemon(), dir.path()), None);
    assert_eq!(bench.concerns().len(), 1);
    bench.well().await;
    let written = async {
        while clock_mark::read(dir.path(), &name).unwrap() >= now + HOUR {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PLENTY, written).await.expect("the mark is written");
    assert!(clock_mark::read(dir.path(), &name).unwrap() >= now);
    assert_eq!(bench.concerns(), Vec::<String>::new(), "the server has forgotten what it knew");
}

#[tokio::test]
async fn only_the_daemon_writes_and_a_failure_to_write_fails_no_run() {
    let (pair, dir) = (Pair::new(), tempfile::tempdir().unwrap());
    let server = Fake::new(&pair).await.start();
    Bench::with(Folder::new(&pair, server, ""), &shared(State::default(), dir.path()), None).well().await;
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(dir.path().join("wireguard"), "a file where the folder should be").unwrap();
    let bench = Bench::with(Folder::new(&pair, server, ""), &shared(State::of_daemon(), dir.path()), None);
    bench.well().await;
    bench.well().await;
}

#[tokio::test]
async fn stamps_follow_a_clock_that_was_corrected_and_never_go_back() {
    let pair = Pair::new();
    let session = Session::of(&keys(&pair), || None).unwrap();
    let mut fake = Fake::new(&pair).await;
    let turn = session.turn().await;
    let now = clock_mark::now().unwrap();
    let first = turn.initiation().unwrap();
    // Set back, unknown, or as it was: what was asked may still be answered.
    for clock in [Some(now - HOUR), None, Some(now)] {
        turn.catch_up(clock).unwrap();
    }
    let answer = fake.hear(&first, fake.address).0.unwrap();
    assert!(matches!(turn.handshake(&answer), Handshake::Accepted(_)));

    let second = turn.initiation().unwrap();
    let late = fake.hear(&second, fake.address).0.unwrap();
    // One packet is lost now and then; it takes more to doubt stamps that were accepted.
    for _ in 0..2 {
        turn.catch_up(Some(now + HOUR)).unwrap();
        assert!(matches!(turn.open(&late), Data::Not(_)));
    }
    turn.catch_up(Some(now + HOUR)).unwrap();
    let third = turn.initiation().unwrap();
    assert_ne!(third[5..8], second[5..8], "all indices are new");
    assert!(matches!(turn.handshake(&late), Handshake::Not(Ignored::Late)), "but the ones before are known as ours");
    assert!(matches!(turn.open(&late), Data::Not(Ignored::Late)));
    // The system's clock has not really moved: a server takes the new stamp because it is later all the same.
    let answer = fake.hear(&third, fake.address).0.unwrap();
    assert!(matches!(turn.handshake(&answer), Handshake::Accepted(_)));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_catches_up() {
    let pair = Pair::new();
    let mark = clock_mark::now().unwrap() + Duration::from_secs(100);
    let session = Session::of(&keys(&pair), || Some(mark)).unwrap();
    assert!(session.behind().is_some_and(|behind| behind.as_secs() >= 95));
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(session.behind(), None);
}
