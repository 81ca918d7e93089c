//! What numbers in kernel events mean.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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

    /// Forgets the oldest rules where there are more than `most`, but none that a workload is
    /// under: it may be so for as long as it runs.
    pub(super) fn forget_rules(&mut self, most: usize, in_use: &HashSet<u32>) {
        let beyond = self.rules.len().saturating_sub(most);
        let old = self.rules.keys().filter(|number| !in_use.contains(number)).take(beyond);
        for number in old.copied().collect::<Vec<_>>() {
            self.rules.remove(&number);
        }
    }
}

/// The directory, shared with the thread that reads the rings.
pub type SharedDirectory = Arc<RwLock<Directory>>;

/// A poisoned lock only means that another thread panicked between two complete insertions.
pub(super) fn write(directory: &SharedDirectory) -> RwLockWriteGuard<'_, Directory> {
    directory.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_rules_the_oldest_go_that_no_workload_is_under() {
        let table = || RuleTable {
            hash: [0; 8],
            rules: Vec::new(),
            gates: BTreeMap::new(),
            masks: None,
            policies: Vec::new(),
        };
        let rules = (1..=5).map(|number| (number, Arc::new(table()))).collect();
        let mut directory = Directory { rules, ..Directory::default() };
        let numbers = |of: &Directory| of.rules.keys().copied().collect::<Vec<_>>();
        directory.forget_rules(5, &HashSet::new());
        assert_eq!(numbers(&directory), [1, 2, 3, 4, 5]);
        directory.forget_rules(3, &HashSet::from([1, 3]));
        assert_eq!(numbers(&directory), [1, 3, 5]);
        directory.forget_rules(1, &HashSet::from([1, 3]));
        assert_eq!(numbers(&directory), [1, 3]);
    }
}
