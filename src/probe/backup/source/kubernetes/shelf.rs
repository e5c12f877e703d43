//! What the watches have told: the runs of a job, also those whose Job has vanished since. Bounded, and no I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::objects::{CronJob, Job, Kind, Object, Pod};
use super::{Choice, Config, Nodes};
use crate::probe::backup::now;
use crate::probe::backup::runs::{End, Outcome, Run, Seen};
use crate::probe::backup::schedule::Schedule;
use crate::probe::net::clean;
use crate::probe::{Failure, Reason};
use crate::sync::lock;

/// So many runs are kept, the newest: as many as the books know by their ids.
const MOST: usize = 4096;
/// So many more may gather before the oldest are sorted out.
const SLACK: usize = 512;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The Jobs.
    Jobs,
    /// Their Pods.
    Pods,
    /// The CronJob.
    Cron,
}

/// What is known of a job.
pub struct Shelf {
    inner: Mutex<Inner>,
    /// Told whenever something has changed.
    changed: watch::Sender<()>,
    /// Held by whoever watches.
    pub watching: tokio::sync::Mutex<()>,
}

/// What is known, behind its lock.
#[derive(Default)]
pub struct Inner {
    runs: HashMap<String, Kept>,
    /// For each Job's uid its last Pod: when that was made, and where it runs.
    nodes: HashMap<String, (f64, String)>,
    cron: Option<Cron>,
    /// Whether the list that is just coming in, or came in last, had the CronJob.
    has_cron: bool,
    /// What the list that is just coming in has told so far.
    listing: HashSet<String>,
    parts: [Health; 3],
}

/// A run, and whether its Job has vanished.
struct Kept {
    run: Run,
    has_vanished: bool,
}

/// What a CronJob says.
#[derive(Clone)]
struct Cron {
    schedule: Option<Schedule>,
    is_suspended: bool,
    words: String,
}

/// How a watch does.
#[derive(Default)]
struct Health {
    is_wanted: bool,
    /// Whether its list has been told once to the end.
    is_listed: bool,
    failure: Option<Failure>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { inner: Mutex::default(), changed: watch::Sender::new(()), watching: tokio::sync::Mutex::default() }
    }
}

impl Shelf {
    /// The watches begin anew: until they have told their lists, nothing can be said. What is known stays.
    pub fn begin(&self, parts: &[Part]) {
        let mut inner = lock(&self.inner);
        inner.parts = Default::default();
        inner.listing.clear();
        for part in parts {
            inner.parts[*part as usize].is_wanted = true;
        }
    }

    /// A watch cannot go on.
    pub fn fails(&self, part: Part, failure: Failure) {
        lock(&self.inner).parts[part as usize].failure = Some(failure);
        self.changed.send_replace(());
    }

    /// The API server has accepted a watch: what it has to tell will come.
    pub fn is_well(&self, part: Part) {
        lock(&self.inner).parts[part as usize].failure = None;
        self.changed.send_replace(());
    }

    /// What a watch has told.
    pub fn tell<K: Told>(&self, config: &Config, event: Event<Object<K>>) {
        let mut inner = lock(&self.inner);
        let is_done = matches!(event, Event::InitDone);
        K::enter(&mut inner, config, event);
        if is_done {
            let health = &mut inner.parts[K::PART as usize];
            (health.is_listed, health.failure) = (true, None);
            drop(inner);
            self.changed.send_replace(());
        }
    }

    /// Waits until all lists have been told, or something failed: what is known then.
    ///
    /// # Errors
    /// Why a watch cannot go on; `mismatch` if there is no such CronJob.
    pub async fn settled(&self, config: &Config) -> Result<Seen, Failure> {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(seen) = self.seen(config) {
                return seen;
            }
            // Cannot fail: the sender is this shelf's.
            let _ = changed.changed().await;
        }
    }

    /// What is known; `None` as long as lists are missing.
    pub fn seen(&self, config: &Config) -> Option<Result<Seen, Failure>> {
        let inner = lock(&self.inner);
        if let Some(failure) = inner.parts.iter().find_map(|health| health.failure.as_ref()) {
            return Some(Err(failure.clone()));
        }
        let is_complete = inner.parts.iter().all(|health| health.is_listed || !health.is_wanted);
        if !is_complete || inner.parts.iter().all(|health| !health.is_wanted) {
            return None;
        }
        if let (Choice::CronJob(name), None) = (&config.choice, &inner.cron) {
            return Some(Err(Failure::new(Reason::Mismatch, format!("there is no CronJob `{name}` in the namespace"))));
        }
        let cron = inner.cron.as_ref();
        Some(Ok(Seen {
            runs: inner.runs.values().map(|kept| kept.run.clone()).collect(),
            has_all_open: true,
            schedule: cron.and_then(|cron| cron.schedule.clone()),
            is_suspended: cron.is_some_and(|cron| cron.is_suspended),
            notes: cron.map(|cron| cron.words.clone()).into_iter().collect(),
            ..Seen::default()
        }))
    }
}

/// How what is told of a kind is entered.
pub trait Told: Kind {
    /// Whose watch tells it.
    const PART: Part;
    /// Enters it.
    fn enter(inner: &mut Inner, config: &Config, event: Event<Object<Self>>);
}

impl Told for Job {
    const PART: Part = Part::Jobs;

    fn enter(inner: &mut Inner, config: &Config, event: Event<Object<Self>>) {
        match event {
            Event::Init => inner.listing.clear(),
            Event::InitApply(job) => {
                inner.listing.insert(job.meta.uid.clone());
                inner.job(config, &job);
            }
            Event::Apply(job) => inner.job(config, &job),
            Event::Delete(job) => {
                inner.job(config, &job);
                inner.deleted(&job);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut inner.listing);
                inner.runs.retain(|uid, kept| {
                    kept.has_vanished |= !listed.contains(uid);
                    // How one ended that vanished unseen is what nobody knows: the books give it up.
                    !kept.has_vanished || kept.run.end.is_some()
                });
            }
        }
    }
}

impl Told for Pod {
    const PART: Part = Part::Pods;

    fn enter(inner: &mut Inner, config: &Config, event: Event<Object<Self>>) {
        match event {
            Event::InitApply(pod) | Event::Apply(pod) => inner.pod(config, pod),
            // Where a run was stays known.
            Event::Init | Event::InitDone | Event::Delete(_) => {}
        }
    }
}

impl Told for CronJob {
    const PART: Part = Part::Cron;

    fn enter(inner: &mut Inner, _config: &Config, event: Event<Object<Self>>) {
        match event {
            Event::Init => inner.has_cron = false,
            Event::InitApply(cron) | Event::Apply(cron) => {
                inner.has_cron = true;
                inner.cron = Some(Cron::of(&cron));
            }
            Event::InitDone if inner.has_cron => {}
            Event::InitDone | Event::Delete(_) => inner.cron = None,
        }
    }
}

impl Inner {
    fn job(&mut self, config: &Config, job: &Object<Job>) {
        if !config.choice.is_of(job) {
            return;
        }
        let known = self.runs.get(&job.meta.uid);
        // A Job that is suspended while it runs has no beginning any more.
        let Some(mut run) = job.run().or_else(|| Some(known?.run.clone())) else { return };
        run.started = run.started.or_else(|| known?.run.started);
        run.node = self.nodes.get(&job.meta.uid).and_then(|(_, node)| config.nodes.of(node));
        run.node = run.node.or_else(|| known?.run.node.clone());
        self.runs.insert(job.meta.uid.clone(), Kept { run, has_vanished: false });
        self.bound();
    }

    fn deleted(&mut self, job: &Object<Job>) {
        let Some(kept) = self.runs.get_mut(&job.meta.uid) else { return };
        kept.has_vanished = true;
        if kept.run.end.is_none() {
            let at = job.meta.deleted().unwrap_or_else(now);
            kept.run.end = Some(End { at, outcome: Outcome::Canceled });
            kept.run.note = format!("{}: the Job was deleted while it ran", clean(&job.meta.name));
        }
    }

    fn pod(&mut self, config: &Config, pod: Object<Pod>) {
        let Some(owner) = pod.meta.owners(Job::KIND).next().map(|owner| owner.uid.clone()) else { return };
        let Some(node) = pod.spec.node_name.filter(|node| !node.is_empty()) else { return };
        let created = pod.meta.created().unwrap_or(0.0);
        if self.nodes.get(&owner).is_some_and(|(known, _)| *known > created) {
            return;
        }
        if let Some(kept) = self.runs.get_mut(&owner) {
            kept.run.node = config.nodes.of(&node);
        }
        self.nodes.insert(owner, (created, node));
        self.bound();
    }

    /// Forgets the oldest of what is too much.
    fn bound(&mut self) {
        let ended = |kept: &Kept| kept.run.end.map_or(f64::INFINITY, |end| end.at);
        for uid in surplus(&self.runs, ended) {
            self.runs.remove(&uid);
        }
        for uid in surplus(&self.nodes, |(created, _)| *created) {
            self.nodes.remove(&uid);
        }
    }
}

/// The oldest of what is too much; nothing until it is worth sorting.
fn surplus<T>(all: &HashMap<String, T>, when: impl Fn(&T) -> f64) -> Vec<String> {
    if all.len() <= MOST + SLACK {
        return Vec::new();
    }
    let mut ages: Vec<_> = all.iter().map(|(uid, one)| (when(one), uid)).collect();
    ages.sort_by(|a, b| a.0.total_cmp(&b.0));
    ages.into_iter().take(all.len() - MOST).map(|(_, uid)| uid.clone()).collect()
}

impl Cron {
    fn of(cron: &Object<CronJob>) -> Self {
        let spec = &cron.spec;
        let schedule = Schedule::told(&spec.schedule, spec.time_zone.as_deref());
        let is_suspended = spec.suspend.unwrap_or(false);
        let zone = spec.time_zone.as_deref().map_or_else(String::new, |zone| format!(" ({})", clean(zone)));
        let mut words = format!("CronJob {}: {}{zone}", clean(&cron.meta.name), clean(&spec.schedule));
        if schedule.is_none() {
            words.push_str(", which is no schedule that midwatch can read");
        }
        if is_suspended {
            words.push_str(", suspended");
        }
        Self { schedule, is_suspended, words }
    }
}

impl Choice {
    /// Whether the Job is one of those. A selector is the API server's to judge.
    fn is_of(&self, job: &Object<Job>) -> bool {
        match self {
            Self::CronJob(name) => job.meta.owners(CronJob::KIND).any(|owner| owner.name == *name),
            Self::Named(pattern) => pattern.matches(&job.meta.name),
            Self::Selector(_) => true,
        }
    }
}

impl Nodes {
    /// How the configuration calls a cluster's node; `None` is for its `node` to say.
    fn of(&self, node: &str) -> Option<String> {
        match self {
            Self::Unwatched => None,
            Self::Mapped { names, others } => {
                let named = names.iter().find(|(of, _)| of == node).map(|(_, name)| name.clone());
                named.or_else(|| others.then(|| clean(node)))
            }
        }
    }
}
