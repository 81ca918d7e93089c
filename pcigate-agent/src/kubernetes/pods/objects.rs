//! What is kept of a Pod and a Namespace. Specs and states are skipped while they are read but for
//! a few fields, and nothing but what [`Pod`] has is kept: annotations of a megabyte cost nothing.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use kube::{
    Resource,
    api::{ApiResource, ObjectMeta},
    core::DynamicResourceScope,
};

use pcigate_policy::{
    mask::{Cut, Masked},
    workload::Identity,
};
use serde::Deserialize;

use super::owners::Owner;
use crate::workloads::pods::{self, DEFAULT_SERVICE_ACCOUNT};

/// The longest name of an object (RFC 1123 subdomain).
const NAME_MAX: usize = 253;
/// Bytes of labels of one object that are kept.
pub(super) const LABELS_MAX: usize = 64 << 10;
/// Containers of one pod that are named.
const CONTAINERS_MAX: usize = 256;
/// Hexadecimal digits of a container's id, in every runtime.
const CONTAINER_ID: usize = 64;

/// Set on the API server's copy ("mirror") of a static pod; equal to the hash.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What the cgroup of a static pod is named by instead of the UID.
const HASH: &str = "kubernetes.io/config.hash";

/// A Pod or a Namespace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) metadata: ObjectMeta,
    spec: Option<Spec>,
    status: Option<PodStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: Option<String>,
    host_network: Option<bool>,
    #[serde(rename = "hostPID")]
    host_pid: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    container_statuses: Option<Vec<Container>>,
    init_container_statuses: Option<Vec<Container>>,
    ephemeral_container_statuses: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    #[serde(rename = "containerID")]
    id: Option<String>,
    image: Option<String>,
    #[serde(rename = "imageID")]
    image_id: Option<String>,
}

/// A pod as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pod {
    /// Without the namespace's labels, which are kept once.
    pub(super) identity: Identity,
    /// By container id.
    pub(super) containers: HashMap<String, pods::Container>,
    /// The controller that made it.
    pub(super) owner: Option<Owner>,
    /// What its cgroup carries instead of its UID.
    pub(super) hash: Option<String>,
    /// When it was made, in RFC 3339, which sorts.
    pub(super) created: String,
    /// It shares the node's network.
    pub(super) host_network: bool,
    /// It sees the node's processes.
    pub(super) host_pid: bool,
    /// It has more labels than are kept.
    pub(super) overlong: bool,
}

impl Object {
    /// The pod it is.
    ///
    /// # Errors
    /// It lacks what it is known by, or that is no name.
    pub(super) fn into_pod(self) -> Result<Pod, String> {
        let Self { metadata, spec, status } = self;
        let ObjectMeta { name, namespace, uid, labels, annotations, creation_timestamp, .. } =
            metadata;
        let owner = Owner::of(metadata.owner_references.unwrap_or_default());
        let [name, namespace, uid] = [name, namespace, uid].map(Option::unwrap_or_default);
        let spec = spec.unwrap_or_default();
        let account = spec.service_account_name.filter(|account| !account.is_empty());
        let account = account.unwrap_or_else(|| DEFAULT_SERVICE_ACCOUNT.to_owned());
        for (field, text) in [
            ("metadata.name", &name),
            ("metadata.namespace", &namespace),
            ("metadata.uid", &uid),
            ("spec.serviceAccountName", &account),
        ] {
            check(field, text)?;
        }
        let labels = labels.unwrap_or_default();
        let overlong = is_overlong(&labels);
        let identity = Identity {
            namespace,
            pod: name,
            pod_uid: uid,
            service_account: account,
            labels: if overlong { BTreeMap::new() } else { labels },
            namespace_labels: BTreeMap::new(),
        };
        Ok(Pod {
            identity,
            containers: containers(status.unwrap_or_default()),
            owner,
            hash: annotations.and_then(hash),
            created: creation_timestamp.map(|time| time.0.to_string()).unwrap_or_default(),
            host_network: spec.host_network.unwrap_or_default(),
            host_pid: spec.host_pid.unwrap_or_default(),
            overlong,
        })
    }

    /// (name, labels) of the namespace it is; no labels where there are more than are kept.
    ///
    /// # Errors
    /// It has no name.
    pub(super) fn into_namespace(
        self,
    ) -> Result<(String, Option<BTreeMap<String, String>>), String> {
        let ObjectMeta { name, labels, .. } = self.metadata;
        let name = name.unwrap_or_default();
        check("metadata.name", &name)?;
        let labels = labels.unwrap_or_default();
        Ok((name, (!is_overlong(&labels)).then_some(labels)))
    }
}

/// Which of them it is says the [`ApiResource`] it is asked for by.
impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Only the kubelet's own copies count: it runs no pod that carries the first annotation, and an
/// ordinary pod that carries the second alone is named by its UID all the same.
fn hash(mut annotations: BTreeMap<String, String>) -> Option<String> {
    let hash = annotations.remove(HASH)?;
    let is_hash = hash.len() >= 32
        && hash.len() <= 64
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (is_hash && annotations.get(MIRROR) == Some(&hash)).then_some(hash)
}

fn is_overlong(labels: &BTreeMap<String, String>) -> bool {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > LABELS_MAX
}

/// The API server allows nothing else; this is for one that lies.
pub(super) fn check(field: &str, text: &str) -> Result<(), String> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'_');
    if text.is_empty() || text.len() > NAME_MAX || !text.bytes().all(plain) {
        let start: String = text.chars().take(40).collect();
        let shown = Masked::new(start.escape_debug().to_string().as_bytes(), Cut::Whole);
        return Err(format!("{field} `{}` is not a name", shown.as_str()));
    }
    Ok(())
}

/// By the id in `containerd://<id>`, of all kinds of containers.
fn containers(status: PodStatus) -> HashMap<String, pods::Container> {
    let all = [
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ];
    let named = all.into_iter().flatten().flatten().filter_map(|container| {
        let id = container.id?;
        let (_, id) = id.split_once("://")?;
        let is_id = id.len() == CONTAINER_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_named = check("name", &container.name).is_ok();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (image, image_id) = (text(&container.image), text(&container.image_id));
        let told = pods::Container::new(container.name, &image, &image_id);
        (is_id && is_named).then(|| (id.to_owned(), told))
    });
    named.take(CONTAINERS_MAX).collect()
}

#[cfg(test)]
mod tests;
