//! The kernel's tables of egress rules by name, and what became of the DNS messages it has seen.

use aya::{
    Ebpf,
    maps::{HashMap as KernelMap, LpmTrie, MapData, PerCpuArray, lpm_trie::Key},
};
use pcigate_common::{
    limits::DNS_NAME_BYTES_MAX,
    names::{Count, NameBlockKey, NameId, NameKey},
};
use pcigate_policy::entries::Name;

use super::{
    EnforcerError,
    tables::{Bytes, TableError, bytes, gone, take, write},
};

const NAME: usize = size_of::<NameKey>();
const BLOCK: usize = size_of::<NameBlockKey>();

/// `NAMES` and `NAME_BLOCKS`. The ports of a name's block are in `PORTS`, as those of prefixes.
pub(super) struct NameTables {
    names: LpmTrie<MapData, Bytes<NAME>, NameId>,
    blocks: KernelMap<MapData, Bytes<BLOCK>, u32>,
}

/// What a name of an installed policy occupies.
pub(super) struct InstalledName {
    bits: u32,
    key: NameKey,
    block: NameBlockKey,
}

impl NameTables {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, EnforcerError> {
        Ok(Self { names: take(ebpf, "NAMES")?, blocks: take(ebpf, "NAME_BLOCKS")? })
    }

    /// Adds a name whose block of `PORTS` is complete; `into` learns of it first, so that a failure
    /// half way leaves nothing behind.
    pub(super) fn add(
        &mut self,
        policy: u32,
        name: &Name,
        block: u32,
        into: &mut Vec<InstalledName>,
    ) -> Result<(), TableError> {
        let mut key = NameKey { policy: policy.to_be_bytes(), name: [0; DNS_NAME_BYTES_MAX] };
        key.name.iter_mut().zip(&name.key).for_each(|(to, from)| *to = *from);
        let bits = 32 + 8 * u32::try_from(name.key.len()).unwrap_or(u32::MAX / 16);
        let installed = InstalledName { bits, key, block: NameBlockKey { policy, id: name.id } };
        let (trie_key, block_key) = installed.keys();
        into.push(installed);
        self.blocks.insert(block_key, block, 0).map_err(write("NAME_BLOCKS"))?;
        self.names.insert(&trie_key, name.id, 0).map_err(write("NAMES"))
    }

    /// Removes what `add` made; what was never written is no error.
    pub(super) fn remove(&mut self, name: &InstalledName) -> Result<(), TableError> {
        let (trie_key, block_key) = name.keys();
        gone(self.names.remove(&trie_key)).map_err(write("NAMES"))?;
        gone(self.blocks.remove(&block_key)).map_err(write("NAME_BLOCKS"))
    }
}

impl InstalledName {
    fn keys(&self) -> (Key<Bytes<NAME>>, Bytes<BLOCK>) {
        (Key::new(self.bits, bytes(&self.key)), bytes(&self.block))
    }
}

/// Counters of the kernel's reading of DNS messages since the programs were loaded.
pub struct NameCounts(PerCpuArray<MapData, u64>);

impl NameCounts {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, EnforcerError> {
        take(ebpf, "NAME_COUNTS").map(Self)
    }

    /// One counter, over all CPUs; 0 where it cannot be read.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0.get(&(count as u32), 0).map_or(0, |per_cpu| per_cpu.iter().sum())
    }
}
