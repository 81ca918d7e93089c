//! What stands behind a verdict: a written rule, or one of the product's own reasons.

use std::fmt;

use pcigate_common::maps::{rule, verdict};

use crate::document::ObjectName;

/// What a verdict came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleRef {
    /// A rule of a document.
    Written {
        /// The policy; without a namespace it is a ClusterAgentPolicy.
        policy: ObjectName,
        /// Id of the rule.
        id: String,
    },
    /// No rule matched: the strictest `defaultAction` of the selecting policies.
    Default,
    /// No policy selects the workload.
    NoPolicy,
    /// The cgroup belongs to no known workload.
    UnknownWorkload,
    /// The executable's path could not be resolved completely.
    UnresolvedPath,
    /// A kernel table did not hold what it must; errors never mean allow.
    InternalError,
    /// A kind of socket that ordinary programs do not need.
    Socket,
    /// The gateway's listener, bound or reached without a redirect.
    GatewayListener,
    /// A socket of the node's own programs.
    NodeSocket,
    /// The agent's processes, pins and cgroups.
    SelfProtection,
    /// What would leave the workload's namespaces or cgroup.
    Isolation,
    /// An endpoint of a Target, without a gate rule.
    Target,
    /// A grant with a deadline.
    Grant,
}

impl RuleRef {
    /// The rule behind a number of a kernel decision, given the policy's rule table.
    #[must_use]
    pub fn of_number(number: u32, rules: &[Self]) -> Self {
        match number {
            rule::DEFAULT => Self::Default,
            rule::NO_POLICY => Self::NoPolicy,
            rule::UNKNOWN_WORKLOAD => Self::UnknownWorkload,
            rule::UNRESOLVED_PATH => Self::UnresolvedPath,
            rule::SOCKET => Self::Socket,
            rule::GATEWAY_LISTENER => Self::GatewayListener,
            rule::NODE_SOCKET => Self::NodeSocket,
            rule::SELF_PROTECTION => Self::SelfProtection,
            rule::ISOLATION => Self::Isolation,
            rule::TARGET => Self::Target,
            rule::GRANT => Self::Grant,
            _ => {
                let written = usize::try_from(number).ok().and_then(|n| rules.get(n));
                written.cloned().unwrap_or(Self::InternalError)
            }
        }
    }

    /// `namespace/name` of the policy as records hold it (`name` alone for a ClusterAgentPolicy);
    /// empty where no single policy stands behind the verdict.
    #[must_use]
    pub fn policy_name(&self) -> String {
        match self {
            Self::Written { policy, .. } => policy.to_string(),
            _ => String::new(),
        }
    }

    /// Id of the rule as records hold it: `default` for the policies' defaults, `pcigate/…` for the
    /// product's own reasons.
    #[must_use]
    pub fn rule_id(&self) -> &str {
        match self {
            Self::Written { id, .. } => id,
            Self::Default => "default",
            Self::NoPolicy => "pcigate/no-policy",
            Self::UnknownWorkload => "pcigate/unknown-workload",
            Self::UnresolvedPath => "pcigate/unresolved-path",
            Self::InternalError => "pcigate/internal-error",
            Self::Socket => "pcigate/socket",
            Self::GatewayListener => "pcigate/gateway-listener",
            Self::NodeSocket => "pcigate/node-socket",
            Self::SelfProtection => "pcigate/self-protection",
            Self::Isolation => "pcigate/isolation",
            Self::Target => "pcigate/target",
            Self::Grant => "pcigate/grant",
        }
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written { policy, id } if policy.namespace.is_empty() => {
                write!(f, "rule {id} of ClusterAgentPolicy {policy}")
            }
            Self::Written { policy, id } => write!(f, "rule {id} of AgentPolicy {policy}"),
            Self::Default => f.write_str("the default of the selecting policies"),
            Self::NoPolicy => f.write_str("no policy selects the workload"),
            Self::UnknownWorkload => f.write_str("the workload is not known"),
            Self::UnresolvedPath => f.write_str("the executable's path could not be resolved"),
            Self::InternalError => f.write_str("an internal error, which never means allow"),
            Self::Socket => f.write_str("a kind of socket that ordinary programs do not need"),
            Self::GatewayListener => {
                f.write_str("the gateway's listener is reached through a redirect only")
            }
            Self::NodeSocket => f.write_str("a socket of the node's own programs"),
            Self::SelfProtection => f.write_str("pcigate protects its processes, pins and cgroups"),
            Self::Isolation => {
                f.write_str("a governed workload stays in its namespaces and cgroup")
            }
            Self::Target => {
                f.write_str("an endpoint of a Target, and no gate rule of this workload names it")
            }
            Self::Grant => f.write_str("a grant with a deadline"),
        }
    }
}

/// The word for a verdict number: `allow`, `gate`, `ask`, `deny`, or `none`.
#[must_use]
pub fn verdict_name(number: u32) -> &'static str {
    match number {
        verdict::ALLOW => "allow",
        verdict::GATE => "gate",
        verdict::ASK => "ask",
        verdict::DENY => "deny",
        _ => "none",
    }
}
