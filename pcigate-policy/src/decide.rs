//! The answer to one request, rule by rule and slowly: the meaning that the kernel's entries must
//! agree with, and the answer that can be explained.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pcigate_common::limits;
use pcigate_common::maps::{Decision, rule, verdict};

use crate::document::{Action, Cidr, EgressEffect, EgressRule, EndpointAt, ExecRule, Fqdn, Mode};
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
    /// SHA-256 of the file; `None` = not known: then a deny that wants a digest counts, and an
    /// allow that wants one does not.
    pub sha256: Option<[u8; 32]>,
    /// The arguments, argv\[0\] first; `None` = not known completely: then a rule that wants an
    /// argument counts.
    pub args: Option<&'a [&'a [u8]]>,
}

/// A connection or a datagram from elsewhere to a listener of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressRequest {
    /// Where it comes from.
    pub source: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The workload's own port.
    pub port: u16,
}

/// A destination about to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressRequest<'a> {
    /// Destination as the socket gives it; see [`effective`]. `None` = not known yet: then only
    /// rules by name are asked.
    pub address: Option<IpAddr>,
    /// The names by which the workload has resolved it.
    pub names: &'a [&'a str],
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
                if let Some(by) = exec_match(rule, name, request) {
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
    pub fn decide_egress(&self, request: &EgressRequest<'_>) -> Answer {
        let address = request.address.map(effective);
        let defaults = self.defaults(|p| p.egress.as_ref());
        if address.is_some_and(|address| is_gateway(address, request.port)) {
            let refused = Decision::enforced(verdict::DENY, rule::GATEWAY_LISTENER);
            return self.answer(refused, Vec::new(), defaults);
        }
        let mut fold = Fold::default();
        let mut considered = Vec::new();
        for (number, policy, rule) in self.egress_rules() {
            if let Some((by, ports)) = self.egress_match(rule, request) {
                fold.add(rule.mode, rule.verdict(), number);
                let (policy, id) = (policy.name.clone(), rule.id.clone());
                considered.push(Considered {
                    rule: RuleRef::Written { policy, id },
                    verdict: rule.verdict(),
                    mode: rule.mode,
                    matched: Matched::Destination,
                    by: if ports == PortMatch::ANY { by } else { format!("{by} {ports}") },
                });
            }
        }
        for (target, cidr, port) in self.protected() {
            let within = address.is_some_and(|address| cidr.contains(address));
            if within && port.covers(request.protocol, request.port) {
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
    pub fn decide_ingress(&self, request: &IngressRequest) -> Answer {
        let source = request.source.to_canonical();
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

    /// The prefix or name by which a rule matches a destination, if it does.
    fn egress_match(
        &self,
        rule: &EgressRule,
        request: &EgressRequest<'_>,
    ) -> Option<(String, PortMatch)> {
        let asked = |ports: &PortMatch| ports.covers(request.protocol, request.port);
        let address = request.address.map(effective);
        let prefix = address.and_then(|address| {
            let mut prefixes = self.destinations(rule);
            prefixes.find(|(cidr, ports)| cidr.contains(address) && asked(ports))
        });
        let covers = |fqdn: &Fqdn| request.names.iter().any(|name| fqdn.covers(name));
        prefix.map(|(cidr, ports)| (cidr.to_string(), ports)).or_else(|| {
            let name = self.named(rule).find(|(fqdn, ports)| covers(fqdn) && asked(ports));
            name.map(|(fqdn, ports)| (fqdn.to_string(), ports))
        })
    }

    /// Every name and port an egress rule covers.
    pub(crate) fn named<'a>(
        &'a self,
        rule: &'a EgressRule,
    ) -> Box<dyn Iterator<Item = (&'a Fqdn, PortMatch)> + 'a> {
        match &rule.effect {
            EgressEffect::Direct { to, ports, .. } => Box::new(to.iter().flat_map(move |peer| {
                let fqdn = match peer {
                    Peer::Fqdn(fqdn) => Some(fqdn),
                    Peer::Cidr(_) => None,
                };
                let ports: &[PortMatch] = if ports.is_empty() { &[PortMatch::ANY] } else { ports };
                fqdn.into_iter().flat_map(move |fqdn| ports.iter().map(move |port| (fqdn, *port)))
            })),
            EgressEffect::Gate { target, .. } => {
                let endpoints = self.target(target).into_iter().flat_map(|t| &t.endpoints);
                Box::new(endpoints.filter_map(|endpoint| match &endpoint.at {
                    EndpointAt::Fqdn(fqdn) => Some((fqdn, PortMatch::tcp(endpoint.port))),
                    EndpointAt::Service(_) | EndpointAt::Cidr(_) => None,
                }))
            }
        }
    }

    /// Every prefix and port an egress rule covers; names are in [`Self::named`], and Services are
    /// not looked up.
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

/// The patterns by which a rule matches a file, if it does.
fn exec_match(rule: &ExecRule, name: &[u8], request: &ExecRequest<'_>) -> Option<String> {
    if !rule.covers_digest(request.sha256.as_ref()) {
        return None;
    }
    let mut by = if rule.paths.is_empty() && name.starts_with(b"/") {
        "its digest".to_owned()
    } else {
        rule.paths.iter().find(|glob| glob.matches(name))?.text().to_owned()
    };
    if !rule.sha256.is_empty() && request.sha256.is_none() {
        by.push_str(" (digest not known)");
    }
    match request.args {
        _ if rule.args.is_empty() => {}
        None => by.push_str(" (arguments not known)"),
        Some(args) => {
            let hit = |glob: &&Glob| args.iter().any(|arg| glob.matches(arg));
            by = format!("{by} with {}", rule.args.iter().find(hit)?);
        }
    }
    Some(by)
}

#[cfg(test)]
mod tests;
