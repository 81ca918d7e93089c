//! Keeps the store equal to a collection of the API server: a list in chunks, then a watch from
//! there on, and the list anew where the server has forgotten what happened since.

use std::time::Duration;

use rand_core::{OsRng, RngCore};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Bell, Shared,
    backoff::Backoff,
    client::{self, Client, Lines, RequestError},
    lock,
    objects::{Metadata, Object},
    store::{Collection, Event},
};
use crate::causes::chain;

/// Objects a chunk. Of objects as large as etcd holds them a chunk becomes too large; it is halved
/// then.
const CHUNK: usize = 100;
/// How long a watch is asked to last, in seconds; up to a quarter more, so that those of many nodes
/// do not end together.
const WATCH_SECONDS: u64 = 240;
/// How much longer nothing may come of it than it is to last.
const SILENCE: Duration = Duration::from_secs(30);
/// A watch that ends sooner, without having told anything, is a failure.
const SHORT: Duration = Duration::from_secs(10);
/// What is told of a server's message.
const MESSAGE_MAX: usize = 200;

/// Follows one collection.
pub(super) struct Reflector {
    collection: Collection,
    /// With its field selector, as far as there is one.
    path: String,
    chunk: usize,
}

#[derive(Deserialize)]
struct List {
    metadata: Metadata,
    #[serde(default)]
    items: Option<Vec<Object>>,
}

/// What a line of a watch is; what its object is depends on it.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Line {
    object: Object,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

#[derive(Deserialize)]
struct ErrorLine {
    object: Status,
}

impl Reflector {
    /// The pods of a node.
    pub(super) fn pods(node: &str) -> Self {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", escaped(node));
        Self { collection: Collection::Pods, path, chunk: CHUNK }
    }

    /// All namespaces: a pod on this node may be of any.
    pub(super) fn namespaces() -> Self {
        let path = "/api/v1/namespaces?".to_owned();
        Self { collection: Collection::Namespaces, path, chunk: CHUNK }
    }

    /// Follows until it is dropped.
    pub(super) async fn run(mut self, client: Client, store: Shared, changed: Bell) {
        let mut backoff = Backoff::default();
        let mut version: Option<String> = None;
        loop {
            let result = match &version {
                None => self.list(&client, &store).await,
                Some(from) => self.watch(&client, &store, &changed, from, &mut backoff).await,
            };
            let wait = match result {
                Ok(next) => {
                    lock(&store).answered(self.collection);
                    version = Some(next);
                    None
                }
                Err(error) => {
                    if matches!(error, RequestError::Gone) {
                        version = None;
                    } else {
                        lock(&store).trouble(self.collection, chain(&error));
                    }
                    let retry_after = match &error {
                        RequestError::Refused { retry_after, .. } => *retry_after,
                        RequestError::TooLarge { .. } => {
                            self.chunk = (self.chunk / 2).max(1);
                            None
                        }
                        _ => None,
                    };
                    let random = OsRng.next_u32().to_le_bytes()[0];
                    Some(backoff.next(retry_after, random))
                }
            };
            changed.send_replace(());
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Lists all; the resourceVersion to watch from.
    async fn list(&self, client: &Client, store: &Shared) -> Result<String, RequestError> {
        let mut listing = Vec::new();
        let mut rest = String::new();
        loop {
            let path = format!("{}&limit={}{rest}", self.path, self.chunk);
            let body = client::body(client.get(&path).await?, client::BODY_MAX).await?;
            let list: List = serde_json::from_slice(&body).map_err(unreadable)?;
            for object in list.items.unwrap_or_default() {
                listing.extend(lock(store).take(self.collection, Event::Listed, object));
            }
            match list.metadata.rest.filter(|token| !token.is_empty()) {
                Some(token) => rest = format!("&continue={}", escaped(&token)),
                None => {
                    lock(store).listed(self.collection, &listing);
                    return Ok(list.metadata.resource_version);
                }
            }
        }
    }

    /// Watches until the watch ends by itself; the resourceVersion to go on from.
    async fn watch(
        &self,
        client: &Client,
        store: &Shared,
        changed: &Bell,
        from: &str,
        backoff: &mut Backoff,
    ) -> Result<String, RequestError> {
        let lasts = WATCH_SECONDS + u64::from(OsRng.next_u32() % 61);
        let path = format!(
            "{}&watch=1&allowWatchBookmarks=true&timeoutSeconds={lasts}&resourceVersion={}",
            self.path,
            escaped(from)
        );
        let began = Instant::now();
        let answer = client.get(&path).await?;
        lock(store).answered(self.collection);
        changed.send_replace(());
        let mut lines = Lines::of(answer, Duration::from_secs(lasts) + SILENCE);
        let mut version = from.to_owned();
        loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) if version != from || began.elapsed() > SHORT => {
                    backoff.reset();
                    return Ok(version);
                }
                Ok(None) => {
                    let what = "a watch ends as soon as it begins".to_owned();
                    return Err(RequestError::Unreadable { what });
                }
                // What was told until then counts: the next watch goes on from there.
                Err(_) if version != from => return Ok(version),
                Err(error) => return Err(error),
            };
            let (event, object) = read_line(&line)?;
            let next = object.metadata.resource_version.clone();
            if let Some(event) = event {
                lock(store).take(self.collection, event, object);
                changed.send_replace(());
            }
            if !next.is_empty() {
                version = next;
            }
            backoff.reset();
        }
    }
}

/// `None` with a bookmark, of which only the resourceVersion counts.
fn read_line(line: &[u8]) -> Result<(Option<Event>, Object), RequestError> {
    let kind: Kind = serde_json::from_slice(line).map_err(unreadable)?;
    let object = || {
        let line: Result<Line, _> = serde_json::from_slice(line);
        line.map(|line| line.object).map_err(unreadable)
    };
    match kind.kind.as_str() {
        "ADDED" | "MODIFIED" => Ok((Some(Event::Changed), object()?)),
        "DELETED" => Ok((Some(Event::Deleted), object()?)),
        "BOOKMARK" => Ok((None, object()?)),
        "ERROR" => {
            let status: ErrorLine = serde_json::from_slice(line).map_err(unreadable)?;
            if status.object.code == 410 {
                return Err(RequestError::Gone);
            }
            Err(RequestError::Unreadable { what: plain(&status.object.message) })
        }
        other => Err(RequestError::Unreadable { what: format!("an event {}", plain(other)) }),
    }
}

fn unreadable(error: serde_json::Error) -> RequestError {
    RequestError::Unreadable { what: plain(&error.to_string()) }
}

/// What a `v1.Status` says.
pub(super) fn message(body: &[u8]) -> String {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    plain(&status.message)
}

/// A text of the server's, short and without control characters.
fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MESSAGE_MAX).collect()
}

/// For a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kinds_of_lines_are_told_apart() {
        let read = |line: &str| read_line(line.as_bytes());
        let pod = r#"{"metadata": {"name": "a", "resourceVersion": "7"}}"#;
        for (kind, event) in
            [("ADDED", Some(Event::Changed)), ("DELETED", Some(Event::Deleted)), ("BOOKMARK", None)]
        {
            let (read, object) =
                read(&format!(r#"{{"type": "{kind}", "object": {pod}}}"#)).unwrap();
            assert_eq!((read, object.metadata.resource_version.as_str()), (event, "7"));
        }
        let status = r#"{"type": "ERROR", "object": {"kind": "Status", "status": "Failure",
                         "metadata": {}, "code": 410, "message": "too old"}}"#;
        assert!(matches!(read(&status.replace('\n', "")), Err(RequestError::Gone)));
        let other = read(&status.replace("410", "500")).unwrap_err().to_string();
        assert!(other.contains("too old"), "{other}");
        assert!(read("{\"type\": \"NEW\"}").is_err() && read("").is_err());
    }

    #[test]
    fn a_token_of_a_list_survives_the_query() {
        assert_eq!(escaped("a+b/=&c"), "a%2Bb%2F%3D%26c");
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_line(&line);
            let _ = message(&line);
        }
    }
}
