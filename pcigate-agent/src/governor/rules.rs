//! What the rule numbers of a compiled policy stand for: names for records, and gates.

use std::{collections::BTreeMap, sync::Arc};

use pcigate_common::maps::verdict;
use pcigate_policy::{
    document::{EgressEffect, Masking, ObjectName, SessionBudget, Statement, Target},
    entries::KernelEntries,
    mask::{Cut, Masked, Masker, SettingsError},
    workload::PolicySet,
};

use crate::draft::Rule;

/// The names behind a policy number.
#[derive(Debug)]
pub struct RuleTable {
    /// First 8 bytes of the compiled policy's SHA-256.
    pub hash: [u8; 8],
    /// By rule number.
    pub rules: Vec<Arc<Rule>>,
    /// Gate rules by their number; none where an earlier agent wrote the table.
    pub gates: BTreeMap<u32, Arc<Gate>>,
    /// What the policies mask beyond card data.
    pub masks: Option<Masks>,
    /// The policies it was compiled from; none where an earlier agent wrote the table.
    pub policies: Vec<ObjectName>,
}

/// What policies mask, as they say it and ready for use.
#[derive(Debug)]
pub struct Masks {
    /// As they say it.
    pub masking: Masking,
    masker: Masker,
}

impl Masks {
    /// # Errors
    /// Together, the policies ask for more than a masker can do.
    pub fn new(masking: Masking) -> Result<Self, SettingsError> {
        let masker = masking.masker()?;
        Ok(Self { masking, masker })
    }
}

impl RuleTable {
    /// Masks what the workloads of these policies run.
    pub fn masker(&self) -> &Masker {
        self.masks.as_ref().map_or(Masker::standard(), |masks| &masks.masker)
    }
}

/// A gate rule: what may be done at which target, and by whose word.
#[derive(Debug)]
pub struct Gate {
    /// Its name in records.
    pub rule: Arc<Rule>,
    /// Where to, and how the gateway gets there.
    pub target: Arc<Target>,
    /// What may be done there.
    pub statements: Vec<Statement>,
    /// What one whole session there may use.
    pub session: SessionBudget,
}

/// Whether anything is answered by an enforced gate.
pub(super) fn ask_for_gateway(entries: &KernelEntries) -> bool {
    let prefixes = entries.egress.iter().map(|prefix| &prefix.ports);
    let mut ports = prefixes.chain(entries.names.iter().map(|name| &name.ports)).flatten();
    ports.any(|(_, _, decision)| decision.verdict == verdict::GATE)
}

/// The table of a compiled policy; `set` is what it was compiled from.
///
/// # Errors
/// As [`Masks::new`].
pub(super) fn table(
    entries: &KernelEntries,
    set: Option<&PolicySet>,
) -> Result<RuleTable, SettingsError> {
    let masked = |text: &str| Masked::new(text.as_bytes(), Cut::Whole);
    let rules = entries.rules.iter().map(|rule| {
        Arc::new(Rule { policy: masked(&rule.policy_name()), id: masked(rule.rule_id()) })
    });
    let rules: Vec<Arc<Rule>> = rules.collect();
    let gates = set.into_iter().flat_map(PolicySet::gate_rules);
    let gates = gates.filter_map(|(number, _, rule, target)| {
        let EgressEffect::Gate { statements, session, .. } = &rule.effect else { return None };
        let named = Arc::clone(rules.get(number as usize)?);
        let (target, statements) = (Arc::clone(target), statements.clone());
        let session = session.clone();
        Some((number, Arc::new(Gate { rule: named, target, statements, session })))
    });
    let gates = gates.collect();
    let mut hash = [0; 8];
    for (to, from) in hash.iter_mut().zip(entries.hash) {
        *to = from;
    }
    let masks = set.and_then(PolicySet::masking).map(Masks::new).transpose()?;
    let policies = set.into_iter().flat_map(PolicySet::policies);
    let policies = policies.map(|policy| policy.name.clone()).collect();
    Ok(RuleTable { hash, rules, gates, masks, policies })
}
