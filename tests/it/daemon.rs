//! The process: how it starts, what it serves and logs, what it does when it runs out of something, and how it ends.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::mongodb::Standalone;
use lab::net::{Peer, Refused};
use lab::ports::Port;
use lab::prometheus::Prometheus;
use tokio::net::UnixDatagram;

use crate::mongodb::{CONNECT, probe};
use crate::support::{Metrics, Midwatch, Place, eventually, program, request};

/// Probes whose runs last for minutes, and so many that some run at any moment.
async fn long_runs(peer: &Peer) -> String {
    let hosts = [peer.address().to_string()];
    let rest = "interval = \"10m\"\ntimeout = \"9m\"\ndiscover = false";
    (0..300).map(|n| probe(&format!("long-{n}"), &hosts, rest)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_with_runs_and_clients_in_flight() {
    let peer = Peer::silent().await.unwrap();
    let probes = long_runs(&peer).await;
    for signal in ["TERM", "INT"] {
        let before = peer.accepted();
        let mut daemon = Midwatch::start(&format!("shutdown_grace = \"1s\"\n{probes}")).await;
        eventually("runs in flight", async || (peer.accepted() > before).then_some(())).await;
        // A client that never finishes its question, and one that has had its answer and stays.
        let mut slow = TcpStream::connect(&daemon.address).unwrap();
        slow.write_all(b"GET /metr").unwrap();
        let mut idle = TcpStream::connect(&daemon.address).unwrap();
        idle.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: midwatch\r\n\r\n").unwrap();
        idle.read_exact(&mut [0; 15]).unwrap();
        daemon.signal(signal);
        // Whoever waited for the runs would wait for minutes.
        let status = daemon.end().await;
        assert_eq!(status.code(), Some(0), "{signal}: {status}\n{}", daemon.log());
        assert!(daemon.log().contains("stopping") && !daemon.log().contains("panic"), "{}", daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    for (first, second) in [("TERM", "INT"), ("INT", "TERM"), ("TERM", "TERM")] {
        let mut daemon = Midwatch::start("shutdown_grace = \"1h\"\n").await;
        // A client that never finishes its question is waited for; that it was accepted shows when the next one is answered.
        let mut slow = TcpStream::connect(&daemon.address).unwrap();
        slow.write_all(b"GET /metr").unwrap();
        assert_eq!(daemon.request("GET", "/-/healthy").await.unwrap().0, 200);
        daemon.signal(first);
        eventually("it to be stopping", async || daemon.log().contains("stopping").then_some(())).await;
        daemon.signal(second);
        let status = daemon.end().await;
        assert_eq!(status.code(), Some(1), "{first}, {second}: {status}\n{}", daemon.log());
        assert!(daemon.log().contains("a second signal"), "{}", daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_and_answers_with_no_target_up() {
    let refused = Refused::pick().unwrap();
    let hosts = [refused.address().to_string(), "no-such-host.invalid".to_owned()];
    let daemon = Midwatch::start(&probe("down", &hosts, "interval = \"500ms\"\ntimeout = \"400ms\"")).await;
    for (path, text) in [("/-/healthy", "healthy\n"), ("/-/ready", "ready\n")] {
        assert_eq!(daemon.request("GET", path).await, Some((200, text.to_owned())));
    }
    let (status, page) = daemon.request("GET", "/").await.unwrap();
    assert!(status == 200 && page.contains("probes: 1."), "{page}");
    let verdict = |m: &Metrics| m.get("midwatch_probe_run_success", &[("probe", "down")]);
    assert_eq!(daemon.until("a verdict", verdict).await, 0.0);
}

/// The exit code and what it said.
async fn refusal(mut daemon: Midwatch) -> (Option<i32>, String) {
    let status = daemon.end().await;
    (status.code(), daemon.log())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_ends_it_with_a_sentence() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    for key in ["listen", "admin_listen"] {
        let place = Place::new();
        let free = Port::pick().unwrap();
        let text = match key {
            "listen" => format!("[server]\nlisten = \"{taken}\"\n"),
            _ => format!("[server]\nlisten = \"{}\"\nadmin_listen = \"{taken}\"\n", free.address()),
        };
        place.write("midwatch.toml", &text);
        let (code, said) = refusal(place.launch("midwatch.toml", &[], Command::new(program()))).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&taken) && said.contains("in use") && !said.contains("panic"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_bad_file_ends_with_all_problems() {
    for (text, lines) in [("[server]\nlisten = 1\nport = 2\n", 2), ("", 1)] {
        let place = Place::new();
        let file = place.write("midwatch.toml", text);
        let (code, said) = refusal(place.launch("midwatch.toml", &[], Command::new(program()))).await;
        assert_eq!(code, Some(64), "{said}");
        assert_eq!(said.lines().filter(|line| line.starts_with(file.to_str().unwrap())).count(), lines, "{said}");
        assert_eq!(said.lines().count(), lines, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_directory_it_runs_and_says_what_it_cannot_promise() {
    let (place, peer) = (Place::new(), Refused::pick().unwrap());
    // A file in its place: also the superuser, as which containers run these tests, cannot write below that.
    place.write("state", "no directory");
    place.write("midwatch.toml", &place.text("[[include]]\nfiles = \"teams/*.toml\"\n"));
    place.write("teams/a.toml", &probe("a", &[peer.address().to_string()], "interval = \"500ms\""));
    let daemon = place.launch("midwatch.toml", &[], Command::new(program()));
    daemon.wait_ready().await;
    daemon.until("a run", |m| m.get("midwatch_probe_success", &[("probe", "a")])).await;
    assert!(daemon.log().contains("cannot keep included files in the state directory"), "{}", daemon.log());
    assert_eq!(daemon.metrics().await.get("midwatch_config_last_reload_successful", &[]), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_has_an_address_of_its_own() {
    let (admin, place) = (Port::pick().unwrap(), Place::new());
    let secret = place.write("password", "hunter2");
    let rest = format!("username = \"midwatch\"\npassword = {{ file = \"{}\" }}", secret.display());
    let probes = probe("a", &["127.0.0.1:1".to_owned()], &rest);
    place.write("midwatch.toml", &place.text(&format!("admin_listen = \"{}\"\n{probes}", admin.address())));
    let daemon = place.launch("midwatch.toml", &[], Command::new(program()));
    daemon.wait_ready().await;
    for (method, path) in [("GET", "/config"), ("POST", "/-/reload")] {
        assert_eq!(daemon.request(method, path).await.unwrap().0, 404, "{path}");
    }
    let at_admin = async |method: &str, path: &str| request(&admin.address(), method, path).await.unwrap();
    assert_eq!(at_admin("POST", "/-/reload").await, (200, "nothing has changed\n".to_owned()));
    assert_eq!(at_admin("GET", "/-/reload").await.0, 405);
    let (status, shown) = at_admin("GET", "/config").await;
    assert!(
        status == 200 && shown.contains("username = \"midwatch\"") && shown.contains("password = { file"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    for path in ["/metrics", "/-/healthy", "/-/ready"] {
        assert_eq!(daemon.request("GET", path).await.unwrap().0, 200, "{path}");
        assert_eq!(at_admin("GET", path).await.0, 200, "{path}");
    }
}

/// How often a line of the log says so.
fn said(daemon: &Midwatch, text: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains(text)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_follows_the_file() {
    const LOADED: &str = "configuration loaded";
    let daemon = Midwatch::start("# one\n").await;
    assert_eq!(said(&daemon, LOADED), 1);
    assert_eq!(daemon.reload("log_level = \"error\"\n# two\n").await.0, 200);
    assert_eq!(said(&daemon, LOADED), 1, "{}", daemon.log());
    assert_eq!(daemon.reload("# three\n").await.0, 200);
    assert_eq!(said(&daemon, LOADED), 2, "a level that is no longer there no longer holds\n{}", daemon.log());

    // The command line's wins.
    let daemon = Midwatch::launch("log_level = \"trace\"\n", &["--log-level", "midwatch=error"]);
    daemon.wait_ready().await;
    assert_eq!(daemon.reload("log_level = \"debug\"\n").await.0, 200);
    assert_eq!(daemon.log(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_logs_are_an_object_a_line() {
    let peer = Refused::pick().unwrap();
    let probes = probe("a", &[peer.address().to_string()], "interval = \"200ms\"");
    let mut daemon = Midwatch::launch(&probes, &["--log-format", "json", "--log-level", "debug"]);
    daemon.wait_ready().await;
    eventually("the failure to be logged", async || daemon.log().contains("the probe fails").then_some(())).await;
    // Several problems are several lines for a person, but not here.
    assert_eq!(daemon.reload("[probe.mongodb.a]\nx = 1\ny = 2\n").await.0, 422);
    daemon.signal("TERM");
    assert!(daemon.end().await.success());
    let log = daemon.log();
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "message", "target"] {
            assert!(entry.get(key).is_some(), "{key}: {line}");
        }
    }
    let entry = |text: &str| {
        let line = log.lines().find(|line| line.contains(text)).unwrap();
        serde_json::from_str::<serde_json::Value>(line).unwrap()
    };
    let failure = entry("the probe fails");
    assert_eq!((failure["probe"].as_str(), failure["reason"].as_str()), (Some("mongodb.a"), Some("refused")));
    assert_eq!(entry("is refused")["problems"].as_str().unwrap().lines().count(), 3, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lives_on_without_file_descriptors_and_recovers() {
    let peer = Peer::silent().await.unwrap();
    let hosts = [peer.address().to_string()];
    let probes = |count: usize| -> String {
        let rest = "interval = \"1s\"\ntimeout = \"900ms\"\ndiscover = false";
        (0..count).map(|n| probe(&format!("p{n}"), &hosts, rest)).collect()
    };
    let place = Place::new();
    place.write("midwatch.toml", &place.text(&probes(80)));
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\""]).arg(program());
    let daemon = place.launch("midwatch.toml", &[], shell);
    daemon.wait_ready().await;
    let failed = |metrics: &Metrics, reason: &str| -> f64 {
        let of = [("reason", reason)];
        metrics.all("midwatch_probe_failures_total", &of).map(|sample| sample.value).sum()
    };
    let full = daemon
        .until("runs that found no descriptor", |m| {
            (failed(m, "local") > 0.0 && failed(m, "timeout") > 0.0).then(|| m.clone())
        })
        .await;
    assert_eq!(failed(&full, "internal"), 0.0, "{}", daemon.log());

    // A reload may itself find none to read the file with; then it says so and changes nothing.
    daemon.rewrite(&probes(3));
    eventually("a reload that could read the file", async || {
        let (status, text) = daemon.post_reload().await;
        assert!(status == 200 || text.contains("Too many open files"), "{text}");
        (status == 200).then_some(())
    })
    .await;
    let runs = |metrics: &Metrics| -> f64 { metrics.all("midwatch_probe_runs_total", &[]).map(|s| s.value).sum() };
    let start = runs(&daemon.metrics().await);
    let settled = daemon.until("runs after the reload", |m| (runs(m) >= start + 6.0).then(|| m.clone())).await;
    let after = daemon.until("more runs", |m| (runs(m) >= runs(&settled) + 6.0).then(|| m.clone())).await;
    assert_eq!(failed(&after, "local"), failed(&settled, "local"), "{}", daemon.log());
    assert!(failed(&after, "timeout") > failed(&settled, "timeout"));
}

/// Prometheus' own opinion of the exposition.
pub fn promtool(exposition: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing; run: make setup");
    child.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    if output.status.success() { said } else { format!("{}: {said}", output.status) }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_it_and_promtool_finds_no_fault() {
    let (server, refused) = (Standalone::start().await.unwrap(), Refused::pick().unwrap());
    let rest = "interval = \"200ms\"\nslo = { objective = 0.99, latency = \"25ms\" }\ninfo = { tier = \"gold\" }\n\
                labels = { datacentre = \"north\" }\nowner = \"a \\\\ \\\"b\\\"\"";
    let probes = [probe("up", &[server.host()], rest), probe("down", &[refused.address().to_string()], rest)].concat();
    let daemon = Midwatch::start(&format!("[labels]\nvantage = \"here\"\n{probes}")).await;
    eventually("both probes to have run", async || {
        let (status, text) = daemon.request("GET", "/metrics").await?;
        assert_eq!(status, 200);
        let both = text.contains("reason=\"refused\"") && text.contains("state=\"standalone\"");
        both.then(|| assert_eq!(promtool(&text), "", "{text}"))
    })
    .await;

    let prometheus = Prometheus::start([daemon.address.clone()], Duration::from_millis(500)).await.unwrap();
    let value = async |promql: &str| {
        let answer = prometheus.query(promql).await.unwrap();
        answer.first().map(|sample| sample.value).filter(|value| value.is_finite())
    };
    let quantile =
        format!("histogram_quantile(0.5, sum by (le) (rate({CONNECT}_bucket{{probe=\"up\",phase=\"total\"}}[30s])))");
    let quantile = eventually("a quantile", async || value(&quantile).await).await;
    assert!(quantile > 0.0, "{quantile}");
    assert_eq!(value("up").await, Some(1.0));
    for (probe, success) in [("up", 1.0), ("down", 0.0)] {
        let promql = format!("midwatch_probe_success{{probe=\"{probe}\",vantage=\"here\",datacentre=\"north\"}}");
        assert_eq!(value(&promql).await, Some(success), "{promql}");
    }
    assert_eq!(value("count(midwatch_probe_info{owner=\"a \\\\ \\\"b\\\"\",tier=\"gold\"})").await, Some(2.0));
}

/// What the daemon tells, until something else than a sign of life comes; and how many of those came.
async fn told(socket: &UnixDatagram, signs: &mut usize) -> String {
    loop {
        let mut room = [0; 4096];
        let length = tokio::time::timeout(Duration::from_secs(120), socket.recv(&mut room)).await.unwrap().unwrap();
        let text = std::str::from_utf8(&room[..length]).unwrap().to_owned();
        if text != "WATCHDOG=1\n" {
            return text;
        }
        *signs += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_how_far_it_is() {
    let (place, refused) = (Place::new(), Refused::pick().unwrap());
    place.write("midwatch.toml", &place.text(&probe("down", &[refused.address().to_string()], "")));
    let path = place.folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = Command::new(program());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let mut daemon = place.launch("midwatch.toml", &[], command);
    let (ready, mut signs) = ("READY=1\nSTATUS=watching, probes: 1\n", 0);
    assert_eq!(told(&socket, &mut signs).await, ready);
    assert_eq!(daemon.request("GET", "/-/ready").await, Some((200, "ready\n".to_owned())), "it is, from then on");

    for ask in ["HUP", "POST"] {
        match ask {
            "HUP" => daemon.signal("HUP"),
            _ => assert_eq!(daemon.post_reload().await.0, 200),
        }
        let reloading = told(&socket, &mut signs).await;
        let since =
            reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.trim_end().parse().ok());
        assert!(since.is_some_and(|since: u64| since > 0), "{reloading}");
        assert_eq!(told(&socket, &mut signs).await, ready);
    }
    // Signs of life go on by themselves.
    let mut room = [0; 64];
    while signs < 3 {
        let length = tokio::time::timeout(Duration::from_secs(120), socket.recv(&mut room)).await.unwrap().unwrap();
        assert_eq!(&room[..length], b"WATCHDOG=1\n");
        signs += 1;
    }
    daemon.signal("TERM");
    assert_eq!(told(&socket, &mut signs).await, "STOPPING=1\nSTATUS=stopping\n");
    assert!(daemon.end().await.success());
}
