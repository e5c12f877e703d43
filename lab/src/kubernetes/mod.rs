//! A made-up API server of Kubernetes: there is no cluster in the lab.
//!
//! It keeps objects of any kind and follows the conventions of the API for lists in pages, watches with resource versions, bookmarks
//! and `410 Gone`, and it can be told to misbehave. It checks no schema and runs no controllers: a test writes what a controller
//! would have written.
//!
//! Source: "Kubernetes API Concepts", sections "Efficient detection of changes" and "Retrieving large results sets in chunks".

mod objects;
mod serve;

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::serve::accept;
use crate::{Error, Result};

pub use self::objects::{Life, cron_job, job, minutes_ago, pod};

/// The one namespace that is served.
pub const NAMESPACE: &str = "databases";

/// The server. It listens on a loopback port of its own, over plain HTTP.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Told whenever the state has changed.
    changed: watch::Sender<()>,
}

/// Something that happened to an object.
struct Event {
    version: u64,
    resource: String,
    kind: &'static str,
    object: Value,
}

struct State {
    token: String,
    version: u64,
    /// By resource (`jobs`) and name.
    objects: BTreeMap<(String, String), Value>,
    log: Vec<Event>,
    /// Watches from before this version are told `410 Gone`.
    horizon: u64,
    bookmarks: u64,
    /// Watches of an earlier epoch are cut off.
    epoch: u64,
    is_up: bool,
    forbidden: HashSet<(String, String)>,
    gone_by_status: bool,
    ends_watches: bool,
    page: usize,
    garbage: Option<String>,
    delay: Duration,
    requests: Vec<String>,
}

impl ApiServer {
    /// Starts one that lets in whoever has the token.
    pub async fn start(token: &str) -> Result<ApiServer> {
        let what = "starting a made-up API server";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::io(what))?;
        let address = listener.local_addr().map_err(Error::io(what))?;
        let state = State {
            token: token.to_owned(),
            version: 1000,
            objects: BTreeMap::new(),
            log: Vec::new(),
            horizon: 0,
            bookmarks: 0,
            epoch: 0,
            is_up: true,
            forbidden: HashSet::new(),
            gone_by_status: false,
            ends_watches: false,
            page: usize::MAX,
            garbage: None,
            delay: Duration::ZERO,
            requests: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(()) });
        let task = tokio::spawn(accept(listener, address, Arc::clone(&shared)));
        Ok(ApiServer { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig that leads here with that token.
    pub fn kubeconfig(&self, token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\ncontexts:\n- name: lab\n  \
             context: {{cluster: lab, user: midwatch, namespace: {NAMESPACE}}}\nclusters:\n- name: lab\n  \
             cluster: {{server: 'http://{}'}}\nusers:\n- name: midwatch\n  user: {{token: {token}}}\n",
            self.address
        )
    }

    /// Writes an object of a resource such as `jobs`, new or not. Its metadata needs a name.
    pub fn put(&self, resource: &str, mut object: Value) {
        self.change(|state| {
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let is_new = state.objects.insert((resource.to_owned(), name), object.clone()).is_none();
            let kind = if is_new { "ADDED" } else { "MODIFIED" };
            state.log.push(Event { version: state.version, resource: resource.to_owned(), kind, object });
        });
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &str, name: &str) {
        self.change(|state| {
            let Some(mut object) = state.objects.remove(&(resource.to_owned(), name.to_owned())) else { return };
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.log.push(Event { version: state.version, resource: resource.to_owned(), kind: "DELETED", object });
        });
    }

    /// Forgets what happened so far: watches that have not seen it have to list again.
    pub fn compact(&self) {
        self.change(|state| {
            state.log.clear();
            state.version += 1;
            state.horizon = state.version;
        });
    }

    /// Whether a watch that comes too late is told so by the answer's status, instead of by an event.
    pub fn gone_by_status(&self, is: bool) {
        self.change(|state| state.gone_by_status = is);
    }

    /// Whether each watch ends as soon as it has begun.
    pub fn end_watches(&self, is: bool) {
        self.change(|state| state.ends_watches = is);
    }

    /// Tells all watches how far they are.
    pub fn bookmark(&self) {
        self.change(|state| {
            state.version += 1;
            state.bookmarks += 1;
        });
    }

    /// Cuts all watches off in the middle of a line.
    pub fn cut(&self) {
        self.change(|state| state.epoch += 1);
    }

    /// Goes down, so that connections are refused, or comes up again. What it keeps stays.
    pub fn set_up(&self, is_up: bool) {
        self.change(|state| {
            state.is_up = is_up;
            state.epoch += 1;
        });
    }

    /// Lets in whoever has this token from now on.
    pub fn set_token(&self, token: &str) {
        self.change(|state| {
            state.token = token.to_owned();
            state.epoch += 1;
        });
    }

    /// Forbids a verb (`list`, `watch`) on a resource, or allows it again.
    pub fn forbid(&self, verb: &str, resource: &str, is: bool) {
        self.change(|state| {
            let what = (verb.to_owned(), resource.to_owned());
            if is {
                state.forbidden.insert(what)
            } else {
                state.forbidden.remove(&what)
            };
            state.epoch += 1;
        });
    }

    /// What lists are answered instead of what there is.
    pub fn set_garbage(&self, garbage: Option<&str>) {
        self.change(|state| state.garbage = garbage.map(str::to_owned));
    }

    /// How long answers take.
    pub fn set_delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// How many objects a page of a list has at most.
    pub fn set_page(&self, page: usize) {
        self.change(|state| state.page = page);
    }

    /// The paths and queries of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state());
        self.shared.changed.send_replace(());
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
        // Connections have tasks of their own.
        self.change(|state| (state.is_up, state.epoch) = (false, u64::MAX));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
