//! Loads the configuration, applies it, and does so again whenever something asks for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::metrics::{AppMetrics, Loaded as Recorded};
use super::notify;
use super::runs::{Elsewhere, Probe};
use super::shards::{Others, Role};
use super::{Error, Log};
use crate::cli::Sharding;
use crate::config::{Built, Config, Loaded, Loader, Running, Server, Trigger, Watcher, Web};
use crate::door::Doors;
use crate::http::{Protection, Reload, Users};
use crate::metrics::Store;
use crate::probe::{KINDS, ProbeId, Shared, State};
use crate::rate::RateLimit;
use crate::scheduler::Scheduler;
use crate::settings::Problems;
use crate::sync::lock;

/// How often files are looked at, whether or not the kernel said that they changed: for file systems that say nothing.
pub(super) const POLL: Duration = Duration::from_secs(30);

/// What the HTTP server shows of the daemon.
pub(super) struct Status {
    pub(super) store: Arc<Store>,
    pub(super) metrics: AppMetrics,
    /// The configuration in force, for people.
    pub(super) config: RwLock<Bytes>,
    /// Whether OpenMetrics has `_created` series.
    pub(super) openmetrics_created: AtomicBool,
    /// The probes that run, with what is remembered of their runs. Whoever reads it takes a reference, and holds no lock
    /// while going through it.
    pub(super) probes: RwLock<Arc<[Probe]>>,
    /// Which share of all probes those are, if there are other shards.
    pub(super) elsewhere: RwLock<Option<Arc<Elsewhere>>>,
    /// What probes answer by themselves.
    pub(super) doors: Doors,
}

/// The probes and the configuration that they came from.
pub(super) struct Daemon {
    status: Arc<Status>,
    /// Shared with the thread that loads, which takes over the state of running probes.
    scheduler: Arc<Mutex<Scheduler>>,
    loader: Arc<Mutex<Loader>>,
    /// What other shards run.
    others: Others,
    /// Where a change may change the configuration, as of the last load.
    directories: BTreeSet<PathBuf>,
    shared: Shared,
    server: Server,
    /// How the HTTP server is protected.
    protection: watch::Sender<Arc<Protection>>,
    log: Log,
}

impl Daemon {
    /// Loads the configuration and starts its probes. None of their targets needs to be up.
    ///
    /// # Errors
    /// All problems, if the main file is refused; the command line does not say which shard this is.
    pub(super) async fn start(config: &Path, sharding: &Sharding, log: &Log) -> Result<(Self, Server), Error> {
        let shared = Shared { state: State::of_daemon(), ..Shared::default() };
        let role = Role::of(sharding, &shared.net)?;
        let store = Arc::new(Store::default());
        let metrics = AppMetrics::new(Arc::clone(&store), role.shard);
        let scheduler = Scheduler::new(Arc::clone(&store), Arc::clone(metrics.set()), shared.clone());
        let status = Status {
            store,
            metrics,
            config: RwLock::default(),
            openmetrics_created: AtomicBool::new(false),
            probes: RwLock::new(Arc::new([])),
            elsewhere: RwLock::default(),
            doors: shared.doors.clone(),
        };
        let mut daemon = Self {
            status: Arc::new(status),
            scheduler: Arc::new(Mutex::new(scheduler)),
            loader: Arc::new(Mutex::new(Loader::new(config, KINDS))),
            others: Others::new(role),
            directories: BTreeSet::new(),
            shared,
            server: Server::default(),
            protection: watch::Sender::default(),
            log: log.clone(),
        };
        match daemon.load().await {
            Loaded::New { config, problems } => {
                let server = config.server.clone();
                daemon.server = server.clone();
                // Not in force yet.
                daemon.server.web = None;
                daemon.switch(*config, &problems, false);
                Ok((daemon, server))
            }
            Loaded::Refused(problems) | Loaded::Unchanged { problems, .. } => Err(problems.into()),
        }
    }

    /// What the HTTP server shows.
    pub(super) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// How many probes run.
    pub(super) fn probes(&self) -> usize {
        self.status.probes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How the HTTP server is to be protected, from now on.
    pub(super) fn protection(&self) -> watch::Receiver<Arc<Protection>> {
        self.protection.subscribe()
    }

    /// Reloads whenever a file changes or somebody asks, for ever. Ends the probes when dropped.
    pub(super) async fn follow(mut self, mut watcher: Watcher<Reload>) {
        loop {
            watcher.watch(&self.directories);
            let trigger = watcher.next().await;
            let unasked = matches!(trigger, Trigger::Poll | Trigger::Files);
            if !unasked {
                notify::reloading();
            }
            let answer = self.reload(unasked).await;
            if !unasked {
                notify::ready(self.probes());
            }
            if let Trigger::Requests(requests) = trigger {
                requests.into_iter().for_each(|request| tell(request, &answer));
            }
        }
    }

    async fn load(&mut self) -> Loaded {
        let (loader, scheduler, shared) = (Arc::clone(&self.loader), Arc::clone(&self.scheduler), self.shared.clone());
        // Reading files, following links and building thousands of probes would hold up the runs of those that are there.
        let load = move || {
            let mut loader = lock(&loader);
            (loader.load(&shared, &RunningProbes(&scheduler)), loader.directories())
        };
        match tokio::task::spawn_blocking(load).await {
            Ok((loaded, directories)) => {
                self.directories = directories;
                loaded
            }
            Err(error) => {
                tracing::error!(%error, "loading the configuration panicked");
                Loaded::Unchanged { problems: Problems::default(), refused: true }
            }
        }
    }

    /// `unasked`: because files may have changed, which is no event if they did not.
    async fn reload(&mut self, unasked: bool) -> Reload {
        if !unasked {
            lock(&self.scheduler).reconsider();
        }
        let loaded = self.load().await;
        match loaded {
            Loaded::Unchanged { problems, refused } => {
                let ok = problems.is_empty() && !refused;
                if !unasked {
                    self.status.metrics.reloaded(ok);
                }
                Reload { ok, text: if ok { "nothing has changed\n".to_owned() } else { problems.to_string() } }
            }
            Loaded::Refused(problems) => {
                tracing::error!(%problems, "the configuration is refused; nothing has changed");
                self.status.metrics.refused(&problems);
                Reload { ok: false, text: problems.to_string() }
            }
            Loaded::New { config, problems } => self.switch(*config, &problems, true),
        }
    }

    fn switch(&mut self, config: Config, problems: &Problems, is_reload: bool) -> Reload {
        let good = problems.is_empty();
        let status = &self.status;
        self.log.set_level(config.server.log_level);
        status.openmetrics_created.store(config.server.openmetrics_created, Ordering::Relaxed);
        if config.server.listen != self.server.listen || config.server.admin_listen != self.server.admin_listen {
            tracing::warn!("[server] listen and admin_listen take effect at the next start");
        }
        if config.server.web != self.server.web {
            self.server.web = config.server.web.clone();
            self.protection.send_replace(protection(config.server.web.as_deref()));
        }
        let labels = config.labels.iter().map(|(name, value)| (&**name, &**value));
        status.metrics.set().relabel(labels);
        let files: Vec<_> = config.files.iter().map(|file| (file.path.display().to_string(), file.ok)).collect();
        let files = files.iter().map(|(file, ok)| (file.as_str(), *ok)).collect();
        *write(&status.config) = config.redacted().into();
        let probes = config.probes.len();
        // The one place where it matters that this may be a shard: everything that was loaded and checked so far is what all of them have.
        let own = self.others.split(config.probes);
        let recorded = Recorded { good, hash: config.hash, files, probes, owned: own.len() };
        status.metrics.loaded(&recorded, is_reload);
        for (probe, concern) in config.concerns.iter().filter(|(probe, _)| own.iter().any(|spec| spec.id == *probe)) {
            tracing::warn!(%probe, "{concern}");
        }
        *write(&status.elsewhere) = self
            .others
            .shard()
            .map(|shard| Arc::new(Elsewhere { shard, probes: self.others.ids().cloned().collect() }));
        let changes = {
            let mut scheduler = lock(&self.scheduler);
            let changes = scheduler.apply(own);
            let probes = scheduler.histories().map(|(id, history)| (id.clone(), Arc::clone(history)));
            *write(&status.probes) = probes.collect();
            changes
        };
        let text = format!(
            "{} probes added, {} changed, {} removed, {} kept\n",
            changes.added, changes.changed, changes.removed, changes.kept
        );
        if good {
            tracing::info!("configuration loaded: {}", text.trim_end());
            Reload { ok: true, text }
        } else {
            tracing::error!(%problems, "included files are not in force: {}", text.trim_end());
            Reload { ok: false, text: format!("{problems}{text}") }
        }
    }
}

/// What the web configuration file asks for, as the HTTP server takes it.
fn protection(web: Option<&Web>) -> Arc<Protection> {
    let Some(web) = web else {
        tracing::warn!("the endpoint is not protected any more");
        return Arc::default();
    };
    let protection = Protection {
        tls: web.tls.clone(),
        users: Users::new(web.users.clone()),
        headers: web.headers.clone(),
        rate_limit: web.rate_limit.map(|limit| RateLimit::new(limit.interval, limit.burst)),
    };
    tracing::info!(tls = protection.tls.is_some(), users = web.users.len(), "the endpoint's protection is in force");
    Arc::new(protection)
}

/// Lets the loader see what runs, without holding up the scheduler for longer than a look-up.
struct RunningProbes<'a>(&'a Mutex<Scheduler>);

impl Running for RunningProbes<'_> {
    fn find(&self, id: &ProbeId) -> Option<Built> {
        lock(self.0).find(id)
    }
}

fn tell(request: oneshot::Sender<Reload>, answer: &Reload) {
    // Whoever asked may have gone.
    let _ = request.send(answer.clone());
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
