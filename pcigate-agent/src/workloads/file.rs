//! Workloads from a file: a `v1.PodList` (YAML or JSON).
//!
//! For one machine and for tests; it is read again at every scan, so editing the file is enough.
//! A file that is missing or wrong leaves the last good list in force.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use pcigate_policy::{
    mask::{Cut, Masked},
    workload::Identity,
    yaml,
};

use super::pods::{DEFAULT_SERVICE_ACCOUNT, ListedPod, Pods};

/// The annotation that holds the cgroup name of a static pod.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Why the file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the pod list {path} (workloads.file): give a v1.PodList in YAML or JSON")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no YAML.
    #[error("the pod list is not readable")]
    Yaml(#[source] yaml::Mistakes),
    /// It is no PodList.
    #[error("{path} is not a v1.PodList: {what}")]
    NotAPodList {
        /// The file.
        path: PathBuf,
        /// The first thing wrong.
        what: String,
    },
}

/// The list of a file, as it was read last.
#[derive(Debug, Default)]
pub struct List {
    text: String,
    pods: Pods,
}

impl List {
    /// Reads it again; the same text is not taken apart again.
    ///
    /// # Errors
    /// Names the file and the first thing wrong.
    pub fn read(&mut self, path: &Path) -> Result<&Pods, FileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        if text != self.text {
            self.pods = parse(path, &text)?;
            self.text = text;
        }
        Ok(&self.pods)
    }
}

fn parse(path: &Path, text: &str) -> Result<Pods, FileError> {
    let wrong = |what: String| FileError::NotAPodList {
        path: path.to_owned(),
        what: Masked::new(what.as_bytes(), Cut::Whole).into_string(),
    };
    let nodes = yaml::read(&path.display().to_string(), text).map_err(FileError::Yaml)?;
    let [node] = nodes.as_slice() else {
        return Err(wrong(format!("it holds {} documents instead of one", nodes.len())));
    };
    let mut list = node.to_json();
    if list.get("kind").and_then(|kind| kind.as_str()) != Some("PodList") {
        return Err(wrong("`kind` is not `PodList`".into()));
    }
    let items = list.get_mut("items").map(serde_json::Value::take).unwrap_or_default();
    let items = items.as_array().ok_or_else(|| wrong("`items` is not a list".into()))?.clone();
    let mut pods = Pods::new();
    for (i, item) in items.into_iter().enumerate() {
        let pod: Pod =
            serde_json::from_value(item).map_err(|error| wrong(format!("items[{i}]: {error}")))?;
        let (uid, pod) = listed(pod).map_err(|what| wrong(format!("items[{i}]: {what}")))?;
        if pods.insert(uid.clone(), Arc::new(pod)).is_some() {
            return Err(wrong(format!("items[{i}]: the uid {uid} is there twice")));
        }
    }
    Ok(pods)
}

/// (UID as the cgroup carries it, pod).
fn listed(pod: Pod) -> Result<(String, ListedPod), String> {
    let metadata = pod.metadata;
    let field = |value: Option<String>, name: &str| {
        value.filter(|text| !text.is_empty()).ok_or_else(|| format!("metadata.{name} is missing"))
    };
    let pod_uid = field(metadata.uid, "uid")?;
    let static_uid = metadata.annotations.unwrap_or_default().remove(CONFIG_HASH);
    let namespace = field(metadata.namespace, "namespace")?;
    let identity = Identity {
        pod: field(metadata.name, "name")?,
        service_account: service_account(pod.spec),
        labels: metadata.labels.unwrap_or_default(),
        namespace_labels: [("kubernetes.io/metadata.name".to_owned(), namespace.clone())].into(),
        namespace,
        pod_uid: pod_uid.clone(),
    };
    let containers = containers(pod.status.unwrap_or_default());
    let pod = ListedPod { identity: Arc::new(identity), containers, refused: false };
    Ok((static_uid.unwrap_or(pod_uid), pod))
}

fn service_account(spec: Option<PodSpec>) -> String {
    spec.and_then(|spec| spec.service_account_name)
        .unwrap_or_else(|| DEFAULT_SERVICE_ACCOUNT.to_owned())
}

/// `containerd://<id>` → name, of all kinds of containers.
fn containers(status: PodStatus) -> HashMap<String, String> {
    let all = [
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ];
    all.into_iter()
        .flatten()
        .flatten()
        .filter_map(|container| {
            let id = container.container_id?;
            let (_, id) = id.split_once("://")?;
            Some((id.to_owned(), container.name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "
apiVersion: v1
kind: PodList
items:
- metadata:
    name: billing-bot
    namespace: payments
    uid: 1a2b3c4d-0000-4000-8000-1234567890ab
    labels: {app: billing-bot}
  spec: {serviceAccountName: billing-bot, containers: [{name: bot, image: bot}]}
  status:
    containerStatuses:
    - name: bot
      containerID: \"containerd://abc\"
      image: bot
      imageID: x
      ready: true
      restartCount: 0
";

    #[test]
    fn a_pod_list_gives_identity_and_container_names() {
        let pods = parse(Path::new("pods.yaml"), LIST).unwrap();
        let pod = &pods["1a2b3c4d-0000-4000-8000-1234567890ab"];
        assert_eq!(pod.identity.service_account, "billing-bot");
        assert_eq!(pod.identity.labels["app"], "billing-bot");
        assert_eq!(pod.containers["abc"], "bot");
    }

    #[test]
    fn a_list_of_something_else_or_without_uid_is_refused_by_place() {
        let parse = |text: &str| parse(Path::new("pods.yaml"), text).unwrap_err().to_string();
        assert!(parse("kind: List\nitems: []").contains("`kind` is not `PodList`"));
        let text = LIST.replace("    uid: 1a2b3c4d-0000-4000-8000-1234567890ab\n", "");
        assert!(parse(&text).contains("items[0]: metadata.uid is missing"), "{}", parse(&text));
    }
}
