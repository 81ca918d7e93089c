//! What the kernel is told: policies compiled into tables that answer with a fixed number of
//! lookups, whatever the number of rules. [`KernelEntries::exec`] and [`KernelEntries::egress`]
//! walk the tables as the kernel does, so that a test can hold them against `decide`.

mod automaton;
mod exec;
mod names;
mod prefixes;
mod unenforceable;

use std::net::IpAddr;

use pcigate_common::limits;
use pcigate_common::maps::{Decision, rule, verdict};
use pcigate_common::names::NameId;

pub use automaton::Automaton;
pub use exec::{ArgsEntries, ExecEntries};
pub use unenforceable::Unenforceable;

use crate::decide::{ExecRequest, effective, is_gateway};
use crate::rule::RuleRef;
use crate::workload::PolicySet;

/// Most states of an exec automaton: a cell holds a state in 16 bits.
pub const EXEC_STATES_MAX: usize = 65_535;
/// Most byte classes of an exec automaton: each is a column of every state.
pub const EXEC_CLASSES_MAX: usize = 200;

/// One policy set as the kernel tables hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEntries {
    /// The exec rules; `None` = there is none.
    pub exec: Option<ExecEntries>,
    /// The answer where no exec rule matches.
    pub exec_default: Decision,
    /// The answer where the path could not be resolved.
    pub exec_unresolved: Decision,
    /// The answer where no prefix matches.
    pub egress_default: Decision,
    /// The destinations, each with the folded answer of every rule that covers it.
    pub egress: Vec<Prefix>,
    /// The names, each with the folded answer of every rule that covers it; sorted by key.
    pub names: Vec<Name>,
    /// Whether a selecting policy speaks of ingress at all.
    pub decides_ingress: bool,
    /// The answer where no prefix of a source matches.
    pub ingress_default: Decision,
    /// The sources, with the workload's ports; as `egress`.
    pub ingress: Vec<Prefix>,
    /// Whether nothing holds for the workload, what holds for workloads without a policy included.
    pub exempt: bool,
    /// What rule numbers stand for.
    pub rules: Vec<RuleRef>,
    /// Rules that are not or not exactly enforced in the kernel.
    pub unenforceable: Vec<Unenforceable>,
    /// Hash of the policy set.
    pub hash: [u8; 32],
}

/// One destination prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Network order, IPv4 as v4-mapped.
    pub address: [u8; 16],
    /// Length, 0 to 128 (IPv4: 96 + n).
    pub bits: u8,
    /// (protocol, port, answer), sorted; 0 = any. Looked up as (protocol, port), (protocol, 0),
    /// (0, 0); the last is always there.
    pub ports: Vec<(u8, u16, Decision)>,
}

/// One name, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name reversed, with a NUL behind for itself, a dot for those below. The longest key that
    /// begins a name counts.
    pub key: Vec<u8>,
    /// What stands for it in the kernel.
    pub id: NameId,
    /// As in [`Prefix::ports`], but without defaults: see `Decision::with_name`.
    pub ports: Vec<(u8, u16, Decision)>,
}

/// Why policies do not fit into the kernel's tables. `policies` names those that take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// An automaton has too many states or cells, or there are too many answers.
    #[error(
        "exec rules of {policies} need more than {most} {what}; use fewer `*` and `**` within one \
         path, or split the policy between workloads"
    )]
    ExecSize {
        /// Names of the policies.
        policies: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// The globs name too many distinct bytes.
    #[error(
        "exec rules of {policies} tell {found} kinds of bytes apart, at most {most} are possible; \
         replace rare characters in paths by `?`"
    )]
    ExecClasses {
        /// Names of the policies.
        policies: String,
        /// Classes needed.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// Too many prefixes or ports.
    #[error(
        "egress or ingress rules of {policies} need more than {most} {what}; join neighbouring \
         prefixes, or list fewer ports"
    )]
    EgressSize {
        /// Names of the policies.
        policies: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u32,
    },
}

impl PolicySet {
    /// Compiles the set for the kernel.
    ///
    /// # Errors
    /// When the set alone does not fit into the kernel's tables.
    pub fn compile(&self) -> Result<KernelEntries, CompileError> {
        Ok(KernelEntries {
            exec: exec::build(self)?,
            exec_default: self.exec_defaults().decision(),
            exec_unresolved: self.exec_unresolved(),
            egress_default: self.egress_defaults().decision(),
            egress: prefixes::egress(self)?,
            decides_ingress: self.policies().iter().any(|policy| policy.ingress.is_some()),
            names: names::build(self)?,
            ingress_default: self.ingress_defaults().decision(),
            ingress: prefixes::ingress(self)?,
            exempt: false,
            rules: self.rules(),
            unenforceable: self.unenforceable(),
            hash: self.hash(),
        })
    }

    /// Names of the policies that have a section, for messages.
    fn names(&self, has: impl Fn(&crate::document::Policy) -> bool) -> String {
        let policies = self.policies().iter().filter(|policy| has(policy));
        policies.map(|policy| policy.name.to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl KernelEntries {
    /// Entries that answer everything the same, for workloads no document speaks of.
    #[must_use]
    pub fn fixed(decision: Decision) -> Self {
        Self {
            exec: None,
            exec_default: decision,
            exec_unresolved: decision,
            egress_default: decision,
            egress: Vec::new(),
            names: Vec::new(),
            decides_ingress: false,
            ingress_default: decision,
            ingress: Vec::new(),
            exempt: false,
            rules: Vec::new(),
            unenforceable: Vec::new(),
            hash: [0; 32],
        }
    }

    /// Entries of a workload that is exempt: everything is allowed, and recorded.
    #[must_use]
    pub fn exempt() -> Self {
        let allowed = Decision::enforced(verdict::ALLOW, rule::NO_POLICY);
        Self { exempt: true, hash: [0xff; 32], ..Self::fixed(allowed) }
    }

    /// Entries of a workload of which too little is known to select its policies: everything is
    /// refused.
    #[must_use]
    pub fn refused() -> Self {
        let refused = Decision::enforced(verdict::DENY, rule::UNKNOWN_WORKLOAD);
        // Under cgroup 0, whose defaults are the posture, only prefixes are looked at.
        let all = Prefix { address: [0; 16], bits: 0, ports: vec![(0, 0, refused)] };
        let egress = vec![all];
        Self { decides_ingress: true, egress, hash: [0xfe; 32], ..Self::fixed(refused) }
    }

    /// What the kernel answers for an exec.
    #[must_use]
    pub fn exec(&self, request: &ExecRequest<'_>) -> Decision {
        match (request.path, &self.exec) {
            (None, _) => self.exec_unresolved,
            (Some(_), None) => self.exec_default,
            (Some(path), Some(exec)) => exec.run(path, request, self.exec_default),
        }
    }

    /// What the kernel answers for a destination that the workload has learned under `names`.
    /// `protocol` is the IP protocol number.
    #[must_use]
    pub fn egress(&self, address: IpAddr, names: &[&str], protocol: u8, port: u16) -> Decision {
        if is_gateway(effective(address), port) {
            return Decision::enforced(verdict::DENY, rule::GATEWAY_LISTENER);
        }
        let decision = self.by_prefix(address, protocol, port);
        let known = names.iter().filter_map(|name| {
            let name = names::of_name(name);
            let covers = |known: &&Name| name.starts_with(&known.key);
            self.names.iter().filter(covers).max_by_key(|known| known.key.len())
        });
        let says = |name: &Name| in_block(&name.ports, protocol, port);
        known.fold(decision, |decision, name| decision.with_name(says(name))).shown()
    }

    fn by_prefix(&self, address: IpAddr, protocol: u8, port: u16) -> Decision {
        look_up(&self.egress, self.egress_default, effective(address), (protocol, port))
    }

    /// Whether no source at all may reach the workload.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let ports = self.ingress.iter().flat_map(|prefix| &prefix.ports);
        !self.ingress_default.allows() && !{ ports }.any(|(_, _, decision)| decision.allows())
    }

    /// What the kernel answers for a connection or datagram from `source` to a port of the
    /// workload.
    #[must_use]
    pub fn ingress(&self, source: IpAddr, protocol: u8, port: u16) -> Decision {
        let source = source.to_canonical();
        look_up(&self.ingress, self.ingress_default, source, (protocol, port))
    }

    /// What a rule number of a decision stands for.
    #[must_use]
    pub fn rule(&self, number: u32) -> RuleRef {
        RuleRef::of_number(number, &self.rules)
    }
}

/// Longest prefix, then (protocol, port), (protocol, any), (any, any).
fn look_up(
    prefixes: &[Prefix],
    default: Decision,
    address: IpAddr,
    (protocol, port): (u8, u16),
) -> Decision {
    let address = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let covers = |prefix: &&Prefix| {
        let differs = u128::from_be_bytes(prefix.address) ^ address.to_bits();
        differs.leading_zeros() >= u32::from(prefix.bits)
    };
    let Some(prefix) = prefixes.iter().filter(covers).max_by_key(|prefix| prefix.bits) else {
        return default;
    };
    in_block(&prefix.ports, protocol, port)
}

fn in_block(ports: &[(u8, u16, Decision)], protocol: u8, port: u16) -> Decision {
    let keys = [(protocol, port), (protocol, 0), (0, 0)];
    let find = |key| ports.iter().find(|(protocol, port, _)| (*protocol, *port) == key);
    let found = keys.into_iter().find_map(find).map(|(_, _, decision)| *decision);
    found.unwrap_or(Decision::enforced(verdict::DENY, rule::INTERNAL_ERROR))
}

impl CompileError {
    /// Exec rules need too much of something.
    fn size(policies: &str, what: &'static str, most: usize) -> Self {
        Self::ExecSize { policies: policies.to_owned(), what, most }
    }
}

const _: () = assert!(EXEC_CLASSES_MAX < 256 && limits::EXEC_DECISIONS_MAX > u16::MAX as u32);

#[cfg(test)]
mod tests;
