//! The queue of triggers, with real files and real time where the system is involved.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::config::{Requests, Trigger, Watcher};

/// Longer than any step takes, short enough for a test.
const SOON: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);

fn watcher(dir: &Path, poll: Duration) -> (Watcher<u32>, Requests<u32>) {
    let (mut watcher, requests) = Watcher::new(poll);
    watcher.watch(&BTreeSet::from([dir.to_owned()]));
    (watcher, requests)
}

async fn files(watcher: &mut Watcher<u32>) -> bool {
    matches!(timeout(SOON, watcher.next()).await, Ok(Trigger::Files))
}

async fn quiet(watcher: &mut Watcher<u32>) -> bool {
    timeout(Duration::from_millis(400), watcher.next()).await.is_err()
}

#[tokio::test]
async fn every_way_of_changing_a_file_is_noticed_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    let (mut watcher, _requests) = watcher(dir.path(), HOUR);
    assert!(files(&mut watcher).await, "what changed before watching began");
    assert!(quiet(&mut watcher).await);
    let steps: [(&str, &dyn Fn()); 6] = [
        ("create", &|| fs::write(&file, "a").unwrap()),
        ("write in place", &|| fs::write(&file, "b").unwrap()),
        ("rename over", &|| {
            fs::write(dir.path().join("tmp"), "c").unwrap();
            fs::rename(dir.path().join("tmp"), &file).unwrap();
        }),
        ("link", &|| std::os::unix::fs::symlink("..1", dir.path().join("..tmp")).unwrap()),
        ("swap", &|| fs::rename(dir.path().join("..tmp"), dir.path().join("..data")).unwrap()),
        ("remove", &|| fs::remove_file(&file).unwrap()),
    ];
    for (what, step) in steps {
        step();
        assert!(files(&mut watcher).await, "{what}");
        assert!(quiet(&mut watcher).await, "{what} is one change");
    }
}

#[tokio::test]
async fn reading_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    fs::write(&file, "a").unwrap();
    let (mut watcher, _requests) = watcher(dir.path(), HOUR);
    assert!(files(&mut watcher).await);
    for _ in 0..10 {
        fs::read(&file).unwrap();
        fs::read_dir(dir.path()).unwrap().count();
    }
    assert!(quiet(&mut watcher).await);
}

#[tokio::test]
async fn changes_without_end_do_not_put_a_load_off_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (mut watcher, _requests) = watcher(dir.path(), HOUR);
    assert!(files(&mut watcher).await);
    let file = dir.path().join("a.toml");
    let writer = tokio::spawn(async move {
        for n in 0..300 {
            fs::write(&file, n.to_string()).unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    });
    let start = Instant::now();
    assert!(files(&mut watcher).await);
    assert!(!writer.is_finished());
    assert!(start.elapsed() >= Duration::from_millis(500), "a burst is one change");
    writer.abort();
}

#[tokio::test]
async fn a_directory_that_is_made_again_is_watched_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("conf.d");
    let (mut watcher, _requests) = watcher(&dir, Duration::from_millis(300));
    fs::create_dir(&dir).unwrap();
    for _ in 0..2 {
        assert!(until_files(&mut watcher).await, "it appears");
        fs::write(dir.join("a"), "a").unwrap();
        assert!(until_files(&mut watcher).await, "it is written to");
        fs::remove_dir_all(&dir).unwrap();
        assert!(until_files(&mut watcher).await, "it goes");
        fs::create_dir(&dir).unwrap();
    }
}

async fn until_files(watcher: &mut Watcher<u32>) -> bool {
    let wait = async {
        loop {
            if matches!(watcher.next().await, Trigger::Files) {
                return;
            }
        }
    };
    timeout(SOON, wait).await.is_ok()
}

#[tokio::test]
async fn directories_that_are_no_longer_wanted_are_left_alone() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut watcher, _requests) = watcher(one.path(), HOUR);
    watcher.watch(&BTreeSet::from([two.path().to_owned()]));
    assert!(files(&mut watcher).await);
    fs::write(one.path().join("a"), "a").unwrap();
    assert!(quiet(&mut watcher).await);
    fs::write(two.path().join("a"), "a").unwrap();
    assert!(files(&mut watcher).await);
}

#[tokio::test]
async fn waiting_requests_share_a_load_and_each_gets_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut watcher, requests) = watcher(dir.path(), HOUR);
    assert!(files(&mut watcher).await);
    let asked: Vec<_> = (0..5)
        .map(|_| {
            let requests = requests.clone();
            tokio::spawn(async move { requests.reload().await })
        })
        .collect();
    sleep(Duration::from_millis(50)).await;
    let Ok(Trigger::Requests(waiting)) = timeout(SOON, watcher.next()).await else { panic!("no request") };
    assert_eq!(waiting.len(), 5);
    // One that comes during the load gets a load of its own.
    let late = tokio::spawn({
        let requests = requests.clone();
        async move { requests.reload().await }
    });
    sleep(Duration::from_millis(50)).await;
    waiting.into_iter().for_each(|reply| reply.send(1).unwrap());
    for task in asked {
        assert_eq!(task.await.unwrap(), Some(1));
    }
    let Ok(Trigger::Requests(waiting)) = timeout(SOON, watcher.next()).await else { panic!("no request") };
    waiting.into_iter().for_each(|reply| reply.send(2).unwrap());
    assert_eq!(late.await.unwrap(), Some(2));
    drop(watcher);
    assert_eq!(requests.reload().await, None, "the program is ending");
}

#[tokio::test]
async fn the_poll_comes_without_any_change() {
    let dir = tempfile::tempdir().unwrap();
    let (mut watcher, _requests) = watcher(&dir.path().join("missing"), Duration::from_millis(50));
    for _ in 0..3 {
        assert!(matches!(timeout(SOON, watcher.next()).await, Ok(Trigger::Poll)));
    }
}
