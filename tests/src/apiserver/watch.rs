//! A WATCH: what was asked for, as a stream of lines.

use std::{collections::BTreeMap, convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    State,
    objects::Refusal,
    route::Route,
    selector::Selector,
    store::{Change, Event, Resource},
};

/// Lines that a slow client lets wait; then its own watch waits.
const LINES_MAX: usize = 16;
/// How long a watch lasts that does not say (real servers: 30 to 60 minutes).
const LASTS: u64 = 1800;

pub(super) type Lines = StreamBody<ReceiverStream<Result<Frame<Bytes>, io::Error>>>;

/// What a watch wants.
pub(super) struct Wanted {
    pub(super) route: Route,
    pub(super) resource: Resource,
    pub(super) selector: Selector,
    pub(super) from: u64,
    /// The objects there are come first, as ADDED.
    pub(super) initial: bool,
    /// A bookmark says where these end (`sendInitialEvents`).
    pub(super) marks_end: bool,
    pub(super) bookmarks: bool,
    pub(super) lasts: Duration,
}

impl Wanted {
    pub(super) fn read(
        route: Route,
        resource: Resource,
        selector: Selector,
        query: &BTreeMap<String, String>,
    ) -> Self {
        let text = |key: &str| query.get(key).map_or("", String::as_str);
        let is = |key: &str| matches!(text(key), "true" | "1");
        let from = text("resourceVersion").parse().unwrap_or(0);
        let lasts = text("timeoutSeconds").parse().unwrap_or(LASTS);
        Self {
            route,
            resource,
            selector,
            from,
            initial: from == 0 || is("sendInitialEvents"),
            marks_end: is("sendInitialEvents"),
            bookmarks: is("allowWatchBookmarks"),
            lasts: Duration::from_secs(lasts),
        }
    }
}

/// Begins one.
pub(super) fn begin(state: Arc<State>, wanted: Wanted) -> Lines {
    let (send, receive) = mpsc::channel(LINES_MAX);
    tokio::spawn(async move {
        let mut dropped = state.dropped.subscribe();
        tokio::select! {
            _ = dropped.changed() => {
                // The stream breaks instead of ending.
                let _ = send.send(Err(io::Error::other("dropped on demand"))).await;
            }
            // Its time is over, the client is gone, or what it asked for is.
            _ = tokio::time::timeout(wanted.lasts, follow(&state, &wanted, &send)) => {}
        }
    });
    StreamBody::new(ReceiverStream::new(receive))
}

async fn follow(
    state: &State,
    wanted: &Wanted,
    send: &mpsc::Sender<Result<Frame<Bytes>, io::Error>>,
) -> Result<Infallible, ()> {
    let tell = async |kind: &str, object: &Value| {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        send.send(Ok(Frame::data(Bytes::from(line)))).await.map_err(|_| ())
    };
    let mut newest = state.newest.subscribe();
    let mut from = wanted.from;
    if wanted.initial {
        let objects = {
            let store = state.lock_store();
            from = store.newest();
            store.matching(&wanted.route, &wanted.selector)
        };
        for object in objects {
            tell("ADDED", &object).await?;
        }
        if wanted.marks_end {
            tell("BOOKMARK", &bookmark(&wanted.resource, from, true)).await?;
        }
    }
    loop {
        let events = state.lock_store().since(from);
        let Some(events) = events else {
            let message = format!("too old resource version: {from}");
            tell("ERROR", &Refusal::new(410, "Expired", message).status()).await?;
            return Err(());
        };
        for event in events {
            from = event.version;
            if let Some((kind, object)) = told(wanted, &event) {
                tell(kind, &object).await?;
            }
        }
        newest.changed().await.map_err(|_| ())?;
    }
}

/// What a watch is told of an event: an object that comes into what it selects is ADDED, one that
/// leaves it is DELETED.
fn told(wanted: &Wanted, event: &Event) -> Option<(&'static str, Value)> {
    if event.change == Change::Bookmark {
        let bookmark = bookmark(&wanted.resource, event.version, false);
        return wanted.bookmarks.then_some(("BOOKMARK", bookmark));
    }
    let (group, resource, namespace, name) = &event.key;
    let route = &wanted.route;
    let is_asked = |asked: &str, own: &str| asked.is_empty() || asked == own;
    let is_here = *group == route.group
        && *resource == route.resource
        && is_asked(&route.namespace, namespace)
        && is_asked(&route.name, name);
    if !is_here {
        return None;
    }
    let matches = |object: &Arc<Value>| wanted.selector.matches(object);
    let before = event.before.as_ref().is_some_and(matches);
    let now = event.change != Change::Deleted && matches(&event.now);
    let kind = match (before, now) {
        (false, true) => "ADDED",
        (true, true) => "MODIFIED",
        (true, false) => "DELETED",
        (false, false) => return None,
    };
    Some((kind, Value::clone(&event.now)))
}

fn bookmark(resource: &Resource, version: u64, ends_initial: bool) -> Value {
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if ends_initial {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata})
}
