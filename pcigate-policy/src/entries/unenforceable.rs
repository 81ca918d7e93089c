//! What the kernel cannot do of what the documents say, so that "applied" never means "ignored".

use pcigate_common::maps::verdict;

use crate::document::{
    EgressEffect, EgressRule, EndpointAt, Fqdn, ObjectName, StatementAction, Target, TargetProtocol,
};
use crate::rule::RuleRef;
use crate::workload::PolicySet;

/// A rule that is not, or not exactly, enforced in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unenforceable {
    /// The policy.
    pub policy: ObjectName,
    /// Id of the rule.
    pub rule: String,
    /// What happens instead, and why.
    pub why: String,
}

impl PolicySet {
    /// Every rule that is not, or not exactly, enforced in the kernel.
    #[must_use]
    pub fn unenforceable(&self) -> Vec<Unenforceable> {
        let note = |policy: &ObjectName, rule: &str, why: String| Unenforceable {
            policy: policy.clone(),
            rule: rule.to_owned(),
            why,
        };
        let egress = self.egress_rules().flat_map(|(_, policy, rule)| {
            let notes = self.egress_notes(rule);
            notes.into_iter().map(move |why| note(&policy.name, &rule.id, why))
        });
        let targets = self.targets().values().filter(|target| !self.gates(&target.name));
        let targets = targets.flat_map(|target| {
            unknown_addresses(target).map(move |at| {
                let why = format!(
                    "{at} is not kept from workloads without a gate rule: it is not joined to \
                     addresses yet; use `cidr`"
                );
                note(&target.name, RuleRef::Target.rule_id(), why)
            })
        });
        egress.chain(targets).collect()
    }

    fn egress_notes(&self, rule: &EgressRule) -> Vec<String> {
        let mut notes = Vec::new();
        if let EgressEffect::Gate { target, statements, .. } = &rule.effect {
            let target_of = self.target(target);
            notes.extend(target_of.filter(|of| of.protocol != TargetProtocol::Postgres).map(
                |_| {
                    "refused rather than gated: the gateway speaks `postgres` only, so far"
                        .to_owned()
                },
            ));
            let asks = statements.iter().filter(|one| one.action == StatementAction::Ask);
            notes.extend(asks.map(|one| {
                let id = &one.id;
                format!("statements of rule {id} are refused: nobody can be asked for approval yet")
            }));
            let endpoints = target_of.into_iter().flat_map(|t| &t.endpoints);
            notes.extend(endpoints.filter_map(|endpoint| match &endpoint.at {
                EndpointAt::Cidr(_) | EndpointAt::Fqdn(_) => None,
                at @ EndpointAt::Service(_) => Some(format!(
                    "{at} of Target {target} never matches: it is not joined to addresses yet; \
                     use `cidr`"
                )),
            }));
        }
        let open = self.egress_defaults().decision().verdict == verdict::ALLOW;
        if open && rule.verdict() != verdict::ALLOW {
            let mut names: Vec<&Fqdn> = self.named(rule).map(|(fqdn, _)| fqdn).collect();
            names.dedup();
            notes.extend(names.into_iter().map(|fqdn| {
                format!(
                    "{fqdn} is refused only at addresses the workload has resolved it to; deny by \
                     default and allow names instead"
                )
            }));
        }
        notes
    }
}

/// Endpoints whose addresses are not known.
fn unknown_addresses(target: &Target) -> impl Iterator<Item = &EndpointAt> {
    let places = target.endpoints.iter().map(|endpoint| &endpoint.at);
    places.filter(|at| !matches!(at, EndpointAt::Cidr(_)))
}
