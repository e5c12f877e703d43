//! Network namespaces.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Guard, Launch};
use crate::{Error, Result, binary};

/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";
/// What the lab's are called: this, the process id, and a number.
const PREFIX: &str = "mw";

/// Removes a namespace; `$0` is its name. Processes in it keep it alive without a name.
const REMOVE: &str = "PATH=$PATH:/usr/sbin:/sbin ip netns del \"$0\"";

/// A network namespace with a name that no other has. Removed on drop, and also when the lab's process is killed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    // Last: stands until the namespace is gone.
    _guard: Guard,
}

impl Namespace {
    /// Makes one, with its loopback interface up.
    ///
    /// # Errors
    /// If the process may not, which takes root.
    pub fn new() -> Result<Namespace> {
        static ONCE: Once = Once::new();
        ONCE.call_once(remove_those_of_the_dead);
        let name = unique();
        let guard = Guard::arm(REMOVE, OsStr::new(&name))?;
        run(Command::new(binary::IP.find()?).args(["netns", "add", &name]), "")?;
        let path = Path::new(FOLDER).join(&name);
        let namespace = Namespace { name, path, _guard: guard };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A program that `ip netns exec` becomes in here. It sees this namespace's interfaces in /sys too.
    pub fn launch(&self, launch: Launch) -> Result<Launch> {
        Ok(launch.by(binary::IP.find()?, ["netns", "exec", &self.name].map(OsString::from)))
    }

    /// The same for the standard library.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        command_in(&self.name, program)
    }

    /// The same without any capability, as nobody, and without `/dev/net`: what a container has by default, and less.
    pub fn command_of_nobody(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        // The program is opened while it may still be: it need not be where others can reach it.
        const SCRIPT: &str = "if [ -e /dev/net ]; then mount -t tmpfs tmpfs /dev/net || exit 1; fi; exec 9<\"$1\"; setpriv=$0; \
             shift; exec \"$setpriv\" --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \
             /proc/self/fd/9 \"$@\"";
        let mut command = self.command("unshare")?;
        command.args(["--mount", "/bin/sh", "-c", SCRIPT]).arg(binary::SETPRIV.find()?).arg(program.as_ref());
        Ok(command)
    }

    /// Runs a program to its end in here. Gives what it printed.
    ///
    /// # Errors
    /// If it fails; what it said of that is in the error.
    pub fn run<A: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, arguments: &[A]) -> Result<String> {
        run(self.command(program)?.args(arguments), "")
    }

    /// Runs `ip` in here.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new(binary::IP.find()?).args(["-n", &self.name]).args(arguments), "")
    }

    /// Sets what happens to packets that come in here, in place of what was said before: lines of nftables' language, such as
    /// `udp dport 51820 drop`. Nothing said is nothing lost.
    pub fn rules(&self, incoming: &str) -> Result<()> {
        self.rules_both(incoming, "")
    }

    /// The same, and for packets that go out.
    pub fn rules_both(&self, incoming: &str, outgoing: &str) -> Result<()> {
        let chain = |hook: &str, rules: &str| {
            format!("  chain {hook} {{\n    type filter hook {hook} priority 0\n{rules}\n  }}\n")
        };
        let (incoming, outgoing) = (chain("input", incoming), chain("output", outgoing));
        let table = format!("table inet lab\ndelete table inet lab\ntable inet lab {{\n{incoming}{outgoing}}}\n");
        run(self.command(binary::NFT.find()?)?.args(["-f", "-"]), &table).map(drop)
    }

    /// Calls `action` on a thread in here: sockets that it opens stay here, wherever they are used.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(&self.path).map_err(Error::io(self.path.display().to_string()))?;
        let on_thread = || {
            // For good: the thread has nothing else to do.
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok::<T, rustix::io::Errno>(action())
        };
        let done = std::thread::scope(|scope| scope.spawn(on_thread).join());
        let done = done.map_err(|_| Error::Unexpected(format!("a panic in {}", self.name)))?;
        done.map_err(|error| Error::Io { what: format!("entering {}", self.name), source: error.into() })
    }

    /// Connects from in here.
    pub async fn connect(&self, address: SocketAddr) -> Result<tokio::net::TcpStream> {
        connect_within(&self.path, address).await
    }

    /// Listens in here.
    pub fn listen(&self, address: SocketAddr) -> Result<tokio::net::TcpListener> {
        let listener = self.enter(|| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        listener.and_then(tokio::net::TcpListener::from_std).map_err(Error::io(format!("listening at {address}")))
    }

    /// A UDP socket in here.
    pub fn bind(&self, address: SocketAddr) -> Result<tokio::net::UdpSocket> {
        let socket = self.enter(|| {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        socket.and_then(tokio::net::UdpSocket::from_std).map_err(Error::io(format!("binding {address}")))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next lab.
        remove(&self.name);
    }
}

/// A program that `ip netns exec` becomes in a namespace.
pub(super) fn command_in(name: &str, program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(binary::IP.find()?);
    command.args(["netns", "exec", name]).arg(program);
    Ok(command)
}

/// Connects from within the namespace that a file stands for.
pub async fn connect_within(namespace: &Path, address: SocketAddr) -> Result<tokio::net::TcpStream> {
    let file = namespace.to_owned();
    // Connecting blocks, also to a peer that does not answer.
    let task = tokio::task::spawn_blocking(move || {
        let file = File::open(&file)?;
        let on_thread = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            let stream = TcpStream::connect(address)?;
            stream.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        std::thread::scope(|scope| scope.spawn(on_thread).join())
            .unwrap_or_else(|_| Err(std::io::Error::other("a panic")))
    });
    let stream = task.await.map_err(|error| Error::Unexpected(error.to_string()))?;
    let what = format!("connecting to {address} from {}", namespace.display());
    stream.and_then(tokio::net::TcpStream::from_std).map_err(Error::io(what))
}

/// A name for a namespace or an interface that no other process, nor this one, uses.
pub(super) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a command to its end with that input. Gives what it printed.
pub(super) fn run(command: &mut Command, input: &str) -> Result<String> {
    let what = || format!("{command:?}");
    let what = what();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(what.as_str()))?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that does not read it says why when it ends.
        let _ = pipe.write_all(input.as_bytes());
    }
    let Output { status, stdout, stderr } = child.wait_with_output().map_err(Error::io(what.as_str()))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if !status.success() {
        return Err(Error::Unexpected(format!("{what}: {status}: {}{}", stdout.trim(), stderr.trim())));
    }
    Ok(stdout.into_owned())
}

fn remove(name: &str) {
    if let Ok(ip) = binary::IP.find() {
        let _ = run(Command::new(ip).args(["netns", "del", name]), "");
    }
}

/// Removes namespaces of processes that are gone, whose guards were killed as well, and WireGuard's sockets.
fn remove_those_of_the_dead() {
    for (folder, is_namespace) in [(FOLDER, true), (super::wireguard::SOCKETS, false)] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid.to_owned());
            if owner.is_none_or(|pid| pid.parse::<u32>().is_err() || Path::new("/proc").join(pid).exists()) {
                continue;
            }
            if is_namespace {
                remove(&name);
            } else {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
