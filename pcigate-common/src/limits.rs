//! Every limit both sides must agree on, each with the reason for its number.

/// Bytes of argv kept per exec, counted with the NUL between arguments. Longer ones are cut and
/// flagged [`crate::event::flags::ARGV_TRUNCATED`].
pub const ARGV_BYTES_MAX: usize = 4096;
/// Bytes of a resolved executable path (`PATH_MAX` is 4096; 1,024 covers what real images use and
/// keeps the verifier's loop short). A longer path is *unresolved*, which enforce mode refuses.
pub const PATH_BYTES_MAX: usize = 1024;
/// Path components and mount crossings walked from the file up to the task's root.
pub const PATH_DEPTH_MAX: usize = 48;
/// Bytes of one path component (`NAME_MAX` + NUL).
pub const NAME_BYTES_MAX: usize = 256;
/// Levels of the cgroup tree searched upwards from a task for a governed ancestor. Kubernetes nests
/// 5 deep, kind 8; the kernel's own limit is configurable and never lower.
pub const CGROUP_DEPTH_MAX: u32 = 16;
/// Pending ring bytes that wake the reader. Waking per record costs 20–50 % of a connect; the
/// reader also looks every few milliseconds, so this only bounds how full the ring may get. It is
/// more than 700,000 events a second leave in that time: below it no record pays for a wake-up.
pub const WAKE_UP_BYTES: u64 = 512 * 1024;
/// Default size of the ring of process events, bytes (a power of two and of pages).
pub const EVENTS_RING_BYTES: u32 = 16 * 1024 * 1024;
/// Default size of the ring of egress verdicts and refusals, which noise must not drown.
pub const VERDICTS_RING_BYTES: u32 = 4 * 1024 * 1024;
/// Size of the ring that tells of new cgroups; one entry is as good as many.
pub const BIRTHS_RING_BYTES: u32 = 4096;
/// Governed cgroups (one per pod; 250 pods is the kubelet's usual maximum).
pub const WORKLOADS_MAX: u32 = 4096;
/// Compiled policies in the kernel at a time (one per distinct set of selecting policies, twice
/// while one replaces another).
pub const POLICIES_MAX: u32 = 1024;
/// Prefixes of all policies together.
pub const PREFIXES_MAX: u32 = 262_144;
/// (prefix, protocol, port) entries of all policies together.
pub const PORTS_MAX: u32 = 524_288;
/// Cells of the exec automata of all policies together; four cells share one array slot.
pub const EXEC_CELLS_MAX: u32 = 1024 * 1024;
/// Array slots of the exec automata.
pub const EXEC_SLOTS_MAX: u32 = EXEC_CELLS_MAX / 4;
/// Distinct answers of the exec automata of all policies together.
pub const EXEC_DECISIONS_MAX: u32 = 65_536;
/// Levels of the cgroup tree climbed from another task, to see whether it stands in the same
/// workload. One deeper counts as a stranger's.
pub const CLIMB_MAX: u32 = 32;
/// Processes on their way into a governed cgroup, until their first exec there. One more is
/// confined at once, so that its container may not start.
pub const ENTERING_MAX: u32 = 1024;
/// Files whose digest is known, of all workloads together; beyond that a file stays unknown.
pub const FILES_MAX: u32 = 32_768;
/// (policy, digest) pairs that rules name, of all policies together.
pub const DIGESTS_MAX: u32 = 65_536;
/// Grants at a time, each of one destination for one workload.
pub const GRANTS_MAX: u32 = 16_384;
/// Execs in flight per CPU: each holds a scratch buffer, and a program may be preempted while it
/// does. One more is refused, because what cannot be decided is not allowed.
pub const SCRATCHES_PER_CPU: u32 = 4;
/// The gateway's listener in every pod: this port of 127.0.0.1 and `::1`. No governed process binds
/// it, and none connects to it except where the kernel programs redirect.
pub const GATEWAY_PORT: u16 = 15_099;
/// Network namespaces the gateway listens in at a time: four times the pods of a usual node.
pub const GATEWAYS_MAX: u32 = 1024;
/// Sockets at a time whose connection was turned to the gateway. One more is refused, because what
/// nobody remembers could not be told from a connection that was never redirected.
pub const REDIRECTED_MAX: u32 = 65_536;
/// Connections to the gateway that it has not accepted yet: four times what its listeners keep
/// waiting in a pod.
pub const CLIENTS_MAX: u32 = 8192;
/// Bytes of a unix socket's name in a record: `sun_path` holds 108, rounded up to whole words.
pub const UNIX_NAME_BYTES_MAX: usize = 112;
/// Uses of carried-in sockets remembered, so that a connection makes one record and not one per
/// message. The least recently used is forgotten, which costs a record more.
pub const FOREIGN_MAX: u32 = 4096;
/// Bytes of a DNS message that teach something (a power of two): what resolvers offer to take over
/// UDP is 1,232 to 4,096. A longer one teaches nothing and is counted.
pub const DNS_MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of a name in the kernel's tables with its NUL: with the policy's number in front it is the
/// longest key a longest-prefix trie takes (256).
pub const DNS_NAME_BYTES_MAX: usize = 252;
/// Names and wildcards of all policies together.
pub const NAMES_MAX: u32 = 65_536;
/// Questions under way. More push out the oldest, whose answer then opens nothing.
pub const QUESTIONS_MAX: u32 = 4096;
/// Seconds an answer may take: stub resolvers ask again after five and give up after ten.
pub const QUESTION_SECONDS: u64 = 15;
/// Addresses learned, over all workloads. More push out those not used for longest, which have to
/// be resolved again: a map that refuses when full would stay full while no agent sweeps it.
pub const LEARNED_MAX: u32 = 32_768;
/// Names one address is known by in one workload. One more takes the place of the first to expire.
pub const LEARNED_NAMES_MAX: usize = 4;
/// Least seconds a name stands for an address: programs connect a while after they have resolved,
/// and some keep an answer whatever its TTL (the JVM: 30 s).
pub const LEARNED_SECONDS_MIN: u32 = 30;
/// Most seconds a name stands for an address, whatever the TTL.
pub const LEARNED_SECONDS_MAX: u32 = 3600;
/// Sources refused at a listener that are remembered; the least recent is forgotten, which costs a
/// record more.
pub const PEERS_MAX: u32 = 4096;
/// Between two records of one source refused at one port, ns.
pub const PEER_SILENCE_NS: u64 = 1_000_000_000;
