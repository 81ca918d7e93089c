//! What is known of pods and namespaces. Pure: events in, pods by cgroup out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::objects::{LABELS_MAX, Object, Pod};
use super::owners::{Owner, Wanted};
use crate::{
    kubernetes::reflector::{Answering, Event, Health},
    workloads::pods::{ListedPod, Pods},
};

/// Pods kept. A node runs 110 by default and a few hundred at most; more are not named.
pub(super) const PODS_MAX: usize = 4096;
/// Namespaces kept. Pods of others are not named.
const NAMESPACES_MAX: usize = 65_536;
/// Pods named in the status for one reason.
const NAMED_MAX: usize = 64;

type Labels = BTreeMap<String, String>;

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collection {
    Pods,
    Namespaces,
}

/// How the source is doing.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether the API server tells what happens.
    pub answering: Answering,
    /// Whether all was listed once since the agent started.
    pub is_listed: bool,
    /// When the API server last told something of both pods and namespaces.
    pub heard: Option<Instant>,
    /// Pods that are known.
    pub pods: usize,
    /// Pods that share the node's network or processes, which their own cgroup does not confine.
    pub on_host: Vec<String>,
    /// What of the API server's objects is not used, and why.
    pub unused: Vec<String>,
}

/// A pod and whether its object is still there.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) pod: Pod,
    /// Its object is gone; its processes may not be.
    gone: bool,
    /// As it was listed last, and with which labels of its namespace.
    listed: Option<(Option<Arc<Labels>>, Arc<ListedPod>)>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    /// By UID.
    pods: BTreeMap<String, Known>,
    /// `None`: more labels than are kept.
    namespaces: BTreeMap<String, Option<Arc<Labels>>>,
    health: [Health; 2],
    unused: BTreeMap<String, String>,
    built: Option<Arc<Pods>>,
    unkept: bool,
}

/// What a file keeps of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) pods: Vec<Pod>,
    pub(super) namespaces: BTreeMap<String, Option<Labels>>,
}

impl Store {
    /// Begins with what was known last.
    pub(super) fn remember(&mut self, memory: Memory) {
        for (name, labels) in memory.namespaces.into_iter().take(NAMESPACES_MAX) {
            self.namespaces.insert(name, labels.map(Arc::new));
        }
        for pod in memory.pods.into_iter().take(PODS_MAX) {
            self.pods
                .insert(pod.identity.pod_uid.clone(), Known { pod, gone: false, listed: None });
        }
        self.built = None;
    }

    /// Takes in an object; its key, where it is used.
    pub(super) fn take(
        &mut self,
        collection: Collection,
        event: Event,
        object: Object,
    ) -> Option<String> {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let Object { metadata, .. } = &object;
        let place = format!("{}/{}", name(&metadata.namespace), name(&metadata.name));
        self.unused.remove(&place);
        let taken = match collection {
            Collection::Pods => object.into_pod().and_then(|pod| {
                if pod.overlong {
                    self.not_used(&place, overlong());
                }
                self.take_pod(event, pod)
            }),
            Collection::Namespaces => object
                .into_namespace()
                .and_then(|(name, labels)| self.take_namespace(event, name, labels)),
        };
        match taken {
            Ok(key) => Some(key),
            Err(why) => {
                self.not_used(&place, why);
                None
            }
        }
    }

    fn take_pod(&mut self, event: Event, mut pod: Pod) -> Result<String, String> {
        let uid = pod.identity.pod_uid.clone();
        if let Some(owner) = &mut pod.owner {
            let known = self.pods.values().filter_map(|known| known.pod.owner.as_ref());
            owner.learn(known);
        }
        let gone = event == Event::Deleted;
        let full = self.pods.len() >= PODS_MAX;
        match self.pods.get_mut(&uid) {
            Some(known) if known.pod == pod && known.gone == gone => {}
            Some(known) => {
                *known = Known { pod, gone, listed: None };
                self.changed();
            }
            // Nothing was known of it, and there is nothing to know any more.
            None if gone => {}
            None if full => {
                return Err(format!("more than {PODS_MAX} pods are on this node"));
            }
            None => {
                self.pods.insert(uid.clone(), Known { pod, gone, listed: None });
                self.changed();
            }
        }
        Ok(uid)
    }

    fn take_namespace(
        &mut self,
        event: Event,
        name: String,
        labels: Option<Labels>,
    ) -> Result<String, String> {
        // The labels of one that is deleted are needed as long as pods of it are known; it is
        // forgotten at the next list.
        if event == Event::Deleted {
            return Ok(name);
        }
        if self.namespaces.len() >= NAMESPACES_MAX && !self.namespaces.contains_key(&name) {
            return Err(format!("there are more than {NAMESPACES_MAX} namespaces"));
        }
        let labels = labels.map(Arc::new);
        if self.namespaces.get(&name) != Some(&labels) {
            self.namespaces.insert(name.clone(), labels);
            self.changed();
        }
        Ok(name)
    }

    /// A list is complete: what it does not hold is gone.
    pub(super) fn listed(&mut self, collection: Collection, keys: &[String]) {
        let keys: HashSet<&str> = keys.iter().map(String::as_str).collect();
        match collection {
            Collection::Pods => {
                for (uid, known) in &mut self.pods {
                    known.gone |= !keys.contains(uid.as_str());
                }
            }
            Collection::Namespaces => {
                let used: HashSet<&str> =
                    self.pods.values().map(|known| known.pod.identity.namespace.as_str()).collect();
                self.namespaces
                    .retain(|name, _| keys.contains(name.as_str()) || used.contains(name.as_str()));
            }
        }
        self.health_of(collection).listed = true;
        self.changed();
    }

    /// A controller whose own controller is not known yet.
    pub(super) fn wanted_owner(&self) -> Option<Wanted> {
        let pods = self.pods.values().filter(|known| !known.gone).map(|known| &known.pod);
        pods.filter_map(|pod| pod.owner.as_ref()?.wanted(&pod.identity.namespace)).next()
    }

    /// What made a controller (by UID), where anything did.
    pub(super) fn owner_found(&mut self, uid: &str, top: Option<&(String, String)>) {
        for known in self.pods.values_mut() {
            if let Some(owner) = known.pod.owner.as_mut().filter(|owner| owner.uid == uid) {
                owner.found(top.cloned());
                known.listed = None;
            }
        }
        self.changed();
    }

    /// Forgets pods whose objects are gone and that have no cgroup any more.
    pub(super) fn forget_gone(&mut self, with_cgroup: &HashSet<String>) {
        let before = self.pods.len();
        self.pods.retain(|uid, known| {
            let key = known.pod.hash.as_ref().unwrap_or(uid);
            !known.gone || with_cgroup.contains(key)
        });
        if self.pods.len() != before {
            self.changed();
        }
    }

    /// The pods that can be named, by the UID their cgroup carries.
    ///
    /// A pod of a namespace that is not known yet is left out, because policies select by the
    /// namespace's labels. Where two pods claim one cgroup, the one whose own UID it is counts;
    /// then one that is still there; then the older one, which a forged claim cannot be.
    pub(super) fn pods(&mut self) -> Arc<Pods> {
        if let Some(built) = &self.built {
            return Arc::clone(built);
        }
        let mut ranked: Vec<(&String, &mut Known)> = self.pods.iter_mut().collect();
        ranked.sort_by_key(|(uid, known)| {
            let Known { pod, gone, .. } = &**known;
            (pod.hash.is_some(), *gone, pod.created.clone(), (*uid).clone())
        });
        let mut pods = Pods::new();
        let mut twice = Vec::new();
        for (uid, known) in ranked {
            let Some(labels) = self.namespaces.get(&known.pod.identity.namespace) else { continue };
            let key = known.pod.hash.as_ref().unwrap_or(uid).clone();
            if pods.contains_key(&key) {
                twice.push(format!("{}/{}", known.pod.identity.namespace, known.pod.identity.pod));
                continue;
            }
            pods.insert(key, known.listed(labels));
        }
        for name in twice {
            let why = "another pod claims its cgroup with better right".to_owned();
            self.not_used(&name, why);
        }
        let pods = Arc::new(pods);
        self.built = Some(Arc::clone(&pods));
        pods
    }

    /// What is to be kept in a file, if that is not in it yet.
    pub(super) fn take_unkept(&mut self) -> Option<Memory> {
        std::mem::take(&mut self.unkept).then(|| Memory {
            pods: self.pods.values().map(|known| known.pod.clone()).collect(),
            // Those of pods only: what others may need comes with the list.
            namespaces: self
                .pods
                .values()
                .filter_map(|known| {
                    let name = &known.pod.identity.namespace;
                    let labels = self.namespaces.get(name)?;
                    Some((name.clone(), labels.as_deref().cloned()))
                })
                .collect(),
        })
    }

    /// It could not be written.
    pub(super) fn unkept(&mut self) {
        self.unkept = true;
    }

    /// The API server answers, or does not.
    pub(super) fn heard(&mut self, collection: Collection, trouble: Option<String>) {
        self.health_of(collection).heard(trouble);
    }

    /// How it goes.
    pub(super) fn status(&self) -> Status {
        let is_listed = self.health.iter().all(|health| health.listed);
        let answering = Health::of(&self.health);
        let on_host = self.pods.values().filter(|known| !known.gone).filter_map(|known| {
            let Pod { identity, host_network, host_pid, .. } = &known.pod;
            let what = match (host_network, host_pid) {
                (true, true) => "hostNetwork and hostPID",
                (true, false) => "hostNetwork",
                (false, true) => "hostPID",
                (false, false) => return None,
            };
            Some(format!("{}/{} ({what})", identity.namespace, identity.pod))
        });
        Status {
            answering,
            is_listed,
            // The one that was silent for longer; `None` is before all others.
            heard: self.health.iter().map(|health| health.heard).min().flatten(),
            pods: self.pods.len(),
            on_host: on_host.collect::<BTreeSet<_>>().into_iter().collect(),
            unused: self.unused.iter().map(|(name, why)| format!("{name}: {why}")).collect(),
        }
    }

    fn changed(&mut self) {
        self.built = None;
        self.unkept = true;
    }

    fn not_used(&mut self, name: &str, why: String) {
        let name: String =
            name.chars().filter(|character| !character.is_control()).take(320).collect();
        if self.unused.len() < NAMED_MAX || self.unused.contains_key(&name) {
            self.unused.insert(name, why);
        }
    }

    fn health_of(&mut self, collection: Collection) -> &mut Health {
        let [pods, namespaces] = &mut self.health;
        match collection {
            Collection::Pods => pods,
            Collection::Namespaces => namespaces,
        }
    }
}

impl Known {
    /// As it is found; the same one as before where nothing has changed.
    fn listed(&mut self, namespace_labels: &Option<Arc<Labels>>) -> Arc<ListedPod> {
        let labels = namespace_labels.as_ref();
        if let Some((with, listed)) = &self.listed
            && with.as_ref().map(Arc::as_ptr) == labels.map(Arc::as_ptr)
        {
            return Arc::clone(listed);
        }
        let mut identity = self.pod.identity.clone();
        identity.namespace_labels = labels.map(|labels| Labels::clone(labels)).unwrap_or_default();
        let listed = Arc::new(ListedPod {
            identity: Arc::new(identity),
            containers: HashMap::clone(&self.pod.containers),
            owner: self.pod.owner.as_ref().map(Owner::top).unwrap_or_default(),
            refused: self.pod.overlong || labels.is_none(),
        });
        self.listed = Some((labels.cloned(), Arc::clone(&listed)));
        listed
    }
}

/// Said where a pod is refused everything.
pub(super) fn overlong() -> String {
    format!("it or its namespace has more than {LABELS_MAX} bytes of labels: everything is refused")
}

#[cfg(test)]
mod tests;
