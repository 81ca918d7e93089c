//! What this node enforces and what it does not, by name: for Coverage records, `doctor` and the
//! log. "Applied" never means "ignored".

use pcigate_policy::{
    entries::Unenforceable,
    mask::{Cut, Masked},
};

use crate::{
    draft::{CAPABILITIES_MAX, Capability, CapabilityState, CoverageState, Draft, Event},
    enforcer::ExecRefusal,
    pipeline::now_unix_nano,
};

/// The hooks follow the socket's cgroup, not the caller's.
const FOREIGN: &str = "sockets made before or outside of the cgroup and carried in are not seen";

/// RFC 8754, RFC 6554: the first hop is not what the hook is asked about.
const ROUTED: &str = "an IPv6 routing header can send packets by way of another address";

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
    let by_sandbox = |reason: &'static str| {
        if sandboxed { (Enforced, "seccomp of the sandbox") } else { (NotEnforceableHere, reason) }
    };
    let (exec_how, exec_why) = match refusal {
        ExecRefusal::Lsm => ("EPERM by BPF-LSM".to_owned(), String::new()),
        ExecRefusal::Kill { reason } => {
            ("SIGKILL before the first instruction".to_owned(), format!(" ({reason})"))
        }
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
    let raw =
        by_sandbox("raw, packet, vsock and ICMP sockets pass the connect and sendmsg hooks by");
    let not_yet = NotEnforceableHere;
    let rows = [
        ("process-events", Observed, "fork, exec and exit".to_owned()),
        ("exec-refusal", Enforced, exec_how + &exec_why),
        ("egress-connect", Enforced, "TCP, UDP and MPTCP over IPv4 and IPv6, EPERM".to_owned()),
        ("egress-send", Enforced, "unconnected UDP over IPv4 and IPv6, EPERM".to_owned()),
        ("egress-raw", raw.0, raw.1.to_owned()),
        ("egress-foreign-sockets", not_yet, FOREIGN.to_owned()),
        ("egress-source-routing", not_yet, ROUTED.to_owned()),
        ("egress-names", not_yet, "rules by fqdn or service open nothing yet".to_owned()),
        ("gateway", not_yet, "gate and ask are refused: no gateway in this version".to_owned()),
        ("unix-sockets", not_yet, "not looked at in this version".to_owned()),
        ("survives-the-agent", survival.0, survival.1.to_owned()),
    ];
    rows.into_iter().map(|(name, state, reason)| capability(name, state, &reason)).collect()
}

/// Bytes of names in one row: what a record keeps of a reason.
const NAMES_BYTES_MAX: usize = 240;

/// The workloads that are exempt, by name and UID: as many rows as their names need.
#[must_use]
pub fn of_exempt<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<Capability> {
    let mut rows: Vec<String> = Vec::new();
    for name in names {
        match rows.last_mut() {
            Some(row) if row.len() + name.len() + 2 <= NAMES_BYTES_MAX => {
                row.push_str(", ");
                row.push_str(name);
            }
            _ => rows.push(name.clone()),
        }
    }
    let of = |row: String| capability("exempt", CapabilityState::NotEnforceableHere, &row);
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
