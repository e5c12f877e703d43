//! A running midwatch, its files and its metrics.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use lab::vpn::{Namespace, connect_within};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command as AsyncCommand};

/// How long anything may take before a test fails. Not a measure of speed: these machines can be slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_midwatch"))
}

/// Waits until `attempt` has a result.
pub async fn eventually<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut attempt: F) -> T {
    let result = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(result) = attempt().await {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    result.await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// One sample of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// An exposition.
#[derive(Clone, Debug)]
pub struct Metrics(pub Vec<Sample>);

impl Metrics {
    /// Reads the text format, strictly enough to notice a broken line.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).map(parse_line).collect())
    }

    /// The value of the one sample of that name whose labels include the given ones.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.all(name, labels);
        let first = found.next()?;
        assert!(found.next().is_none(), "more than one {name}{labels:?}");
        Some(first.value)
    }

    /// All samples of that name whose labels include the given ones.
    pub fn all<'m>(&'m self, name: &'m str, labels: &'m [(&str, &str)]) -> impl Iterator<Item = &'m Sample> {
        let matches = move |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        };
        self.0.iter().filter(matches)
    }

    /// What only ever grows, but is less or missing here although it was in `earlier`.
    pub fn shrunk_since<'e>(&self, earlier: &'e Self) -> Vec<&'e Sample> {
        let now: HashMap<_, _> =
            self.0.iter().map(|sample| ((sample.name.as_str(), &sample.labels), sample.value)).collect();
        let grows = |name: &str| ["_total", "_count", "_bucket", "_sum"].iter().any(|suffix| name.ends_with(suffix));
        let shrunk = |sample: &&Sample| {
            grows(&sample.name)
                && now.get(&(sample.name.as_str(), &sample.labels)).is_none_or(|value| *value < sample.value)
        };
        earlier.0.iter().filter(shrunk).collect()
    }

    /// The values of `le` of a histogram.
    pub fn bounds(&self, name: &str, labels: &[(&str, &str)]) -> Vec<String> {
        self.all(&format!("{name}_bucket"), labels).map(|sample| sample.labels["le"].clone()).collect()
    }
}

fn parse_line(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().unwrap_or_else(|_| panic!("no number: {line}")),
    };
    let Some((name, labels)) = series.split_once('{') else {
        return Sample { name: series.to_owned(), labels: BTreeMap::new(), value };
    };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no brace: {line}"));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("no pair: {line}"));
        (name.trim_start_matches(',').to_owned(), value.to_owned())
    };
    // No label value of these tests holds a quote.
    let labels = labels.split_terminator('"').collect::<Vec<_>>();
    let labels = labels.chunks(2).map(|part| pair(&part.join("\""))).collect();
    Sample { name: name.to_owned(), labels, value }
}

/// A folder and an address for a midwatch that does not run yet, so that its files can be laid out first.
pub struct Place {
    pub folder: TempDir,
    port: lab::ports::Port,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), port: lab::ports::Port::pick().unwrap() }
    }

    /// Where what is launched here listens.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// A main file for this place. `rest` may begin with further keys of `[server]`.
    pub fn text(&self, rest: &str) -> String {
        let state = self.folder.path().join("state");
        format!("[server]\nlisten = \"{}\"\nstate_dir = \"{}\"\n{rest}", self.port.address(), state.display())
    }

    /// A file in the folder. Directories on the way are made.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts midwatch with that configuration file. `command` is the program, or a shell that becomes it.
    pub fn launch(self, config: &str, arguments: &[&str], command: Command) -> Midwatch {
        let config = self.folder.path().join(config);
        let log = self.folder.path().join("log");
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = spawn(command, &config, &arguments, &log);
        Midwatch { child, address: self.port.address(), config, arguments, place: self, within: None }
    }

    /// The same in a network namespace, which `command` enters.
    pub fn launch_within(self, namespace: &Namespace, command: Command) -> Midwatch {
        let midwatch = self.launch("midwatch.toml", &[], command);
        Midwatch { within: Some(namespace.path().to_owned()), ..midwatch }
    }
}

fn spawn(command: Command, config: &Path, arguments: &[String], log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    AsyncCommand::from(command)
        .args(["run", "--config"])
        .arg(config)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A running midwatch with a folder of its own.
pub struct Midwatch {
    pub child: Child,
    pub address: String,
    pub place: Place,
    config: PathBuf,
    arguments: Vec<String>,
    /// The network namespace in which it listens, if not in the one of the tests.
    within: Option<PathBuf>,
}

impl Midwatch {
    /// Starts with a configuration that needs no `[server]`, and waits until it is ready.
    pub async fn start(probes: &str) -> Self {
        let midwatch = Self::launch(probes, &[]);
        midwatch.wait_ready().await;
        midwatch
    }

    /// Starts without waiting. Further arguments follow those of `run`.
    pub fn launch(probes: &str, arguments: &[&str]) -> Self {
        let place = Place::new();
        place.write("midwatch.toml", &place.text(probes));
        place.launch("midwatch.toml", arguments, Command::new(program()))
    }

    /// Ends it in the orderly way and starts it again with the same files; the log goes on.
    pub async fn restart(&mut self) {
        self.restart_as(Command::new(program())).await;
    }

    /// The same with another command.
    pub async fn restart_as(&mut self, command: Command) {
        self.signal("TERM");
        assert!(self.end().await.success());
        self.child = spawn(command, &self.config, &self.arguments, &self.log_file());
        self.wait_ready().await;
    }

    /// Ends it in a moment of which it is not told, and starts it again with the same files without waiting for it.
    pub async fn crash(&mut self) {
        self.signal("KILL");
        assert!(!self.end().await.success());
        self.respawn();
    }

    /// Starts it again after its end, with the same files.
    pub fn respawn(&mut self) {
        self.child = spawn(Command::new(program()), &self.config, &self.arguments, &self.log_file());
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    fn log_file(&self) -> PathBuf {
        self.place.folder.path().join("log")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    /// Writes another configuration over the file.
    pub fn rewrite(&self, probes: &str) {
        std::fs::write(self.config(), self.place.text(probes)).unwrap();
    }

    /// Writes another configuration and has it loaded now.
    pub async fn reload(&self, probes: &str) -> (u16, String) {
        self.rewrite(probes);
        self.post_reload().await
    }

    pub async fn post_reload(&self) -> (u16, String) {
        self.request("POST", "/-/reload").await.unwrap()
    }

    pub async fn wait_ready(&self) {
        eventually("midwatch to be ready", async || {
            let answer = self.request("GET", "/-/ready").await;
            matches!(answer, Some((200, _))).then_some(())
        })
        .await;
    }

    /// A scrape.
    pub async fn metrics(&self) -> Metrics {
        let (status, text) = self.request("GET", "/metrics").await.expect("an answer to a scrape");
        assert_eq!(status, 200);
        Metrics::parse(&text)
    }

    /// Waits until the metrics say so.
    pub async fn until<T>(&self, what: &str, mut check: impl FnMut(&Metrics) -> Option<T>) -> T {
        let waiting = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(result) = check(&self.metrics().await) {
                    return result;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waiting.await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}; the log:\n{}", self.log()))
    }

    /// A request to its address; see [`request`].
    pub async fn request(&self, method: &str, path: &str) -> Option<(u16, String)> {
        match &self.within {
            None => request(&self.address, method, path).await,
            Some(namespace) => {
                let stream = connect_within(namespace, self.address.parse().unwrap()).await.ok()?;
                exchange(stream, method, path, "").await
            }
        }
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().expect("midwatch runs").to_string();
        let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("midwatch ends").unwrap()
    }

    /// How many file descriptors it has open.
    pub fn open_files(&self) -> usize {
        let pid = self.child.id().expect("midwatch runs");
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }
}

/// As most editors and all configuration management do it.
pub fn write_and_rename(path: &Path, text: &str) {
    let temporary = path.with_extension("swp");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

/// One request on a connection of its own: status and body, or nothing if nobody answers.
pub async fn request(address: &str, method: &str, path: &str) -> Option<(u16, String)> {
    request_as(address, method, path, "").await
}

/// The same with further header lines, each with its line break.
pub async fn request_as(address: &str, method: &str, path: &str, headers: &str) -> Option<(u16, String)> {
    exchange(TcpStream::connect(address).await.ok()?, method, path, headers).await
}

async fn exchange(mut stream: TcpStream, method: &str, path: &str, headers: &str) -> Option<(u16, String)> {
    let request = format!("{method} {path} HTTP/1.0\r\nHost: midwatch\r\n{headers}Content-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Runs another of the program's commands to its end.
pub fn midwatch(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}
