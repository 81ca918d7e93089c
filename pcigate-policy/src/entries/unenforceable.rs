//! What the kernel cannot do of what the documents say, so that "applied" never means "ignored".

use crate::document::{EgressEffect, EgressRule, EndpointAt, ObjectName, Peer};
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
        egress.collect()
    }

    fn egress_notes(&self, rule: &EgressRule) -> Vec<String> {
        match &rule.effect {
            EgressEffect::Direct { to, .. } => {
                let fqdn = |peer: &Peer| match peer {
                    Peer::Fqdn(fqdn) => Some(format!(
                        "{fqdn} never matches: names are not joined to addresses yet; use `cidr`"
                    )),
                    Peer::Cidr(_) => None,
                };
                to.iter().filter_map(fqdn).collect()
            }
            EgressEffect::Gate { target, .. } => {
                let mut notes =
                    vec!["refused rather than gated: there is no gateway here yet".to_owned()];
                let endpoints = self.target(target).into_iter().flat_map(|t| &t.endpoints);
                notes.extend(endpoints.filter_map(|endpoint| match &endpoint.at {
                    EndpointAt::Cidr(_) => None,
                    at => Some(format!(
                        "{at} of Target {target} never matches: it is not joined to addresses \
                         yet; use `cidr`"
                    )),
                }));
                notes
            }
        }
    }
}
