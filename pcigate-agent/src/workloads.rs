//! Which cgroup is which workload: what a source found, for the governor to act on.
//!
//! A source answers with every governed cgroup it can name: one per pod, and one per container in
//! it, so that the deepest one names the container. Everything else below the governed root is an
//! unknown workload, which the kernel treats by `unknownWorkloads`.

pub mod exempt;
pub mod file;
pub mod kubernetes;
pub mod layout;
pub mod pods;

use std::sync::Arc;

use pcigate_policy::{
    mask::{Cut, Masked},
    workload::Identity,
};

use crate::draft::Workload;

/// A cgroup and who runs in it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Inode number of the cgroup's directory.
    pub cgroup_id: u64,
    /// What policies select by.
    pub identity: Arc<Identity>,
    /// What records say.
    pub workload: Arc<Workload>,
    /// No policy governs it, whatever they select.
    pub exempt: bool,
    /// Too little is known of it to select its policies: everything is refused, unless exempt.
    pub refused: bool,
}

impl Found {
    /// A container of a pod, or the pod itself where `container` is `None`.
    #[must_use]
    pub fn new(
        cgroup_id: u64,
        cgroup_path: &str,
        identity: Arc<Identity>,
        container: Option<(&str, &str)>,
    ) -> Self {
        let masked = |text: &str| Masked::new(text.as_bytes(), Cut::Whole);
        let (name, id) = container.unwrap_or_default();
        let workload = Workload {
            namespace: masked(&identity.namespace),
            pod: masked(&identity.pod),
            pod_uid: masked(&identity.pod_uid),
            service_account: masked(&identity.service_account),
            container: masked(name),
            container_id: masked(id),
            cgroup_id,
            cgroup_path: masked(cgroup_path),
        };
        Self { cgroup_id, identity, workload: Arc::new(workload), exempt: false, refused: false }
    }

    /// Whether it is the same as one that was found before.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.workload, &other.workload)
    }
}
