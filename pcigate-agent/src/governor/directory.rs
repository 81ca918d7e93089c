//! What numbers in kernel events mean.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use super::{names, rules::RuleTable};
use crate::draft::Workload;

/// What numbers in kernel events mean.
#[derive(Debug, Default)]
pub struct Directory {
    pub(super) workloads: HashMap<u64, Arc<Workload>>,
    pub(super) rules: BTreeMap<u32, Arc<RuleTable>>,
}

impl Directory {
    /// What an earlier agent wrote with [`super::Governor::keep_names`]; what cannot be read names
    /// nothing.
    #[must_use]
    pub fn kept(path: &Path) -> Self {
        names::read(path).unwrap_or_default()
    }

    /// The workload of a governed cgroup.
    #[must_use]
    pub fn workload(&self, cgroup_id: u64) -> Option<&Arc<Workload>> {
        self.workloads.get(&cgroup_id)
    }

    /// The rules of a policy number.
    #[must_use]
    pub fn rules(&self, policy: u32) -> Option<&Arc<RuleTable>> {
        self.rules.get(&policy)
    }
}

/// The directory, shared with the thread that reads the rings.
pub type SharedDirectory = Arc<RwLock<Directory>>;

/// A poisoned lock only means that another thread panicked between two complete insertions.
pub(super) fn write(directory: &SharedDirectory) -> RwLockWriteGuard<'_, Directory> {
    directory.write().unwrap_or_else(PoisonError::into_inner)
}
