//! The wrapped command: started with all that it inherits, told the signals that are meant for it, waited for, measured.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::sync::lock;

/// What is handed on. SIGTSTP, SIGTTIN and SIGTTOU are not: a terminal sends them to the command as well, and what stops both must be
/// able to start both.
const RELAYED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// What asks this process to end once the command has.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// The exit code for a command that is not there, as shells and `env` have it.
const NOT_FOUND: u8 = 127;
/// The exit code for a command that is there and cannot be run.
const NOT_RUN: u8 = 126;

/// Hands signals on to the command while it runs.
#[derive(Default)]
pub(super) struct Relay {
    stage: Mutex<Stage>,
    /// Somebody wants this process to end, and the command has ended.
    pub(super) hurry: Notify,
}

/// How far the command is.
enum Stage {
    /// It will be started. What came meanwhile is for it.
    Before(Vec<Signal>),
    /// It runs, or is about to be waited for.
    Runs(Pid),
    /// It has been waited for, and its id may become another process's; or it never ran.
    Over,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Before(Vec::new())
    }
}

impl Relay {
    /// Takes signals from now on. Those that are ignored stay so, for the command too: that is what `nohup` does.
    ///
    /// # Errors
    /// What the system says; nothing is handed on then.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let ignored = ignored();
        let taken = RELAYED.iter().filter(|signal| ignored & (1 << (**signal as i32 - 1)) == 0);
        // With a handler of its own, though it does nothing: where SIGCHLD is ignored, a child leaves no exit status.
        let taken = taken.chain([&Signal::SIGCHLD]).map(|signal| *signal as i32);
        let mut signals = SignalsInfo::<WithOrigin>::new(taken)?;
        let relay = Arc::<Self>::default();
        let to = Arc::clone(&relay);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in signals.forever() {
                if let Ok(signal) = Signal::try_from(origin.signal) {
                    to.take(signal, matches!(origin.cause, Cause::Kernel));
                }
            }
        })?;
        Ok(relay)
    }

    /// What the kernel sends, for a key or a terminal that has gone, it sends to the whole process group, of which the command is
    /// one: handed on, it would come twice, and to many a program the second one means something else.
    fn take(&self, signal: Signal, is_of_kernel: bool) {
        if signal == Signal::SIGCHLD {
            return;
        }
        match &mut *lock(&self.stage) {
            Stage::Before(signals) => signals.push(signal),
            Stage::Runs(_) if is_of_kernel => {}
            Stage::Runs(command) => {
                // Fails if it has ended, and is about to be waited for.
                let _ = kill(*command, signal);
            }
            Stage::Over if ENDING.contains(&signal) => self.hurry.notify_one(),
            Stage::Over => {}
        }
    }
}

/// The signals that are ignored, a bit for each. Linux tells it in /proc; where it does not, none are.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// A command that runs.
pub(super) struct Running {
    child: Child,
    pid: Pid,
    relay: Arc<Relay>,
    began: Instant,
    /// What children used that were waited for by whatever became this program.
    before: Option<Usage>,
}

/// A command that has ended, or could not be started.
pub(super) struct Ended {
    /// How.
    pub(super) how: How,
    /// How long it took, by a clock that nobody sets.
    pub(super) took: Duration,
    /// Processor time of the command and of all that it waited for, in seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// The most memory that one of these had, in bytes.
    pub(super) peak_memory: Option<u64>,
}

/// How a command ended.
#[derive(Debug)]
pub(super) enum How {
    /// By itself, or by a signal.
    Ended(ExitStatus),
    /// It never ran.
    NotRun(io::Error),
}

impl Running {
    /// Starts the command with the same input, output, environment, process group and open files as this process.
    pub(super) fn start(command: &[OsString], relay: &Arc<Relay>) -> Result<Self, Ended> {
        let not_run =
            |error| Ended { how: How::NotRun(error), took: Duration::ZERO, cpu_seconds: None, peak_memory: None };
        let (program, arguments) = command.split_first().ok_or_else(|| not_run(io::ErrorKind::NotFound.into()))?;
        let before = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let began = Instant::now();
        // Held meanwhile, so that no signal falls between two stages.
        let mut stage = lock(&relay.stage);
        let came = std::mem::replace(&mut *stage, Stage::Over);
        let child = Command::new(program).args(arguments).spawn().map_err(not_run)?;
        // Linux has no larger ids.
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        *stage = Stage::Runs(pid);
        if let Stage::Before(signals) = came {
            for signal in signals {
                // Fails if the command has ended already.
                let _ = kill(pid, signal);
            }
        }
        drop(stage);
        Ok(Self { child, pid, relay: Arc::clone(relay), began, before })
    }

    /// Waits for its end. What it left running in the background is not waited for.
    pub(super) fn wait(mut self) -> Ended {
        // Not reaped yet, so that no signal can go to another process that gets its id.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(self.pid), flags) == Err(Errno::EINTR) {}
        let took = self.began.elapsed();
        *lock(&self.relay.stage) = Stage::Over;
        let how = self.child.wait().map_or_else(How::NotRun, How::Ended);
        let after = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let used = self.before.zip(after);
        let cpu_seconds = used.map(|(before, after)| (seconds(&after) - seconds(&before)).max(0.0));
        // The kernel keeps the maximum over all children: one that did not grow may be that of an earlier child.
        let peak = used.filter(|(before, after)| after.max_rss() > before.max_rss()).map(|(_, after)| after.max_rss());
        let peak_memory = peak.and_then(|kib| u64::try_from(kib).ok()).map(|kib| kib * 1024);
        Ended { how, took, cpu_seconds, peak_memory }
    }
}

fn seconds(usage: &Usage) -> f64 {
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}

impl How {
    /// Whether it did what it should.
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Ended(status) if status.success())
    }

    /// For a person; nothing of a success.
    pub(super) fn words(&self) -> String {
        match self {
            Self::NotRun(error) => format!("the command cannot be run: {error}"),
            Self::Ended(status) => match (status.code(), status.signal()) {
                (Some(0), _) => String::new(),
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => match Signal::try_from(signal) {
                    Ok(signal) => format!("killed by {signal}"),
                    Err(_) => format!("killed by signal {signal}"),
                },
                (None, None) => "ended in an unknown way".to_owned(),
            },
        }
    }

    /// Ends this process, or says how it is to end, in the same way: whoever waits for it sees what the command did.
    pub(super) fn imitate(&self) -> ExitCode {
        let status = match self {
            Self::NotRun(error) if error.kind() == io::ErrorKind::NotFound => return ExitCode::from(NOT_FOUND),
            Self::NotRun(_) => return ExitCode::from(NOT_RUN),
            Self::Ended(status) => status,
        };
        if let Some(code) = status.code() {
            return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
        }
        let signal = status.signal().unwrap_or(0);
        // The first process of a container cannot die of a signal: it ends with the code that a shell would make of it.
        if std::process::id() != 1 {
            // A core dump of this process would take the place of the command's.
            let _ = rlimit::Resource::CORE.set(0, 0);
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
        ExitCode::from(u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128)))
    }
}
