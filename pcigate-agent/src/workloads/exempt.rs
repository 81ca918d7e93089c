//! Which workloads are left alone: the system's own, and pcigate's. What is exempt is told by name
//! and UID, never silent.

use std::{collections::BTreeSet, fs};

use super::layout;

/// The namespace without which a node does not work.
pub const SYSTEM_NAMESPACE: &str = "kube-system";

/// Who is exempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exempt {
    /// Namespaces whose pods are.
    pub namespaces: BTreeSet<String>,
    /// UIDs of pods that are, also of pods no list names.
    pub pod_uids: BTreeSet<String>,
}

impl Default for Exempt {
    /// The system namespace.
    fn default() -> Self {
        Self { namespaces: [SYSTEM_NAMESPACE.to_owned()].into(), pod_uids: BTreeSet::new() }
    }
}

impl Exempt {
    /// These, and the pod this process runs in, where it runs in one.
    #[must_use]
    pub fn with_own_pod(mut self) -> Self {
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
        self.pod_uids.extend(path.and_then(pod_of));
        self
    }

    /// Whether the pod of this namespace and UID is exempt.
    #[must_use]
    pub fn covers(&self, namespace: &str, pod_uid: &str) -> bool {
        self.namespaces.contains(namespace) || self.pod_uids.contains(pod_uid)
    }
}

/// The pod a process stands in, also below its container.
fn pod_of(path: &str) -> Option<String> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.filter_map(|end| layout::place(path.get(..end)?)).map(|place| place.pod_uid).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "1a2b3c4d-0000-4000-8000-1234567890ab";

    #[test]
    fn a_namespace_or_a_uid_is_enough() {
        let exempt = Exempt { pod_uids: [UID.to_owned()].into(), ..Exempt::default() };
        assert!(exempt.covers("kube-system", "x") && exempt.covers("payments", UID));
        assert!(!exempt.covers("payments", "x") && !exempt.covers("", ""));
    }

    #[test]
    fn the_pod_of_a_process_is_found_also_below_its_container() {
        let pod = format!("/kubepods/burstable/pod{UID}");
        let id = "0".repeat(64);
        for path in [pod.clone(), format!("{pod}/{id}"), format!("{pod}/{id}/nested/deeper")] {
            assert_eq!(pod_of(&path).as_deref(), Some(UID), "{path}");
        }
        assert_eq!(pod_of("/system.slice/pcigate-agent.service"), None);
    }
}
