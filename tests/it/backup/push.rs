//! Messages over HTTP, well meant and hostile.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tell;
use crate::support::{Midwatch, Place, eventually, midwatch, program};

/// A token as healthchecks.io makes them, and one that two jobs share. Both are looked for wherever they must not be.
const TOKEN: &str = "0b1c2d3e-4f50-4617-8283-94a5b6c7d8e9";
const SHARED: &str = "canary-of-two-jobs-0123456789";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn lay_out() -> Place {
    let place = Place::new();
    place.write("token", TOKEN);
    place.write("shared", SHARED);
    place.write("midwatch.toml", &place.text(&jobs(24)));
    place
}

/// Three jobs, with a key that is changed by reloads.
fn jobs(hours: u32) -> String {
    let job = |name: &str, file: &str| {
        format!(
            "[probe.backup.{name}]\nsource = \"push\"\ntoken = {{ file = \"{file}\" }}\nnode = \"db-1:27017\"\n\
             max_duration = \"{hours}h\"\ninterval = \"500ms\"\ntimeout = \"400ms\"\n"
        )
    };
    [job("nightly", "token"), job("a", "shared"), job("b", "shared")].concat()
}

async fn start(place: Place) -> Midwatch {
    let daemon = place.launch("midwatch.toml", &[], Command::new(program()));
    daemon.wait_ready().await;
    // Right after the start, those who are not known are told to come again.
    eventually("strangers to be refused", async || {
        (daemon.request("GET", "/ping/nobody").await?.0 == 404).then_some(())
    })
    .await;
    daemon
}

/// Runs a line of shell as people have it in their crontabs, with the address of a job in `$URL`.
fn sh(daemon: &Midwatch, path: &str, line: &str) -> Output {
    let url = format!("http://{}/ping/{path}", daemon.address);
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(&daemon.place.folder).env("URL", url).env("TOKEN", TOKEN);
    command.output().unwrap()
}

/// What a request that curl is led to make is answered.
fn status(daemon: &Midwatch, path: &str, arguments: &str) -> String {
    let line = format!("curl -sS -m 60 --path-as-is -o answer -w '%{{http_code}} ' {arguments} \"$URL\"; cat answer");
    let output = sh(daemon, path, &line);
    String::from_utf8(output.stdout).unwrap()
}

/// How many runs of a job ended with success and with failure.
async fn counted(daemon: &Midwatch, job: &str) -> (f64, f64) {
    let metrics = daemon.metrics().await;
    let of =
        |outcome| metrics.get("midwatch_backup_runs_total", &[("probe", job), ("outcome", outcome)]).unwrap_or(0.0);
    (of("success"), of("failure"))
}

async fn until_counted(daemon: &Midwatch, job: &str, expected: (f64, f64)) {
    eventually(&format!("{job} to have {expected:?} runs"), async || {
        (counted(daemon, job).await == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_crontabs_keep_working() {
    let mut daemon = start(lay_out()).await;
    daemon.place.write("backup.log", "dumping\ndone\nthe-last-line\n");
    let rid = "3ac5ad23-1f4c-4d5e-9a6b-0123456789ab";
    // One run after another: how each is told, and how many then ended well and badly.
    let lines = [
        ("curl -fsS -m 10 --retry 5 -o /dev/null $URL/start && sleep 0.1 && curl -fsS -m 10 --retry 5 $URL", (1, 0)),
        ("curl -fsS -m 10 --retry 5 -I $URL", (2, 0)),
        ("curl -fsS -X POST $URL/", (3, 0)),
        ("wget $URL -T 10 -t 5 -q -O -", (4, 0)),
        ("wget --spider -q $URL/start && wget -q -O - --post-data=\"$(tail backup.log)\" $URL", (5, 0)),
        (
            "curl -fsS $URL/start && curl -fsS -m 10 --retry 5 --data-raw \"$(tail -c 10000 backup.log)\" $URL/fail",
            (5, 1),
        ),
        ("false; curl -fsS $URL/$?", (5, 2)),
        ("true; curl -fsS $URL/$?", (6, 2)),
        ("curl -fsS $URL/start && curl -fsS --data-raw half-way $URL/log && curl -fsS $URL/137", (6, 3)),
        ("curl -fsS $URL/start?rid=$RID && curl -fsS $URL?rid=$RID && curl -fsS $URL?rid=$RID", (7, 3)),
        ("curl -fsS \"$URL/nightly/0?create=1&node=db-2%3A27017&size=1000&duration=90\"", (8, 3)),
        ("curl -fsS -H \"Authorization: Bearer $TOKEN\" ${URL%/*}/nightly/1", (8, 4)),
        ("curl -fsS -u any:$TOKEN ${URL%/*}/nightly", (9, 4)),
    ];
    for (line, (good, bad)) in lines {
        let output = sh(&daemon, TOKEN, &line.replace("$RID", rid));
        assert!(output.status.success(), "{line}: {output:?}");
        until_counted(&daemon, "nightly", (f64::from(good), f64::from(bad))).await;
    }
    for (path, answer) in [("", "409 ambiguous"), ("/a", "200 OK"), ("/b/fail", "200 OK")] {
        assert!(status(&daemon, &format!("{SHARED}{path}"), "").starts_with(answer), "{path}");
    }
    until_counted(&daemon, "a", (1.0, 0.0)).await;
    until_counted(&daemon, "b", (0.0, 1.0)).await;
    assert_eq!(status(&daemon, &format!("{TOKEN}?rid=1"), ""), "400 invalid uuid format");
    assert_eq!(status(&daemon, TOKEN, "-X PUT").split(' ').next(), Some("405"));

    daemon.restart().await;
    for (job, expected) in [("nightly", (9.0, 4.0)), ("a", (1.0, 0.0)), ("b", (0.0, 1.0))] {
        until_counted(&daemon, job, expected).await;
    }
    // The end of a run that has been counted is told again.
    assert_eq!(status(&daemon, &format!("{TOKEN}?rid={rid}"), ""), "200 OK");
    let metrics = daemon.metrics().await;
    let running = |node| metrics.get("midwatch_backup_running", &[("probe", "nightly"), ("node", node)]);
    assert_eq!((running("db-1:27017"), running("db-2:27017")), (Some(0.0), Some(0.0)));
    assert_eq!(counted(&daemon, "nightly").await, (9.0, 4.0));
    nowhere(&daemon).await;
}

/// No token is to be found in anything that midwatch says or keeps.
async fn nowhere(daemon: &Midwatch) {
    let mut said = vec![("the log", daemon.log())];
    for path in ["/", "/config", "/runs", "/runs?probe=nightly", "/metrics", "/ping/", "/ping/nightly"] {
        said.push((path, daemon.request("GET", path).await.unwrap().1));
    }
    let config = daemon.config().to_str().unwrap();
    for arguments in [&["check", config][..], &["probe", "backup", "nightly", "--config", config]] {
        let output = midwatch(arguments);
        said.push((arguments[0], String::from_utf8([output.stdout, output.stderr].concat()).unwrap()));
    }
    for entry in fs::read_dir(daemon.place.folder.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        said.push(("the state", String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()));
    }
    for (what, text) in said {
        assert!(!text.contains(TOKEN) && !text.contains("canary-of-two"), "{what}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_bounded_and_logged_once() {
    let daemon = start(lay_out()).await;
    assert_eq!(status(&daemon, TOKEN, ""), "200 OK");
    let unknown = status(&daemon, "wrong-token-wrong-token/nightly", "");
    assert_eq!(unknown, "404 not found");
    assert_eq!(status(&daemon, &format!("{TOKEN}/nobody"), ""), unknown);
    assert_eq!(status(&daemon, "nightly", "-H 'Authorization: Bearer wrong'"), unknown);

    // A hundred megabytes, announced and not.
    let large = fs::File::create(daemon.place.folder.path().join("large")).unwrap();
    large.set_len(100_000_000).unwrap();
    for how in ["-X POST -T large", "-X POST -T large -H 'Transfer-Encoding: chunked'", "-H 'Expect:' -X POST -T large"]
    {
        let line = format!("curl -sS -m 60 -w '%{{http_code}}' -o /dev/null {how} $URL");
        let output = sh(&daemon, TOKEN, &line);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // Who goes on sending may find the connection closed before reading why.
        assert!(said == "413" || said == "000", "{how}: {output:?}");
    }
    assert_eq!(status(&daemon, TOKEN, "--data-binary @midwatch.toml"), "200 OK");

    let long = format!("/ping/{}", "x".repeat(60_000));
    let longer = format!("/ping/{}", "x".repeat(200_000));
    let tricks: [(&[u8], &[u16]); 11] = [
        (b"/ping/../metrics", &[404]),
        (b"/ping/%2e%2e/metrics", &[404]),
        (b"/ping/%2e%2e%2fmetrics", &[404]),
        (b"/ping//metrics", &[400]),
        (b"//ping/nightly", &[404]),
        (b"/ping/nightly%00", &[404]),
        (b"/ping/nightly\0", &[400]),
        (b"/ping/%ff%fe", &[400]),
        (b"/ping/\xff\xfe", &[400]),
        (long.as_bytes(), &[400, 414, 431]),
        (longer.as_bytes(), &[400, 414, 431]),
    ];
    for (path, expected) in tricks {
        let (code, body) = raw(&daemon.address, path).await;
        let shown = String::from_utf8_lossy(&path[..path.len().min(40)]).into_owned();
        assert!(expected.contains(&code) && !body.contains("midwatch_"), "{shown}: {code} {body}");
    }

    let before = resident(&daemon);
    let statuses = flood(&daemon.address).await;
    let of = |status: u16| statuses.iter().filter(|seen| **seen == status).count();
    assert_eq!(of(404) + of(429), 10_000, "{:?}", &statuses[..20]);
    assert!(of(404) < 1_000, "{} guesses were looked at", of(404));
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 64 * 1024, "it grew by {grown} KiB");
    assert!(daemon.metrics().await.get("midwatch_build_info", &[]).is_some());

    // Others are let in at once, and a client of that address that tries again is let in soon.
    assert_eq!(status(&daemon, TOKEN, "--interface 127.0.0.2"), "200 OK");
    let output = sh(&daemon, TOKEN, "curl -fsS -m 60 --retry 20 $URL");
    assert_eq!(output.stdout, b"OK", "{output:?}");
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("refused messages")).count();
    assert!((1..=3).contains(&lines) && log.lines().count() < 40, "{log}");
    nowhere(&daemon).await;
}

/// One request with a path of any bytes: the status and the rest of the answer.
async fn raw(address: &str, path: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = [b"GET ", path, b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"].concat();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(&request).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), answer)
}

/// Ten thousand guesses over twenty connections, as fast as they are answered. It ends by itself.
async fn flood(address: &str) -> Vec<u16> {
    let guess = |connection: usize| {
        let address = address.to_owned();
        async move {
            let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
            let requests = async move {
                for n in 0..500 {
                    let last = if n == 499 { "Connection: close\r\n" } else { "" };
                    let request = format!(
                        "POST /ping/guess-{connection}-{n}-0123456789/nightly HTTP/1.1\r\nHost: x\r\n{last}Content-Length: 5\r\n\r\nhello"
                    );
                    writing.write_all(request.as_bytes()).await.unwrap();
                }
                writing
            };
            let mut answers = Vec::new();
            let (_writing, read) = tokio::join!(requests, reading.read_to_end(&mut answers));
            read.unwrap();
            let answers = String::from_utf8(answers).unwrap();
            answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect::<Vec<u16>>()
        }
    };
    let all = futures_util::future::join_all((0..20).map(guess));
    timeout(PATIENCE, all).await.expect("the flood ends").concat()
}

/// The memory of a midwatch that is in use, in KiB.
fn resident(daemon: &Midwatch) -> u64 {
    let pid = daemon.child.id().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_across_restarts_and_reloads_is_counted_once() {
    let mut daemon = start(lay_out()).await;
    let address = daemon.address.clone();
    let telling = tokio::spawn(async move {
        for n in 0..150 {
            let path = format!("/ping/{SHARED}/{}?rid=00000000-0000-0000-0000-{n:012}", ["a", "b"][n % 2]);
            tell(&address, &path).await;
        }
    });
    for hours in 1..=4 {
        assert_eq!(daemon.reload(&jobs(hours)).await.0, 200);
        daemon.restart().await;
    }
    timeout(PATIENCE, telling).await.expect("all is told").unwrap();
    until_counted(&daemon, "a", (75.0, 0.0)).await;
    until_counted(&daemon, "b", (75.0, 0.0)).await;
    daemon.restart().await;
    until_counted(&daemon, "a", (75.0, 0.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_not_taken() {
    let place = lay_out();
    // A directory in place of the journal.
    let journal = place.folder.path().join("state").join("backups.journal");
    fs::create_dir_all(journal.join("in-the-way")).unwrap();
    let daemon = start(place).await;
    let answer = status(&daemon, TOKEN, "");
    assert!(answer.starts_with("503 "), "{answer}");
    assert_eq!(counted(&daemon, "nightly").await, (0.0, 0.0));
    fs::remove_dir_all(journal).unwrap();
    // The very line that was refused is kept on trying.
    let output = sh(&daemon, TOKEN, "curl -fsS -m 60 --retry 30 --retry-delay 1 $URL");
    assert_eq!(output.stdout, b"OK", "{output:?}");
    until_counted(&daemon, "nightly", (1.0, 0.0)).await;
}
