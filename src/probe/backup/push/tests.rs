//! The desk, with real books in a folder.

use std::borrow::Cow;
use std::path::Path;

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::probe::backup::config::Config;
use crate::probe::backup::ledger::Ledger;
use crate::probe::backup::now;
use crate::probe::backup::runs::Outcome;
use crate::probe::testing::config;
use crate::probe::{Shared, State};
use crate::settings::Files;
use crate::shard::Shard;

const TOKEN: &str = "0b1c2d3e-4f50-4617-8283-94a5b6c7d8e9";
const OTHER: &str = "another-token-0123456789";
const RID: &str = "3ac5ad23-1f4c-4d5e-9a6b-0123456789ab";

/// A desk, where jobs are told about.
struct Bench {
    shared: Shared,
    desk: Arc<Desk>,
    folder: TempDir,
}

impl Bench {
    /// A desk that has been there for a while.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = Shared { state: State::of_daemon(), ..Shared::default() };
        shared.state.set_dir(Some(folder.path()));
        let desk: Arc<Desk> = shared.state.common();
        tokio::time::advance(SETTLING).await;
        Self { shared, desk, folder }
    }

    fn clerk(&self, job: &str) -> Clerk {
        clerk(&self.shared, self.folder.path(), job)
    }

    fn attend(&self, job: &str, token: &str) -> Attended {
        self.desk.attend(&self.shared.doors, &self.clerk(job), token)
    }

    async fn tell(&self, path: &str) -> (u16, Cow<'static, str>) {
        self.ask(path, Knock::default()).await
    }

    async fn ask(&self, path: &str, knock: Knock) -> (u16, Cow<'static, str>) {
        let answer = self.answer(path, knock).await;
        (answer.status.as_u16(), answer.text)
    }

    async fn answer(&self, path: &str, knock: Knock) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let whole = format!("/ping/{path}");
        let (door, path) = self.shared.doors.find(&whole).expect("the door is open");
        let path = path.to_owned().into();
        door.answer(Knock { path, query: query.to_owned(), ..knock }).await
    }

    /// How many runs of a job ended so, and how many go on.
    fn counted(&self, job: &str) -> (u64, u64, usize) {
        Ledger::of(&self.shared).read(&self.shared.state, job, |books| {
            (books.ended(Outcome::Success), books.ended(Outcome::Failure), books.open().len())
        })
    }
}

fn clerk(shared: &Shared, folder: &Path, job: &str) -> Clerk {
    std::fs::write(folder.join("token"), TOKEN).unwrap();
    let keys = "source = \"push\"\ntoken = { file = \"token\" }\nnode = \"of-the-job\"";
    let mut config: Config = config(folder, keys, &Files::new(false)).unwrap();
    config.job = job.to_owned();
    let (config, state) = (Arc::new(config), shared.state.clone());
    Clerk { config, state, ledger: Ledger::of(shared), memory: Arc::default() }
}

fn from(peer: &str) -> Knock {
    Knock { peer: Some(peer.parse().unwrap()), ..Knock::default() }
}

fn showing(secret: &str) -> Knock {
    Knock { secret: Some(Zeroizing::new(secret.as_bytes().to_vec())), ..Knock::default() }
}

const OK: (u16, Cow<'static, str>) = (200, Cow::Borrowed("OK"));
const UNKNOWN: (u16, Cow<'static, str>) = (404, Cow::Borrowed("not found"));

#[tokio::test(start_paused = true)]
async fn a_token_stands_for_its_job() {
    let bench = Bench::new().await;
    let (_a, _b) = (bench.attend("a", TOKEN), bench.attend("b", OTHER));
    for path in ["/start", "", "/0", "/a", "/a/start", "/a/fail", "/a/7", "/log"] {
        assert_eq!(bench.tell(&format!("{TOKEN}{path}")).await, OK, "{path}");
    }
    assert_eq!(bench.counted("a"), (3, 2, 0));
    assert_eq!(bench.counted("b"), (0, 0, 0));
    for path in ["a/start", "a", "a/1"] {
        assert_eq!(bench.ask(path, showing(TOKEN)).await, OK, "{path}");
        // A login that is another server's does no harm.
        assert_eq!(bench.ask(&format!("{TOKEN}/{path}"), showing("other")).await, OK, "{path}");
    }
    assert_eq!(bench.counted("a"), (5, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_know_the_token_learns_nothing() {
    let bench = Bench::new().await;
    let (_a, _b) = (bench.attend("a", TOKEN), bench.attend("b", OTHER));
    let long = format!("{TOKEN}x");
    for (path, secret) in [
        ("a", ""),
        ("a/start", ""),
        ("wrong-token-wrong-token", ""),
        ("wrong-token-wrong-token/a", ""),
        (&*format!("{TOKEN}/b"), ""),
        (&*format!("{TOKEN}/nobody"), ""),
        (&*TOKEN.to_ascii_uppercase(), ""),
        (&*long, ""),
        (&TOKEN[..35], ""),
        ("..", ""),
        ("../metrics", ""),
        ("a", OTHER),
        ("nobody", TOKEN),
        ("a", &*long),
        ("x/a", TOKEN),
        ("x/a/start", TOKEN),
    ] {
        let knock = if secret.is_empty() { Knock::default() } else { showing(secret) };
        assert_eq!(bench.ask(path, knock).await, UNKNOWN, "{path} {secret}");
    }
    assert_eq!((bench.counted("a"), bench.counted("b")), ((0, 0, 0), (0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_job_of_another_shard_is_named_to_who_knows_the_token_and_to_nobody_else() {
    let bench = Bench::new().await;
    let to = Elsewhere { owner: Shard { index: 3, count: 5 }, peers: None };
    let referred = bench.desk.refer(&bench.shared.doors, ("a", TOKEN), &to);
    let _b = bench.attend("b", OTHER);
    let moved = (421, Cow::Borrowed("job a belongs to shard 3 of 5, and is not handed on"));
    for path in [TOKEN.to_owned(), format!("{TOKEN}/a/start"), format!("{TOKEN}/7")] {
        assert_eq!(bench.tell(&path).await, moved, "{path}");
    }
    assert_eq!(bench.ask("a/fail", showing(TOKEN)).await, moved);
    for (path, secret) in [("a", OTHER), ("a", "x"), ("wrong-token-wrong-token/a", ""), ("c", TOKEN)] {
        assert_eq!(bench.ask(path, showing(secret)).await, UNKNOWN, "{path} {secret}");
    }
    assert_eq!((bench.counted("a"), bench.counted("b")), ((0, 0, 0), (0, 0, 0)));
    assert_eq!(bench.tell(OTHER).await, OK);
    drop(referred);
    assert_eq!(bench.tell(TOKEN).await.0, 503, "a reload brings it back, here or elsewhere");
}

#[tokio::test(start_paused = true)]
async fn jobs_that_share_a_token_are_told_apart_by_name() {
    let bench = Bench::new().await;
    let (_a, _b) = (bench.attend("a", TOKEN), bench.attend("b", TOKEN));
    assert_eq!(bench.tell(TOKEN).await, (409, AMBIGUOUS.text));
    assert_eq!(bench.tell(&format!("{TOKEN}/start")).await, (409, AMBIGUOUS.text));
    assert_eq!(bench.tell(&format!("{TOKEN}/b")).await, OK);
    assert_eq!(bench.ask("a", showing(TOKEN)).await, OK);
    assert_eq!(bench.tell(&format!("{TOKEN}/c")).await, UNKNOWN);
    assert_eq!((bench.counted("a"), bench.counted("b")), ((1, 0, 0), (1, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_a_run_is_in_the_books() {
    let bench = Bench::new().await;
    let _a = bench.attend("a", TOKEN);
    let began = now();
    let future = began + 1e6;
    let tell = |rest: String| format!("{TOKEN}{rest}");
    assert_eq!(bench.tell(&tell(format!("/start?rid={RID}"))).await, OK);
    let upper = RID.to_ascii_uppercase();
    let end = Knock { body: b"one\x1b[31m\r\ntwo\n".to_vec(), ..Knock::default() };
    let path = tell(format!("/3?rid={upper}&node=db-1&ended={future}&duration=4.5&size=9&cpu_seconds=2&peak_memory=8"));
    assert_eq!(bench.ask(&path, end).await, OK);
    // The answer was lost, and it is told again.
    assert_eq!(bench.tell(&tell(format!("/3?rid={RID}"))).await, OK);
    assert_eq!(bench.counted("a"), (0, 1, 0));
    let ledger = Ledger::of(&bench.shared);
    let run = ledger.read(&bench.shared.state, "a", |books| books.last_ended().unwrap().clone());
    assert_eq!((&*run.id, run.node.as_deref(), run.seconds()), (RID, Some("db-1"), Some(4.5)));
    assert_eq!((run.size, run.cpu_seconds, run.peak_memory), (Some(9), Some(2.0), Some(8)));
    assert_eq!(run.note, "exit status 3\none [31m\ntwo");
    assert!((began..future).contains(&run.end.unwrap().at), "a time ahead of the clock is not believed: {run:?}");
    // Of a run that says nothing of it, the job's own node.
    assert_eq!(bench.tell(&tell(String::new())).await, OK);
    let node = ledger.read(&bench.shared.state, "a", |books| books.last_ended().unwrap().node.clone());
    assert_eq!(node.as_deref(), Some("of-the-job"));
    // It is on disk.
    let again = Shared { state: State::of_daemon(), ..Shared::default() };
    again.state.set_dir(Some(bench.folder.path()));
    let ended = Ledger::of(&again).read(&again.state, "a", |books| books.ended(Outcome::Failure));
    assert_eq!(ended, 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_told_so_much_and_no_more() {
    let bench = Bench::new().await;
    let (_a, _b) = (bench.attend("a", TOKEN), bench.attend("b", OTHER));
    for n in 0..BURST {
        assert_eq!(bench.tell(&format!("{TOKEN}/start")).await, OK, "{n}");
    }
    let refused = bench.answer(TOKEN, Knock::default()).await;
    assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(PACE)));
    assert_eq!(bench.tell(OTHER).await, OK, "another job");
    tokio::time::advance(PACE).await;
    assert_eq!(bench.tell(TOKEN).await, OK);
    assert_eq!(bench.tell(TOKEN).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn who_guesses_is_slow_and_does_not_keep_others_out() {
    let bench = Bench::new().await;
    let _a = bench.attend("a", TOKEN);
    let known = || from("192.0.2.7");
    assert_eq!(bench.ask(TOKEN, known()).await, OK);
    // One address.
    let guess = |n: u32| format!("guess-guess-guess-{n}");
    let mut answers = Vec::new();
    for n in 0..1000 {
        answers.push(bench.ask(&guess(n), from("192.0.2.1")).await.0);
    }
    assert_eq!(answers.iter().filter(|answer| **answer == 404).count(), 30);
    assert_eq!(answers.iter().filter(|answer| **answer == 429).count(), 970);
    assert_eq!(bench.ask(TOKEN, from("192.0.2.1")).await.0, 429, "a right guess is not told from a wrong one");
    assert_eq!(bench.ask(TOKEN, from("192.0.2.2")).await, OK);
    // A network of IPv6 is one address; so is one of IPv4, however it is written.
    for n in 0..30 {
        assert_eq!(bench.ask(&guess(n), from(&format!("2001:db8::{n:x}:1"))).await, UNKNOWN);
    }
    assert_eq!(bench.ask(&guess(0), from("2001:db8::ffff")).await.0, 429);
    assert_eq!(bench.ask(&guess(0), from("::ffff:192.0.2.1")).await.0, 429);
    // Very many addresses.
    let mut unknown = 0;
    for n in 0..5000_u32 {
        let peer = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n)).to_string();
        unknown += u32::from(bench.ask(&guess(n), from(&peer)).await == UNKNOWN);
    }
    assert_eq!(unknown, 300 - 30 - 30);
    assert_eq!(bench.ask(TOKEN, from("192.0.2.9")).await.0, 429, "a stranger waits");
    assert_eq!(bench.ask(TOKEN, known()).await, OK, "who told something before does not");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(bench.ask(TOKEN, from("192.0.2.1")).await, OK);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_are_not_there_just_now_are_asked_for_again() {
    let bench = Bench::new().await;
    let attended = bench.attend("a", TOKEN);
    assert_eq!(bench.tell(TOKEN).await, OK);
    drop(attended);
    let answer = bench.answer(TOKEN, Knock::default()).await;
    assert_eq!((answer.status.as_u16(), answer.retry_after), (503, Some(PACE)));
    // Its probe was replaced, with another token.
    let attended = bench.attend("a", OTHER);
    assert_eq!(bench.tell(OTHER).await, OK);
    assert_eq!(bench.tell(TOKEN).await, UNKNOWN);
    drop(attended);
    assert_eq!(bench.tell(OTHER).await.0, 503);
    let other = bench.attend("b", TOKEN);
    tokio::time::advance(LINGER).await;
    assert_eq!(bench.tell(OTHER).await, UNKNOWN);
    assert_eq!(bench.counted("a"), (2, 0, 0));
    drop(other);
    // Right after the start, others may be about to come.
    let desk = Arc::new(Desk::default());
    let _attended = desk.attend(&Doors::default(), &bench.clerk("a"), TOKEN);
    let knock = || Knock { path: OTHER.to_owned().into(), ..Knock::default() };
    assert_eq!(Arc::clone(&desk).answer(knock()).await.status.as_u16(), 503);
    tokio::time::advance(SETTLING).await;
    assert_eq!(desk.answer(knock()).await.status.as_u16(), 404);
}

#[tokio::test]
async fn messages_at_once_are_all_entered() {
    let bench = Bench { shared: Shared::default(), desk: Arc::default(), folder: tempfile::tempdir().unwrap() };
    let _a = bench.attend("a", TOKEN);
    let rids: Vec<_> = (0..50).map(|n| format!("{TOKEN}?rid=00000000-0000-0000-0000-{n:012}")).collect();
    let told = futures_util::future::join_all(rids.iter().map(|path| bench.tell(path))).await;
    assert!(told.iter().all(|answer| *answer == OK), "{told:?}");
    assert_eq!(bench.counted("a"), (50, 0, 0));
}

#[test]
fn tokens_are_checked_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let read = |keys: &str, without_secrets: bool| config::<Config>(folder.path(), keys, &Files::new(without_secrets));
    for (token, good) in [
        (TOKEN, true),
        ("0123456789abcdef", true),
        ("0123456789abcde", false),
        (&*"x".repeat(128), true),
        (&*"x".repeat(129), false),
        ("with a space in it", false),
        ("with/a/slash/in/it", false),
        ("with%20an%20escape", false),
    ] {
        std::fs::write(folder.path().join("token"), token).unwrap();
        let read = read("source = \"push\"\ntoken = { file = \"token\" }", false);
        assert_eq!(read.is_ok(), good, "{token}");
        if let Err(problems) = read {
            assert!(problems[0].contains("16 to 128") && !problems[0].contains(token), "{problems:?}");
        }
    }
    assert!(read("source = \"push\"", false).unwrap_err()[0].contains("missing field `token`"));
    assert!(read("source = \"push\"\ntoken = { file = \"none\" }", true).is_ok());
    assert!(read("source = \"exec\"", false).is_ok());
}

/// Of a job whose clock was ahead by a year when a run ended, what a message in the present comes to.
#[tokio::test(start_paused = true)]
async fn a_message_is_news_though_the_books_have_times_that_have_not_come() {
    use crate::probe::backup::books::Event;
    use crate::probe::backup::ledger::Unwritten;
    use crate::probe::backup::runs::{End, Run};
    let bench = Bench::new().await;
    let (clerk, memory) = (bench.clerk("a"), Duration::from_secs(200));
    let ahead = now() + 365.0 * 86_400.0;
    let end = Some(End { at: ahead, outcome: Outcome::Success });
    let run = Run { id: "ahead".to_owned(), end, ..Run::default() };
    let enter = |run| clerk.ledger.commit(&clerk.state, "a", Unwritten::Enter, |_| vec![Event::Run(run)]);
    enter(run).unwrap().1.unwrap();
    let _attended = bench.desk.attend(&bench.shared.doors, &clerk, TOKEN);
    let last = || {
        Ledger::of(&bench.shared).read(&bench.shared.state, "a", |books| {
            books.last_success().map(|run| (run.id.clone(), run.end.unwrap().at))
        })
    };
    // Right after the start, it may be this clock that is wrong.
    assert_eq!(bench.tell(&format!("{TOKEN}/fail")).await, OK);
    assert_eq!(last(), Some(("ahead".to_owned(), ahead)));
    lock(&clerk.memory).clocks.look(now() - memory.as_secs_f64(), Instant::now(), memory);
    tokio::time::advance(memory).await;
    assert_eq!(bench.tell(&format!("{TOKEN}?rid={RID}")).await, OK);
    let (id, at) = last().unwrap();
    assert!(id == RID && at <= now(), "{id} at {at}");
    assert_eq!(bench.counted("a"), (2, 1, 0));
    // The journal says the same.
    let read = Ledger::default().read(&bench.shared.state, "a", |books| books.last_success().map(|run| run.id.clone()));
    assert_eq!(read.as_deref(), Some(RID));
}
