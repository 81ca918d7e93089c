//! What the kernel cannot do of what the documents say, so that "applied" never means "ignored".

use crate::document::Target;
use crate::document::{Action, EgressEffect, EgressRule, EndpointAt, ExecRule, ObjectName, Peer};
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
        let exec = self.exec_rules().filter_map(|(_, policy, rule)| {
            exec(rule).map(|why| note(&policy.name, &rule.id, why.to_owned()))
        });
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
        exec.chain(egress).chain(targets).collect()
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
                let unknown = self.target(target).into_iter().flat_map(unknown_addresses);
                notes.extend(unknown.map(|at| {
                    format!(
                        "{at} of Target {target} never matches: it is not joined to addresses \
                         yet; use `cidr`"
                    )
                }));
                notes
            }
        }
    }
}

/// Endpoints whose addresses are not known.
fn unknown_addresses(target: &Target) -> impl Iterator<Item = &EndpointAt> {
    let places = target.endpoints.iter().map(|endpoint| &endpoint.at);
    places.filter(|at| !matches!(at, EndpointAt::Cidr(_)))
}

fn exec(rule: &ExecRule) -> Option<&'static str> {
    match (rule.action, rule.sha256.is_empty(), rule.paths.is_empty()) {
        (_, true, _) => None,
        (Action::Allow, false, _) => {
            Some("never matches: the kernel cannot check a digest, so nothing is allowed by it")
        }
        (Action::Deny, false, true) => {
            Some("never matches: the kernel cannot check a digest; add `paths`")
        }
        (Action::Deny, false, false) => {
            Some("matches by path alone, whatever the digest: the kernel cannot check it")
        }
    }
}
