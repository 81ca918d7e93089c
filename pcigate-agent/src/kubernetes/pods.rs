//! Workloads from the API server: the pods of this node and the labels of all namespaces, listed
//! and watched.
//!
//! A pod that is known stays known: while the API server is away, across a restart of the agent
//! (`pods.json` in the state directory), and after its object is deleted for as long as it has a
//! cgroup. What is not known yet is an unknown workload, treated by `unknownWorkloads`.

mod kept;
mod objects;
mod store;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use k8s_openapi::api::core::v1;
use kube::{Api, api::ApiResource};

pub use super::reflector::Answering;
pub use store::Status;

use super::{
    connection::{ConnectError, Connection},
    reflector::{self, Event, Follower},
};
use crate::{
    atomic_file,
    workloads::{
        Found,
        exempt::Exempt,
        pods::{self, WalkError},
    },
};
use objects::Object;
use store::{Collection, Store};

/// The file in the state directory that holds the pods as last known.
pub const KEPT: &str = "pods.json";
/// How often at most what is known is written there.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Where the API server is, and whose pods are wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only pods of this node.
    pub node: String,
    /// `None`: by the ServiceAccount of the agent's own pod.
    pub kubeconfig: Option<PathBuf>,
    /// The agent's state directory.
    pub state_dir: PathBuf,
}

/// The source. Watching ends when it is dropped.
pub struct Kubernetes {
    store: Shared,
    changed: Bell,
    kept: PathBuf,
    kept_at: Option<Instant>,
    connection: Connection,
    _watching: JoinSet<()>,
}

type Shared = Arc<Mutex<Store>>;
type Bell = Arc<watch::Sender<()>>;

/// One of the two collections.
struct Following {
    collection: Collection,
    store: Shared,
    changed: Bell,
}

impl Follower for Following {
    type Object = Object;

    fn take(&self, event: Event, object: Object) -> Option<String> {
        lock(&self.store).take(self.collection, event, object)
    }

    fn listed(&self, keys: &[String]) {
        lock(&self.store).listed(self.collection, keys);
    }

    fn heard(&self, trouble: Option<String>) {
        lock(&self.store).heard(self.collection, trouble);
        self.changed.send_replace(());
    }
}

impl Kubernetes {
    /// Begins to watch, with what was known last.
    ///
    /// # Errors
    /// The way to the API server is not known: the kubeconfig or the ServiceAccount's files are
    /// missing or wrong. That nobody answers is no error.
    pub async fn start(settings: &Settings) -> Result<Self, ConnectError> {
        let connection = Connection::open(settings.kubeconfig.as_deref()).await?;
        Ok(Self::watch(connection, settings))
    }

    /// Begins to watch over a connection that is there.
    #[must_use]
    pub fn watch(connection: Connection, settings: &Settings) -> Self {
        let client = connection.client.clone();
        if let Err((error, path)) = atomic_file::make_dir(&settings.state_dir) {
            tracing::error!("cannot make {} (stateDir): {error}", path.display());
        }
        let kept = settings.state_dir.join(KEPT);
        let mut store = Store::default();
        match kept::read(&kept) {
            Ok(pods) => store.remember(pods),
            Err(what) => tracing::warn!("the pods known last are not used: {what}"),
        }
        let store = Arc::new(Mutex::new(store));
        let changed = Bell::new(watch::Sender::new(()));
        let mut watching = JoinSet::new();
        // All namespaces: a pod on this node may be of any.
        let pods = Api::all_with(client.clone(), &ApiResource::erase::<v1::Pod>(&()));
        let namespaces = Api::all_with(client, &ApiResource::erase::<v1::Namespace>(&()));
        let of_node = format!("spec.nodeName={}", settings.node);
        for (collection, api, fields) in
            [(Collection::Pods, pods, of_node.as_str()), (Collection::Namespaces, namespaces, "")]
        {
            let (store, changed) = (Arc::clone(&store), Arc::clone(&changed));
            let following = Following { collection, store, changed };
            watching.spawn(reflector::follow(api, reflector::config(fields), following));
        }
        Self { store, changed, kept, kept_at: None, connection, _watching: watching }
    }

    /// The way to the API server.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Rings when something is known that was not.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until the pods and namespaces were listed once, at most so long.
    pub async fn listed(&self, within: Duration) -> bool {
        let mut changed = self.changed.subscribe();
        let listed = async {
            while !lock(&self.store).status().is_listed {
                // The watching tasks hold the other end as long as this does.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(within, listed).await.is_ok()
    }

    /// The governed cgroups, and what is known of the source.
    ///
    /// # Errors
    /// The governed root cannot be listed.
    pub fn find(&mut self, root: &Path, exempt: &Exempt) -> Result<Vec<Found>, WalkError> {
        let pods = lock(&self.store).pods();
        let tree = pods::find(root, &pods, exempt)?;
        lock(&self.store).forget_gone(&tree.pod_uids);
        self.keep();
        Ok(tree.found)
    }

    /// How well the source is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        lock(&self.store).status()
    }

    /// Writes what is known, where it is not written yet.
    fn keep(&mut self) {
        if self.kept_at.is_some_and(|at| at.elapsed() < KEEP_EVERY) {
            return;
        }
        let Some(pods) = lock(&self.store).take_unkept() else { return };
        self.kept_at = Some(Instant::now());
        if let Err(error) = kept::write(&self.kept, &pods) {
            lock(&self.store).unkept();
            tracing::error!(
                "cannot write {} (stateDir), so after a restart without API server no pod would \
                 be known: {error}",
                self.kept.display()
            );
        }
    }
}

/// A poisoned lock only means that a watch panicked between two complete changes.
fn lock(store: &Shared) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
