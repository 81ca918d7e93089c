//! Keeps the kernel's maps equal to the compiled policies of the workloads that are there.
//!
//! [`Directory`] is its answer to the reading side: which workload a cgroup id is, and which rules
//! a policy number stands for. Both outlive what they describe for a while, because records of it
//! may still be in the rings.

mod answers;
mod directory;
mod error;
mod names;
mod rules;

use std::{
    collections::{BTreeSet, HashMap, HashSet, btree_map::Entry},
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use pcigate_policy::{
    document::Documents,
    entries::{CompileError, KernelEntries},
    glob::Glob,
    mask::SettingsError,
    workload::PolicySet,
};

pub use directory::{Directory, SharedDirectory};
pub use error::GovernError;
pub use rules::{Gate, RuleTable};

use directory::write;

use crate::{
    digests::{SharedWanted, Wanted},
    enforcer::{FileTable, Grants, Tables},
    workloads::Found,
};

/// How long a workload that is gone can still be named.
const REMEMBER: Duration = Duration::from_secs(60);
/// `WORKLOADS` key of what no workload is known for (`pcigate_common::maps::WorkloadEntry`).
const UNKNOWN_WORKLOADS: u64 = 0;
/// Rule tables kept: two per policy number the kernel can hold.
const RULE_TABLES_MAX: usize = 2048;

/// Owns the kernel's tables.
pub struct Governor {
    documents: Documents,
    hash: [u8; 32],
    tables: Tables,
    directory: SharedDirectory,
    /// Compiled, by hash of the set of selecting policies.
    compiled: HashMap<[u8; 32], Arc<KernelEntries>>,
    governed: HashSet<u64>,
    /// As whom each is governed, by the policies there are now.
    applied: HashMap<u64, Found>,
    /// Those of them that a gate rule speaks of.
    gated: HashSet<u64>,
    /// The policy number of each.
    numbers: HashMap<u64, u32>,
    digests: HashMap<u64, Arc<Vec<Glob>>>,
    wanted: SharedWanted,
    gone: HashMap<u64, Instant>,
    /// Where names are kept for the next agent, and whether there are new ones.
    names: Option<PathBuf>,
    unsaved: bool,
    exempt: BTreeSet<String>,
    /// Not all policies are known, so which of them select a workload is not either.
    refuses_all: bool,
}

impl Governor {
    /// Begins with empty tables.
    #[must_use]
    pub fn new(documents: Documents, tables: Tables) -> Self {
        Self {
            hash: documents.hash(),
            documents,
            tables,
            directory: SharedDirectory::default(),
            compiled: HashMap::new(),
            governed: HashSet::new(),
            applied: HashMap::new(),
            gated: HashSet::new(),
            numbers: HashMap::new(),
            digests: HashMap::new(),
            wanted: SharedWanted::default(),
            gone: HashMap::new(),
            names: None,
            unsaved: false,
            exempt: BTreeSet::new(),
            refuses_all: false,
        }
    }

    /// Keeps the directory in a file from now on, before the kernel can send a number of it: an
    /// agent that comes after this one reads what is left in its rings.
    pub fn keep_names(&mut self, path: PathBuf) {
        self.names = Some(path);
        self.unsaved = true;
    }

    /// For the reading side.
    #[must_use]
    pub fn directory(&self) -> SharedDirectory {
        Arc::clone(&self.directory)
    }

    /// Which files' digests the rules of which workloads ask for, now and later.
    #[must_use]
    pub fn wanted(&self) -> SharedWanted {
        Arc::clone(&self.wanted)
    }

    /// The kernel's table of digests.
    #[must_use]
    pub fn files(&self) -> FileTable {
        self.tables.files()
    }

    /// Makes the kernel govern exactly what was found. A workload that fails does not keep the
    /// others from being governed; it stays as it was (at first: unknown). What is found as it was
    /// before is left alone.
    pub fn apply(&mut self, found: &[Found]) -> Vec<GovernError> {
        let mut errors = Vec::new();
        if let Err(error) = self.protect_targets() {
            errors.push(error);
        }
        let mut prepared = Vec::new();
        let is_new =
            |found: &&Found| !self.applied.get(&found.cgroup_id).is_some_and(|of| of.is(found));
        let changed: Vec<&Found> = found.iter().filter(is_new).collect();
        for found in changed {
            match self.prepare(found) {
                Ok(entries) => prepared.push((found, entries)),
                Err(error) => errors.push(error),
            }
        }
        errors.extend(self.save_names().err());
        for (found, entries) in prepared {
            match self.enforce(found, &entries) {
                Ok(()) => drop(self.applied.insert(found.cgroup_id, found.clone())),
                Err(error) => errors.push(error),
            }
        }
        let exempt = found.iter().filter(|found| found.exempt);
        self.exempt = exempt.map(exempt_name).collect();
        let present: HashSet<u64> = found.iter().map(|found| found.cgroup_id).collect();
        let left: Vec<u64> = self.governed.difference(&present).copied().collect();
        for cgroup_id in left {
            self.governed.remove(&cgroup_id);
            self.applied.remove(&cgroup_id);
            self.gated.remove(&cgroup_id);
            self.numbers.remove(&cgroup_id);
            self.gone.insert(cgroup_id, Instant::now());
            self.ask_for(cgroup_id, &[]);
            if let Err(source) = self.tables.release(cgroup_id) {
                let pod = format!("cgroup {cgroup_id}");
                errors.push(GovernError::Tables { pod, source });
            }
        }
        self.forget(Instant::now());
        errors
    }

    /// Pods no policy governs, as `namespace/pod (UID)`.
    #[must_use]
    pub fn exempt(&self) -> &BTreeSet<String> {
        &self.exempt
    }

    /// See [`Tables::inherit_names`].
    pub fn inherit_names(&mut self) {
        let inherited = self.tables.inherit_names();
        tracing::debug!(inherited, "addresses by name taken over");
    }

    /// Other policies count from the next [`Self::apply`] on.
    pub fn replace(&mut self, documents: Documents) {
        self.hash = documents.hash();
        self.documents = documents;
        self.compiled.clear();
        self.applied.clear();
    }

    /// Whether all policies there are are known. Otherwise everything is refused to all but exempt
    /// workloads, from the next [`Self::apply`] on.
    pub fn set_known(&mut self, known: bool) {
        self.refuses_all = !known;
        self.applied.clear();
    }

    /// Keeps the Targets also from cgroups that no workload is known for, where these are allowed.
    /// Without it they are refused everything.
    ///
    /// # Errors
    /// As [`Self::govern`].
    pub fn protect_targets(&mut self) -> Result<(), GovernError> {
        let pod = || "unknown workloads".to_owned();
        let entries = if self.refuses_all {
            Arc::new(KernelEntries::refused())
        } else {
            self.compiled(&self.documents.select_none())
                .map_err(|source| GovernError::Compile { pod: pod(), source })?
        };
        let governed = self.tables.govern(UNKNOWN_WORKLOADS, &entries);
        governed.map_err(|source| GovernError::Tables { pod: pod(), source })
    }

    /// Governs one workload.
    ///
    /// # Errors
    /// Its policies do not compile, or the kernel has no room for them.
    pub fn govern(&mut self, found: &Found) -> Result<(), GovernError> {
        let entries = self.prepare(found)?;
        self.save_names()?;
        self.enforce(found, &entries)
    }

    /// The reading side must know the names before the kernel can send the numbers.
    fn prepare(&mut self, found: &Found) -> Result<Arc<KernelEntries>, GovernError> {
        let (set, entries) = if found.exempt {
            (None, Arc::new(KernelEntries::exempt()))
        } else if found.refused || self.refuses_all {
            (None, Arc::new(KernelEntries::refused()))
        } else {
            let set = self.documents.select(&found.identity);
            let entries = self
                .compiled(&set)
                .map_err(|source| GovernError::Compile { pod: pod(found), source })?;
            (Some(set), entries)
        };
        let number = self
            .tables
            .install(&entries)
            .map_err(|source| GovernError::Tables { pod: pod(found), source })?;
        self.name(found, number, &entries, set.as_ref())
            .map_err(|source| GovernError::Mask { pod: pod(found), source })?;
        Ok(entries)
    }

    fn enforce(&mut self, found: &Found, entries: &KernelEntries) -> Result<(), GovernError> {
        self.tables
            .govern(found.cgroup_id, entries)
            .map_err(|source| GovernError::Tables { pod: pod(found), source })?;
        self.ask_for(found.cgroup_id, entries.exec.as_ref().map_or(&[], |exec| &exec.hashed));
        self.governed.insert(found.cgroup_id);
        if rules::ask_for_gateway(entries) {
            self.gated.insert(found.cgroup_id);
        } else {
            self.gated.remove(&found.cgroup_id);
        }
        self.gone.remove(&found.cgroup_id);
        Ok(())
    }

    fn save_names(&mut self) -> Result<(), GovernError> {
        let Some(path) = self.names.as_ref().filter(|_| self.unsaved) else { return Ok(()) };
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        names::write(path, &directory)
            .map_err(|source| GovernError::Names { path: path.clone(), source })?;
        self.unsaved = false;
        Ok(())
    }

    /// Whether a cgroup is a governed workload.
    #[must_use]
    pub fn governs(&self, cgroup_id: u64) -> bool {
        self.governed.contains(&cgroup_id)
    }

    /// The documents that count.
    #[must_use]
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Their [`Documents::hash`].
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Distinct sets of policies that were compiled.
    #[must_use]
    pub fn compiled_sets(&self) -> usize {
        self.compiled.len()
    }

    /// The governed workloads whose policies let them through a gateway somewhere.
    #[must_use]
    pub fn gated(&self) -> &HashSet<u64> {
        &self.gated
    }

    /// The rules that count for a governed workload now.
    #[must_use]
    pub fn rules(&self, cgroup_id: u64) -> Option<Arc<RuleTable>> {
        let number = self.numbers.get(&cgroup_id)?;
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        directory.rules(*number).cloned()
    }

    /// The grants in the kernel's tables; `crate::grants` ends them with their connections.
    pub fn grants(&mut self) -> &mut Grants {
        self.tables.grants()
    }

    fn compiled(&mut self, set: &PolicySet) -> Result<Arc<KernelEntries>, CompileError> {
        let hash = set.hash();
        if let Some(entries) = self.compiled.get(&hash) {
            return Ok(Arc::clone(entries));
        }
        let entries = Arc::new(set.compile()?);
        self.compiled.insert(hash, Arc::clone(&entries));
        Ok(entries)
    }

    /// Has the digests of files read for a workload; none where there are no patterns.
    fn ask_for(&mut self, cgroup_id: u64, globs: &[Glob]) {
        let known = self.digests.get(&cgroup_id).map_or(&[][..], |globs| globs.as_slice());
        if known == globs {
            return;
        }
        if globs.is_empty() {
            self.digests.remove(&cgroup_id);
        } else {
            // Workloads of the same rules share them.
            let same = self.digests.values().find(|known| known.as_slice() == globs);
            let shared = same.cloned().unwrap_or_else(|| Arc::new(globs.to_vec()));
            self.digests.insert(cgroup_id, shared);
        }
        let all = self.digests.iter();
        let all = all.map(|(id, globs)| Wanted { cgroup_id: *id, globs: Arc::clone(globs) });
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
    }

    fn name(
        &mut self,
        found: &Found,
        number: u32,
        entries: &KernelEntries,
        set: Option<&PolicySet>,
    ) -> Result<(), SettingsError> {
        let shared = Arc::clone(&self.directory);
        let mut directory = write(&shared);
        if let Entry::Vacant(place) = directory.rules.entry(number) {
            place.insert(Arc::new(rules::table(entries, set)?));
            self.unsaved = true;
        }
        self.numbers.insert(found.cgroup_id, number);
        let before = directory.workloads.insert(found.cgroup_id, Arc::clone(&found.workload));
        self.unsaved |= before.is_none_or(|before| !names::same(&before, &found.workload));
        if directory.rules.len() > RULE_TABLES_MAX {
            let in_use = self.numbers.values().copied().collect();
            directory.forget_rules(RULE_TABLES_MAX, &in_use);
        }
        Ok(())
    }

    fn forget(&mut self, now: Instant) {
        let old = self.gone.extract_if(|_, since| now.duration_since(*since) > REMEMBER);
        let old: Vec<u64> = old.map(|(cgroup_id, _)| cgroup_id).collect();
        let mut directory = write(&self.directory);
        for cgroup_id in old {
            directory.workloads.remove(&cgroup_id);
        }
    }
}

fn pod(found: &Found) -> String {
    format!("{}/{}", found.identity.namespace, found.identity.pod)
}

fn exempt_name(found: &Found) -> String {
    let uid = &found.identity.pod_uid;
    if found.identity.pod.is_empty() { uid.clone() } else { format!("{} ({uid})", pod(found)) }
}
