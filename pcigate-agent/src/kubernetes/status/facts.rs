//! What a node makes of its documents, from what its parts know.

use std::collections::BTreeMap;

use pcigate_policy::{
    document::{Mode, ObjectName},
    entries::Unenforceable,
    mask::one_line,
};

use super::{DocumentState, NodeState, State};
use crate::kubernetes::documents::{Resolved, Row, Standing};

/// Reasons told of one document.
const REASONS_MAX: usize = 3;
/// Bytes of them together.
const REASON_MAX: usize = 600;

/// What the parts of the agent know.
pub struct Facts<'a> {
    /// What is in force.
    pub resolved: &'a Resolved,
    /// What the kernel cannot do of it, over the workloads of this node.
    pub unenforceable: &'a [Unenforceable],
    /// How many workloads each policy selects.
    pub selected: &'a BTreeMap<ObjectName, u64>,
    /// Secrets that cannot be had, by `namespace/name`, and why.
    pub secrets: &'a [(String, String)],
    /// What the node cannot enforce whatever the policies say.
    pub missing: Vec<(String, String)>,
}

impl Facts<'_> {
    /// In the words of a NodeCoverage.
    #[must_use]
    pub fn node_state(self) -> NodeState {
        let documents = self.resolved.rows.iter().map(|row| self.document(row)).collect();
        NodeState { documents, missing: self.missing }
    }

    fn document(&self, row: &Row) -> DocumentState {
        let (state, reason) = match &row.standing {
            Standing::Rejected(why) => (State::Rejected, why.clone()),
            Standing::InForce => self.in_force(row),
        };
        let workloads = self.selected.get(&row.name).filter(|_| row.kind != "Target");
        DocumentState {
            kind: row.kind,
            namespace: row.name.namespace.clone(),
            name: row.name.name.clone(),
            generation: row.generation,
            hash: row.hash.clone(),
            state,
            reason: one_line(&reason, REASON_MAX),
            workloads: workloads.copied().unwrap_or_default(),
        }
    }

    fn in_force(&self, row: &Row) -> (State, String) {
        let mut reasons = Vec::new();
        if row.kind == "Target" {
            reasons.extend(self.of_secrets(&row.name));
        } else {
            let nowhere = self.resolved.documents.without_target();
            let nowhere = nowhere.filter(|(policy, ..)| policy.name == row.name);
            reasons.extend(nowhere.map(|(_, rule, target)| {
                format!("rule {rule} leads nowhere: there is no Target {target}")
            }));
        }
        // A Target's own notes carry the rule that protects it.
        let is_target = row.kind == "Target";
        let protects = |of: &&Unenforceable| of.rule.starts_with("pcigate/") == is_target;
        let of_it = self.unenforceable.iter().filter(|of| of.policy == row.name).filter(protects);
        reasons.extend(of_it.map(|of| format!("rule {}: {}", of.rule, of.why)));
        if !reasons.is_empty() {
            reasons.truncate(REASONS_MAX);
            return (State::NotEnforceable, reasons.join("; "));
        }
        let policies = self.resolved.documents.policies();
        let policy = policies.iter().find(|policy| !is_target && policy.name == row.name);
        match policy {
            Some(policy) if policy.mode == Mode::Audit => {
                (State::Audited, "its mode is audit".to_owned())
            }
            _ => (State::Enforced, String::new()),
        }
    }

    fn of_secrets(&self, name: &ObjectName) -> Vec<String> {
        let Some(target) = self.resolved.documents.targets().get(name) else { return Vec::new() };
        let keys = target.secret_keys();
        let trouble = |(secret, _): &&(String, String)| {
            keys.iter().any(|key| *secret == format!("{}/{}", name.namespace, key.name))
        };
        let of_it = self.secrets.iter().filter(trouble);
        of_it.map(|(secret, why)| format!("sessions are refused: Secret {secret}: {why}")).collect()
    }
}
