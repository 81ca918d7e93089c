//! Policies and Targets from the API server: what is in force of them, while it answers and while
//! it does not.
//!
//! A document that is wrong changes nothing but itself: its last version that was right stays in
//! force. One that never was right refuses, to those it selects, what it speaks of. What was known
//! last (`documents.json` in the state directory) is in force for an agent that starts while the
//! API server is away; an agent that was never told all of it lets nobody do anything.

mod kept;
mod set;
mod words;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::{
    Api,
    api::{ApiResource, GroupVersionKind, Object},
};
use pcigate_policy::document::{Documents, ObjectName};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

pub use words::{Resolved, Row, Standing};

use super::{
    connection::Connection,
    reflector::{self, Answering, Event, Follower},
};
use crate::atomic_file;
use set::Store;
use words::{Came, Kind};

/// The file in the state directory that holds the documents as last known.
pub const KEPT: &str = "documents.json";
/// How often at most what is known is written there.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// The API group of our kinds, and its version.
pub(super) const GROUP: (&str, &str) = ("pcigate.dev", "v1alpha1");

/// Any custom resource: fields are not looked into before they are decoded.
pub(super) type Custom = Object<Option<Value>, Value>;

/// The documents of an API server. Following ends when this is dropped.
pub struct CustomResources {
    store: Shared,
    changed: Bell,
    kept: PathBuf,
    kept_at: Option<Instant>,
    _watching: JoinSet<()>,
}

type Shared = Arc<Mutex<Store>>;
type Bell = Arc<watch::Sender<()>>;

impl CustomResources {
    /// Begins to follow, with what was known last. Must run inside of a tokio runtime.
    #[must_use]
    pub fn follow(connection: &Connection, state_dir: &Path) -> Self {
        if let Err((error, path)) = atomic_file::make_dir(state_dir) {
            tracing::error!("cannot make {} (stateDir): {error}", path.display());
        }
        let kept = state_dir.join(KEPT);
        let mut store = Store::default();
        match kept::read(&kept) {
            Ok(memory) => store.remember(memory),
            Err(what) => tracing::error!("the policies known last are not used: {what}"),
        }
        let store = Arc::new(Mutex::new(store));
        let changed = Bell::new(watch::Sender::new(()));
        let mut watching = JoinSet::new();
        for kind in Kind::ALL {
            let api = Api::all_with(connection.client.clone(), &resource(kind.name()));
            let (store, changed) = (Arc::clone(&store), Arc::clone(&changed));
            let following = Following { kind, store, changed };
            watching.spawn(reflector::follow(api, reflector::config(""), following));
        }
        Self { store, changed, kept, kept_at: None, _watching: watching }
    }

    /// Rings when something is known that was not.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until all was listed once, at most so long.
    pub async fn listed(&self, within: Duration) -> bool {
        let mut changed = self.changed.subscribe();
        let listed = async {
            while !lock(&self.store).is_listed() {
                // The watching tasks hold the other end as long as this does.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(within, listed).await.is_ok()
    }

    /// What is in force together with the documents of files, where that may be something else
    /// than the last time. `anew`: those of the files are others.
    pub fn resolve(&mut self, files: &Documents, anew: bool) -> Option<Resolved> {
        let resolved = {
            let mut store = lock(&self.store);
            let changed = store.take_changed();
            (changed || anew).then(|| store.resolve(files))
        };
        self.keep();
        resolved
    }

    /// Whether the API server tells of documents.
    #[must_use]
    pub fn answering(&self) -> Answering {
        lock(&self.store).answering()
    }

    /// Writes what is known, where it is not written yet.
    fn keep(&mut self) {
        if self.kept_at.is_some_and(|at| at.elapsed() < KEEP_EVERY) {
            return;
        }
        let Some(memory) = lock(&self.store).take_unkept() else { return };
        self.kept_at = Some(Instant::now());
        if let Err(error) = kept::write(&self.kept, &memory) {
            lock(&self.store).unkept();
            tracing::error!(
                "cannot write {} (stateDir), so after a restart without API server everything \
                 would be refused: {error}",
                self.kept.display()
            );
        }
    }
}

/// One of the three collections.
struct Following {
    kind: Kind,
    store: Shared,
    changed: Bell,
}

impl Follower for Following {
    type Object = Custom;

    fn take(&self, event: Event, object: Custom) -> Option<String> {
        let meta = object.metadata;
        let name = ObjectName {
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
        };
        let generation = meta.generation.unwrap_or_default();
        let came = Came {
            uid: meta.uid.unwrap_or_default(),
            generation,
            created: meta.creation_timestamp.map(|at| at.0.to_string()).unwrap_or_default(),
            accepted: object.status.is_some_and(|status| is_accepted(&status, generation)),
            spec: object.spec.unwrap_or_default(),
        };
        Some(lock(&self.store).take(event, self.kind, name, came))
    }

    fn listed(&self, keys: &[String]) {
        lock(&self.store).listed(self.kind, keys);
    }

    fn heard(&self, trouble: Option<String>) {
        lock(&self.store).heard(self.kind, trouble);
        self.changed.send_replace(());
    }
}

/// Whether the nodes together have said that they can use this version.
fn is_accepted(status: &Value, generation: i64) -> bool {
    let conditions = status.get("conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        let is =
            |field: &str, value: &str| condition.get(field).and_then(Value::as_str) == Some(value);
        let of = condition.get("observedGeneration").and_then(Value::as_i64);
        is("type", "Accepted") && is("status", "True") && of == Some(generation)
    })
}

/// How a kind of ours is asked for.
pub(super) fn resource(kind: &str) -> ApiResource {
    let (group, version) = GROUP;
    // All plurals are regular.
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// A poisoned lock only means that a watch panicked between two complete changes.
fn lock(store: &Shared) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
