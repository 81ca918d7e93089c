//! What this node enforces and what it does not, by name: for Coverage records, `doctor` and the
//! log. "Applied" never means "ignored".

use pcigate_policy::{
    entries::Unenforceable,
    mask::{Cut, Masked},
};

use crate::{
    draft::{CAPABILITIES_MAX, Capability, CapabilityState, CoverageState, Draft, Event},
    enforcer::ExecRefusal,
    kubernetes::documents::{Resolved, Standing},
    pipeline::now_unix_nano,
    workloads::kubernetes::{Answering, Status},
};

/// The hooks follow the socket's cgroup, not the caller's.
const FOREIGN: &str = "sockets made before or outside of the cgroup and carried in are not seen";
const FAMILIES: &str = "packet, vsock, netlink and other sockets that are not inet are not seen";
const UNIX: &str = "unix sockets of the node and of other pods are not seen";

/// RFC 791 3.1, RFC 8754: the first hop is not what the hook is asked about.
const ROUTED: &str = "source routes of IPv4 and routing headers of IPv6, EPERM where egress is \
                      denied by default";

const GATEWAY: &str = "PostgreSQL: each statement is decided, and on record before it is sent; \
                       other protocols are closed, and ask is refused";

const INGRESS: &str = "TCP and UDP from sources no rule allows, dropped";

const PROTECTED: &str = "signals, ptrace and limits to other processes, bpf(2), pins";
const ISOLATED: &str = "namespaces, cgroups, mounts and privileges that lead out";
const RUNTIME: &str = "the container runtime's capabilities and seccomp must hold";
const SANDBOX: &str = "namespaces, capabilities and seccomp of the sandbox";

/// The packet filter sees packets, not streams; loopback has no sender.
const NAMES: &str = "learned from DNS answers of allowed servers: UDP, and TCP in one segment; \
                     answers over loopback teach nothing";

/// docs/exec.md says when a digest is known.
const EXEC_DIGESTS: &str = "files on ext4, xfs, f2fs and overlayfs over these; on others a digest \
     is never known, which counts as refused";
const EXEC_ARGUMENTS: &str = "SIGKILL before the first instruction; code from standard input or \
     the environment is not seen";
const SCRIPTS_LSM: &str = "by their own path, and by their digest where not on overlayfs";
const SCRIPTS_KILL: &str = "a script is matched by its interpreter, by its name as typed and by \
     the interpreter's arguments, not by its own resolved path or digest (that needs BPF-LSM)";

/// How the governed processes are held, beyond the kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// `exec`: namespaces, capabilities and seccomp of our own sandbox.
    Sandbox,
    /// `serve`: whatever the container runtime gives them; links pinned or not.
    Runtime {
        /// Whether enforcement outlives the agent.
        pinned: bool,
    },
}

/// Everything this node can and cannot do, in a fixed order.
#[must_use]
pub fn capabilities(refusal: &ExecRefusal, confinement: Confinement) -> Vec<Capability> {
    use CapabilityState::{Enforced, NotEnforceableHere, Observed};
    let sandboxed = confinement == Confinement::Sandbox;
    let by_lsm = |reason: &'static str| match refusal {
        ExecRefusal::Lsm => (Enforced, "EPERM by BPF-LSM, where egress is denied by default"),
        ExecRefusal::Kill { .. } => (NotEnforceableHere, reason),
    };
    let families = if sandboxed { (Enforced, "seccomp of the sandbox") } else { by_lsm(FAMILIES) };
    let (foreign, unix) = (by_lsm(FOREIGN), by_lsm(UNIX));
    let (exec_how, exec_why) = match refusal {
        ExecRefusal::Lsm => ("EPERM by BPF-LSM".to_owned(), String::new()),
        ExecRefusal::Kill { reason } => {
            ("SIGKILL before the first instruction".to_owned(), format!(" ({reason})"))
        }
    };
    let scripts = match refusal {
        ExecRefusal::Lsm => (Enforced, SCRIPTS_LSM),
        ExecRefusal::Kill { .. } => (NotEnforceableHere, SCRIPTS_KILL),
    };
    let survival = match confinement {
        Confinement::Sandbox => (Enforced, "the command ends with the agent"),
        Confinement::Runtime { pinned: true } => {
            (Enforced, "links, maps and programs are pinned in bpffs")
        }
        Confinement::Runtime { pinned: false } => {
            (NotEnforceableHere, "no writable bpffs: enforcement ends with the agent")
        }
    };
    let raw = "raw, ICMP, SCTP, DCCP and UDP-Lite sockets, EPERM where egress is denied by default";
    let not_yet = NotEnforceableHere;
    let [protection, isolation] = guards(refusal, sandboxed);
    let rows = [
        ("process-events", Observed, "fork, exec and exit".to_owned()),
        ("exec-refusal", Enforced, exec_how + &exec_why),
        ("exec-arguments", Enforced, EXEC_ARGUMENTS.to_owned()),
        ("exec-digests", Enforced, EXEC_DIGESTS.to_owned()),
        ("exec-scripts", scripts.0, scripts.1.to_owned()),
        ("egress-connect", Enforced, "TCP, UDP and MPTCP over IPv4 and IPv6, EPERM".to_owned()),
        ("egress-send", Enforced, "unconnected UDP over IPv4 and IPv6, EPERM".to_owned()),
        ("grants", Enforced, grants_end().to_owned()),
        ("egress-raw", Enforced, raw.to_owned()),
        ("egress-packet-sockets", families.0, families.1.to_owned()),
        ("egress-foreign-sockets", foreign.0, foreign.1.to_owned()),
        ("egress-source-routing", Enforced, ROUTED.to_owned()),
        ("egress-names", Enforced, NAMES.to_owned()),
        ("egress-services", not_yet, "rules by service open nothing yet".to_owned()),
        ("gateway", Enforced, GATEWAY.to_owned()),
        ("unix-sockets", unix.0, unix.1.to_owned()),
        ("targets", Enforced, "endpoints by cidr, kept from all without a gate rule".to_owned()),
        ("ingress", Enforced, INGRESS.to_owned()),
        (
            "gateway-listener",
            Enforced,
            "bound by nobody and reached by redirects only, EPERM".to_owned(),
        ),
        ("survives-the-agent", survival.0, survival.1.to_owned()),
        ("self-protection", protection.0, protection.1),
        ("isolation", isolation.0, isolation.1),
    ];
    rows.into_iter().map(|(name, state, reason)| capability(name, state, &reason)).collect()
}

/// What BPF-LSM keeps governed tasks from, beyond programs and destinations; where it is missing,
/// only what they have been given counts.
fn guards(refusal: &ExecRefusal, sandboxed: bool) -> [(CapabilityState, String); 2] {
    use CapabilityState::{Enforced, NotEnforceableHere};
    [PROTECTED, ISOLATED].map(|what| match refusal {
        ExecRefusal::Lsm => (Enforced, format!("{what}: EPERM by BPF-LSM")),
        ExecRefusal::Kill { .. } if sandboxed => (Enforced, format!("{what}: {SANDBOX}")),
        ExecRefusal::Kill { reason } => {
            (NotEnforceableHere, format!("{what}: no BPF-LSM ({reason}); {RUNTIME}"))
        }
    })
}

/// Rejected documents that are named.
const REJECTED_MAX: usize = 32;
/// Bytes of names in one row: what a record keeps of a reason.
const NAMES_BYTES_MAX: usize = 240;

/// The workloads that are exempt, by name and UID: as many rows as their names need.
#[must_use]
pub fn of_exempt<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<Capability> {
    named("exempt", names)
}

/// What the API server tells of workloads, and what of them the node cannot confine.
#[must_use]
pub fn of_workloads(status: &Status) -> Vec<Capability> {
    let (state, reason) = match &status.answering {
        Answering::Yes => (CapabilityState::Observed, "this node's pods, from the API server"),
        Answering::NotYet | Answering::Away { .. } => (
            CapabilityState::NotEnforceableHere,
            "the API server does not answer: pods as last known; new ones are unknown workloads",
        ),
    };
    let mut rows = vec![capability("workloads", state, reason)];
    rows.extend(named("on-host", &status.on_host));
    rows.extend(named("workload-not-known", &status.unused));
    rows
}

/// What the API server tells of policies and Targets, and which of them are not in force. Unless
/// all of them were told at some time, everything is refused.
#[must_use]
pub fn of_documents(answering: &Answering, now: &Resolved) -> Vec<Capability> {
    use CapabilityState::{NotEnforceableHere, Observed};
    let (state, reason) = match (answering, now.is_known) {
        (_, false) => (
            NotEnforceableHere,
            "the API server has not told all policies yet, so everything is refused",
        ),
        (Answering::Yes, true) => (Observed, "policies and Targets, from the API server"),
        (Answering::NotYet | Answering::Away { .. }, true) => (
            NotEnforceableHere,
            "the API server does not answer: policies and Targets as last known",
        ),
    };
    let mut all = vec![capability("policies", state, reason)];
    let open = now.documents.without_target().map(|(policy, rule, target)| {
        let reason = format!("rule {rule} of {} leads nowhere: no Target {target}", policy.name);
        capability("policy-rule", NotEnforceableHere, &reason)
    });
    all.extend(open.take(REJECTED_MAX));
    let rejected = now.rows.iter().filter_map(|row| match &row.standing {
        Standing::InForce => None,
        Standing::Rejected(why) => Some(format!("{} {}: {why}", row.kind, row.name)),
    });
    all.extend(rejected.take(REJECTED_MAX).map(|what| {
        let short: String = what.chars().take(NAMES_BYTES_MAX).collect();
        capability("policy-rejected", NotEnforceableHere, &short)
    }));
    all
}

/// Secrets that Targets name and that cannot be had: sessions there are refused.
#[must_use]
pub fn of_secrets(troubles: &[(String, String)]) -> Vec<Capability> {
    let row = |(secret, why): &(String, String)| {
        let reason = format!("Secret {secret}: {why}; sessions at its Target are refused");
        capability("secret", CapabilityState::NotEnforceableHere, &reason)
    };
    troubles.iter().take(REJECTED_MAX).map(row).collect()
}

/// Rows of what is not enforceable here, as many as the names need.
fn named<'a>(name: &'static str, names: impl IntoIterator<Item = &'a String>) -> Vec<Capability> {
    let mut rows: Vec<String> = Vec::new();
    for one in names {
        match rows.last_mut() {
            Some(row) if row.len() + one.len() + 2 <= NAMES_BYTES_MAX => {
                row.push_str(", ");
                row.push_str(one);
            }
            _ => rows.push(one.clone()),
        }
    }
    let of = |row: String| capability(name, CapabilityState::NotEnforceableHere, &row);
    rows.into_iter().map(of).collect()
}

/// The time no agent ran, and whether what an earlier one had pinned enforced meanwhile.
#[must_use]
pub fn downtime(lasted: &str, enforced: bool) -> Capability {
    let (state, rest) = if enforced {
        (CapabilityState::Enforced, "without an agent; pins of an earlier one enforced")
    } else {
        (CapabilityState::NotEnforceableHere, "without enforcement")
    };
    capability("downtime", state, &format!("{lasted} {rest}"))
}

/// What becomes of a connection at the end of its grant.
fn grants_end() -> &'static str {
    if crate::connections::available() {
        "end at their deadline in the kernel, connections closed at both ends"
    } else {
        "end at their deadline in the kernel, packets dropped; connections stay half-open without \
         tcp_diag"
    }
}

/// The rules that are refused or ignored here, as capabilities of a record.
#[must_use]
pub fn of_rules(rules: &[Unenforceable]) -> Vec<Capability> {
    let of = |rule: &Unenforceable| {
        let reason = format!("rule {} of {}: {}", rule.rule, rule.policy, rule.why);
        capability("policy-rule", CapabilityState::NotEnforceableHere, &reason)
    };
    rules.iter().map(of).collect()
}

/// A Coverage record's draft. More capabilities than a record holds are counted in its message.
#[must_use]
pub fn draft(state: CoverageState, message: &str, mut capabilities: Vec<Capability>) -> Draft {
    let more = capabilities.len().saturating_sub(CAPABILITIES_MAX);
    capabilities.truncate(CAPABILITIES_MAX);
    let message = match more {
        0 => message.to_owned(),
        more => format!("{message}; {more} more capabilities are in the agent's status"),
    };
    let message = Masked::new(message.as_bytes(), Cut::Whole);
    Draft::agent(now_unix_nano(), Event::Coverage { state, message, capabilities })
}

fn capability(name: &'static str, state: CapabilityState, reason: &str) -> Capability {
    Capability { name, state, reason: Masked::new(reason.as_bytes(), Cut::Whole) }
}
