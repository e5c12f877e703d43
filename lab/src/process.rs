//! Child processes that do not outlive the lab.
//!
//! Two cases. When the owner is dropped, the server's process group is killed and reaped. When the lab's process itself is killed, no
//! destructor runs; so each server has a *guard*: a shell that waits on a pipe whose only write end is in the lab. The kernel closes
//! that end however the lab ends, and the guard then kills the server's group, stopped or not.
//!
//! The kernel's own means, a parent-death signal, does not fit: it fires when the *thread* that started the child ends, and tests run
//! on threads of their own.
//!
//! The pipe's write end is close-on-exec (the standard library sees to it), so no other child keeps a guard waiting.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use rustix::thread::CpuSet;
use tempfile::TempDir;

use crate::{Error, Result};

/// Kills a whole group; `$0` is the group.
const KILL_GROUP: &str = "kill -s KILL -- \"-$0\"";

/// Removes a folder; `$0` is the folder. The servers that write to it are being killed by their own guards meanwhile, so it may take
/// more than one attempt.
const REMOVE_FOLDER: &str =
    "n=0; while [ -e \"$0\" ] && [ $n -lt 100 ]; do rm -rf -- \"$0\" 2>/dev/null || sleep 0.1; n=$((n+1)); done";

/// A shell that does one thing if the lab's process ends without having dropped this.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Arms a guard with `action`, a shell script that finds `subject` in `$0`.
    pub(crate) fn arm(action: &str, subject: &OsStr) -> Result<Guard> {
        // A line means "dismissed", the end of the pipe means that the lab is gone.
        let mut shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("read -r _ || {{ {action}; }}"))
            .arg(subject)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: Ctrl-C in a terminal must not end the guard together with the lab.
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting a guard"))?;
        let pipe = shell.stdin.take();
        Ok(Guard { shell, pipe })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // Fails only if the guard is gone already.
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.shell.wait();
    }
}

/// A temporary folder that is removed on drop, and also when the lab's process is killed.
#[derive(Debug)]
pub struct Scratch {
    // Dropped in this order: the guard stands until the folder is gone.
    folder: TempDir,
    _guard: Guard,
}

impl Scratch {
    /// Makes a folder in the system's temporary folder.
    pub fn new() -> Result<Scratch> {
        Scratch::below(&std::env::temp_dir())
    }

    /// Makes a folder that every user may enter: `$TMPDIR` may be in somebody's home.
    pub fn for_all() -> Result<Scratch> {
        let parents = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
        let parent = parents.iter().find(|parent| lets_all_through(parent));
        let scratch = Scratch::below(parent.unwrap_or(&parents[0]))?;
        let opened = fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755));
        opened.map(|()| scratch).map_err(Error::io("opening a temporary folder"))
    }

    fn below(parent: &Path) -> Result<Scratch> {
        let folder = tempfile::Builder::new().prefix("midwatch-lab-").tempdir_in(parent);
        let folder = folder.map_err(Error::io("making a temporary folder"))?;
        let guard = Guard::arm(REMOVE_FOLDER, folder.path().as_os_str())?;
        Ok(Scratch { folder, _guard: guard })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether every user may enter the folder, and all that it is in.
fn lets_all_through(folder: &Path) -> bool {
    let is_open = |path: &Path| path.metadata().is_ok_and(|data| data.permissions().mode() & 0o001 != 0);
    folder.canonicalize().is_ok_and(|folder| folder.ancestors().all(is_open))
}

/// What to start, and how.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    log: Option<PathBuf>,
    cpu: Option<usize>,
}

impl Launch {
    /// `name` is for error messages.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Launch {
        let (name, program) = (name.into(), program.into());
        Launch { name, program, arguments: Vec::new(), environment: Vec::new(), log: None, cpu: None }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Launch {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Launch {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Launch {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Appends what the process prints to a file. Without this it goes where the lab's own output goes.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Launch {
        self.log = Some(path.into());
        self
    }

    /// Confines the process, and all that it starts, to one CPU.
    #[must_use]
    pub fn cpu(mut self, cpu: usize) -> Launch {
        self.cpu = Some(cpu);
        self
    }

    /// The same, started by another program that becomes it: the program's path and arguments follow `arguments`.
    #[must_use]
    pub fn by(mut self, program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = OsString>) -> Launch {
        let inner = std::mem::replace(&mut self.program, program.into());
        let inner = std::iter::once(inner.into_os_string()).chain(self.arguments);
        self.arguments = arguments.into_iter().chain(inner).collect();
        self
    }

    /// Starts it.
    pub fn start(&self) -> Result<Server> {
        // The program must not run before its guard stands, and the guard needs its process id: so a shell takes the id first and
        // becomes the program when it gets a line. If the lab dies in between, the shell reads the end of the pipe and ends.
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg("read -r _ && exec \"$@\" </dev/null").arg("lab");
        command.arg(&self.program).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).process_group(0);
        if let Some(path) = &self.log {
            let log =
                File::options().create(true).append(true).open(path).map_err(Error::io(path.display().to_string()))?;
            let copy = log.try_clone().map_err(Error::io(path.display().to_string()))?;
            command.stdout(log).stderr(copy);
        }
        let mut child = command.spawn().map_err(Error::io(format!("starting {}", self.name)))?;
        let go = child.stdin.take();
        let group = Pid::from_child(&child);
        let guard = Guard::arm(KILL_GROUP, OsStr::new(&child.id().to_string()))?;
        let server = Server { name: self.name.clone(), log: self.log.clone(), child, group, _guard: guard };
        if let Some(cpu) = self.cpu {
            server.pin(cpu)?;
        }
        let mut go = go.ok_or_else(|| Error::Unexpected(format!("{} has no standard input", self.name)))?;
        go.write_all(b"\n").map_err(Error::io(format!("starting {}", self.name)))?;
        Ok(server)
    }
}

/// A running server: a process group with a guard. Killed on drop.
#[derive(Debug)]
pub struct Server {
    name: String,
    log: Option<PathBuf>,
    child: Child,
    group: Pid,
    // Last: dismissed only when the group is dead.
    _guard: Guard,
}

impl Server {
    /// The process id of the group's leader.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes, unless that is the lab's own.
    pub fn log(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    /// Stops the whole group (SIGSTOP): connections stay, nobody answers. Returns when it has stopped.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        // The signal is delivered at once, but each thread stops when it next leaves the kernel.
        for _ in 0..1000 {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
            if status.lines().any(|line| line.starts_with("State:\tT")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::Late { what: format!("{} to stop", self.name), seconds: 1, last: "still running".to_owned() })
    }

    /// Lets a stopped group go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks the whole group to end (SIGTERM). [`Server::check_alive`] tells when it has.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Fails if the process has ended by itself.
    pub fn check_alive(&self) -> Result<()> {
        // Not reaped here (NOWAIT): until it is, the id cannot become another process group's, so that drop kills the right one.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(self.group), options) {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::ended(&self.name, status.exit_status(), self.log())),
            Err(error) => Err(Error::Io { what: format!("asking for {}", self.name), source: error.into() }),
        }
    }

    /// Confines every thread of the process to one CPU, see [`pin`].
    pub fn pin(&self, cpu: usize) -> Result<()> {
        pin(self.pid(), cpu)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process_group(self.group, signal)
            .map_err(|error| Error::Io { what: format!("signalling {}", self.name), source: error.into() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if the whole group is gone.
        let _ = self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The CPUs that this process may use.
pub fn cpus() -> Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|error| Error::Io { what: "asking for CPUs".to_owned(), source: error.into() })?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Confines every thread of a process to one CPU. Threads that it starts later inherit this.
pub fn pin(pid: u32, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    let folder = format!("/proc/{pid}/task");
    // A thread not yet pinned may start another one while this loop runs: go on until a whole pass finds nothing new.
    let mut pinned = BTreeSet::new();
    loop {
        let before = pinned.len();
        for entry in fs::read_dir(&folder).map_err(Error::io(folder.as_str()))?.flatten() {
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if !pinned.insert(thread) {
                continue;
            }
            match rustix::thread::sched_setaffinity(Pid::from_raw(thread), &set) {
                // A thread that has ended meanwhile needs no CPU.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => {
                    return Err(Error::Io {
                        what: format!("pinning process {pid} to CPU {cpu}"),
                        source: error.into(),
                    });
                }
            }
        }
        if pinned.len() == before {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_for_all_is_in_nobodys_own() {
        let own = Scratch::new().unwrap();
        fs::set_permissions(own.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(own.path().join("open")).unwrap();
        assert!(!lets_all_through(&own.path().join("open")));
        let open = Scratch::for_all().unwrap();
        assert!(lets_all_through(open.path()), "{open:?}");
    }
}
