//! What the governor knows of its workloads and policies, for Coverage records and status.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use pcigate_policy::{
    document::{ObjectName, Target},
    entries::Unenforceable,
};

use super::Governor;

impl Governor {
    /// How many governed workloads each policy selects.
    #[must_use]
    pub fn selected(&self) -> BTreeMap<ObjectName, u64> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let mut selected = BTreeMap::new();
        for number in self.numbers.values() {
            let policies = directory.rules(*number).into_iter().flat_map(|table| &table.policies);
            policies.for_each(|name| *selected.entry(name.clone()).or_default() += 1);
        }
        selected
    }

    /// The Targets that governed workloads are let through to.
    #[must_use]
    pub fn targets_in_use(&self) -> Vec<Arc<Target>> {
        let numbers: BTreeSet<u32> = self.numbers.values().copied().collect();
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let tables = numbers.iter().filter_map(|number| directory.rules(*number));
        let targets = tables.flat_map(|table| table.gates.values());
        let by_name: BTreeMap<_, _> =
            targets.map(|gate| (&gate.target.name, &gate.target)).collect();
        by_name.into_values().cloned().collect()
    }

    /// What the policies ask for that this node cannot do, over all workloads seen so far.
    #[must_use]
    pub fn unenforceable(&self) -> Vec<Unenforceable> {
        let mut all: Vec<_> =
            self.compiled.values().flat_map(|entries| entries.unenforceable.clone()).collect();
        all.sort_by(|a, b| (&a.policy, &a.rule).cmp(&(&b.policy, &b.rule)));
        all.dedup_by(|a, b| a.policy == b.policy && a.rule == b.rule && a.why == b.why);
        all
    }
}
