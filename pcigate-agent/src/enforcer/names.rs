//! The kernel's tables of egress rules by name, and what became of the DNS messages it has seen.

use aya::{
    Ebpf,
    maps::{HashMap as KernelMap, LpmTrie, Map, MapData, PerCpuArray, loaded_maps, lpm_trie::Key},
};
use pcigate_common::{
    limits::DNS_NAME_BYTES_MAX,
    names::{Count, Learned, LearnedKey, NameBlockKey, NameId, NameKey},
};
use pcigate_policy::entries::Name;
use zerocopy::FromBytes;

use super::{
    EnforcerError,
    tables::{Bytes, TableError, bytes, gone, take, write},
};

const NAME: usize = size_of::<NameKey>();
const BLOCK: usize = size_of::<NameBlockKey>();
const LEARNED_KEY: usize = size_of::<LearnedKey>();
const LEARNED: usize = size_of::<Learned>();

/// `LEARNED`, this agent's or another's.
type LearnedMap = KernelMap<MapData, Bytes<LEARNED_KEY>, Bytes<LEARNED>>;

/// `NAMES` and `NAME_BLOCKS`. The ports of a name's block are in `PORTS`, as those of prefixes.
pub(super) struct NameTables {
    names: LpmTrie<MapData, Bytes<NAME>, NameId>,
    blocks: KernelMap<MapData, Bytes<BLOCK>, u32>,
    learned: LearnedMap,
}

/// What a name of an installed policy occupies.
pub(super) struct InstalledName {
    bits: u32,
    key: NameKey,
    block: NameBlockKey,
}

impl NameTables {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, EnforcerError> {
        Ok(Self {
            names: take(ebpf, "NAMES")?,
            blocks: take(ebpf, "NAME_BLOCKS")?,
            learned: take(ebpf, "LEARNED")?,
        })
    }

    /// Adds what workloads have learned under agents before this one, whose programs are still
    /// attached; how many addresses. What cannot be read has to be resolved again.
    pub(super) fn inherit(&mut self, is_governed: impl Fn(u64) -> bool) -> usize {
        let mut added = 0;
        for other in others() {
            for (key, theirs) in other.iter().flatten() {
                let Ok(theirs) = Learned::read_from_bytes(&theirs) else { continue };
                if is_governed(theirs.key.workload) && self.merge(&key, &theirs) {
                    added += 1;
                }
            }
        }
        added
    }

    /// Whether that changed anything; only then it is written, because this map may be among those
    /// that are read.
    fn merge(&mut self, key: &Bytes<LEARNED_KEY>, theirs: &Learned) -> bool {
        let known = self.learned.get(key, 0).ok();
        let known = known.and_then(|bytes| Learned::read_from_bytes(&bytes).ok());
        let before = known.unwrap_or(Learned { key: theirs.key, names: Default::default() });
        let mut merged = before;
        for name in theirs.names.iter().filter(|name| name.deadline_ns != 0) {
            merged.add(&name.id, name.deadline_ns);
        }
        merged != before && self.learned.insert(key, bytes::<_, LEARNED>(&merged), 0).is_ok()
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

/// Every map of this name and shape in the kernel. Identities of names, boot clock and cgroup ids
/// mean the same to every agent; a map of another shape is another version's and left alone.
fn others() -> impl Iterator<Item = LearnedMap> {
    loaded_maps().flatten().filter_map(|info| {
        if info.name_as_str() != Some("LEARNED") {
            return None;
        }
        let map = MapData::from_id(info.id()).ok()?;
        LearnedMap::try_from(Map::LruHashMap(map)).ok()
    })
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
