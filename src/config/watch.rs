//! Everything that asks for a reload, in one queue: changed files, SIGHUP, and requests that wait for an answer.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tracing::warn;

/// How long files must be quiet before they are loaded: writing a file takes several steps.
const QUIET: Duration = Duration::from_millis(100);
/// How long a load is put off at most while files go on changing.
const AT_MOST: Duration = Duration::from_secs(1);
/// How many requests may wait.
const WAITING: usize = 64;

/// Why a load is due.
#[derive(Debug)]
pub enum Trigger<A> {
    /// Something changed in a watched directory.
    Files,
    /// It is time to look, whether or not a change was noticed.
    Poll,
    /// SIGHUP.
    Signal,
    /// These ask, and wait for an answer.
    Requests(Vec<oneshot::Sender<A>>),
}

/// Asks for reloads.
#[derive(Debug)]
pub struct Requests<A>(mpsc::Sender<oneshot::Sender<A>>);

impl<A> Clone for Requests<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A> Requests<A> {
    /// Asks for a reload and waits for what came of it. The answer is about a load that began after this call. `None`
    /// when the program is ending.
    pub async fn reload(&self) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.ok()?;
        answer.await.ok()
    }
}

/// The queue of everything that asks for a reload.
pub struct Watcher<A> {
    notify: Option<RecommendedWatcher>,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<oneshot::Sender<A>>,
    hangup: Option<Signal>,
    poll: Interval,
    /// When the first and the last change came in that no load has seen yet.
    changed: Option<(Instant, Instant)>,
    warned: bool,
}

/// What the thread of notify shares with the queue.
#[derive(Default)]
struct Shared {
    changed: Notify,
    /// Every directory that should be watched, and the one that is watched under this name.
    dirs: Mutex<HashMap<PathBuf, Option<Identity>>>,
}

/// Tells a directory from another one that has taken its name.
type Identity = (u64, u64);

impl<A> Watcher<A> {
    /// A queue that is due at least every `poll`. To be made within the runtime.
    pub fn new(poll: Duration) -> (Self, Requests<A>) {
        let shared = Arc::new(Shared::default());
        let notify = start(&shared).map_err(|error| warn!(%error, "{NO_NOTIFY}")).ok();
        let hangup = signal(SignalKind::hangup()).map_err(|error| warn!(%error, "cannot receive SIGHUP")).ok();
        let (sender, requests) = mpsc::channel(WAITING);
        let mut poll = interval_at(Instant::now() + poll, poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let warned = notify.is_none();
        (Self { notify, shared, requests, hangup, poll, changed: None, warned }, Requests(sender))
    }

    /// Watches these directories and no others. A directory that is new to the queue makes a load due, because it may
    /// have changed between being read and being watched.
    pub fn watch(&mut self, dirs: &BTreeSet<PathBuf>) {
        let gone: Vec<PathBuf> = {
            let mut watched = self.shared.lock();
            let gone = watched.keys().filter(|dir| !dirs.contains(*dir)).cloned().collect();
            watched.retain(|dir, _| dirs.contains(dir));
            for dir in dirs {
                watched.entry(dir.clone()).or_default();
            }
            gone
        };
        if let Some(notify) = &mut self.notify {
            // An error says that the directory is gone, and its watch with it.
            gone.iter().for_each(|dir| drop(notify.unwatch(dir)));
        }
        self.arm();
    }

    /// Waits until a load is due. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Trigger<A> {
        loop {
            let due = self.changed.map(|(first, last)| (last + QUIET).min(first + AT_MOST));
            tokio::select! {
                biased;
                Some(request) = self.requests.recv() => {
                    let mut requests = vec![request];
                    requests.extend(std::iter::from_fn(|| self.requests.try_recv().ok()));
                    return self.due(Trigger::Requests(requests));
                }
                Some(()) = hangup(&mut self.hangup) => return self.due(Trigger::Signal),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return self.due(Trigger::Files),
                () = self.shared.changed.notified() => self.touch(),
                // Not while changes settle: it would read a file that is half written.
                _ = self.poll.tick(), if due.is_none() => return self.due(Trigger::Poll),
            }
        }
    }

    /// Any load sees all changes so far, so none of them is waited for any longer.
    fn due(&mut self, trigger: Trigger<A>) -> Trigger<A> {
        self.arm();
        self.changed = None;
        trigger
    }

    fn touch(&mut self) {
        let now = Instant::now();
        self.changed = Some((self.changed.map_or(now, |(first, _)| first), now));
    }

    /// Watches what is not watched yet or is no longer what it was. The lock is not held while notify is told: its
    /// thread may be waiting for that lock.
    fn arm(&mut self) {
        let Some(notify) = &mut self.notify else { return };
        let dirs: Vec<_> = self.shared.lock().iter().map(|(dir, id)| (dir.clone(), *id)).collect();
        let mut armed = false;
        for (dir, watched) in dirs {
            let now = identity(&dir);
            if now == watched {
                continue;
            }
            let _ = notify.unwatch(&dir);
            let result = if now.is_some() { notify.watch(&dir, RecursiveMode::NonRecursive) } else { Ok(()) };
            if let Err(error) = &result
                && !self.warned
            {
                self.warned = true;
                warn!(%error, "{NO_NOTIFY}");
            }
            armed |= now.is_some() && result.is_ok();
            self.shared.lock().entry(dir).and_modify(|id| *id = now.filter(|_| result.is_ok()));
        }
        if armed {
            self.shared.changed.notify_one();
        }
    }
}

const NO_NOTIFY: &str = "cannot watch all files for changes; they are only looked at from time to time";

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Option<Identity>>> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs on notify's thread.
    fn event(&self, event: &notify::Result<Event>) {
        match event {
            // Being read is no change, and a load reads: it would trigger itself for ever.
            Ok(Event { kind: EventKind::Access(access), .. }) if *access != AccessKind::Close(AccessMode::Write) => {
                return;
            }
            Ok(Event { kind: EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)), paths, .. }) => {
                let mut dirs = self.lock();
                for path in paths {
                    // A watch goes with its directory; whatever gets that name next has to be watched anew.
                    if let Some(id) = dirs.get_mut(path) {
                        *id = None;
                    }
                }
            }
            _ => {}
        }
        self.changed.notify_one();
    }
}

fn start(shared: &Arc<Shared>) -> notify::Result<RecommendedWatcher> {
    let shared = shared.clone();
    notify::recommended_watcher(move |event| shared.event(&event))
}

fn identity(dir: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(dir).ok()?;
    Some((about.dev(), about.ino()))
}

async fn hangup(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}
