//! Keys and values of the kernel maps: which cgroup is which policy, and what each policy answers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::event::Task;

/// Verdict numbers, least strict first, so that the strictest is the largest.
pub mod verdict {
    /// No verdict (used for "no audit verdict").
    pub const NONE: u32 = 0;
    /// The operation proceeds.
    pub const ALLOW: u32 = 1;
    /// Only through the gateway; refused where there is none.
    pub const GATE: u32 = 2;
    /// Needs approval; refused until there is one.
    pub const ASK: u32 = 3;
    /// Refused.
    pub const DENY: u32 = 4;
}

/// Rule numbers that stand for no written rule. All others index the policy's rule table.
pub mod rule {
    /// Smallest reserved number.
    pub const RESERVED: u32 = u32::MAX - 15;
    /// `defaultAction` of the selecting policies.
    pub const DEFAULT: u32 = u32::MAX;
    /// No policy selects the workload.
    pub const NO_POLICY: u32 = u32::MAX - 1;
    /// The cgroup is below the governed root but no workload is known for it.
    pub const UNKNOWN_WORKLOAD: u32 = u32::MAX - 2;
    /// The executable's path could not be resolved completely.
    pub const UNRESOLVED_PATH: u32 = u32::MAX - 3;
    /// A kernel table lookup that must succeed did not: refused, because errors never mean allow.
    pub const INTERNAL_ERROR: u32 = u32::MAX - 4;
    /// A socket of a family, type or protocol that ordinary programs do not need.
    pub const SOCKET: u32 = u32::MAX - 5;
    /// The gateway's listener, bound or reached without a redirect.
    pub const GATEWAY_LISTENER: u32 = u32::MAX - 6;
    /// A socket of the node: its container runtime, kubelet, CNI, or this agent.
    pub const NODE_SOCKET: u32 = u32::MAX - 7;
    /// Processes outside of the workload (the agent's among them), pins, and `bpf(2)`.
    pub const SELF_PROTECTION: u32 = u32::MAX - 8;
    /// What would leave the workload's namespaces or cgroup, or build another way out.
    pub const ISOLATION: u32 = u32::MAX - 9;
    /// An endpoint of a Target, asked for by a workload that no gate rule lets there.
    pub const TARGET: u32 = u32::MAX - 10;
    /// A grant with a deadline.
    pub const GRANT: u32 = u32::MAX - 11;
}

/// The folded answer to one question: what is enforced, and what audit-mode rules would have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Decision {
    /// One of [`verdict`]; anything but `ALLOW` is refused by the kernel.
    pub verdict: u32,
    /// Rule behind [`Self::verdict`]: an index into the policy's rule table or one of [`rule`].
    pub rule: u32,
    /// Verdict of the strictest audit-mode rule where stricter than the enforced one, else `NONE`.
    pub audit_verdict: u32,
    /// Rule behind [`Self::audit_verdict`].
    pub audit_rule: u32,
}
const _: () = assert!(size_of::<Decision>() == 16);

impl Decision {
    /// An enforced verdict without an audit remark.
    #[must_use]
    pub const fn enforced(verdict: u32, rule: u32) -> Self {
        Self { verdict, rule, audit_verdict: verdict::NONE, audit_rule: 0 }
    }

    /// Whether the kernel lets the operation proceed.
    #[must_use]
    pub const fn allows(&self) -> bool {
        self.verdict == verdict::ALLOW
    }
}

impl Decision {
    /// This decision, and what exec rules with `args` add to it, all of which are denies: the
    /// lowest number of an enforced one that matches, and of any that matches.
    #[must_use]
    pub fn with_args(self, enforced: Option<u32>, any: Option<u32>) -> Self {
        let lower = |verdict, rule: u32, added: u32| {
            if verdict == verdict::DENY && rule < added { rule } else { added }
        };
        if let Some(added) = enforced {
            return Self::enforced(verdict::DENY, lower(self.verdict, self.rule, added));
        }
        match any {
            Some(added) if self.verdict != verdict::DENY => Self {
                audit_verdict: verdict::DENY,
                audit_rule: lower(self.audit_verdict, self.audit_rule, added),
                ..self
            },
            _ => self,
        }
    }
}

/// `EXEC_DECISIONS`: what a name's end state means for a file of one digest class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExecAnswer {
    /// What the rules without `args` say; the policies' default where none of them matches.
    pub decision: Decision,
    /// Rules with `args` that match but for the arguments, one bit each.
    pub args: u64,
    /// 1 where a rule without `args` matches, else 0.
    pub matched: u32,
    /// Unused, zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<ExecAnswer>() == 32);

/// Rules with `args` that one policy may hold: one bit each.
pub const ARGS_RULES_MAX: usize = 64;

/// What is known of a file's content, as a column of the answers: see `DIGEST_CLASSES`.
pub mod digest_class {
    /// Nothing: no digest was computed, or the file has changed since.
    pub const UNKNOWN: u32 = 0;
    /// The digest is known, and no rule of the policy names it.
    pub const OTHER: u32 = 1;
    /// Another hook will know: what is refused whatever the digest is refused, and no more.
    pub const LATER: u32 = 2;
    /// First of the classes of digests that rules name.
    pub const NAMED: u32 = 3;
}

/// `FILES`: a file's content as far as the kernel can tell it apart → its SHA-256. Any change of
/// the file changes the key, so an entry is never wrong, only unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileKey {
    /// `inode.i_ino`.
    pub inode: u64,
    /// `inode.i_size`.
    pub size: u64,
    /// Change time of the inode, s.
    pub ctime_sec: u64,
    /// Change time, ns of the second.
    pub ctime_nsec: u32,
    /// `super_block.s_dev`, as the kernel packs it: major << 20 | minor.
    pub device: u32,
}
const _: () = assert!(size_of::<FileKey>() == 32);

/// `DIGEST_CLASSES`: a digest that rules of a policy name → its class. Digests that the same rules
/// name share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DigestKey {
    /// Policy number.
    pub policy: u32,
    /// SHA-256.
    pub sha256: [u8; 32],
}
const _: () = assert!(size_of::<DigestKey>() == 36);

/// `WORKLOADS`: cgroup id (inode number of the cgroup2 directory) → what governs it. Id 0, which no
/// cgroup has, stands for unknown workloads where these are allowed: its prefixes are the Targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WorkloadEntry {
    /// Key into `POLICIES`.
    pub policy: u32,
    /// Unused, zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<WorkloadEntry>() == 8);

/// `POLICIES`: policy number → its compiled form. The automaton's cells and decisions live in
/// `EXEC_CELLS` and `EXEC_DECISIONS` from the bases given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PolicyEntry {
    /// First cell of the automaton; cell (state, column) is `exec_base + state * columns + column`.
    pub exec_base: u32,
    /// Columns per state: one per byte class, and a last one holding the state's answers (0 = no
    /// rule matched, n = `EXEC_DECISIONS` from `exec_decisions + (n - 1) * digest_classes`, one
    /// per digest class). 0 = no exec rule at all.
    pub exec_columns: u32,
    /// The start state.
    pub exec_start: u32,
    /// First answer of this policy in `EXEC_DECISIONS`.
    pub exec_decisions: u32,
    /// Digest classes; 1 = no rule names a digest, and none is looked up.
    pub digest_classes: u32,
    /// The automaton over arguments, in `EXEC_CELLS` as the other. Its last column holds 0 or n for
    /// the bits `EXEC_DECISIONS[args_masks + n - 1].args`.
    pub args_base: u32,
    /// Its columns; 0 = no rule asks for arguments.
    pub args_columns: u32,
    /// Its start state.
    pub args_start: u32,
    /// First answer that holds bits of arguments.
    pub args_masks: u32,
    /// First of one answer per bit: the rule behind it.
    pub args_rules: u32,
    /// Bits of rules that are enforced, not audited.
    pub args_enforced: u64,
    /// The answer where no exec rule matches.
    pub exec_default: Decision,
    /// The answer where the path could not be resolved.
    pub exec_unresolved: Decision,
    /// The answer where no prefix matches.
    pub egress_default: Decision,
    /// The answer where no prefix of a source matches.
    pub ingress_default: Decision,
    /// Bits of [`ingress`]; 0 = nothing is decided.
    pub ingress: u32,
    /// 1 = the workload is exempt: no guard holds for it either.
    pub exempt: u32,
    /// 1 = there are rules by name: what the workload knows an address by counts too.
    pub names: u32,
    /// Unused, zero.
    pub reserved: u32,
    /// Byte → class (column) of the automaton.
    pub exec_classes: [u8; 256],
    /// Byte → class (column) of the automaton over arguments.
    pub args_classes: [u8; 256],
}
const _: () = assert!(size_of::<PolicyEntry>() == 48 + 4 * 16 + 16 + 2 * 256);

/// Bits of [`PolicyEntry::ingress`].
pub mod ingress {
    /// A selecting policy speaks of ingress.
    pub const DECIDED: u32 = 1;
    /// No rule lets anybody in: there is nothing to listen for.
    pub const CLOSED: u32 = 2;
}

/// Added to a policy number in `EGRESS` keys: the prefixes are those of sources, and the ports in
/// their blocks those of the workload. Policy numbers stay below.
pub const INGRESS_POLICY: u32 = 1 << 31;

impl PolicyEntry {
    /// The answer to what no egress rule can name (raw sockets, foreign unix sockets, …), `rule`
    /// saying what it is: that of a destination no rule names. A workload whose egress default
    /// denies is *confined*; a default in audit mode only remarks.
    #[must_use]
    pub const fn confined(&self, rule: u32) -> Decision {
        let mut decision = self.egress_default;
        if !decision.allows() {
            decision.rule = rule;
        }
        if decision.audit_verdict != verdict::NONE {
            decision.audit_rule = rule;
        }
        decision
    }
}

/// `FOREIGN`: a use of a socket that was made outside of the governed cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForeignKey {
    /// Address of the kernel's `struct sock`.
    pub socket: u64,
    /// Policy that allowed it.
    pub policy: u32,
    /// Destination port, host order.
    pub port: u32,
    /// Destination in network order; IPv4 as v4-mapped.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<ForeignKey>() == 32);

/// `PEERS`: a source refused at a port of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PeerKey {
    /// cgroup id of the workload.
    pub workload: u64,
    /// Port of the workload, host order.
    pub port: u32,
    /// IP protocol number.
    pub protocol: u32,
    /// Source in network order; IPv4 as v4-mapped.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<PeerKey>() == 32);

/// What is remembered of a [`PeerKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Peer {
    /// Time of its last record, `bpf_ktime_get_boot_ns`.
    pub since_ns: u64,
    /// Packets refused since then.
    pub knocks: u64,
}
const _: () = assert!(size_of::<Peer>() == 16);

/// Data part of an `EGRESS` key (longest-prefix trie): policy first, so that one trie serves all.
/// The trie's prefix length is `32 + bits`; IPv4 is held as v4-mapped (`::ffff:a.b.c.d`, 96 + n).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PrefixKey {
    /// Policy number, big-endian, because tries compare bytes from the first.
    pub policy: [u8; 4],
    /// Address in network order.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<PrefixKey>() == 20);

/// The number of a block of `PORTS`. Its highest bits say which kinds of keys the block has, so
/// that a program looks for no others.
pub mod block {
    /// There are keys with a protocol and a port.
    pub const PORTS: u32 = 1 << 31;
    /// There are keys with a protocol and any port.
    pub const PROTOCOLS: u32 = 1 << 30;
    /// The numbers below those bits.
    pub const NUMBERS: u32 = 1 << 30;
}

/// `PORTS`: what a prefix (by the block number its `EGRESS` entry holds) says of protocol and port.
/// Looked up as (protocol, port), (protocol, 0), (0, 0); the first hit holds the folded answer.
/// Every block has the (0, 0) entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortKey {
    /// Block number, with the bits of [`block`]: the value of the `EGRESS` entry.
    pub block: u32,
    /// Port in host order; 0 = any.
    pub port: u16,
    /// IP protocol number (6 TCP, 17 UDP); 0 = any.
    pub protocol: u8,
    /// Unused, zero.
    pub reserved: u8,
}
const _: () = assert!(size_of::<PortKey>() == 8);

/// Key of `GRANTS`: one destination of one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantKey {
    /// Id of a cgroup: it and everything below it may.
    pub workload: u64,
    /// Destination in network order; IPv4 as v4-mapped.
    pub address: [u8; 16],
    /// Port in host order.
    pub port: u16,
    /// IP protocol number (6 TCP, 17 UDP).
    pub protocol: u8,
    /// Unused, zero.
    pub reserved: [u8; 5],
}
const _: () = assert!(size_of::<GrantKey>() == 32);

/// `GRANTS`: until when, and by which grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantEntry {
    /// `bpf_ktime_get_boot_ns` from which on it counts for nothing.
    pub deadline_ns: u64,
    /// A connection belongs to the grant that let it through, and ends with it.
    pub id: u64,
}
const _: () = assert!(size_of::<GrantEntry>() == 16);

/// `GRANTED`: what is remembered with a socket that a grant let connect: the grant, and who asked,
/// because packets are looked at in whatever task is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Granted {
    /// Where it let the socket connect to.
    pub key: GrantKey,
    /// The grant.
    pub id: u64,
    /// 1 once the end of the connection has been recorded.
    pub told: u64,
    /// Who connected.
    pub task: Task,
    /// cgroup of that task.
    pub cgroup: u64,
    /// The governed cgroup above it.
    pub workload: u64,
    /// Its policy.
    pub policy: u32,
    /// Address family of the connect.
    pub family: u32,
}

/// Which ring a lost record was meant for: index into `LOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum Ring {
    /// Process events.
    Events = 0,
    /// Verdicts.
    Verdicts = 1,
}
