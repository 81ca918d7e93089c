//! What was known last, as a file: an agent that starts while the API server is away knows the
//! pods that were there.
//!
//! The file is in the state directory, which only root can write.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use pcigate_policy::workload::Identity;
use serde::{Deserialize, Serialize};

use super::{objects::Pod, owners::Owner, store::Memory};
use crate::{kubernetes::kept, workloads::pods::Container};

/// Largest file that is read.
const BYTES_MAX: u64 = 512 << 20;

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    pods: Vec<KeptPod>,
    /// `null`: more labels than are kept.
    namespaces: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct KeptPod {
    namespace: String,
    name: String,
    uid: String,
    service_account: String,
    labels: BTreeMap<String, String>,
    containers: HashMap<String, Container>,
    #[serde(default)]
    owner: Option<Owner>,
    hash: Option<String>,
    created: String,
    host_network: bool,
    host_pid: bool,
    overlong: bool,
}

/// What was kept; nothing where there is no file.
pub(super) fn read(path: &Path) -> Result<Memory, String> {
    let file: File = kept::read(path, BYTES_MAX)?.unwrap_or_default();
    let pods = file.pods.into_iter().map(KeptPod::into_pod).collect();
    Ok(Memory { pods, namespaces: file.namespaces })
}

/// Replaces the file.
pub(super) fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let pods = memory.pods.iter().map(KeptPod::of).collect();
    let file = File { pods, namespaces: memory.namespaces.clone() };
    kept::write(path, &file)
}

impl KeptPod {
    fn of(pod: &Pod) -> Self {
        let Pod { identity, containers, owner, hash, created, host_network, host_pid, overlong } =
            pod.clone();
        Self {
            namespace: identity.namespace,
            name: identity.pod,
            uid: identity.pod_uid,
            service_account: identity.service_account,
            labels: identity.labels,
            containers,
            owner,
            hash,
            created,
            host_network,
            host_pid,
            overlong,
        }
    }

    fn into_pod(self) -> Pod {
        Pod {
            identity: Identity {
                namespace: self.namespace,
                pod: self.name,
                pod_uid: self.uid,
                service_account: self.service_account,
                labels: self.labels,
                namespace_labels: BTreeMap::new(),
            },
            containers: self.containers,
            owner: self.owner,
            hash: self.hash,
            created: self.created,
            host_network: self.host_network,
            host_pid: self.host_pid,
            overlong: self.overlong,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_damaged_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pods.json");
        assert_eq!(read(&path).unwrap(), Memory::default());
        let mut pod = Pod { hash: Some("0".repeat(32)), host_pid: true, ..Pod::default() };
        pod.identity.pod = "web".to_owned();
        pod.identity.labels.insert("app".to_owned(), "web".to_owned());
        pod.containers.insert("a".repeat(64), Container::new("main".to_owned(), "x", ""));
        let namespaces = [("x".to_owned(), None), ("y".to_owned(), Some(BTreeMap::new()))];
        let memory = Memory { pods: vec![pod], namespaces: namespaces.into() };
        write(&path, &memory).unwrap();
        assert_eq!(read(&path).unwrap(), memory);
        fs::write(&path, "{\"pods\": [{}]}").unwrap();
        assert!(read(&path).unwrap_err().contains("damaged"));
    }
}
