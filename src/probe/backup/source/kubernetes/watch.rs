//! The watches: a list, then every change, again and again. What they tell goes to the [shelf](super::shelf).

use std::error::Error as StdError;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::Status;
use kube::runtime::watcher::{self, DefaultBackoff, Error, watcher};
use kube::{Api, Client};
use tokio::time::sleep;

use super::access::Access;
use super::link::Link;
use super::objects::{CronJob, Job, Object, Pod};
use super::shelf::{Part, Shelf, Told};
use super::{Choice, Config, Nodes};
use crate::probe::backup::source::file::Alone;
use crate::probe::net::{Net, clean};
use crate::probe::{Failure, Reason};

/// A watch is renewed after so many seconds, so that a server that has fallen silent is noticed soon.
const RENEWED: u32 = 60;
/// So many objects are asked for at once, as other clients do: what they are is in memory while they are read.
const PAGE: u32 = 500;
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The label that every Pod of a Job has.
const POD_OF_A_JOB: &str = "job-name";

/// Watches what a job is about.
#[derive(Clone)]
pub(super) struct Watcher {
    pub(super) config: Arc<Config>,
    pub(super) net: Net,
    pub(super) access: Arc<Access>,
    pub(super) shelf: Arc<Shelf>,
}

impl Watcher {
    /// Watches as long as nobody drops it, and nobody else does.
    pub(super) async fn watch(self) {
        // Whose keys were the same before a reload may be at it still.
        let _watching = self.shelf.watching.lock().await;
        let config = &self.config;
        let has_pods = !matches!(config.nodes, Nodes::Unwatched);
        let cron = if let Choice::CronJob(name) = &config.choice { Some(name.as_str()) } else { None };
        let parts = [(true, Part::Jobs), (has_pods, Part::Pods), (cron.is_some(), Part::Cron)];
        let wanted: Vec<_> = parts.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, part)| part).collect();
        self.shelf.begin(&wanted);
        let namespace = self.namespace().await;
        let all = watcher::Config::default().timeout(RENEWED).page_size(PAGE);
        let jobs = match &config.choice {
            Choice::Selector(labels) => all.clone().labels(labels),
            Choice::CronJob(_) | Choice::Named(_) => all.clone(),
        };
        let pods = all.clone().labels(POD_OF_A_JOB);
        let named = cron.map(|name| all.fields(&format!("metadata.name={name}")));
        tokio::join!(
            Box::pin(self.follow::<Job>(&namespace, Some(jobs))),
            Box::pin(self.follow::<Pod>(&namespace, has_pods.then_some(pods))),
            Box::pin(self.follow::<CronJob>(&namespace, named)),
        );
    }

    /// The namespace; waits until it is known.
    async fn namespace(&self) -> String {
        if let Some(namespace) = &self.config.namespace {
            return namespace.clone();
        }
        let (mut pauses, files) = (DefaultBackoff::default(), Alone::<()>::default());
        loop {
            let access = Arc::clone(&self.access);
            match files.work(move |()| access.namespace()).await {
                Ok(namespace) => return namespace,
                Err(failure) => self.shelf.fails(Part::Jobs, failure),
            }
            sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    /// Follows the objects of one kind.
    async fn follow<K: Told>(&self, namespace: &str, which: Option<watcher::Config>) {
        let Some(which) = which else { return };
        let client = self.client(K::PART);
        let mut pauses = DefaultBackoff::default();
        loop {
            let api = Api::<Object<K>>::namespaced(client.clone(), namespace);
            let mut events = pin!(watcher(api, which.clone()));
            while let Some(event) = events.next().await {
                let error = match event {
                    Ok(event) => {
                        self.shelf.tell(&self.config, event);
                        continue;
                    }
                    Err(error) => error,
                };
                if let Some(failure) = failure(&error, K::PLURAL, namespace) {
                    self.shelf.fails(K::PART, failure);
                }
                sleep(pauses.next().unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)).await;
                // Whatever the server has against the place where the watch was to go on, it is asked again from the list.
                if matches!(error, Error::WatchStartFailed(kube::Error::Api(_)) | Error::WatchError(_)) {
                    break;
                }
            }
        }
    }

    fn client(&self, part: Part) -> Client {
        let (access, shelf) = (Arc::clone(&self.access), Arc::clone(&self.shelf));
        Link { net: self.net.clone(), access, shelf, part, next: Mutex::default(), files: Alone::default() }.client()
    }
}

/// What a watch could not do. `None` if nothing is wrong but that changes have been missed, and a list tells them.
fn failure(error: &Error, plural: &str, namespace: &str) -> Option<Failure> {
    let (verb, status) = match error {
        Error::InitialListFailed(kube::Error::Api(status)) => ("list", Some(status)),
        Error::WatchStartFailed(kube::Error::Api(status)) | Error::WatchError(status) => ("watch", Some(status)),
        Error::InitialListFailed(_) => ("list", None),
        _ => ("watch", None),
    };
    let what = format!("{verb} {plural} in namespace {}", clean(namespace));
    match status {
        Some(status) if status.code == 410 => None,
        Some(status) => Some(refused(status, &what)),
        None => Some(beneath(error).map_or_else(
            // Its words may quote the answer.
            || Failure::new(Reason::Protocol, clean(&format!("{what}: the API server's answer cannot be read"))),
            |failure| Failure::new(failure.reason, format!("{what}: {}", failure.detail)),
        )),
    }
}

/// What the API server has against a request.
fn refused(status: &Status, what: &str) -> Failure {
    let words = match status.code {
        401 => format!("{what}: the API server does not know who we are: {}", status.message),
        403 => format!("{what}: the role does not allow it: {}", status.message),
        code => format!("{what}: the API server answers {code}: {}", status.message),
    };
    let reason = match status.code {
        401 | 403 => Reason::Auth,
        429 | 503 => Reason::Overload,
        504 => Reason::Timeout,
        _ => Reason::Rejected,
    };
    Failure::new(reason, clean(&words))
}

/// The failure of a link that an error of kube's is about.
fn beneath<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(failure) = error.downcast_ref() {
            return Some(failure);
        }
        // What an I/O error was made of is not its source but that one's.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}
