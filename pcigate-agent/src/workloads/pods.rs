//! Pods that a source lists, and which cgroups are theirs.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pcigate_policy::workload::Identity;
use serde::{Deserialize, Serialize};

use super::{Found, More, exempt::Exempt, layout};
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

/// Bytes of an image's name that are kept.
const IMAGE_BYTES_MAX: usize = 512;

/// A container as the kubelet told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// The image it was made of.
    pub image: String,
    /// `sha256:…` of what runs; empty where the runtime did not say.
    pub digest: String,
}

impl Container {
    /// By `name`, `image` and `imageID` of a containerStatus.
    #[must_use]
    pub fn new(name: String, image: &str, image_id: &str) -> Self {
        let end = image.floor_char_boundary(IMAGE_BYTES_MAX);
        let image = image.get(..end).unwrap_or_default().to_owned();
        Self { name, image, digest: digest(image_id).unwrap_or_default() }
    }
}

/// `sha256:…` at the end of an imageID: `docker.io/library/x@sha256:…`, `docker-pullable://…@…`, or
/// alone, as for an image that came from no registry.
fn digest(image_id: &str) -> Option<String> {
    let last = image_id.rsplit('@').next()?;
    let last = last.strip_prefix("docker://").unwrap_or(last);
    let (algorithm, hex) = last.split_once(':')?;
    let is_digest = matches!((algorithm, hex.len()), ("sha256", 64) | ("sha512", 128))
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| last.to_owned())
}

/// A pod of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPod {
    /// What policies select by.
    pub identity: Arc<Identity>,
    /// By container id.
    pub containers: HashMap<String, Container>,
    /// What made it, at the top of the chain of controllers: kind and name; empty where none.
    pub owner: (String, String),
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
        tree.found.extend(found(directory, relative, &place, pod, exempt));
        tree.pod_uids.insert(place.pod_uid);
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
    let id_of_container = place.container_id.as_deref();
    let told = id_of_container.zip(pod).and_then(|(id, pod)| pod.containers.get(id));
    let name = told.map_or("", |container| container.name.as_str());
    let container = id_of_container.map(|id| (name, id));
    let owner = pod.map(|pod| (pod.owner.0.as_str(), pod.owner.1.as_str())).unwrap_or_default();
    let image = told.map(|told| (told.image.as_str(), told.digest.as_str())).unwrap_or_default();
    let identity = pod.map_or_else(|| unlisted(&place.pod_uid), |pod| Arc::clone(&pod.identity));
    Some(Found {
        exempt: is_exempt,
        refused: pod.is_some_and(|pod| pod.refused),
        ..Found::with(id, relative, identity, container, More { owner, image })
    })
}

/// A pod that is exempt by its UID; no list says more of it.
fn unlisted(pod_uid: &str) -> Arc<Identity> {
    Arc::new(Identity { pod_uid: pod_uid.to_owned(), ..Identity::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_found_in_every_runtimes_spelling_and_nothing_else_is_one() {
        let hex = "ab".repeat(32);
        let sha = format!("sha256:{hex}");
        for image_id in [
            sha.clone(),
            format!("docker.io/library/busybox@{sha}"),
            format!("docker-pullable://registry:5000/x@{sha}"),
            format!("docker://{sha}"),
        ] {
            assert_eq!(Container::new(String::new(), "x", &image_id).digest, sha, "{image_id}");
        }
        for image_id in
            ["", "x", "sha256:", "sha256:zz", "sha256:ab", "busybox:1.36", &format!("md5:{hex}")]
        {
            assert_eq!(Container::new(String::new(), "x", image_id).digest, "", "{image_id}");
        }
    }

    #[test]
    fn a_long_image_is_cut_at_a_character() {
        let cut = Container::new(String::new(), &"ä".repeat(400), "").image;
        assert_eq!(cut.len(), IMAGE_BYTES_MAX);
    }
}
