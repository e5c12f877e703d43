//! Readings of fake buckets: long ones, and such as misbehave.

use std::path::Path;

use lab::s3::fake::{FakeBucket, Fault, Objects};

use super::*;
use crate::probe::backup::runs::Run;
use crate::probe::testing;
use crate::settings::{Files, Section, Settings};

/// Now, in unix seconds.
const NOW: f64 = 1_800_000_000.0;

struct Keys(Config);

impl Settings for Keys {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Config::read(section).map(Self)
    }
}

fn config(keys: &str) -> Result<Config, Vec<String>> {
    testing::config::<Keys>(Path::new("/"), keys, &Files::new(false)).map(|keys| keys.0)
}

/// A reader of `b-*.gz` in a bucket at that place. Further keys come last.
fn reader(url: &str, keys: &str) -> Reader {
    let config = config(&format!("endpoint = '{url}'\nbucket = 'backups'\npattern = 'b-*.gz'\n{keys}")).unwrap();
    Reader::new(&config, "nightly", &Shared::default()).unwrap()
}

/// A reading that has that long.
async fn read_within(reader: &Reader, time: Duration) -> Result<Seen, Failure> {
    reader.read(Look { now: NOW, ends: Instant::now() + time, open: &[] }).await
}

async fn read(reader: &Reader) -> Result<Seen, Failure> {
    read_within(reader, Duration::from_secs(60)).await
}

/// So many backups, made one minute after the other; their names follow their times.
fn ordered(count: usize) -> Objects {
    let first = NOW as u64 - 3600 - 60 * 20_000;
    Objects { count, at: Arc::new(move |at| (format!("b-{at:07}.gz"), 10, first + 60 * at as u64)) }
}

/// The same, but made in the opposite order.
fn backwards(count: usize) -> Objects {
    let last = NOW as u64 - 3600;
    Objects { count, at: Arc::new(move |at| (format!("b-{at:07}.gz"), 10, last - 60 * at as u64)) }
}

fn newest(seen: &Seen) -> &Run {
    seen.runs.iter().max_by(|a, b| a.when().unwrap().total_cmp(&b.when().unwrap())).unwrap()
}

fn retained(seen: &Seen) -> u64 {
    seen.stock.unwrap().retained
}

#[tokio::test]
async fn a_short_bucket_is_listed_whole_over_one_connection() {
    let bucket = FakeBucket::open(ordered(2500)).await.unwrap();
    let reader = reader(&bucket.url(), "");
    for count in [2500, 2400] {
        bucket.hold(ordered(count));
        let seen = read(&reader).await.unwrap();
        assert_eq!((retained(&seen), seen.stock.unwrap().bytes), (count as u64, Some(10 * count as u64)));
        assert_eq!(seen.runs.len(), 200, "the newest");
        let asked = bucket.asked();
        assert_eq!(asked.len(), 3);
        assert!(asked[0].starts_with("/backups?") && asked[0].contains("list-type=2"), "{}", asked[0]);
        assert!(asked[0].contains("prefix=b-"), "{}", asked[0]);
    }
    assert_eq!(bucket.connections(), 2, "one for each reading");
}

#[tokio::test]
async fn of_a_long_bucket_whose_names_follow_times_the_last_pages_are_listed() {
    let bucket = FakeBucket::open(ordered(10_000)).await.unwrap();
    let mut reader = reader(&bucket.url(), "");
    let first = read(&reader).await.unwrap();
    assert_eq!((bucket.asked().len(), retained(&first)), (10, 10_000));

    let again = read(&reader).await.unwrap();
    assert_eq!(bucket.asked().len(), 3);
    assert_eq!((&first.runs, first.stock), (&again.runs, again.stock));

    // New ones come last, page after page.
    for count in (10_500..20_000).step_by(500) {
        bucket.hold(ordered(count));
        let seen = read(&reader).await.unwrap();
        assert_eq!(retained(&seen), count as u64);
        assert_eq!(newest(&seen).id.split(' ').next(), Some(&*format!("b-{:07}.gz", count - 1)));
        assert!((3..=4).contains(&bucket.asked().len()));
    }

    // What is deleted shows when all is listed again.
    bucket.hold(ordered(9_000));
    reader.full_interval = Duration::ZERO;
    let seen = read(&reader).await.unwrap();
    assert_eq!((retained(&seen), bucket.asked().len()), (9_000, 1 + 9), "nothing new, then all");
}

#[tokio::test]
async fn a_long_bucket_whose_names_do_not_follow_times_is_listed_whole() {
    let bucket = FakeBucket::open(backwards(10_000)).await.unwrap();
    let reader = reader(&bucket.url(), "");
    for _ in 0..2 {
        let seen = read(&reader).await.unwrap();
        assert!(newest(&seen).id.starts_with("b-0000000.gz"), "{:?}", newest(&seen));
        assert!(seen.notes.iter().any(|note| note.contains("names do not follow times")), "{:?}", seen.notes);
        assert_eq!(bucket.asked().len(), 10);
    }
}

#[tokio::test]
async fn an_order_that_is_lost_is_noticed() {
    let bucket = FakeBucket::open(ordered(10_000)).await.unwrap();
    let reader = reader(&bucket.url(), "");
    read(&reader).await.unwrap();
    // Old ones are copied to the end.
    let copied = |at: usize| if at < 10_000 { (ordered(10_000).at)(at) } else { (format!("b-{at:07}.gz"), 10, 1) };
    bucket.hold(Objects { count: 10_100, at: Arc::new(copied) });
    read(&reader).await.unwrap();
    bucket.asked();
    read(&reader).await.unwrap();
    assert_eq!(bucket.asked().len(), 11);
}

#[tokio::test]
async fn what_is_being_made_somewhere_in_the_middle_is_looked_at_again() {
    let bucket = FakeBucket::open(ordered(10_000)).await.unwrap();
    // All but the last ones are named after their time; one at the beginning has only begun.
    let begun = |at: usize| match at {
        0 => ("b-.gz.started".to_owned(), 0, NOW as u64 - 900_000),
        at => (ordered(10_000).at)(at),
    };
    bucket.hold(Objects { count: 10_000, at: Arc::new(begun) });
    let reader = reader(&bucket.url(), "started = '{name}.started'");
    let seen = read(&reader).await.unwrap();
    assert!(seen.runs.iter().any(|run| run.end.is_none()));
    bucket.asked();
    read(&reader).await.unwrap();
    assert_eq!(bucket.asked().len(), 10);
}

/// Waits until so many requests have come.
async fn was_asked(bucket: &FakeBucket, count: usize) {
    let mut asked = 0;
    while asked < count {
        asked += bucket.asked().len();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_listing_that_is_cut_off_goes_on_where_it_was() {
    let bucket = FakeBucket::open(ordered(10_000)).await.unwrap();
    let reader = reader(&bucket.url(), "");
    bucket.fail(4, Fault::Late(Duration::from_secs(3600)));
    tokio::select! {
        _ = read(&reader) => panic!("nobody answers"),
        () = was_asked(&bucket, 5) => {}
    }
    let failure = read_within(&reader, Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Timeout);
    assert!(failure.detail.contains("4000 objects on 4 pages so far"), "{failure}");
    bucket.asked();
    bucket.mend();
    assert_eq!(retained(&read(&reader).await.unwrap()), 10_000);
    let asked = bucket.asked();
    assert!(asked.len() == 6 && asked[0].contains("start-after=b-0003999.gz"), "{asked:?}");
}

#[tokio::test]
async fn what_is_new_is_told_while_all_is_listed_again() {
    let bucket = FakeBucket::open(ordered(10_000)).await.unwrap();
    let mut reader = reader(&bucket.url(), "");
    read(&reader).await.unwrap();
    bucket.asked();
    reader.full_interval = Duration::ZERO;
    bucket.fail(4 + 1, Fault::Late(Duration::from_secs(3600)));
    bucket.hold(ordered(10_001));
    let hurry = async {
        was_asked(&bucket, 4 + 2).await;
        // From here on the deadline is the next thing that happens.
        tokio::time::pause();
    };
    let (seen, ()) = tokio::join!(read(&reader), hurry);
    assert_eq!(retained(&seen.unwrap()), 10_001);
}

#[tokio::test]
async fn a_server_that_closes_connections_is_asked_again() {
    let bucket = FakeBucket::open(ordered(2500)).await.unwrap();
    bucket.fail(0, Fault::Close);
    assert_eq!(retained(&read(&reader(&bucket.url(), "")).await.unwrap()), 2500);
}

#[tokio::test]
async fn what_a_server_says_or_does_wrong_has_its_reason_and_passes() {
    let bucket = FakeBucket::open(ordered(2500)).await.unwrap();
    let reader = reader(&bucket.url(), "region = 'us-west-2'");
    let error = |code: &str| format!("<Error><Code>{code}</Code><Message>Words.</Message></Error>");
    let skewed = "Date: Thu, 01 Jan 2099 00:00:00 GMT\r\n";
    let elsewhere = "x-amz-bucket-region: eu-north-1\r\n";
    for (fault, reason, words) in [
        (Fault::Answer(503, "", error("SlowDown")), Reason::Overload, "503 SlowDown: Words."),
        (Fault::Answer(429, "", String::new()), Reason::Overload, "429"),
        (Fault::Answer(403, "", error("AccessDenied")), Reason::Auth, "403 AccessDenied: Words."),
        (Fault::Answer(403, "", error("InvalidAccessKeyId")), Reason::Auth, "InvalidAccessKeyId"),
        (Fault::Answer(400, "", error("ExpiredToken")), Reason::Auth, "ExpiredToken"),
        (Fault::Answer(404, "", error("NoSuchBucket")), Reason::Rejected, "404 NoSuchBucket"),
        (Fault::Answer(500, "", "<Error><Code>Inter".to_owned()), Reason::Rejected, "answered 500"),
        (Fault::Answer(301, elsewhere, error("PermanentRedirect")), Reason::Rejected, "is in the region eu-north-1"),
        (Fault::Answer(403, skewed, error("RequestTimeTooSkewed")), Reason::Local, "s behind the server's"),
        (Fault::Answer(200, "", "<html></html>".to_owned()), Reason::Protocol, "no listing of a bucket"),
        (Fault::Answer(204, "", String::new()), Reason::Rejected, "answered 204"),
        (Fault::BreakOff, Reason::Closed, ""),
        (Fault::Cut, Reason::Protocol, "cut off"),
        (Fault::Again, Reason::Protocol, "again and again"),
        (Fault::Endless(3_000_000), Reason::Protocol, "no key"),
        (Fault::Endless(5_000_000), Reason::Protocol, "length limit"),
        (Fault::Empty, Reason::Protocol, "without any object"),
    ] {
        bucket.fail(0, fault.clone());
        let failure = read(&reader).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{fault:?}: {failure}");
        assert!(failure.detail.contains(words), "{words}: {failure}");
        bucket.mend();
        assert_eq!(retained(&read(&reader).await.unwrap()), 2500, "after {fault:?}");
    }
}

#[tokio::test]
async fn what_a_server_repeats_of_the_credentials_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in [("id", "AKIACANARY"), ("key", "canary-key"), ("token", "canary-token")] {
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    let bucket = FakeBucket::open(ordered(0)).await.unwrap();
    let keys = format!(
        "endpoint = '{}'\nbucket = 'b'\npattern = '*'\naccess_key_id = {{ file = 'id' }}\n\
         secret_access_key = {{ file = 'key' }}\nsession_token = {{ file = 'token' }}",
        bucket.url()
    );
    let config = testing::config::<Keys>(folder.path(), &keys, &Files::new(false)).unwrap().0;
    assert!(!format!("{config:?}").contains("anary"));
    let reader = Reader::new(&config, "nightly", &Shared::default()).unwrap();
    let echo = "<Error><Code>No</Code><Message>AKIACANARY may not, canary-token</Message></Error>";
    bucket.fail(0, Fault::Answer(403, "", echo.to_owned()));
    let failure = read(&reader).await.unwrap_err();
    assert!(failure.detail.contains("No: … may not, …"), "{failure}");
}

#[test]
fn what_endangers_credentials_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "x").unwrap();
    let concerns = |endpoint: &str, keys: &str| {
        let keys = format!("endpoint = '{endpoint}'\nbucket = 'b'\npattern = '*'\n{keys}");
        let config = testing::config::<Keys>(folder.path(), &keys, &Files::new(false)).unwrap().0;
        Reader::new(&config, "nightly", &Shared::default()).unwrap().concerns()
    };
    let with = "access_key_id = { file = 'key' }\nsecret_access_key = { file = 'key' }";
    std::fs::set_permissions(folder.path().join("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(concerns("http://store.example:9000", "").is_empty(), "nobody asks");
    assert!(concerns("http://127.0.0.1:9000", with).is_empty());
    assert!(concerns("https://store.example", with).is_empty());
    let said = concerns("http://store.example:9000", with);
    assert!(said.len() == 1 && said[0].starts_with("store.example:9000 is asked over http"), "{said:?}");
    std::fs::set_permissions(folder.path().join("key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(concerns("https://store.example", with)[0].contains("open to everybody"));
}

#[test]
fn bad_keys_are_refused() {
    let good = "endpoint = 'https://s3.example'\nbucket = 'b-1'\npattern = '*'\n";
    assert!(config(good).is_ok());
    for (keys, problem) in [
        ("bucket = 'b'\npattern = '*'".to_owned(), "endpoint"),
        ("endpoint = 'https://s3.example/x'\nbucket = 'b'\npattern = '*'".to_owned(), "no path"),
        ("endpoint = 'https://s3.example'\nbucket = 'a/b'\npattern = '*'".to_owned(), "name of a bucket"),
        (
            "endpoint = 'https://10.0.0.1'\nbucket = 'b'\npattern = '*'\nstyle = 'virtual_host'".to_owned(),
            "host's name",
        ),
        ("endpoint = 'http://s3.example'\nbucket = 'b'\npattern = '*'\ntls = true".to_owned(), "not https"),
        (format!("{good}tls = false"), "is https"),
        (format!("{good}region = 'a/b'"), "name of a region"),
        (format!("{good}prefix = 'daily'"), "end with a `/`"),
        (format!("{good}style = 'host'"), "virtual_host"),
        (format!("{good}session_token = {{ env = 'PATH' }}"), "needs an `access_key_id`"),
        (format!("{good}full_listing_interval = '1m'"), "from `listing_interval`"),
        (format!("{good}secret_access_key = 'x'"), "not written in the configuration"),
    ] {
        let problems = config(&keys).unwrap_err();
        assert!(problems.iter().any(|found| found.contains(problem)), "{keys}: {problems:?}");
    }
}
