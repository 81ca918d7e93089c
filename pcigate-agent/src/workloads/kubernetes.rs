//! Workloads from the API server: the pods of this node and the labels of all namespaces, listed
//! and watched.
//!
//! A pod that is known stays known: while the API server is away, across a restart of the agent
//! (`pods.json` in the state directory), and after its object is deleted for as long as it has a
//! cgroup. What is not known yet is an unknown workload, treated by `unknownWorkloads`.

mod backoff;
mod connection;
mod kept;
mod objects;
mod reflector;
mod store;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

pub use connection::ConnectError;
pub use store::{Answering, Status};

use super::{
    Found,
    exempt::Exempt,
    pods::{Finder, WalkError},
};
use crate::atomic_file;
use reflector::Reflector;
use store::Store;

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
    finder: Finder,
    changed: Bell,
    kept: PathBuf,
    kept_at: Option<Instant>,
    _watching: JoinSet<()>,
}

type Shared = Arc<Mutex<Store>>;
type Bell = Arc<watch::Sender<()>>;

impl Kubernetes {
    /// Begins to watch, with what was known last.
    ///
    /// # Errors
    /// The way to the API server is not known: the kubeconfig or the ServiceAccount's files are
    /// missing or wrong. That nobody answers is no error.
    pub async fn start(settings: &Settings) -> Result<Self, ConnectError> {
        let client = connection::client(settings.kubeconfig.as_deref()).await?;
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
        let pods = Reflector::pods(client.clone(), &settings.node);
        for reflector in [pods, Reflector::namespaces(client)] {
            let (store, changed) = (Arc::clone(&store), Arc::clone(&changed));
            watching.spawn(reflector.run(store, changed));
        }
        let finder = Finder::default();
        Ok(Self { store, finder, changed, kept, kept_at: None, _watching: watching })
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

    /// A cgroup was made.
    pub fn rung(&mut self) {
        self.finder.rung();
    }

    /// The governed cgroups, and what is known of the source.
    ///
    /// # Errors
    /// The governed root cannot be listed.
    pub fn find(&mut self, root: &Path, exempt: &Exempt) -> Result<Vec<Found>, WalkError> {
        let pods = lock(&self.store).pods();
        let tree = self.finder.find(root, &pods, exempt)?;
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
