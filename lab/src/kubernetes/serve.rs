//! Requests and answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Event, NAMESPACE, Shared, State};

/// Takes connections as long as the server is up.
pub(super) async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
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

/// How far a watch is.
struct Position {
    seen: u64,
    epoch: u64,
    bookmarks: u64,
}

const TOO_OLD: &str = "too old resource version";
/// Beyond all versions: a watch that was told `410 Gone` has nothing more to come.
const OVER: u64 = u64::MAX;

impl Position {
    fn next(&mut self, state: &State, asked: &Asked) -> Next {
        let is_news = |event: &&Event| event.version > self.seen && asked.wants(&event.resource, &event.object);
        if state.epoch != self.epoch {
            Next::Cut
        } else if state.ends_watches || self.seen == OVER {
            Next::End
        } else if self.seen < state.horizon {
            self.seen = OVER;
            Next::Line(json!({"type": "ERROR", "object": status(410, "Expired", TOO_OLD)}))
        } else if let Some(event) = state.log.iter().find(is_news) {
            self.seen = event.version;
            Next::Line(json!({"type": event.kind, "object": event.object}))
        } else if self.bookmarks < state.bookmarks && asked.get("allowWatchBookmarks") == "true" {
            (self.bookmarks, self.seen) = (state.bookmarks, state.version);
            let metadata = json!({"resourceVersion": self.seen.to_string(), "creationTimestamp": null});
            Next::Line(json!({"type": "BOOKMARK", "object": {"kind": "Any", "apiVersion": "v1", "metadata": metadata}}))
        } else {
            Next::Wait
        }
    }
}

async fn watch(stream: &mut TcpStream, shared: &Shared, asked: &Asked) -> std::io::Result<()> {
    let mut changed = shared.changed.subscribe();
    let seen = asked.get("resourceVersion").parse().unwrap_or(0);
    let seconds = asked.get("timeoutSeconds").parse().unwrap_or(300);
    let ends = Instant::now() + Duration::from_secs(seconds);
    let (mut position, is_gone) = {
        let state = shared.state();
        let position = Position { seen, epoch: state.epoch, bookmarks: state.bookmarks };
        (position, state.gone_by_status && seen < state.horizon)
    };
    if is_gone {
        return refuse(stream, 410, "Expired", TOO_OLD).await;
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    loop {
        let next = position.next(&shared.state(), asked);
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
