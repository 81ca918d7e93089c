//! Pods that a source lists, and which cgroups are theirs.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use pcigate_policy::workload::Identity;
use serde::{Deserialize, Serialize};

use super::{Found, More, exempt::Exempt, layout};
use crate::cgroup::{self, Directory};

/// What the API server fills in where a pod names no ServiceAccount.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// How often the directories are read where no cgroup was made.
const WALK_EVERY: Duration = Duration::from_secs(1);

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

/// Pods by the UID their cgroup carries. One that has not changed is the same one in the next list.
pub type Pods = HashMap<String, Arc<ListedPod>>;

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

/// Finds the cgroups of pods; what has not changed since the last time is found as it was then.
///
/// The directories are read anew where [`Self::rung`] says that there may be others, and otherwise
/// from time to time, to see which are gone.
#[derive(Debug, Default)]
pub struct Finder {
    directories: Vec<Directory>,
    walked: Option<Instant>,
    before: HashMap<PathBuf, (Option<Arc<ListedPod>>, Found)>,
}

impl Finder {
    /// A cgroup was made.
    pub fn rung(&mut self) {
        self.walked = None;
    }

    /// The cgroups below `root` that belong to pods of the list, and to exempt ones.
    ///
    /// # Errors
    /// The root cannot be listed.
    pub fn find(&mut self, root: &Path, pods: &Pods, exempt: &Exempt) -> Result<Tree, WalkError> {
        if self.walked.is_none_or(|walked| walked.elapsed() >= WALK_EVERY) {
            let walked = Instant::now();
            self.directories =
                cgroup::walk(root).map_err(|source| WalkError { path: root.to_owned(), source })?;
            self.walked = Some(walked);
        }
        let mut tree = Tree::default();
        let mut now = HashMap::with_capacity(self.before.len());
        for &Directory { ref path, id } in &self.directories {
            let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
            let Some((relative, place)) =
                relative.and_then(|path| Some((path, layout::place(path)?)))
            else {
                continue;
            };
            let pod = pods.get(&place.pod_uid);
            let same = |(of, found): &(Option<Arc<ListedPod>>, Found)| {
                found.cgroup_id == id && of.as_ref().map(Arc::as_ptr) == pod.map(Arc::as_ptr)
            };
            let before = self.before.remove(path).filter(same).map(|(_, found)| found);
            let found = before.or_else(|| found(id, relative, &place, pod, exempt));
            let is_known = found.is_some();
            if let Some(found) = found {
                tree.found.push(found.clone());
                now.insert(path.clone(), (pod.cloned(), found));
            }
            let is_new = tree.pod_uids.insert(place.pod_uid);
            tree.unknown += usize::from(is_new && !is_known);
        }
        self.before = now;
        Ok(tree)
    }
}

fn found(
    cgroup_id: u64,
    relative: &str,
    place: &layout::Place,
    pod: Option<&Arc<ListedPod>>,
    exempt: &Exempt,
) -> Option<Found> {
    let listed = pod.map(|pod| (pod.identity.namespace.as_str(), pod.identity.pod_uid.as_str()));
    let (namespace, pod_uid) = listed.unwrap_or(("", &place.pod_uid));
    let is_exempt = exempt.covers(namespace, pod_uid) || exempt.pod_uids.contains(&place.pod_uid);
    if pod.is_none() && !is_exempt {
        return None;
    }
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
        ..Found::with(cgroup_id, relative, identity, container, More { owner, image })
    })
}

/// A pod that is exempt by its UID; no list says more of it.
fn unlisted(pod_uid: &str) -> Arc<Identity> {
    Arc::new(Identity { pod_uid: pod_uid.to_owned(), ..Identity::default() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const UID: &str = "1a2b3c4d-0000-4000-8000-1234567890ab";

    fn pods(app: &str) -> Pods {
        let identity = Identity {
            pod_uid: UID.to_owned(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            ..Identity::default()
        };
        let pod = ListedPod {
            identity: Arc::new(identity),
            containers: HashMap::new(),
            owner: <_>::default(),
            refused: false,
        };
        [(UID.to_owned(), Arc::new(pod))].into()
    }

    #[test]
    fn what_is_as_it_was_is_found_as_it_was_and_a_changed_pod_anew() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(format!("kubepods/burstable/pod{UID}"));
        fs::create_dir_all(&path).unwrap();
        let (mut finder, exempt) = (Finder::default(), Exempt::default());
        let mut find = |pods: &Pods| {
            finder.rung();
            let tree = finder.find(root.path(), pods, &exempt).unwrap();
            assert_eq!(tree.found.len(), 1);
            tree.found.into_iter().next().unwrap()
        };
        let (one, other) = (pods("web"), pods("shop"));
        let first = find(&one);
        assert!(find(&one).is(&first));
        let changed = find(&other);
        assert!(!changed.is(&first) && changed.identity.labels["app"] == "shop");
        // Made anew under the same name, it is another cgroup.
        fs::rename(&path, root.path().join("old")).unwrap();
        fs::create_dir(&path).unwrap();
        let made_anew = find(&other);
        assert!(!made_anew.is(&changed) && made_anew.cgroup_id != changed.cgroup_id);
    }

    #[test]
    fn a_cgroup_is_found_when_the_bell_has_rung_and_a_pod_also_without() {
        let root = tempfile::tempdir().unwrap();
        let (mut finder, exempt) = (Finder::default(), Exempt::default());
        let count = |finder: &mut Finder, pods: &Pods| {
            finder.find(root.path(), pods, &exempt).unwrap().found.len()
        };
        assert_eq!(count(&mut finder, &pods("web")), 0);
        let path = root.path().join(format!("kubepods/pod{UID}"));
        fs::create_dir_all(&path).unwrap();
        finder.rung();
        assert_eq!(count(&mut finder, &Pods::new()), 0, "nobody knows whose it is");
        assert_eq!(count(&mut finder, &pods("web")), 1);
    }

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
