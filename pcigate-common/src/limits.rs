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
/// Grants at a time, each of one destination for one workload.
pub const GRANTS_MAX: u32 = 16_384;
/// Execs in flight per CPU: each holds a scratch buffer, and a program may be preempted while it
/// does. One more is refused, because what cannot be decided is not allowed.
pub const SCRATCHES_PER_CPU: u32 = 4;
