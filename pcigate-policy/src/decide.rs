//! The answer to one request, rule by rule and slowly: the meaning that the kernel's entries must
//! agree with, and the answer that can be explained.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pcigate_common::limits;
use pcigate_common::maps::{Decision, rule, verdict};

use crate::document::{Action, Cidr, EgressEffect, EgressRule, EndpointAt, ExecRule, Mode};
use crate::document::{IngressRule, ObjectName, Peer, PortMatch, Section};
use crate::fold::{Fold, with_invoked};
use crate::glob::Glob;
use crate::rule::RuleRef;
use crate::workload::PolicySet;

/// A program about to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecRequest<'a> {
    /// Absolute path of the resolved file; `None` = it could not be resolved completely.
    pub path: Option<&'a [u8]>,
    /// The name the program was called by, as given; empty if unknown.
    pub invoked: &'a [u8],
    /// SHA-256 of the file; `None` = not known, as in the kernel: then a deny counts by its paths
    /// alone, and an allow that wants a digest does not count.
    pub sha256: Option<[u8; 32]>,
}

/// A destination about to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressRequest {
    /// Destination as the socket gives it; see [`effective`].
    pub address: IpAddr,
    /// IP protocol number (6 TCP, 17 UDP).
    pub protocol: u8,
    /// Destination port; 0 where the protocol has none.
    pub port: u16,
}

/// The answer to a request and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Enforced verdict, a number of `pcigate_common::maps::verdict`.
    pub verdict: u32,
    /// What is behind it.
    pub rule: RuleRef,
    /// What would be enforced if nothing were in audit mode, where that is stricter.
    pub audit: Option<(u32, RuleRef)>,
    /// Every rule that matches.
    pub considered: Vec<Considered>,
    /// What each selecting policy that speaks of this kind of operation defaults to.
    pub defaults: Vec<PolicyDefault>,
    /// The same answer in numbers; rules index [`PolicySet::rules`].
    pub decision: Decision,
}

/// A rule that matches a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The rule.
    pub rule: RuleRef,
    /// What it says.
    pub verdict: u32,
    /// Whether that is enforced.
    pub mode: Mode,
    /// What of the request it matches.
    pub matched: Matched,
    /// The pattern or prefix by which it matches.
    pub by: String,
}

/// What of a request a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// The resolved path.
    Path,
    /// The name the program was called by.
    InvokedName,
    /// The destination.
    Destination,
    /// The source.
    Source,
}

/// What a policy says where no rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDefault {
    /// The policy.
    pub policy: ObjectName,
    /// Its mode.
    pub mode: Mode,
    /// Its default.
    pub action: Action,
}

impl PolicySet {
    /// Whether a program may be executed.
    #[must_use]
    pub fn decide_exec(&self, request: &ExecRequest<'_>) -> Answer {
        let defaults = self.defaults(|p| p.exec.as_ref());
        let Some(path) = request.path else {
            return self.answer(self.exec_unresolved(), Vec::new(), defaults);
        };
        let fallback = self.exec_defaults();
        let mut considered = Vec::new();
        let mut fold = |name: &[u8], matched: Matched| {
            let mut fold = Fold::default();
            for (number, policy, rule) in self.exec_rules() {
                if let Some(by) = exec_match(rule, name, request.sha256) {
                    fold.add(rule.mode, rule.verdict(), number);
                    let (policy, id) = (policy.name.clone(), rule.id.clone());
                    considered.push(Considered {
                        rule: RuleRef::Written { policy, id },
                        verdict: rule.verdict(),
                        mode: rule.mode,
                        matched,
                        by,
                    });
                }
            }
            fold
        };
        let resolved = fold(path, Matched::Path).decision(&fallback);
        let by_name = if request.invoked.starts_with(b"/") {
            fold(request.invoked, Matched::InvokedName)
        } else {
            Fold::default()
        };
        let by_name = (!by_name.is_empty()).then(|| by_name.decision(&fallback));
        self.answer(with_invoked(resolved, by_name), considered, defaults)
    }

    /// Whether a destination may be reached.
    #[must_use]
    pub fn decide_egress(&self, request: &EgressRequest) -> Answer {
        let address = effective(request.address);
        let defaults = self.defaults(|p| p.egress.as_ref());
        if is_gateway(address, request.port) {
            let refused = Decision::enforced(verdict::DENY, rule::GATEWAY_LISTENER);
            return self.answer(refused, Vec::new(), defaults);
        }
        let mut fold = Fold::default();
        let mut considered = Vec::new();
        for (number, policy, rule) in self.egress_rules() {
            let hit = self.destinations(rule).find(|(cidr, ports)| {
                cidr.contains(address) && ports.covers(request.protocol, request.port)
            });
            if let Some((cidr, ports)) = hit {
                fold.add(rule.mode, rule.verdict(), number);
                let (policy, id) = (policy.name.clone(), rule.id.clone());
                considered.push(Considered {
                    rule: RuleRef::Written { policy, id },
                    verdict: rule.verdict(),
                    mode: rule.mode,
                    matched: Matched::Destination,
                    by: if ports == PortMatch::ANY {
                        cidr.to_string()
                    } else {
                        format!("{cidr} {ports}")
                    },
                });
            }
        }
        for (target, cidr, port) in self.protected() {
            if cidr.contains(address) && port.covers(request.protocol, request.port) {
                fold.add(Mode::Enforce, verdict::DENY, rule::TARGET);
                considered.push(Considered {
                    rule: RuleRef::Target,
                    verdict: verdict::DENY,
                    mode: Mode::Enforce,
                    matched: Matched::Destination,
                    by: format!("{cidr} {port} of Target {}", target.name),
                });
            }
        }
        self.answer(fold.decision(&self.egress_defaults()), considered, defaults)
    }

    /// Whether a listener of the workload may be reached: `address` is the source, `port` the
    /// workload's own.
    #[must_use]
    pub fn decide_ingress(&self, request: &EgressRequest) -> Answer {
        let source = request.address.to_canonical();
        let mut fold = Fold::default();
        let mut considered = Vec::new();
        for (number, policy, rule) in self.ingress_rules() {
            let hit = sources(rule).find(|(cidr, port)| {
                cidr.contains(source) && port.covers(request.protocol, request.port)
            });
            if let Some((cidr, _)) = hit {
                fold.add(rule.mode, rule.verdict(), number);
                let (policy, id) = (policy.name.clone(), rule.id.clone());
                considered.push(Considered {
                    rule: RuleRef::Written { policy, id },
                    verdict: rule.verdict(),
                    mode: rule.mode,
                    matched: Matched::Source,
                    by: cidr.to_string(),
                });
            }
        }
        let defaults = self.defaults(|p| p.ingress.as_ref());
        self.answer(fold.decision(&self.ingress_defaults()), considered, defaults)
    }

    /// Every prefix and port an egress rule covers as far as addresses are known: names and
    /// Services are not looked up here.
    pub(crate) fn destinations<'a>(
        &'a self,
        rule: &'a EgressRule,
    ) -> Box<dyn Iterator<Item = (Cidr, PortMatch)> + 'a> {
        match &rule.effect {
            EgressEffect::Direct { to, ports, .. } => Box::new(to.iter().flat_map(move |peer| {
                let cidr = match peer {
                    Peer::Cidr(cidr) => Some(*cidr),
                    Peer::Fqdn(_) => None,
                };
                let ports: &[PortMatch] = if ports.is_empty() { &[PortMatch::ANY] } else { ports };
                cidr.into_iter().flat_map(move |cidr| ports.iter().map(move |port| (cidr, *port)))
            })),
            EgressEffect::Gate { target, .. } => {
                let endpoints = self.target(target).into_iter().flat_map(|t| &t.endpoints);
                Box::new(endpoints.filter_map(|endpoint| match endpoint.at {
                    EndpointAt::Cidr(cidr) => Some((cidr, PortMatch::tcp(endpoint.port))),
                    EndpointAt::Service(_) | EndpointAt::Fqdn(_) => None,
                }))
            }
        }
    }

    fn answer(
        &self,
        decision: Decision,
        considered: Vec<Considered>,
        defaults: Vec<PolicyDefault>,
    ) -> Answer {
        let rules = self.rules();
        let audit = (decision.audit_verdict != verdict::NONE)
            .then(|| (decision.audit_verdict, RuleRef::of_number(decision.audit_rule, &rules)));
        Answer {
            verdict: decision.verdict,
            rule: RuleRef::of_number(decision.rule, &rules),
            audit,
            considered,
            defaults,
            decision,
        }
    }

    fn defaults<R>(
        &self,
        section: impl Fn(&crate::document::Policy) -> Option<&Section<R>>,
    ) -> Vec<PolicyDefault> {
        let of = |policy: &crate::document::Policy| {
            section(policy).map(|section| PolicyDefault {
                policy: policy.name.clone(),
                mode: policy.mode,
                action: section.default_action,
            })
        };
        self.policies().iter().filter_map(|policy| of(policy)).collect()
    }
}

/// The address that is really used: v4-mapped IPv6 is IPv4, and the unspecified address is loopback
/// (Linux connects `0.0.0.0` to `127.0.0.1` and `::` to `::1`).
#[must_use]
pub fn effective(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    }
}

/// Whether a destination, which must be [`effective`], is the gateway's listener of the pod, where
/// nothing goes without a redirect.
#[must_use]
pub fn is_gateway(address: IpAddr, port: u16) -> bool {
    let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    port == limits::GATEWAY_PORT && own.contains(&address)
}

/// Every source and port of the workload an ingress rule covers.
pub(crate) fn sources(rule: &IngressRule) -> impl Iterator<Item = (Cidr, PortMatch)> {
    let ports: &[PortMatch] = if rule.ports.is_empty() { &[PortMatch::ANY] } else { &rule.ports };
    rule.from.iter().flat_map(move |cidr| ports.iter().map(move |port| (*cidr, *port)))
}

/// The pattern by which a rule matches a file, if it does.
fn exec_match(rule: &ExecRule, name: &[u8], sha256: Option<[u8; 32]>) -> Option<String> {
    let Some(digest) = sha256 else {
        let glob = rule.kernel_paths().iter().find(|glob| glob.matches(name));
        return glob.map(|glob| glob.text().to_owned());
    };
    if !rule.sha256.is_empty() && !rule.sha256.contains(&digest) {
        return None;
    }
    if rule.paths.is_empty() {
        return Some("its digest".to_owned());
    }
    let glob: Option<&Glob> = rule.paths.iter().find(|glob| glob.matches(name));
    glob.map(|glob| glob.text().to_owned())
}

#[cfg(test)]
mod tests;
