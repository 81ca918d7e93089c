//! What a record is before it is encoded: every free text in it is [`Masked`], every closed set an
//! enum. [`encode`] is the one place where a record's bytes are made. No clock, no I/O.

mod encode;
mod session;

use std::net::IpAddr;
use std::sync::Arc;

use pcigate_common::event::Operation;
use pcigate_policy::mask::Masked;
use pcigate_proto::{Enforcement, Verdict};

pub use encode::{CAPABILITIES_MAX, encode, record_of};
pub use session::{Phase, Session, Statement, StatementEnd, Traffic};

/// An event that is not yet a record: it has no sequence number and no origin.
#[derive(Clone, Debug)]
pub struct Draft {
    /// When it happened, ns since 1970; never 0.
    pub time_unix_nano: u64,
    /// (CPU, sequence on that CPU), for events that come from the kernel.
    pub kernel: Option<(u32, u64)>,
    /// Who acted.
    pub subject: Subject,
    /// The process that acted; required unless the subject is the agent.
    pub process: Option<Process>,
    /// How it ended and why.
    pub outcome: Outcome,
    /// What happened.
    pub event: Event,
}

/// Who acted.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A known workload; shared, because a pod makes many records.
    Workload(Arc<Workload>),
    /// A governed cgroup that no workload is known for.
    Unknown {
        /// Inode number of the cgroup directory; never 0.
        cgroup_id: u64,
        /// Path below the cgroup root; empty where not known.
        cgroup_path: Masked,
    },
    /// This agent itself.
    Agent,
}

/// A pod's container, as the kernel and the source of workloads prove it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Kubernetes namespace.
    pub namespace: Masked,
    /// Pod name.
    pub pod: Masked,
    /// Pod UID; empty where the source gives none.
    pub pod_uid: Masked,
    /// ServiceAccount name.
    pub service_account: Masked,
    /// Container name.
    pub container: Masked,
    /// Container id of the runtime.
    pub container_id: Masked,
    /// Inode number of the cgroup directory.
    pub cgroup_id: u64,
    /// Path below the cgroup root.
    pub cgroup_path: Masked,
    /// Kind of the controller that made the pod, at the top of the chain; empty where none.
    pub owner_kind: Masked,
    /// Its name.
    pub owner_name: Masked,
    /// Image of the container; empty where not known.
    pub image: Masked,
    /// `sha256:…` of what runs.
    pub image_digest: Masked,
}

/// The process that acted. Ids are those of the root pid namespace.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id; never 0.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Start, ns since boot: with `pid` the identity of a process.
    pub start_boottime_ns: u64,
    /// Real user id.
    pub uid: u32,
    /// Resolved path of the running program, where known; shared, because a process makes many
    /// records.
    pub executable: Option<Arc<Masked>>,
    /// Process id of the parent.
    pub parent_pid: u32,
    /// Start of the parent, ns since boot.
    pub parent_start_boottime_ns: u64,
}

/// How an event ended and which rule is behind it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether it happened.
    pub result: Ending,
    /// What the policies said; `None` where nothing was to be decided.
    pub decision: Option<Decided>,
    /// How a refusal was carried out.
    pub enforcement: Option<Enforcement>,
    /// What audit-mode rules would have decided, where stricter.
    pub audit: Option<Decided>,
    /// First 8 bytes of the SHA-256 of the compiled policy.
    pub policy_hash: Option<[u8; 8]>,
}

/// Success or failure indication (PCI DSS 10.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It happened.
    Success,
    /// It was prevented by a decision.
    Refused,
    /// It failed for another reason, or a refusal did not take effect.
    Failed,
}

/// A verdict and the rule behind it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule; shared, because a rule decides often.
    pub rule: Arc<Rule>,
}

/// The name of a rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `namespace/name` of the policy.
    pub policy: Masked,
    /// Id of the rule within the policy.
    pub id: Masked,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A program was started or refused.
    Exec(Exec),
    /// A process was created.
    Fork {
        /// Process id of the child; never 0.
        child_pid: u32,
        /// Start of the child, ns since boot.
        child_start_boottime_ns: u64,
    },
    /// A process ended.
    Exit {
        /// Exit code.
        code: u32,
        /// Signal that ended it; 0 = none.
        signal: u32,
    },
    /// A destination was asked for.
    Egress {
        /// How.
        operation: Operation,
        /// IP protocol number.
        protocol: u32,
        /// Destination.
        address: IpAddr,
        /// Destination port.
        port: u16,
        /// The caller used the IPv6 form of an IPv4 address.
        v4_mapped: bool,
    },
    /// Something else was asked for.
    Attempt {
        /// `socket`, `bind`, …: see `record.proto`.
        operation: &'static str,
        /// What of, in words.
        object: Masked,
    },
    /// A gated connection began or ended.
    Session(Box<Session>),
    /// A statement was decided.
    Statement(Box<Statement>),
    /// A statement that went to its target is done.
    StatementEnd(StatementEnd),
    /// What passed through a gated connection.
    Traffic(Traffic),
    /// Events happened that could not be recorded.
    Lost(Lost),
    /// What this node sees and enforces.
    Coverage {
        /// Start, stop or change.
        state: CoverageState,
        /// What changed, for people.
        message: Masked,
        /// At most [`CAPABILITIES_MAX`]; further ones are counted, not named.
        capabilities: Vec<Capability>,
    },
}

/// A program was started or refused.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Resolved path of the program asked for.
    pub path: Masked,
    /// The name it was called by, where different from `path`.
    pub invoked: Option<Masked>,
    /// Arguments, NUL between two of them, masked in one piece so that a card number spread over
    /// two arguments is seen. Empty = no arguments.
    pub args: Masked,
    /// The kernel side cut the arguments.
    pub args_truncated: bool,
    /// The arguments could not be read.
    pub args_unavailable: bool,
    /// The path could not be resolved up to the root.
    pub path_unresolved: bool,
    /// Bytes the arguments had in the process.
    pub args_bytes: u32,
}

/// Events that happened and could not be recorded, exactly counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many; never 0.
    pub count: u64,
    /// Why.
    pub reason: LostReason,
    /// In front of which queue.
    pub queue: Queue,
}

/// Why events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LostReason {
    /// The kernel's ring buffer was full.
    RingFull,
    /// The spool, or the disk below it, was full.
    SpoolFull,
    /// The disk below the spool failed.
    SpoolFailed,
    /// The recorder's queue was full.
    ReaderBehind,
    /// The kernel's bytes could not be decoded.
    Undecodable,
    /// An agent that was killed had taken them out of the rings.
    AgentDied,
    /// They were in the rings of another version, whose records this one cannot decode.
    OtherVersion,
}

/// Which queue an event was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Process events, and whatever was allowed.
    Events,
    /// Every refusal.
    Verdicts,
    /// The agent's own records.
    Spool,
}

/// Which moment a coverage record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoverageState {
    /// The agent began to watch.
    Start,
    /// The agent stops watching.
    Stop,
    /// Something changed in between.
    Change,
}

/// One thing a node can or cannot do.
#[derive(Clone, Debug)]
pub struct Capability {
    /// `exec-refusal`, `egress-tcp-udp`, …
    pub name: &'static str,
    /// How far it goes here.
    pub state: CapabilityState,
    /// Why, where not enforced.
    pub reason: Masked,
}

/// How far a capability goes on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapabilityState {
    /// Refusals take effect.
    Enforced,
    /// Seen and recorded, not refused.
    Observed,
    /// Neither.
    NotEnforceableHere,
}

impl Draft {
    /// A record of the agent about itself: no process, ended well.
    #[must_use]
    pub fn agent(time_unix_nano: u64, event: Event) -> Self {
        let failed = matches!(event, Event::Lost(_));
        Self {
            time_unix_nano,
            kernel: None,
            subject: Subject::Agent,
            process: None,
            outcome: Outcome::plain(if failed { Ending::Failed } else { Ending::Success }),
            event,
        }
    }

    /// The queue this draft came through: what a Lost record names when it does not get further.
    #[must_use]
    pub fn queue(&self) -> Queue {
        match &self.event {
            Event::Lost(lost) => lost.queue,
            Event::Coverage { .. } => Queue::Spool,
            // As the kernel does it (`pcigate-ebpf/src/ring.rs`).
            _ if self.outcome.result == Ending::Success => Queue::Events,
            _ => Queue::Verdicts,
        }
    }
}

impl Outcome {
    /// An outcome nothing had to be decided for.
    #[must_use]
    pub const fn plain(result: Ending) -> Self {
        Self { result, decision: None, enforcement: None, audit: None, policy_hash: None }
    }
}

impl LostReason {
    /// The word records and metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RingFull => "ring-full",
            Self::SpoolFull => "spool-full",
            Self::SpoolFailed => "spool-failed",
            Self::ReaderBehind => "reader-behind",
            Self::Undecodable => "undecodable",
            Self::AgentDied => "agent-died",
            Self::OtherVersion => "other-version",
        }
    }
}

impl Queue {
    /// The word records and metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Verdicts => "verdicts",
            Self::Spool => "spool",
        }
    }
}

impl CapabilityState {
    /// The word records and `doctor` use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Observed => "observed",
            Self::NotEnforceableHere => "not-enforceable-here",
        }
    }
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
