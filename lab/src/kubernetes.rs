//! A made-up API server of Kubernetes: there is no cluster in the lab.
//!
//! It keeps objects of any kind and follows the conventions of the API for lists in pages, watches with resource versions, bookmarks
//! and `410 Gone`, and it can be told to misbehave. It checks no schema and runs no controllers: a test writes what a controller
//! would have written.
//!
//! Source: "Kubernetes API Concepts", sections "Efficient detection of changes" and "Retrieving large results sets in chunks".

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Error, Result};

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

struct State {
    token: String,
    version: u64,
    /// By resource (`jobs`) and name.
    objects: BTreeMap<(String, String), Value>,
    /// What happened: version, resource, kind of event, object.
    log: Vec<(u64, String, &'static str, Value)>,
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
            state.log.push((state.version, resource.to_owned(), if is_new { "ADDED" } else { "MODIFIED" }, object));
        });
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &str, name: &str) {
        self.change(|state| {
            let Some(mut object) = state.objects.remove(&(resource.to_owned(), name.to_owned())) else { return };
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.log.push((state.version, resource.to_owned(), "DELETED", object));
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

async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    let mut listener = Some(listener);
    loop {
        let is_up = shared.state().is_up;
        if !is_up {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let Some(listening) = &listener else {
            let _ = changed.changed().await;
            continue;
        };
        tokio::select! {
            _ = changed.changed() => {}
            accepted = listening.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(converse(stream, Arc::clone(&shared)));
                }
            }
        }
    }
}

/// A request.
struct Asked {
    /// The namespaced resource, such as `jobs`.
    resource: String,
    query: HashMap<String, String>,
}

impl Asked {
    fn read(target: &str) -> Option<Asked> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let resource = path.rsplit_once(&format!("/namespaces/{NAMESPACE}/"))?.1.to_owned();
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), decode(value))
        };
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
        Some(Asked { resource, query })
    }

    fn get(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }

    /// Whether the object is wanted.
    fn wants(&self, resource: &str, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let is_named = |wanted: &str| wanted.strip_prefix("metadata.name=").is_none_or(|name| metadata["name"] == name);
        let has_label = |wanted: &str| match wanted.split_once('=') {
            _ if wanted.is_empty() => true,
            Some((label, value)) => metadata["labels"][label] == value,
            None => !metadata["labels"][wanted].is_null(),
        };
        resource == self.resource
            && is_named(self.get("fieldSelector"))
            && self.get("labelSelector").split(',').all(has_label)
    }
}

/// Decodes a value of a query.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

async fn converse(mut stream: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
    let (delay, right) = {
        let mut state = shared.state();
        state.requests.push(target.clone());
        (state.delay, state.token.clone())
    };
    sleep(delay).await;
    if token != Some(&right) {
        return refuse(&mut stream, 401, "Unauthorized", "Unauthorized").await;
    }
    let Some(asked) = Asked::read(&target) else {
        return refuse(&mut stream, 404, "NotFound", "the server could not find the requested resource").await;
    };
    let verb = if asked.get("watch") == "true" { "watch" } else { "list" };
    if shared.state().forbidden.contains(&(verb.to_owned(), asked.resource.clone())) {
        let words = format!(
            "{} is forbidden: User \"system:serviceaccount:{NAMESPACE}:midwatch\" cannot {verb} resource \"{}\" in the namespace \"{NAMESPACE}\"",
            asked.resource, asked.resource
        );
        return refuse(&mut stream, 403, "Forbidden", &words).await;
    }
    if verb == "watch" { watch(&mut stream, &shared, &asked).await } else { list(&mut stream, &shared, &asked).await }
}

/// An error as the API tells it.
fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

async fn refuse(stream: &mut TcpStream, code: u16, reason: &str, message: &str) -> std::io::Result<()> {
    answer(stream, code, &status(code, reason, message).to_string()).await
}

async fn answer(stream: &mut TcpStream, code: u16, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {code} Made-up\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

async fn list(stream: &mut TcpStream, shared: &Shared, asked: &Asked) -> std::io::Result<()> {
    let body = {
        let state = shared.state();
        // The token of a page says where it begins, and of which version the list is.
        let (from, version) = asked.get("continue").split_once('.').unwrap_or(("0", ""));
        let version = version.parse().unwrap_or(state.version);
        let from: usize = from.parse().unwrap_or(0);
        let limit = asked.get("limit").parse().unwrap_or(usize::MAX).min(state.page);
        let all = state.objects.iter().filter(|((resource, _), object)| asked.wants(resource, object));
        let all: Vec<_> = all.map(|(_, object)| object.clone()).collect();
        let to = from.saturating_add(limit).min(all.len());
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if to < all.len() {
            metadata["continue"] = json!(format!("{to}.{version}"));
        }
        if from > 0 && version < state.horizon {
            Err(status(
                410,
                "Expired",
                "The provided continue parameter is too old to display a consistent list result.",
            ))
        } else if let Some(garbage) = &state.garbage {
            Ok(garbage.clone())
        } else {
            Ok(json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": all[from.min(to)..to]})
                .to_string())
        }
    };
    match body {
        Ok(body) => answer(stream, 200, &body).await,
        Err(gone) => answer(stream, 410, &gone.to_string()).await,
    }
}

/// What a watch is to be told next.
enum Next {
    Line(Value),
    Wait,
    Cut,
    End,
}

async fn watch(stream: &mut TcpStream, shared: &Shared, asked: &Asked) -> std::io::Result<()> {
    let mut changed = shared.changed.subscribe();
    let mut seen: u64 = asked.get("resourceVersion").parse().unwrap_or(0);
    let seconds = asked.get("timeoutSeconds").parse().unwrap_or(300);
    let ends = Instant::now() + Duration::from_secs(seconds);
    let (epoch, mut bookmarks, is_gone) = {
        let state = shared.state();
        (state.epoch, state.bookmarks, state.gone_by_status && seen < state.horizon)
    };
    let gone = status(410, "Expired", "too old resource version");
    if is_gone {
        return answer(stream, 410, &gone.to_string()).await;
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    loop {
        let next = {
            let state = shared.state();
            let event = state
                .log
                .iter()
                .find(|(version, resource, _, object)| *version > seen && asked.wants(resource, object));
            if state.epoch != epoch {
                Next::Cut
            } else if state.ends_watches {
                Next::End
            } else if seen < state.horizon {
                seen = u64::MAX;
                Next::Line(json!({"type": "ERROR", "object": gone}))
            } else if let Some((version, _, kind, object)) = event {
                seen = *version;
                Next::Line(json!({"type": kind, "object": object}))
            } else if bookmarks < state.bookmarks && asked.get("allowWatchBookmarks") == "true" {
                (bookmarks, seen) = (state.bookmarks, state.version);
                let metadata = json!({"resourceVersion": seen.to_string(), "creationTimestamp": null});
                Next::Line(
                    json!({"type": "BOOKMARK", "object": {"kind": "Any", "apiVersion": "v1", "metadata": metadata}}),
                )
            } else if seen == u64::MAX {
                Next::End
            } else {
                Next::Wait
            }
        };
        match next {
            Next::Line(line) => {
                // A line need not come in one piece.
                let line = format!("{line}\n");
                let (first, rest) = line.as_bytes().split_at(line.len() / 2);
                chunk(stream, first).await?;
                chunk(stream, rest).await?;
            }
            Next::Cut => return stream.write_all(b"40\r\n{\"type\":\"MODIF").await,
            Next::End => return stream.write_all(b"0\r\n\r\n").await,
            Next::Wait => {
                if timeout_at(ends, changed.changed()).await.is_err() {
                    return stream.write_all(b"0\r\n\r\n").await;
                }
            }
        }
    }
}

async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.write_all(b"\r\n").await
}

/// A Job with that uid in that state of its life. `owner` is its CronJob.
pub fn job(name: &str, uid: &str, owner: Option<&str>, life: &Life<'_>) -> Value {
    let condition = |kind: &str, at: &str, reason: &str, message: &str| json!([{"type": kind, "status": "True", "lastProbeTime": at, "lastTransitionTime": at, "reason": reason, "message": message}]);
    let status = match life {
        Life::Pending => json!({}),
        Life::Running { started } => json!({"startTime": started, "active": 1, "ready": 1}),
        Life::Complete { started, ended } => json!({
            "startTime": started, "completionTime": ended, "succeeded": 1,
            "conditions": condition("Complete", ended, "CompletionsReached", "Reached expected number of succeeded pods"),
        }),
        Life::Failed { started, ended, reason } => json!({
            "startTime": started, "failed": 4, "conditions": condition("Failed", ended, reason, "Job has failed"),
        }),
    };
    let owners = owner.map(|owner| json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": owner, "uid": format!("uid-of-{owner}"), "controller": true}]));
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "labels": {"app": "backup"}, "ownerReferences": owners,
            "creationTimestamp": "2026-11-21T01:59:59Z", "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": {"f:status": {}}}]},
        "spec": {"backoffLimit": 3, "template": {"spec": {"containers": [{"name": "dump", "image": "mongo", "env": [{"name": "PASSWORD", "value": "from-the-spec"}]}]}}},
        "status": status,
    })
}

/// The life of a Job.
#[derive(Clone, Copy, Debug)]
pub enum Life<'t> {
    /// Made, and not begun.
    Pending,
    /// Begun.
    Running {
        /// When.
        started: &'t str,
    },
    /// Done.
    Complete {
        /// When it began.
        started: &'t str,
        /// When it ended.
        ended: &'t str,
    },
    /// Given up.
    Failed {
        /// When it began.
        started: &'t str,
        /// When it ended.
        ended: &'t str,
        /// Why, such as `BackoffLimitExceeded`.
        reason: &'t str,
    },
}

/// A Pod of the Job with that uid, on that node; without one it waits for a place.
pub fn pod(name: &str, job: &str, created: &str, node: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}"), "labels": {"job-name": "a-job"},
            "creationTimestamp": created, "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "a-job", "uid": job, "controller": true}]},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running"},
    })
}

/// A CronJob.
pub fn cron_job(name: &str, schedule: &str, zone: Option<&str>, is_suspended: bool) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}")},
        "spec": {"schedule": schedule, "timeZone": zone, "suspend": is_suspended, "jobTemplate": {"spec": {}}},
        "status": {"lastScheduleTime": "2026-11-21T02:00:00Z"},
    })
}
