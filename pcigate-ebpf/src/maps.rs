//! Every map, and the frozen settings the loader fills in before the programs are verified.

use aya_ebpf::{
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use pcigate_common::{
    limits,
    maps::{
        Decision, DigestKey, ExecAnswer, FileKey, ForeignKey, GrantEntry, GrantKey, Granted, Peer,
        PeerKey, PolicyEntry, PortKey, PrefixKey, WorkloadEntry,
    },
    names::{Count, Learned, LearnedKey, NameBlockKey, NameId, NameKey, Question, QuestionKey},
    redirect::{Client, Redirected},
    settings::{Offsets, Settings},
};

use crate::{names::NameScratch, scratch::Scratch};

/// cgroup id → policy number.
#[map]
pub static WORKLOADS: HashMap<u64, WorkloadEntry> =
    HashMap::with_max_entries(limits::WORKLOADS_MAX, 0);

/// Policy number → compiled policy.
#[map]
pub static POLICIES: HashMap<u32, PolicyEntry> = HashMap::with_max_entries(limits::POLICIES_MAX, 0);

/// (policy, address prefix) → block of `PORTS`.
#[map]
pub static EGRESS: LpmTrie<PrefixKey, u32> = LpmTrie::with_max_entries(limits::PREFIXES_MAX, 0);

/// (block, protocol, port) → decision. Not preallocated: a full table would be 20 MiB.
#[map]
pub static PORTS: HashMap<PortKey, Decision> =
    HashMap::with_max_entries(limits::PORTS_MAX, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// (cgroup, destination) → what is allowed there until when. Not preallocated: most nodes have few.
#[map]
pub static GRANTS: HashMap<GrantKey, GrantEntry> =
    HashMap::with_max_entries(limits::GRANTS_MAX, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// 1 once there has been a grant: until then no packet is looked at.
#[map]
pub static GRANTS_USED: Array<u64> = Array::with_max_entries(1, 0);

/// Socket → the grant that let it connect; gone with the socket.
#[btf_map]
pub static GRANTED: SkStorage<Granted> = SkStorage::new();

/// Cookie of a network namespace → 1 while an agent says that its gateway listens there.
#[map]
pub static GATEWAYS: HashMap<u64, u64> =
    HashMap::with_max_entries(limits::GATEWAYS_MAX, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// Cookie of a socket → where it was to go before it was turned to the gateway. Not preallocated:
/// most nodes have few.
#[map]
pub static REDIRECTED: HashMap<u64, Redirected> =
    HashMap::with_max_entries(limits::REDIRECTED_MAX, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// The client's end of a redirected connection → cookie of its socket, until the gateway has looked
/// it up. What is pushed out is closed by the gateway.
#[map]
pub static CLIENTS: LruHashMap<Client, u64> = LruHashMap::with_max_entries(limits::CLIENTS_MAX, 0);

/// 1 once a connection was redirected: until then no socket is looked up.
#[map]
pub static REDIRECTS_USED: Array<u64> = Array::with_max_entries(1, 0);

/// Cells of the exec automata, four to a slot.
#[map]
pub static EXEC_CELLS: Array<u64> = Array::with_max_entries(limits::EXEC_SLOTS_MAX, 0);

/// Answers of the exec automata.
#[map]
pub static EXEC_DECISIONS: Array<ExecAnswer> =
    Array::with_max_entries(limits::EXEC_DECISIONS_MAX, 0);

/// Files whose digest is known → their SHA-256.
#[map]
pub static FILES: HashMap<FileKey, [u8; 32]> =
    HashMap::with_max_entries(limits::FILES_MAX, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// (policy, digest) → class of the digest.
#[map]
pub static DIGEST_CLASSES: HashMap<DigestKey, u32> =
    HashMap::with_max_entries(limits::DIGESTS_MAX, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// Process events.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(limits::EVENTS_RING_BYTES, 0);

/// Egress verdicts and refused execs, so that noise cannot drown a deny.
#[map]
pub static VERDICTS: RingBuf = RingBuf::with_byte_size(limits::VERDICTS_RING_BYTES, 0);

/// A cgroup was made: when.
#[map]
pub static BIRTHS: RingBuf = RingBuf::with_byte_size(limits::BIRTHS_RING_BYTES, 0);

/// Records that found their ring full, per CPU and ring (`pcigate_common::maps::Ring`).
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// Records made, per CPU and ring: in the ring, read, or lost. Agents of other versions read this
/// map and `LOST` by name and shape, to count what they cannot decode.
#[map]
pub static MADE: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// Records made, per CPU: the kernel's own numbering.
#[map]
pub static SEQUENCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Calls of the LSM program, per CPU: the loader's canary looks whether it grows.
#[map]
pub static LSM_CALLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Sockets carried in whose allowed use has been recorded; forgetting one costs one more record.
#[map]
pub static FOREIGN: LruHashMap<ForeignKey, u8> =
    LruHashMap::with_max_entries(limits::FOREIGN_MAX, 0);
/// Processes on their way into a governed cgroup → start of the process, ns since boot.
#[map]
pub static ENTERING: HashMap<u32, u64> = HashMap::with_max_entries(limits::ENTERING_MAX, 0);

/// 1 once a policy has said who may come in: until then nobody is asked.
#[map]
pub static INGRESS_USED: Array<u64> = Array::with_max_entries(1, 0);

/// Who has knocked at a listener in vain, so that a flood makes one record a second.
#[map]
pub static PEERS: LruHashMap<PeerKey, Peer> = LruHashMap::with_max_entries(limits::PEERS_MAX, 0);

/// Buffers for execs in flight; the loader sizes it to the CPUs of the machine.
#[map]
pub static SCRATCH: Array<Scratch> = Array::with_max_entries(limits::SCRATCHES_PER_CPU, 0);

/// (policy, name reversed) → what identifies the name or wildcard.
#[map]
pub static NAMES: LpmTrie<NameKey, NameId> = LpmTrie::with_max_entries(limits::NAMES_MAX, 0);

/// (policy, name) → block of `PORTS`.
#[map]
pub static NAME_BLOCKS: HashMap<NameBlockKey, u32> =
    HashMap::with_max_entries(limits::NAMES_MAX, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// DNS questions under way.
#[map]
pub static QUESTIONS: LruHashMap<QuestionKey, Question> =
    LruHashMap::with_max_entries(limits::QUESTIONS_MAX, 0);

/// (workload, address) → the names it is known by.
#[map]
pub static LEARNED: LruHashMap<LearnedKey, Learned> =
    LruHashMap::with_max_entries(limits::LEARNED_MAX, 0);

/// Buffers for DNS messages; the loader sizes it to the CPUs of the machine.
#[map]
pub static NAME_SCRATCH: Array<NameScratch> = Array::with_max_entries(limits::SCRATCHES_PER_CPU, 0);

/// What became of DNS messages, per CPU (`pcigate_common::names::Count`).
#[map]
pub static NAME_COUNTS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(Count::ALL.len() as u32, 0);

/// Written by the loader (`override_global`) and frozen before verification.
// SAFETY: `Offsets` is plain integers, for which all-zero bytes are a value.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = unsafe { core::mem::zeroed() };

/// Written by the loader (`override_global`) and frozen before verification.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    root_cgroup: 0,
    root_level: 0,
    unknown_verdict: 0,
    loopback_teaches: 0,
    reserved: 0,
};

/// The struct offsets of the running kernel.
#[inline(always)]
pub fn offsets() -> &'static Offsets {
    // The black box keeps the compiler from folding the zeros written above.
    core::hint::black_box(&OFFSETS)
}

/// Where and how to govern.
#[inline(always)]
pub fn settings() -> &'static Settings {
    core::hint::black_box(&SETTINGS)
}
