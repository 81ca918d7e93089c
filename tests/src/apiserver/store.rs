//! What is stored: objects by group, resource, namespace and name, and the events since.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{objects::Refusal, route::Route, selector::Selector};

/// Events kept for watches; older ones are 410 Gone.
const HISTORY_MAX: usize = 4096;
/// Objects of all kinds.
const OBJECTS_MAX: usize = 20_000;
/// Lists that are being read in chunks; the oldest one expires.
const PAGES_MAX: usize = 64;

/// (group, resource, namespace, name).
pub(super) type Key = (String, String, String, String);

/// A kind of object that is served.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    pub(super) has_status: bool,
    pub(super) short_names: Vec<String>,
    pub(super) categories: Vec<String>,
    /// What a CustomResourceDefinition says of its objects.
    pub(super) schema: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Modified,
    Deleted,
    Bookmark,
}

#[derive(Clone)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) change: Change,
    /// Whose it is; a bookmark is everybody's.
    pub(super) key: Key,
    pub(super) before: Option<Arc<Value>>,
    pub(super) now: Arc<Value>,
}

/// The rest of a list, as it was when the list began.
struct Page {
    version: u64,
    rest: Vec<Arc<Value>>,
}

pub(super) struct Store {
    pub(super) resources: Vec<Resource>,
    pub(super) objects: BTreeMap<Key, Arc<Value>>,
    /// What each manager has applied last.
    pub(super) applied: BTreeMap<(Key, String), Value>,
    version: u64,
    history: VecDeque<Event>,
    /// Events up to this one are forgotten.
    forgotten: u64,
    pages: BTreeMap<u64, Page>,
}

const CORE: [(&str, &str, bool, bool, &str); 9] = [
    ("pods", "Pod", true, true, "po"),
    ("namespaces", "Namespace", false, true, "ns"),
    ("nodes", "Node", false, true, "no"),
    ("services", "Service", true, true, "svc"),
    ("serviceaccounts", "ServiceAccount", true, false, "sa"),
    ("secrets", "Secret", true, false, ""),
    ("configmaps", "ConfigMap", true, false, "cm"),
    ("events", "Event", true, false, "ev"),
    ("endpoints", "Endpoints", true, false, "ep"),
];

const GROUPS: [(&str, &str, &str, bool, bool); 11] = [
    ("apps", "deployments", "Deployment", true, true),
    ("apps", "replicasets", "ReplicaSet", true, true),
    ("apps", "daemonsets", "DaemonSet", true, true),
    ("apps", "statefulsets", "StatefulSet", true, true),
    ("batch", "jobs", "Job", true, true),
    ("batch", "cronjobs", "CronJob", true, true),
    ("coordination.k8s.io", "leases", "Lease", true, false),
    ("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", false, false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding", false, false),
    ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", false, true),
    ("authentication.k8s.io", "tokenreviews", "TokenReview", false, false),
];

impl Store {
    pub(super) fn new() -> Self {
        let core = CORE.map(|(plural, kind, namespaced, has_status, short)| {
            let short_names = if short.is_empty() { vec![] } else { vec![short.to_owned()] };
            Resource { short_names, ..plain("", plural, kind, namespaced, has_status) }
        });
        let others = GROUPS.map(|(group, plural, kind, namespaced, has_status)| {
            let mut made = plain(group, plural, kind, namespaced, has_status);
            if kind == "CustomResourceDefinition" {
                made.short_names = ["crd", "crds"].map(str::to_owned).into();
            }
            made
        });
        Self {
            resources: core.into_iter().chain(others).collect(),
            objects: BTreeMap::new(),
            applied: BTreeMap::new(),
            version: 1,
            history: VecDeque::new(),
            forgotten: 0,
            pages: BTreeMap::new(),
        }
    }

    /// The resource a path names.
    pub(super) fn resource(&self, route: &Route) -> Result<Resource, Refusal> {
        let is = |known: &&Resource| {
            known.group == route.group
                && known.version == route.version
                && known.plural == route.resource
        };
        let found = self.resources.iter().find(is).cloned();
        found.ok_or_else(|| {
            Refusal::new(404, "NotFound", "the server could not find the requested resource")
        })
    }

    /// resourceVersion of the newest change.
    pub(super) fn newest(&self) -> u64 {
        self.version
    }

    /// Stores an object under a new resourceVersion, and tells watches.
    pub(super) fn write(&mut self, key: Key, mut object: Value) -> Result<Value, Refusal> {
        if self.objects.len() >= OBJECTS_MAX {
            let message = "the server of the tests holds no more objects";
            return Err(Refusal::new(507, "InsufficientStorage", message));
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let now = Arc::new(object.clone());
        let before = self.objects.insert(key.clone(), Arc::clone(&now));
        let change = if before.is_some() { Change::Modified } else { Change::Added };
        self.happened(Event { version: self.version, change, key, before, now });
        Ok(object)
    }

    /// Removes an object, and tells watches; its last state carries a new resourceVersion.
    pub(super) fn take(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.applied.retain(|(of, _), _| of != key);
        self.version += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.happened(Event {
            version: self.version,
            change: Change::Deleted,
            key: key.clone(),
            before: Some(Arc::clone(&before)),
            now: Arc::new(last),
        });
        Some(before)
    }

    fn happened(&mut self, event: Event) {
        self.history.push_back(event);
        while self.history.len() > HISTORY_MAX {
            let first = self.history.pop_front();
            self.forgotten = first.map_or(self.forgotten, |first| first.version);
        }
    }

    pub(super) fn bookmark(&mut self) {
        let event = Event {
            version: self.version,
            change: Change::Bookmark,
            key: Key::default(),
            before: None,
            now: Arc::new(Value::Null),
        };
        self.version += 1;
        self.happened(Event { version: self.version, ..event });
    }

    /// Forgets all events and all lists in progress.
    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.history.clear();
        self.pages.clear();
    }

    /// Events after a resourceVersion; `None` where some of them are forgotten.
    pub(super) fn since(&self, version: u64) -> Option<Vec<Event>> {
        (version >= self.forgotten)
            .then(|| self.history.iter().filter(|event| event.version > version).cloned().collect())
    }

    /// The objects of a collection, in the order of their names.
    pub(super) fn matching(&self, route: &Route, selector: &Selector) -> Vec<Arc<Value>> {
        let from = (route.group.clone(), route.resource.clone(), String::new(), String::new());
        self.objects
            .range(from..)
            .take_while(|(key, _)| key.0 == route.group && key.1 == route.resource)
            .filter(|(key, _)| route.namespace.is_empty() || key.2 == route.namespace)
            .filter(|(_, object)| selector.matches(object))
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// A list: resourceVersion, items, the token for the rest and how many that are.
    pub(super) fn list(
        &mut self,
        route: &Route,
        selector: &Selector,
        limit: usize,
        token: &str,
    ) -> Result<Value, Refusal> {
        let (version, mut items) = if token.is_empty() {
            (self.version, self.matching(route, selector))
        } else {
            let page = token.parse().ok().and_then(|token: u64| self.pages.remove(&token));
            let page = page.ok_or_else(|| {
                let message = "The provided continue parameter is too old to display a consistent \
                               list result.";
                Refusal::new(410, "Expired", message)
            })?;
            (page.version, page.rest)
        };
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if limit > 0 && items.len() > limit {
            let rest = items.split_off(limit);
            metadata["remainingItemCount"] = json!(rest.len());
            let token = self.pages.last_key_value().map_or(1, |(last, _)| last + 1);
            metadata["continue"] = json!(token.to_string());
            self.pages.insert(token, Page { version, rest });
            if self.pages.len() > PAGES_MAX {
                self.pages.pop_first();
            }
        }
        let items: Vec<&Value> = items.iter().map(Arc::as_ref).collect();
        Ok(json!({"metadata": metadata, "items": items}))
    }
}

fn plain(group: &str, plural: &str, kind: &str, namespaced: bool, has_status: bool) -> Resource {
    Resource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
        has_status,
        short_names: Vec::new(),
        categories: Vec::new(),
        schema: None,
    }
}

impl Resource {
    /// `GROUP/VERSION`, or `v1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Fields its objects can be selected by.
    pub(super) fn fields(&self) -> &'static [&'static str] {
        match (self.group.as_str(), self.plural.as_str()) {
            ("", "pods") => &[
                "metadata.name",
                "metadata.namespace",
                "spec.nodeName",
                "spec.serviceAccountName",
                "status.phase",
            ],
            ("", "events") => &["metadata.name", "metadata.namespace", "involvedObject.name"],
            _ => &["metadata.name", "metadata.namespace"],
        }
    }
}
