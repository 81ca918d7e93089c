//! Makes the kernel's maps equal to the compiled policies, without a moment in between.
//!
//! A policy is written completely under a fresh number before any workload names it, and what it
//! replaces stays for [`RETIRE_AFTER`]: a program that had already read the old number must still
//! find all of its entries, or a missing prefix would answer with the default.

mod blocks;
mod exec;

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap as KernelMap, LpmTrie, MapData, MapError, lpm_trie::Key},
};
use pcigate_common::{
    limits,
    maps::{
        DigestKey, ExecAnswer, INGRESS_POLICY, PolicyEntry, PortKey, PrefixKey, WorkloadEntry,
        ingress,
    },
};
use pcigate_policy::entries::{KernelEntries, Prefix};
use zerocopy::{Immutable, IntoBytes};

use self::blocks::Blocks;
use super::{
    EnforcerError,
    files::FileTable,
    grants::Grants,
    names::{InstalledName, NameTables},
    regions::Regions,
};

/// A program runs for microseconds; ten seconds outlast any preemption.
const RETIRE_AFTER: Duration = Duration::from_secs(10);

/// Why a policy is not in the kernel. The policy before it stays in force.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A map has no room left.
    #[error(
        "the kernel table {table} is full ({limit} entries): select fewer pods with distinct \
             policies on this node, or write fewer prefixes, names, ports or path patterns"
    )]
    Full {
        /// Which map.
        table: &'static str,
        /// Its size.
        limit: u32,
    },
    /// The kernel refuses a write.
    #[error("cannot write the kernel table {table}")]
    Write {
        /// Which map.
        table: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
}

pub(super) type Bytes<const N: usize> = [u8; N];
const WORKLOAD: usize = size_of::<WorkloadEntry>();
const POLICY: usize = size_of::<PolicyEntry>();
const PREFIX: usize = size_of::<PrefixKey>();
const PORT: usize = size_of::<PortKey>();
const DECISION: usize = size_of::<pcigate_common::maps::Decision>();
const ANSWER: usize = size_of::<ExecAnswer>();
const DIGEST: usize = size_of::<DigestKey>();

/// The kernel's tables and what userspace knows about them.
pub struct Tables {
    workloads: KernelMap<MapData, u64, Bytes<WORKLOAD>>,
    policies: KernelMap<MapData, u32, Bytes<POLICY>>,
    prefixes: LpmTrie<MapData, Bytes<PREFIX>, u32>,
    ports: KernelMap<MapData, Bytes<PORT>, Bytes<DECISION>>,
    ingress_used: Array<MapData, u64>,
    cells: Array<MapData, u64>,
    decisions: Array<MapData, Bytes<ANSWER>>,
    names: NameTables,
    digest_classes: KernelMap<MapData, Bytes<DIGEST>, u32>,
    files: FileTable,
    grants: Grants,
    free_slots: Regions,
    free_decisions: Regions,
    next_policy: u32,
    next_block: u32,
    /// By the compiled policy's hash.
    installed: HashMap<[u8; 32], Installed>,
    /// cgroup id → hash of what governs it.
    governed: HashMap<u64, [u8; 32]>,
    retired: VecDeque<(Instant, Installed)>,
}

/// What one policy occupies.
struct Installed {
    number: u32,
    slots: Vec<Range<u32>>,
    decisions: Range<u32>,
    prefixes: Vec<(u32, PrefixKey)>,
    names: Vec<InstalledName>,
    /// Keys of the ports of both.
    ports: Vec<PortKey>,
    digests: Vec<DigestKey>,
    users: usize,
}

impl Tables {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, EnforcerError> {
        Ok(Self {
            workloads: take(ebpf, "WORKLOADS")?,
            policies: take(ebpf, "POLICIES")?,
            prefixes: take(ebpf, "EGRESS")?,
            ports: take(ebpf, "PORTS")?,
            ingress_used: take(ebpf, "INGRESS_USED")?,
            cells: take(ebpf, "EXEC_CELLS")?,
            decisions: take(ebpf, "EXEC_DECISIONS")?,
            names: NameTables::take(ebpf)?,
            digest_classes: take(ebpf, "DIGEST_CLASSES")?,
            files: FileTable::new(take(ebpf, "FILES")?),
            grants: Grants::take(ebpf)?,
            free_slots: Regions::new(limits::EXEC_SLOTS_MAX),
            free_decisions: Regions::new(limits::EXEC_DECISIONS_MAX),
            next_policy: 1,
            next_block: 1,
            installed: HashMap::new(),
            governed: HashMap::new(),
            retired: VecDeque::new(),
        })
    }

    /// Puts a compiled policy into the kernel, where it is not yet; its number, which events carry.
    /// Nothing is governed by it before [`Self::govern`].
    ///
    /// # Errors
    /// The maps have no room or refuse a write.
    pub fn install(&mut self, entries: &KernelEntries) -> Result<u32, TableError> {
        self.sweep(Instant::now())?;
        if let Some(installed) = self.installed.get(&entries.hash) {
            return Ok(installed.number);
        }
        let installed = self.write_policy(entries)?;
        let number = installed.number;
        self.installed.insert(entries.hash, installed);
        Ok(number)
    }

    /// Governs a cgroup and everything below it by an installed policy.
    ///
    /// # Errors
    /// The maps have no room or refuse a write; what governed the cgroup before still does.
    pub fn govern(&mut self, cgroup: u64, entries: &KernelEntries) -> Result<(), TableError> {
        let number = self.install(entries)?;
        if self.governed.get(&cgroup) == Some(&entries.hash) {
            return Ok(());
        }
        let entry = WorkloadEntry { policy: number, reserved: 0 };
        self.workloads
            .insert(cgroup, bytes::<_, WORKLOAD>(&entry), 0)
            .map_err(write("WORKLOADS"))?;
        if let Some(installed) = self.installed.get_mut(&entries.hash) {
            installed.users += 1;
        }
        if let Some(before) = self.governed.insert(cgroup, entries.hash) {
            self.leave(before);
        }
        Ok(())
    }

    /// Takes over what governed workloads have learned of names under earlier agents, as far as
    /// those are still attached; how many addresses.
    pub fn inherit_names(&mut self) -> usize {
        let governed = &self.governed;
        self.names.inherit(|workload| governed.contains_key(&workload))
    }

    /// Forgets a cgroup: what still runs in it counts as an unknown workload.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release(&mut self, cgroup: u64) -> Result<(), TableError> {
        if let Some(hash) = self.governed.remove(&cgroup) {
            self.workloads.remove(&cgroup).map_err(write("WORKLOADS"))?;
            self.leave(hash);
        }
        Ok(())
    }

    /// The digests of files, to be written by whoever computes them.
    #[must_use]
    pub fn files(&self) -> FileTable {
        self.files.clone()
    }

    /// The grants.
    pub fn grants(&mut self) -> &mut Grants {
        &mut self.grants
    }

    /// One user less; without users a policy retires.
    fn leave(&mut self, hash: [u8; 32]) {
        let Some(installed) = self.installed.get_mut(&hash) else { return };
        installed.users = installed.users.saturating_sub(1);
        if installed.users == 0
            && let Some(installed) = self.installed.remove(&hash)
        {
            self.retired.push_back((Instant::now(), installed));
        }
    }

    /// Removes what retired long enough ago.
    fn sweep(&mut self, now: Instant) -> Result<(), TableError> {
        while let Some((since, _)) = self.retired.front() {
            if now.duration_since(*since) < RETIRE_AFTER {
                break;
            }
            if let Some((_, installed)) = self.retired.pop_front() {
                self.uninstall(&installed)?;
            }
        }
        Ok(())
    }

    fn write_policy(&mut self, entries: &KernelEntries) -> Result<Installed, TableError> {
        let mut installed = Installed {
            number: self.next_policy,
            slots: Vec::new(),
            decisions: 0..0,
            digests: Vec::new(),
            prefixes: Vec::new(),
            names: Vec::new(),
            ports: Vec::new(),
            users: 0,
        };
        self.next_policy = (self.next_policy + 1) % INGRESS_POLICY;
        self.next_policy = self.next_policy.max(1);
        let written = self.write(entries, &mut installed);
        if written.is_err() {
            self.uninstall(&installed)?;
        }
        written.map(|()| installed)
    }

    fn write(&mut self, entries: &KernelEntries, into: &mut Installed) -> Result<(), TableError> {
        let mut entry = PolicyEntry {
            exec_base: 0,
            exec_columns: 0,
            exec_start: 0,
            exec_decisions: 0,
            digest_classes: 1,
            args_base: 0,
            args_columns: 0,
            args_start: 0,
            args_masks: 0,
            args_rules: 0,
            args_enforced: 0,
            exec_default: entries.exec_default,
            exec_unresolved: entries.exec_unresolved,
            egress_default: entries.egress_default,
            ingress_default: entries.ingress_default,
            ingress: ingress_bits(entries),
            exempt: u32::from(entries.exempt),
            names: u32::from(!entries.names.is_empty()),
            reserved: 0,
            exec_classes: [0; 256],
            args_classes: [0; 256],
        };
        if let Some(exec) = &entries.exec {
            self.write_exec(exec, &mut entry, into)?;
        }
        let mut written = Blocks::new();
        for prefix in &entries.egress {
            self.write_prefix(into.number, prefix, &mut written, into)?;
        }
        if entries.decides_ingress {
            self.ingress_used.set(0, 1, 0).map_err(write("INGRESS_USED"))?;
        }
        for prefix in &entries.ingress {
            self.write_prefix(into.number | INGRESS_POLICY, prefix, &mut written, into)?;
        }
        for name in &entries.names {
            let block = self.write_block(&name.ports, &mut written, into)?;
            self.names.add(into.number, name, block, &mut into.names)?;
        }
        self.policies.insert(into.number, bytes::<_, POLICY>(&entry), 0).map_err(write("POLICIES"))
    }

    /// Ports first, then the prefix that leads to them.
    fn write_prefix<'a>(
        &mut self,
        number: u32,
        prefix: &'a Prefix,
        written: &mut Blocks<'a>,
        into: &mut Installed,
    ) -> Result<(), TableError> {
        let block = self.write_block(&prefix.ports, written, into)?;
        let key = PrefixKey { policy: number.to_be_bytes(), address: prefix.address };
        let bits = 32 + u32::from(prefix.bits);
        into.prefixes.push((bits, key));
        let key = Key::new(bits, bytes::<_, PREFIX>(&key));
        self.prefixes.insert(&key, block, 0).map_err(write("EGRESS"))
    }

    /// Removes everything of a policy; entries that were never written are no error.
    fn uninstall(&mut self, installed: &Installed) -> Result<(), TableError> {
        gone(self.policies.remove(&installed.number)).map_err(write("POLICIES"))?;
        for (bits, key) in &installed.prefixes {
            let key = Key::new(*bits, bytes::<_, PREFIX>(key));
            gone(self.prefixes.remove(&key)).map_err(write("EGRESS"))?;
        }
        for name in &installed.names {
            self.names.remove(name)?;
        }
        for port in &installed.ports {
            gone(self.ports.remove(&bytes::<_, PORT>(port))).map_err(write("PORTS"))?;
        }
        for key in &installed.digests {
            gone(self.digest_classes.remove(&bytes::<_, DIGEST>(key)))
                .map_err(write("DIGEST_CLASSES"))?;
        }
        installed.slots.iter().for_each(|run| self.free_slots.give_back(run));
        self.free_decisions.give_back(&installed.decisions);
        Ok(())
    }
}

fn ingress_bits(entries: &KernelEntries) -> u32 {
    match (entries.decides_ingress, entries.is_closed()) {
        (false, _) => 0,
        (true, false) => ingress::DECIDED,
        (true, true) => ingress::DECIDED | ingress::CLOSED,
    }
}

pub(super) fn take<M: TryFrom<aya::maps::Map>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, EnforcerError> {
    ebpf.take_map(name).and_then(|map| M::try_from(map).ok()).ok_or(EnforcerError::Missing(name))
}

/// The bytes of a shared struct, as aya wants them (arrays of bytes are plain old data).
pub(super) fn bytes<T: IntoBytes + Immutable, const N: usize>(value: &T) -> Bytes<N>
where
    Bytes<N>: Pod,
{
    let mut bytes = [0; N];
    bytes.copy_from_slice(value.as_bytes());
    bytes
}

/// The map's own words for "full" become ours, with the remedy.
pub(super) fn write(table: &'static str) -> impl Fn(MapError) -> TableError {
    let limit = match table {
        "WORKLOADS" => limits::WORKLOADS_MAX,
        "POLICIES" => limits::POLICIES_MAX,
        "EGRESS" => limits::PREFIXES_MAX,
        "NAMES" | "NAME_BLOCKS" => limits::NAMES_MAX,
        "DIGEST_CLASSES" => limits::DIGESTS_MAX,
        "GRANTS" => limits::GRANTS_MAX,
        "GATEWAYS" => limits::GATEWAYS_MAX,
        _ => limits::PORTS_MAX,
    };
    move |source| match &source {
        MapError::SyscallError(error) if is_full(&error.io_error) => {
            TableError::Full { table, limit }
        }
        _ => TableError::Write { table, source },
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(7 | 12 | 28)) // E2BIG, ENOMEM, ENOSPC
}

pub(super) fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(2) => Ok(()),
        other => other,
    }
}
