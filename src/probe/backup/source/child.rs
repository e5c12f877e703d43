//! A tool that is run for its output: without a shell, with an environment of its own, in a process group of its own, with an
//! end and a limit.
//!
//! Nothing secret is an argument, because everybody can read those; secrets are variables of the tool's environment, which only
//! its own user can. The group is ended when the output is whole, when time is up, and when nobody waits for it any more: first asked
//! (SIGTERM), then killed. If midwatch itself is killed, the tool is not; it ends by itself once nobody reads what it prints.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, setpriority_pgrp, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Pace;
use crate::probe::net::clean;
use crate::probe::{Failure, Reason};
use crate::settings::{Secret, Section};

/// The most that a tool may print, in bytes.
const MOST: usize = 64 << 20;
/// So much of the end of its error output is kept, in bytes.
const TAIL: usize = 4096;
/// So many variables one tool may be given.
const VARIABLES: usize = 64;
/// How much less urgent a tool is than what a machine is for. The I/O scheduler takes its classes from it as well.
const NICENESS: i32 = 5;
/// How long a tool that was asked to end gets until it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long the output of a tool that ended is waited for, if somebody who left its group still holds the other end.
const LINGER: Duration = Duration::from_secs(5);
/// What a tool gets of midwatch's own environment.
const INHERITED: [&str; 4] = ["PATH", "HOME", "XDG_CACHE_HOME", "TMPDIR"];

/// A tool, as the configuration has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tool {
    /// A name, which is looked for in `PATH`, or an absolute path.
    program: String,
    /// Further variables of its environment.
    environment: BTreeMap<String, Secret>,
    /// How often it is run, and for how long.
    pub(super) pace: Pace,
}

/// What a tool is run for.
pub(super) struct Call<'c> {
    /// Its arguments: nothing secret.
    pub arguments: Vec<String>,
    /// Variables of its environment that are no secret.
    pub variables: Vec<(&'static str, String)>,
    /// Those that are.
    pub secrets: Vec<(&'static str, &'c Secret)>,
    /// What kind of failure its exit status and the end of its error output stand for, where the tool has its own words for it.
    pub classify: fn(Option<i32>, &str) -> Option<Reason>,
    /// Whether it did with that exit status what it should, and has something to say besides.
    pub is_warning: fn(i32) -> bool,
}

/// Reads what a tool prints, on a thread that may block.
pub(super) type Parse<T> = fn(&mut dyn Read) -> serde_json::Result<T>;

impl Tool {
    /// Reads `program`, `environment` and the pace.
    pub(super) fn read(section: &mut Section<'_>, program: &str) -> Self {
        let named = section.checked("program", |program: &String| {
            let good = !program.contains('\0') && (!program.contains('/') || program.starts_with('/'));
            if good { Ok(()) } else { Err("must be a name that is looked for in PATH, or an absolute path".to_owned()) }
        });
        let environment = section.checked("environment", |variables: &BTreeMap<String, Secret>| {
            let is_name = |name: &String| !name.is_empty() && name.len() <= 256 && !name.contains(['=', '\0']);
            if variables.len() > VARIABLES {
                Err(format!("must have at most {VARIABLES} variables"))
            } else if !variables.keys().all(is_name) || variables.values().any(|secret| secret.expose().contains('\0'))
            {
                Err("must be names of variables, with values without NUL".to_owned())
            } else {
                Ok(())
            }
        });
        let program = named.unwrap_or_else(|| program.to_owned());
        Self { program, environment: environment.unwrap_or_default(), pace: Pace::read(section) }
    }

    /// Whether the configuration gives it a variable whose name begins so.
    pub(super) fn has_variable(&self, prefix: &str) -> bool {
        self.environment.keys().any(|name| name.starts_with(prefix))
    }

    /// The home that it is given: the configuration's, or midwatch's own.
    pub(super) fn home(&self) -> Option<PathBuf> {
        let configured = self.environment.get("HOME").map(|home| OsString::from(home.expose()));
        configured.or_else(|| std::env::var_os("HOME")).filter(|home| !home.is_empty()).map(PathBuf::from)
    }

    /// What will not work here.
    pub(super) fn concerns(&self) -> Vec<String> {
        let is_there = |path: &Path| path.metadata().is_ok_and(|data| data.is_file());
        let found = if self.program.contains('/') {
            is_there(Path::new(&self.program))
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| is_there(&folder.join(&self.program)))
        };
        let missing = || format!("`program`: there is no {} on this machine", clean(&self.program));
        (!found).then(missing).into_iter().collect()
    }

    /// Runs it until `ends` at most, and reads what it prints with `parse` while it prints it.
    ///
    /// # Errors
    /// `local` if it cannot be started; `timeout`; what its exit status and error output stand for; `protocol` if what it printed
    /// is nothing that `parse` takes, or too much.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: &Call<'_>,
        ends: Instant,
        parse: Parse<T>,
    ) -> Result<T, Failure> {
        let mut child = self.command(call).spawn().map_err(|error| self.failure(Reason::Local, &error.to_string()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut group = Group::of(child).map_err(|error| self.failure(Reason::Local, &error.to_string()))?;
        let (pieces, received) = mpsc::channel(4);
        let parsed = tokio::task::spawn_blocking(move || parse(&mut Pieces { received, current: Vec::new(), at: 0 }));
        let (mut fits, mut tail) = (true, Vec::new());
        let printed = async {
            let both = async { tokio::join!(forward(stdout, pieces, &mut fits), keep_tail(stderr, &mut tail)) };
            tokio::pin!(both);
            tokio::select! {
                _ = &mut both => group.ended().await,
                ended = group.ended() => {
                    // Whoever else is in the group has no more to say.
                    group.kill();
                    let _ = timeout(LINGER, both).await;
                    ended
                }
            }
        };
        let ended = timeout_at(ends, printed).await;
        let raw = String::from_utf8_lossy(&tail);
        let said = self.redacted(call, &raw);
        let status = match ended {
            Ok(Ok(())) => group.reap().await,
            Ok(Err(error)) => Err(error),
            Err(_) => return Err(self.failure(Reason::Timeout, &format!("did not end in time. {said}"))),
        };
        let status = status.map_err(|error| self.failure(Reason::Local, &error.to_string()))?;
        if !fits {
            return Err(self.failure(Reason::Protocol, &format!("printed more than {} MiB", MOST >> 20)));
        }
        let refused = || {
            let reason = (call.classify)(status.code(), &raw).or_else(|| of_the_network(&raw));
            self.failure(reason.unwrap_or(Reason::Rejected), &format!("{status}: {}", said.trim()))
        };
        let is_warning = status.code().is_some_and(call.is_warning);
        if !status.success() && !is_warning {
            return Err(refused());
        }
        let parsed = parsed.await.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        if is_warning && parsed.is_err() {
            // What it says of itself tells more than what it did not print.
            return Err(refused());
        }
        let unreadable = |error: serde_json::Error| format!("printed what is not expected of it: {error}");
        parsed.map_err(|error| self.failure(Reason::Protocol, &self.redacted(call, &unreadable(error))))
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&call.arguments).env_clear();
        let inherited = INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(inherited).envs([("LANG", "C"), ("LC_ALL", "C"), ("TZ", "UTC")]);
        command.envs(call.variables.iter().map(|(name, value)| (*name, value)));
        command.envs(call.secrets.iter().map(|(name, secret)| (*name, OsString::from(secret.expose()))));
        command.envs(self.environment.iter().map(|(name, secret)| (name, secret.expose())));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }

    /// The text without any of the secrets.
    fn redacted(&self, call: &Call<'_>, text: &str) -> String {
        // What is shorter is no secret, but a part of every other word.
        const SHORTEST: usize = 4;
        let secrets = call.secrets.iter().map(|(_, secret)| *secret).chain(self.environment.values());
        // Longer ones first: one may be a part of another.
        let mut secrets: Vec<_> = secrets.map(Secret::expose).filter(|secret| secret.len() >= SHORTEST).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }

    fn failure(&self, reason: Reason, text: &str) -> Failure {
        Failure::new(reason, clean(&format!("{}: {text}", self.program)))
    }
}

/// What the words stand for that all tools take from their libraries.
fn of_the_network(said: &str) -> Option<Reason> {
    const WORDS: &[(&str, Reason)] = &[
        ("connection refused", Reason::Refused),
        ("no route to host", Reason::Unreachable),
        ("network is unreachable", Reason::Unreachable),
        ("no such host", Reason::Resolve),
        ("could not resolve hostname", Reason::Resolve),
        ("temporary failure in name resolution", Reason::Resolve),
        ("x509:", Reason::Certificate),
        ("certificate verify failed", Reason::Certificate),
        ("permission denied (publickey", Reason::Auth),
        ("host key verification failed", Reason::Auth),
        ("i/o timeout", Reason::Timeout),
        ("connection timed out", Reason::Timeout),
        ("connection reset", Reason::Closed),
        ("connection closed", Reason::Closed),
        ("permission denied", Reason::Local),
        ("no space left", Reason::Local),
    ];
    let said = said.to_lowercase();
    WORDS.iter().find(|(words, _)| said.contains(words)).map(|(_, reason)| *reason)
}

/// Hands on what a tool prints, up to the limit; then, and once nobody reads it any more, it is thrown away, so that the tool ends
/// as it would.
async fn forward(output: Option<impl AsyncRead + Unpin>, pieces: mpsc::Sender<Vec<u8>>, fits: &mut bool) {
    let (Some(mut output), mut left, mut pieces) = (output, MOST, Some(pieces)) else { return };
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        let kept = read.min(left);
        left -= kept;
        if let Some(sender) = &pieces
            && sender.send(buffer[..kept].to_vec()).await.is_err()
        {
            pieces = None;
        }
        if kept < read {
            *fits = false;
            pieces = None;
        }
    }
}

/// Keeps the end of what is read, whole lines if there are any: a part of a secret would not be recognized as one.
async fn keep_tail(output: Option<impl AsyncRead + Unpin>, tail: &mut Vec<u8>) {
    let Some(mut output) = output else { return };
    let mut buffer = vec![0; TAIL];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        if let Some(surplus) = tail.len().checked_sub(TAIL).filter(|surplus| *surplus > 0) {
            let line = tail[surplus..].iter().position(|byte| *byte == b'\n').map_or(surplus, |end| surplus + end + 1);
            tail.drain(..line);
        }
    }
}

/// What [`forward`] hands on, for a reader that blocks.
struct Pieces {
    received: mpsc::Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            let Some(next) = self.received.blocking_recv() else { return Ok(0) };
            (self.current, self.at) = (next, 0);
        }
        let read = Read::read(&mut &self.current[self.at..], buffer)?;
        self.at += read;
        Ok(read)
    }
}

/// A process group and its leader, which is not reaped as long as signals are sent: until then nobody else gets its id. Dropped, it is
/// ended in the background.
struct Group {
    leader: Option<Leader>,
}

/// The leader of a group. Dropped, the whole group is killed, unless the leader was reaped.
struct Leader {
    child: Child,
    id: Pid,
}

impl Group {
    fn of(mut child: Child) -> io::Result<Self> {
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(id) = id else {
            child.start_kill()?;
            return Err(io::Error::other("it has no process id"));
        };
        // No more than a courtesy.
        let _ = setpriority_pgrp(Some(id), NICENESS);
        Ok(Self { leader: Some(Leader { child, id }) })
    }

    /// Waits until the leader has ended.
    async fn ended(&self) -> io::Result<()> {
        match &self.leader {
            Some(leader) => leader.ended().await,
            None => Ok(()),
        }
    }

    fn kill(&self) {
        if let Some(leader) = &self.leader {
            leader.signal(Signal::KILL);
        }
    }

    /// How the leader ended. Nobody else is left of the group then.
    async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        match self.leader.take() {
            Some(mut leader) => leader.child.wait().await,
            None => Err(io::Error::other("it was reaped before")),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let (Some(leader), Ok(runtime)) = (self.leader.take(), Handle::try_current()) {
            leader.signal(Signal::TERM);
            runtime.spawn(async move {
                let mut leader = leader;
                tokio::select! {
                    _ = leader.ended() => {}
                    () = sleep(GRACE) => {}
                }
                leader.signal(Signal::KILL);
                // Reaped, whatever became of it.
                let _ = leader.child.wait().await;
            });
        }
    }
}

impl Drop for Leader {
    /// Also when the runtime ends, and with it the task that would have waited.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Leader {
    /// Waits until it has ended, without reaping it.
    async fn ended(&self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(self.id), options)?.is_none() {
            children.recv().await;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if self.child.id().is_some() {
            // Nobody may be left.
            let _ = kill_process_group(self.id, signal);
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
#[path = "tests/child.rs"]
mod tests;
