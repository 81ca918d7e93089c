//! Pods that a source lists, and which cgroups are theirs.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pcigate_policy::workload::Identity;

use super::{Found, exempt::Exempt, layout};
use crate::cgroup;

/// What the API server fills in where a pod names no ServiceAccount.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// The cgroup tree cannot be walked.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the cgroups below {path}")]
pub struct WalkError {
    /// The governed root.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A pod of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPod {
    /// What policies select by.
    pub identity: Arc<Identity>,
    /// Container id → name.
    pub containers: HashMap<String, String>,
    /// Its labels are too long to be kept, so no policy can be selected: everything is refused.
    pub refused: bool,
}

/// Pods by the UID their cgroup carries.
pub type Pods = HashMap<String, ListedPod>;

/// What there is.
#[derive(Debug, Default)]
pub struct Tree {
    /// The governed cgroups.
    pub found: Vec<Found>,
    /// The UIDs of all pods that have a cgroup.
    pub pod_uids: HashSet<String>,
    /// How many of these pods nobody has named.
    pub unknown: usize,
}

/// The cgroups below `root` that belong to pods of the list, and to exempt ones.
///
/// # Errors
/// The root cannot be listed.
pub fn find(root: &Path, pods: &Pods, exempt: &Exempt) -> Result<Tree, WalkError> {
    let directories =
        cgroup::walk(root).map_err(|source| WalkError { path: root.to_owned(), source })?;
    let mut tree = Tree::default();
    for directory in &directories {
        let relative = directory.strip_prefix(root).ok().and_then(Path::to_str);
        let Some((relative, place)) = relative.and_then(|path| Some((path, layout::place(path)?)))
        else {
            continue;
        };
        let pod = pods.get(&place.pod_uid);
        let found = found(directory, relative, &place, pod, exempt);
        let is_known = found.is_some();
        tree.found.extend(found);
        let is_new = tree.pod_uids.insert(place.pod_uid);
        tree.unknown += usize::from(is_new && !is_known);
    }
    Ok(tree)
}

fn found(
    directory: &Path,
    relative: &str,
    place: &layout::Place,
    pod: Option<&ListedPod>,
    exempt: &Exempt,
) -> Option<Found> {
    let listed = pod.map(|pod| (pod.identity.namespace.as_str(), pod.identity.pod_uid.as_str()));
    let (namespace, pod_uid) = listed.unwrap_or(("", &place.pod_uid));
    let is_exempt = exempt.covers(namespace, pod_uid) || exempt.pod_uids.contains(&place.pod_uid);
    if pod.is_none() && !is_exempt {
        return None;
    }
    // A cgroup that has just been removed is nobody's.
    let id = fs::metadata(directory).ok()?.ino();
    let name = |id: &str| pod.and_then(|pod| pod.containers.get(id)).map_or("", String::as_str);
    let container = place.container_id.as_deref().map(|id| (name(id), id));
    let identity = pod.map_or_else(|| unlisted(&place.pod_uid), |pod| Arc::clone(&pod.identity));
    Some(Found {
        exempt: is_exempt,
        refused: pod.is_some_and(|pod| pod.refused),
        ..Found::new(id, relative, identity, container)
    })
}

/// A pod that is exempt by its UID; no list says more of it.
fn unlisted(pod_uid: &str) -> Arc<Identity> {
    Arc::new(Identity { pod_uid: pod_uid.to_owned(), ..Identity::default() })
}
