//! The released program as a child process: started, asked, measured from outside, ended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lab::ports::Port;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::Outcome;
use super::scrape::Scrape;

/// Longer than anything here takes unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the kernel counts a second of CPU time in /proc: fixed for programs, whatever the kernel's own rate.
const TICKS: f64 = 100.0;

/// A running midwatch with a folder of its own.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    pid: u32,
    address: String,
    folder: TempDir,
    started: Instant,
    // Kept from others while the daemon listens on it.
    _port: Port,
}

/// What a process has used of the CPU.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// In its own code.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

/// What a process has in memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All that is resident.
    pub resident: f64,
    /// Of that, what is its own: without the program file's pages.
    pub anonymous: f64,
}

impl Daemon {
    /// Starts it with the given probes, `[server]` comes from here, and waits until it is ready.
    pub async fn start(probes: &str) -> Outcome<Self> {
        let mut daemon = Self::launch(probes)?;
        daemon.wait_ready().await?;
        Ok(daemon)
    }

    /// Starts it without waiting.
    pub fn launch(probes: &str) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let port = Port::pick()?;
        let address = port.address();
        let log = std::fs::File::create(folder.path().join("log"))?;
        write_config(folder.path(), &address, probes)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_midwatch"));
        command
            .args(["run", "--config"])
            .arg(config(folder.path()))
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let started = Instant::now();
        let child = command.spawn()?;
        let pid = child.id().ok_or("midwatch ended at once")?;
        Ok(Self { child, pid, address, folder, started, _port: port })
    }

    /// Waits until /-/ready answers 200; says how long that was after the start of the process.
    pub async fn wait_ready(&mut self) -> Outcome<Duration> {
        while self.started.elapsed() < PATIENCE {
            if let Ok((200, _)) = self.request("GET", "/-/ready").await {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("midwatch ended with {status}: {}", self.log()).into());
            }
            sleep(Duration::from_micros(500)).await;
        }
        Err("midwatch does not become ready".into())
    }

    /// Writes another configuration over the file.
    pub fn rewrite(&self, probes: &str) -> Outcome<()> {
        write_config(self.folder.path(), &self.address, probes)
    }

    /// Has the configuration read anew; says how long the answer took, and what it was.
    pub async fn reload(&self) -> Outcome<(Duration, String)> {
        let asked = Instant::now();
        match self.request("POST", "/-/reload").await? {
            (200, text) => Ok((asked.elapsed(), text)),
            (status, text) => Err(format!("the reload was answered {status}: {text}").into()),
        }
    }

    /// A scrape, and how long it took.
    pub async fn scrape(&self) -> Outcome<(Scrape, Duration)> {
        let asked = Instant::now();
        let (_, text) = self.request("GET", "/metrics").await?;
        let took = asked.elapsed();
        Ok((Scrape::new(text), took))
    }

    /// How long the runs of a probe took that it remembers, but for the first two, which do more than others.
    pub async fn durations(&self, probe: &str) -> Outcome<Vec<Duration>> {
        let (_, text) = self.request("GET", &format!("/runs?probe={probe}")).await?;
        let mut durations = Vec::new();
        // An id, when it ended, how long it took and the unit of that, newest first.
        for line in text.lines().skip_while(|line| !line.starts_with("id ")).skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let at = words.iter().position(|word| ["ms", "s"].contains(word)).ok_or("a run without a duration")?;
            let number: f64 = words[at.saturating_sub(1)].parse()?;
            durations.push(Duration::from_secs_f64(if words[at] == "ms" { number / 1e3 } else { number }));
        }
        durations.truncate(durations.len().saturating_sub(2));
        Ok(durations)
    }

    /// The CPU time that it has used so far.
    pub fn cpu(&self) -> Outcome<Cpu> {
        cpu_of(self.pid)
    }

    /// What it has in memory now.
    pub fn memory(&self) -> Outcome<Memory> {
        memory_of(self.pid)
    }

    /// Where it listens.
    pub fn address(&self) -> Outcome<SocketAddr> {
        Ok(self.address.parse()?)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGTERM; says how long it took to end.
    pub async fn terminate(mut self) -> Outcome<Duration> {
        let asked = Instant::now();
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.pid.to_string()]).status().await?;
        if !sent.success() {
            return Err("cannot send SIGTERM".into());
        }
        let status = timeout(PATIENCE, self.child.wait()).await??;
        if status.success() { Ok(asked.elapsed()) } else { Err(format!("it ended with {status}").into()) }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn request(&self, method: &str, path: &str) -> Outcome<(u16, String)> {
        request(&self.address, method, path, PATIENCE).await
    }
}

/// The CPU time that a process has used so far.
pub fn cpu_of(pid: u32) -> Outcome<Cpu> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may hold anything: state, parent, group, ..., user and system time as the 12th and 13th.
    let fields: Vec<_> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| Ok::<f64, Box<dyn std::error::Error>>(fields.get(at).ok_or("a short stat")?.parse()?);
    Ok(Cpu { user: ticks(11)? / TICKS, system: ticks(12)? / TICKS })
}

/// What a process has in memory now.
pub fn memory_of(pid: u32) -> Outcome<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Outcome<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in status")?;
        Ok(line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<f64>()? * 1024.0)
    };
    Ok(Memory { resident: field("VmRSS")?, anonymous: field("RssAnon")? })
}

/// A scrape of whoever listens there.
pub async fn get(address: &str, patience: Duration) -> Outcome<(u16, String)> {
    request(address, "GET", "/metrics", patience).await
}

async fn request(address: &str, method: &str, path: &str, patience: Duration) -> Outcome<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("{method} {path} HTTP/1.0\r\nHost: midwatch\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(patience, stream.read_to_end(&mut answer)).await??;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

fn config(folder: &Path) -> PathBuf {
    folder.join("midwatch.toml")
}

fn write_config(folder: &Path, address: &str, probes: &str) -> Outcome<()> {
    let state = folder.join("state");
    let text = format!("[server]\nlisten = \"{address}\"\nstate_dir = \"{}\"\n\n{probes}", state.display());
    Ok(std::fs::write(config(folder), text)?)
}
