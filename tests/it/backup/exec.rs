//! A wrapped command: `midwatch backup run`, with a daemon, without one, and with one that does not do what it should.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Midwatch, Place, midwatch, program};

const TOKEN: &str = "a-token-of-24-characters";
const JOB: &str =
    "[probe.backup.nightly]\nsource = \"exec\"\nnode = \"db1:27017\"\ninterval = \"1s\"\ntimeout = \"900ms\"\n";

fn with_token() -> String {
    format!("{JOB}token = {{ file = \"token\" }}\n")
}

/// A place whose daemon does not run yet.
fn place(job: &str) -> Place {
    let place = Place::new();
    place.write("token", TOKEN);
    place.write("midwatch.toml", &place.text(job));
    // As the daemon makes it.
    fs::create_dir(place.folder.path().join("state")).unwrap();
    place
}

fn launch(place: Place) -> Midwatch {
    place.launch("midwatch.toml", &[], Command::new(program()))
}

fn spool(place: &Place) -> PathBuf {
    place.folder.path().join("state/spool")
}

fn records(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

/// The wrapper around a command.
fn wrapper(place: &Place, options: &[&str], command: &[&str]) -> Command {
    let mut wrapper = Command::new(program());
    wrapper.args(["backup", "run", "nightly", "--config"]).arg(place.folder.path().join("midwatch.toml"));
    wrapper.args(options).arg("--").args(command).stdin(Stdio::null());
    wrapper
}

fn run(place: &Place, options: &[&str], script: &str) -> Output {
    wrapper(place, options, &["sh", "-c", script]).output().unwrap()
}

/// A wrapper whose command goes on until it reads something, or the end.
fn start(place: &Place, options: &[&str], script: &str) -> Child {
    let mut wrapper = wrapper(place, options, &["sh", "-c", script]);
    wrapper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn kill(child: &Child, signal: &str) {
    let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", signal, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn it_ends_as_its_command_does() {
    let place = place(JOB);
    let scripts =
        ["true", "exit 1", "exit 42", "exit 255", "kill -TERM $$", "kill -PIPE $$", "kill -KILL $$", "kill -USR1 $$"];
    for script in scripts {
        let alone = Command::new("sh").args(["-c", script]).status().unwrap();
        let wrapped = run(&place, &[], script);
        assert_eq!((wrapped.status.code(), wrapped.status.signal()), (alone.code(), alone.signal()), "{script}");
        assert_eq!(err(&wrapped), "", "{script}");
    }
    let file = place.write("not-a-program", "");
    for (command, code) in [(OsStr::new("/no/such/command"), 127), (file.as_os_str(), 126)] {
        let output = wrapper(&place, &[], &[command.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}");
        assert!(err(&output).contains("the command cannot be run"), "{}", err(&output));
    }
    let records = records(&spool(&place));
    let count = |what: &str| records.iter().filter(|record| record.contains(what)).count();
    assert_eq!((records.len(), count("\"success\""), count("\"failure\"")), (10, 1, 9));
    assert_eq!((count("exit status 42"), count("killed by SIGKILL"), count("db1:27017")), (1, 1, 10), "{records:#?}");
    // Flags behind the two dashes are the command's, and without a place to tell of it nothing is run.
    let output = wrapper(&place, &[], &["echo", "--help", "--node"]).output().unwrap();
    assert_eq!(output.stdout, b"--help --node\n");
    for wrong in
        [&["run", "nightly", "--", "true"][..], &["run", "a/b", "--url", "http://h/p", "--", "true"], &["run", "a"]]
    {
        let output = midwatch(&[&["backup"], wrong].concat());
        assert_eq!(output.status.code(), Some(64), "{}", err(&output));
    }
}

#[test]
fn input_and_output_are_the_commands() {
    let place = place(JOB);
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = std::iter::repeat_with(&mut next).take(5_000_000).collect();
    let file = place.folder.path().join("noise");
    fs::write(&file, &noise).unwrap();
    let mut command = wrapper(&place, &[], &["sh", "-c", "cat; printf 'on the other side' >&2; exit 9"]);
    let output = command.stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert!(output.stdout == noise);
    assert_eq!((err(&output), output.status.code()), ("on the other side", Some(9)));
    // What goes on in the background is not waited for, though it holds the output.
    let mut child = start(&place, &[], "sleep 100 & echo $!");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success());
    let ended = Command::new("kill").arg(line.trim()).status().unwrap();
    assert!(ended.success(), "it goes on");
}

#[test]
fn much_output_is_not_kept_in_memory() {
    const BYTES: u64 = 100_000_000;
    let place = place(JOB);
    let mut child = start(&place, &[], &format!("head -c {BYTES} /dev/zero; read x"));
    let mut out = child.stdout.take().unwrap().take(BYTES);
    assert_eq!(std::io::copy(&mut out, &mut std::io::sink()).unwrap(), BYTES);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB");
}

#[test]
fn signals_reach_the_command_once() {
    let place = place(JOB);
    let script =
        "for s in INT HUP USR1 USR2 QUIT; do trap \"echo $s\" $s; done; trap 'echo TERM; exit 3' TERM; echo ready
        i=0; while [ $i -lt 2000 ]; do sleep 0.05; i=$((i+1)); done";
    let mut child = start(&place, &[], script);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    assert_eq!(line(), "ready");
    for signal in ["INT", "HUP", "USR1", "USR2", "QUIT", "TERM"] {
        kill(&child, signal);
        assert_eq!(line(), signal);
    }
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(lines.next().is_none());
    // One that the command does not catch ends both.
    let mut child = start(&place, &[], "echo ready; exec sleep 100");
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    kill(&child, "TERM");
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    // One that was ignored before stays so: `nohup`.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(program())
        .args(["backup", "run", "nightly", "--config"]);
    command.arg(place.folder.path().join("midwatch.toml")).args(["--", "sh", "-c", "kill -HUP $$; echo alive"]);
    assert_eq!(command.output().unwrap().stdout, b"alive\n");
}

/// The seconds in what the shell's `times` prints: its own, then its children's.
fn times(text: &str) -> f64 {
    let seconds = |word: &str| {
        let (minutes, seconds) = word.strip_suffix('s').unwrap().split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    };
    text.split_whitespace().map(seconds).sum()
}

#[test]
fn processor_time_memory_and_size_are_those_of_the_command() {
    let place = place(JOB);
    let folder = place.folder.path().join("backup");
    fs::create_dir(&folder).unwrap();
    let (out, truth) = (folder.join("dump"), place.folder.path().join("times"));
    // `tail` holds its last line, which is all of it.
    let script = format!(
        "awk 'BEGIN {{ for (i = 0; i < 10000000; i++) x += i }}'; head -c 90000000 /dev/zero | tail -n 1 > {}; times > {}",
        out.display(),
        truth.display()
    );
    assert!(run(&place, &["--size-of", folder.to_str().unwrap()], &script).status.success());
    let record: serde_json::Value = serde_json::from_str(&records(&spool(&place))[0]).unwrap();
    let number = |key: &str| record["told"][key].as_f64().unwrap();
    let truth = times(&fs::read_to_string(truth).unwrap());
    assert!((number("cpu_seconds") - truth).abs() < 0.05 + truth * 0.05, "{} and {truth}", number("cpu_seconds"));
    assert!((90e6..150e6).contains(&number("peak_memory")), "{record}");
    assert_eq!(number("size"), 90e6);
    assert!((number("ended") - number("started") - number("duration")).abs() < 1.0, "{record}");
}

#[tokio::test]
async fn a_run_while_the_daemon_is_down_is_counted_once() {
    let place = place(&with_token());
    let output = run(&place, &["--node", "db2:27017"], "exit 0");
    assert_eq!(output.status.code(), Some(0));
    assert!(err(&output).contains("the daemon was not told of this run"), "{}", err(&output));
    let dir = spool(&place);
    assert_eq!(records(&dir).len(), 1);
    let mut midwatch = launch(place);
    midwatch.wait_ready().await;
    counted(&midwatch, 1.0).await;
    assert_eq!(records(&dir), [""; 0]);
    midwatch.restart().await;
    counted(&midwatch, 1.0).await;
    let metrics = midwatch.metrics().await;
    assert_eq!(metrics.get("midwatch_backup_running", &[("node", "db2:27017")]), Some(0.0));
    // All of this is in what a person reads.
    let config = midwatch.config().to_str().unwrap();
    let output = self::midwatch(&["backup", "list", "--config", config]);
    let text = std::str::from_utf8(&output.stdout).unwrap();
    assert!(text.starts_with("backup nightly\n") && text.contains("\n✓ last success  "), "{text}");
    assert!(text.contains("success   db2:27017"), "{text}");
    // Nobody takes for nothing what cannot be read.
    let state = midwatch.place.folder.path().join("state");
    let (journal, aside) = (state.join("backups.journal"), state.join("aside"));
    fs::rename(&journal, &aside).unwrap();
    fs::create_dir(&journal).unwrap();
    let output = self::midwatch(&["backup", "list", "--config", config]);
    let text = std::str::from_utf8(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("warning: what the daemon wrote down cannot be read"), "{text}");
    fs::remove_dir(&journal).unwrap();
    fs::rename(&aside, &journal).unwrap();
    let output = self::midwatch(&["backup", "list", "weekly", "--config", config]);
    assert_eq!(output.status.code(), Some(64));
    assert!(err(&output).contains("it has: nightly"), "{}", err(&output));
}

/// Waits until so many successes are counted, and no run goes on.
async fn counted(midwatch: &Midwatch, successes: f64) {
    midwatch
        .until("the run to be counted", |metrics| {
            let counted = metrics.get("midwatch_backup_runs_total", &[("outcome", "success")])?;
            let open = metrics.get("midwatch_backup_runs_in_progress", &[])?;
            assert!(counted <= successes, "{counted}");
            (counted == successes && open == 0.0).then_some(())
        })
        .await;
}

async fn running(midwatch: &Midwatch, node: &str) {
    midwatch
        .until("the run to be seen", |metrics| {
            (metrics.get("midwatch_backup_running", &[("node", node)])? == 1.0).then_some(())
        })
        .await;
}

#[tokio::test]
async fn the_daemon_knows_of_a_run_while_it_goes_on() {
    let midwatch = launch(place(&with_token()));
    midwatch.wait_ready().await;
    let mut child = start(&midwatch.place, &["--node", "db2:27017"], "read x");
    running(&midwatch, "db2:27017").await;
    drop(child.stdin.take());
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    // What `read` makes of the end.
    assert_eq!(status.code(), Some(1));
    midwatch
        .until("its end", |metrics| {
            let failed = metrics.get("midwatch_backup_runs_total", &[("outcome", "failure")])? == 1.0;
            (failed && metrics.get("midwatch_backup_running", &[("node", "db2:27017")])? == 0.0).then_some(())
        })
        .await;
    assert_eq!(records(&spool(&midwatch.place)), [""; 0]);
}

#[tokio::test]
async fn a_daemon_that_hangs_is_not_waited_for() {
    let midwatch = launch(place(&with_token()));
    midwatch.wait_ready().await;
    midwatch.signal("STOP");
    // The command says that it has begun and ended before anybody could be told of either.
    let mut child = start(&midwatch.place, &[], "echo began; read x; echo ended");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "began");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "ended");
    assert!(child.wait().unwrap().success());
    assert_eq!(records(&spool(&midwatch.place)).len(), 1);
    midwatch.signal("CONT");
    // Its messages may have waited in the daemon's socket: with the record it is told twice, and counted once.
    counted(&midwatch, 1.0).await;
    assert!(run(&midwatch.place, &[], "true").status.success());
    counted(&midwatch, 2.0).await;
}

#[tokio::test]
async fn a_wrapper_that_is_killed_tells_no_end() {
    let midwatch = launch(place(&with_token()));
    midwatch.wait_ready().await;
    let mut child = start(&midwatch.place, &[], "read x");
    running(&midwatch, "db1:27017").await;
    kill(&child, "KILL");
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    // Another run has been told from beginning to end, and that one goes on.
    assert!(run(&midwatch.place, &[], "true").status.success());
    midwatch
        .until("the other run", |metrics| {
            (metrics.get("midwatch_backup_runs_total", &[("outcome", "success")])? == 1.0).then_some(())
        })
        .await;
    assert_eq!(midwatch.metrics().await.get("midwatch_backup_runs_in_progress", &[]), Some(1.0));
}

#[tokio::test]
async fn what_could_not_be_told_elsewhere_is_told_with_the_next_run() {
    let midwatch = launch(place(&with_token()));
    midwatch.wait_ready().await;
    let dir = midwatch.place.folder.path().join("elsewhere");
    let url = format!("http://{}/ping/nightly", midwatch.address);
    let run = |token: &str| {
        let mut command = Command::new(program());
        command.args(["backup", "run", "nightly", "--url", &url, "--spool"]).arg(&dir).args(["--", "true"]);
        command.env("MIDWATCH_TOKEN", token).stdin(Stdio::null()).output().unwrap()
    };
    let output = run("a-token-that-is-not-the-one");
    assert!(output.status.success());
    assert!(err(&output).contains("answered 404") && !err(&output).contains("that-is-not"), "{}", err(&output));
    assert_eq!(records(&dir).len(), 1);
    assert_eq!(err(&run(TOKEN)), "");
    counted(&midwatch, 2.0).await;
    assert_eq!(records(&dir), [""; 0]);
}

/// A server that answers every request with that status, and counts them.
fn fake(status: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ping/a-secret-in-the-path", listener.local_addr().unwrap());
    let count = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            // The start may or may not have been sent before the command ended.
            if head.next().is_some_and(|line| !line.contains("/start?")) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            head.for_each(drop);
            let _ = write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (url, count)
}

#[test]
fn refusals_change_nothing_for_the_command() {
    let place = place(JOB);
    let dir = place.folder.path().join("elsewhere");
    let tell = |url: &str, spool: &Path| {
        let mut command = Command::new(program());
        command
            .args(["backup", "run", "nightly", "--url", url, "--spool"])
            .arg(spool)
            .args(["--", "sh", "-c", "exit 5"]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    for (status, is_passing) in [("503 Unavailable", true), ("429 Many", true), ("404 None", false), ("400 Bad", false)]
    {
        let (url, count) = fake(status);
        let output = tell(&url, &dir);
        assert_eq!(output.status.code(), Some(5), "{status}");
        assert!(err(&output).contains(&format!("answered {}", &status[..3])), "{}", err(&output));
        assert!(!err(&output).contains("a-secret"), "{}", err(&output));
        assert_eq!(count.load(Ordering::SeqCst) > 1, is_passing, "{status}");
    }
    assert_eq!(records(&dir).len(), 4);
    // Not even a record can be left: its directory would be in a file.
    let output = tell("http://127.0.0.1:1/ping/a", &place.folder.path().join("token/spool"));
    assert_eq!(output.status.code(), Some(5));
    assert!(err(&output).contains("nobody knows of this run"), "{}", err(&output));
    // Nor does a configuration that cannot be read, or does not know the job, keep a backup from running.
    for config in ["[probe", "[server]\nlisten = 1\n", "# none\n"] {
        place.write("midwatch.toml", config);
        let output = run(&place, &[], "exit 5");
        assert_eq!(output.status.code(), Some(5));
        assert_ne!(err(&output), "");
    }
}
