//! Which network namespaces the processes of gated workloads are in.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use pcigate_common::limits::GATEWAYS_MAX;

use crate::cgroup;

/// Network namespaces listened in; those of processes found later wait until others are gone.
pub(super) const NETWORKS_MAX: usize = GATEWAYS_MAX as usize;
/// Network namespaces of one workload: more than pods have, and fewer than a pod that makes them
/// could take from others.
pub(super) const PER_WORKLOAD_MAX: usize = 16;
/// Processes of a workload that are looked at.
const PROCESSES_MAX: usize = 1024;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Inode of a namespace → a process in it.
    pub networks: BTreeMap<u64, u32>,
    /// Namespaces beyond what is listened in.
    pub left_out: usize,
}

impl Places {
    /// Looks at every process of the cgroups `gated` below `root`, and of those below them.
    ///
    /// # Errors
    /// The root cannot be read; what ends meanwhile is no error.
    pub fn of(root: &Path, gated: &HashSet<u64>) -> io::Result<Self> {
        let mut places = Self::default();
        if gated.is_empty() {
            return Ok(places);
        }
        for cgroup in cgroup::walk(root)?.iter().filter(|cgroup| gated.contains(&cgroup.id)) {
            places.add(&cgroup.path);
        }
        Ok(places)
    }

    fn add(&mut self, workload: &Path) {
        let mut of_workload = BTreeMap::new();
        let mut left = PROCESSES_MAX;
        for cgroup in cgroup::walk(workload).unwrap_or_default() {
            let processes =
                fs::read_to_string(cgroup.path.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| line.parse::<u32>().ok()).take(left) {
                left -= 1;
                if let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) {
                    of_workload.entry(namespace.ino()).or_insert(pid);
                }
            }
        }
        for (index, (inode, pid)) in of_workload.into_iter().enumerate() {
            let known = self.networks.contains_key(&inode);
            if known {
                continue;
            }
            if index >= PER_WORKLOAD_MAX || self.networks.len() >= NETWORKS_MAX {
                self.left_out += 1;
            } else {
                self.networks.insert(inode, pid);
            }
        }
    }
}
