//! Jobs and CronJobs of Kubernetes, through the API: watched, because Jobs vanish.
//!
//! A run is a Job, whatever its Pods do; its uid is the run's id. What a Job that vanished had told is kept.

mod access;
pub mod fuzz;
mod link;
mod objects;
mod shelf;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use glob::Pattern;

use self::access::Access;
use self::shelf::Shelf;
use self::watch::Watcher;
use super::{Attended, Look, Paced};
use crate::probe::backup::config::is_node;
use crate::probe::backup::runs::Seen;
use crate::probe::{Failure, Shared};
use crate::settings::{FileContent, Invalid, Item, Section, Value};
use crate::sync::lock;

/// Its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    namespace: Option<String>,
    choice: Choice,
    nodes: Nodes,
    kubeconfig: Option<FileContent>,
    context: Option<String>,
}

/// Which Jobs are runs of the job.
#[derive(Clone, Debug, PartialEq)]
enum Choice {
    /// Those of that CronJob.
    CronJob(String),
    /// Those with such labels.
    Selector(String),
    /// Those whose names are like that.
    Named(Pattern),
}

/// Where runs are.
#[derive(Clone, Debug, PartialEq)]
enum Nodes {
    /// Pods are not looked at: the job's `node` says it.
    Unwatched,
    /// Where the Pod is: the names of cluster nodes that are called otherwise, and whether all others are called as they are.
    Mapped { names: Vec<(String, String)>, others: bool },
}

impl Config {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let namespace = section.checked("namespace", |name: &String| is_name(name));
        let choice = choice(section);
        let names = section.optional::<Names>("nodes");
        let has_node = section.has("node");
        let nodes = match names {
            None if has_node => Nodes::Unwatched,
            names => Nodes::Mapped { names: names.map_or_else(Vec::new, |names| names.0), others: !has_node },
        };
        let kubeconfig = section.optional::<FileContent>("kubeconfig");
        let context = section.optional::<String>("context");
        if section.has("kubeconfig") && !section.is_main() {
            section.problem(
                Some("kubeconfig"),
                "`kubeconfig`: is for the main file only, because it names files and servers",
            );
        }
        if section.has("context") && !section.has("kubeconfig") {
            section.problem(Some("context"), "`context`: needs a `kubeconfig`");
        }
        let config = Self { namespace, choice: choice?, nodes, kubeconfig, context };
        if let Err(words) = config.access() {
            section.problem(Some("kubeconfig"), format!("`kubeconfig`: {words}"));
        }
        Some(config)
    }

    fn access(&self) -> Result<Access, String> {
        match self.kubeconfig.as_ref().filter(|file| !file.is_placeholder()) {
            None => Ok(Access::of_pod(Path::new(access::SERVICE_ACCOUNT))),
            Some(file) => {
                let folder = file.path().parent().unwrap_or(Path::new("/"));
                Access::of_kubeconfig(file.bytes(), folder, self.context.as_deref())
            }
        }
    }
}

impl Paced for Config {}

/// The one of `cronjob`, `selector` and `jobs` that is there.
fn choice(section: &mut Section<'_>) -> Option<Choice> {
    const KEYS: [&str; 3] = ["cronjob", "selector", "jobs"];
    let cron = section.checked("cronjob", |name: &String| is_name(name)).map(Choice::CronJob);
    let selector = section.checked("selector", |labels: &String| is_selector(labels)).map(Choice::Selector);
    let pattern = section.checked("jobs", |text: &String| {
        Pattern::new(text).map(|_| ()).map_err(|error| format!("is no pattern: {}", error.msg))
    });
    let named = pattern.and_then(|text| Pattern::new(&text).ok()).map(Choice::Named);
    let present: Vec<_> = KEYS.into_iter().filter(|key| section.has(key)).collect();
    match present[..] {
        [_] => cron.or(selector).or(named),
        [] => {
            section.problem(None, "one of `cronjob`, `selector` and `jobs` is needed");
            None
        }
        [_, second, ..] => {
            section.problem(Some(second), "only one of `cronjob`, `selector` and `jobs` can be there");
            None
        }
    }
}

/// What `nodes` says: for names of cluster nodes, how midwatch calls them.
struct Names(Vec<(String, String)>);

impl Value for Names {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        const EXPECTED: &str = "a table of nodes such as { k8s-node-a = \"mongo-2:27017\" }";
        let table = item.toml().as_table().ok_or_else(|| item.expected(EXPECTED))?;
        let pair = |name: &str, node: Option<&str>| {
            let node = node
                .filter(|node| is_node(node).is_ok())
                .ok_or_else(|| Invalid::new(format!("expected {EXPECTED}")))?;
            Ok((name.to_owned(), node.to_owned()))
        };
        let pairs: Result<Vec<_>, _> =
            table.iter().map(|(name, node)| pair(name.get_ref(), node.get_ref().as_str())).collect();
        pairs.map(Self)
    }
}

/// Whether it can be the name of an object (RFC 1123).
fn is_name(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let good = (1..=253).contains(&name.len()) && name.chars().all(is_good);
    if good { Ok(()) } else { Err("must have 1 to 253 lower case letters, digits, `-` and `.`".to_owned()) }
}

/// Whether it can be a selector of labels; what it means is the API server's business.
fn is_selector(labels: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || " -_./=!,()".contains(c);
    let good = (1..=1024).contains(&labels.len()) && labels.chars().all(is_good);
    if good { Ok(()) } else { Err("must be a selector of labels such as \"app=backup\"".to_owned()) }
}

/// Reads it.
pub struct Reader {
    watcher: Watcher,
    /// The watch that goes on, if somebody has it.
    going: Mutex<Option<WeakShared<BoxFuture<'static, ()>>>>,
}

/// What is known of the jobs of this process: a probe that is built anew with the same keys goes on with it.
#[derive(Default)]
struct Shelves(Mutex<HashMap<String, (Config, Weak<Shelf>)>>);

impl Shelves {
    fn of(&self, job: &str, config: &Config) -> Arc<Shelf> {
        let mut shelves = lock(&self.0);
        shelves.retain(|_, (_, shelf)| shelf.strong_count() > 0);
        let known = shelves.get(job).filter(|(known, _)| known == config).and_then(|(_, shelf)| shelf.upgrade());
        known.unwrap_or_else(|| {
            let shelf = Arc::new(Shelf::default());
            shelves.insert(job.to_owned(), (config.clone(), Arc::downgrade(&shelf)));
            shelf
        })
    }
}

impl Reader {
    pub(super) fn new(config: &Config, job: &str, shared: &Shared) -> Result<Self, String> {
        let access = Arc::new(config.access()?);
        let shelf = shared.state.common::<Shelves>().of(job, config);
        let watcher = Watcher { config: Arc::new(config.clone()), net: shared.net.clone(), access, shelf };
        Ok(Self { watcher, going: Mutex::default() })
    }

    /// The watch: whoever looks once and whoever serves have the same, and it ends with the last of them.
    fn watch(&self) -> futures_util::future::Shared<BoxFuture<'static, ()>> {
        let mut going = lock(&self.going);
        if let Some(watch) = going.as_ref().and_then(WeakShared::upgrade) {
            return watch;
        }
        let watch = self.watcher.clone().watch().boxed().shared();
        *going = watch.downgrade();
        watch
    }

    pub(super) async fn read(&self, _look: Look<'_>) -> Result<Seen, Failure> {
        let Watcher { shelf, config, .. } = &self.watcher;
        // Who runs a probe once does not serve: then it watches for as long as it takes to have the lists.
        tokio::select! {
            // First, because it says that what is known from before is not enough.
            biased;
            () = self.watch() => std::future::pending().await,
            seen = shelf.settled(config) => seen,
        }
    }
}

impl Attended for Reader {
    async fn serve(&self) {
        self.watch().await;
    }

    fn concerns(&self) -> Vec<String> {
        self.watcher.access.concern().into_iter().collect()
    }
}
