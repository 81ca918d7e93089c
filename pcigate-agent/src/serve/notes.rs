//! What `serve` remembers between two looks, and what of it the admin port tells.

use std::collections::{BTreeMap, BTreeSet};

use pcigate_agent::{
    admin::{Board, Governed, Policies, Readings, SourceState, WorkloadCounts},
    draft::CapabilityState,
    running::Agent,
    workloads::Found,
};

use super::source::Source;

/// The notes of one run.
pub struct Notes {
    /// The trouble that was told last; empty = none.
    pub trouble: String,
    /// Where the admin port looks.
    pub board: Board,
    readings: Readings,
    workloads: WorkloadCounts,
    failures: usize,
    unheard: usize,
    /// The last look found nothing, because the source or the cgroups could not be read.
    blind: bool,
}

impl Notes {
    /// Of a start with documents that were taken.
    pub fn new(board: Board) -> Self {
        Self {
            trouble: String::new(),
            board,
            readings: Readings { taken: 1, ..Readings::default() },
            workloads: WorkloadCounts::default(),
            failures: 0,
            unheard: 0,
            blind: false,
        }
    }

    /// Documents were read again.
    pub fn read(&mut self, taken: bool) {
        self.readings.taken += u64::from(taken);
        self.readings.refused += u64::from(!taken);
        self.readings.last_refused = !taken;
    }

    /// What there was, and how much of it failed.
    pub fn looked(&mut self, found: &[Found], failures: usize, unheard: usize) {
        self.workloads = counts(found);
        (self.failures, self.unheard, self.blind) = (failures, unheard, false);
    }

    /// There was no looking.
    pub fn cannot_look(&mut self) {
        self.blind = true;
    }

    /// Tells the admin port, now and then.
    pub fn publish(&self, agent: &mut Agent, source: &Source) {
        if !self.board.looked() {
            return;
        }
        let mut missing: BTreeMap<&'static str, usize> = BTreeMap::new();
        for capability in agent.capabilities(None) {
            let lacks = capability.state == CapabilityState::NotEnforceableHere;
            *missing.entry(capability.name).or_default() += usize::from(lacks);
        }
        let unknown = "the pods or their cgroups cannot be read; see the log";
        let blind = SourceState { unknown, ..source.state() };
        let networks = agent.networks();
        let governor = &mut agent.governor;
        let documents = governor.documents();
        let policies = Policies {
            hash: governor.hash().iter().map(|byte| format!("{byte:02x}")).collect(),
            policies: documents.policies().len(),
            targets: documents.targets().len(),
            compiled: governor.compiled_sets(),
            readings: self.readings,
        };
        self.board.publish(Governed {
            policies,
            workloads: WorkloadCounts { unknown: source.unknown(), ..self.workloads },
            failures: self.failures,
            networks,
            unheard: self.unheard,
            source: if self.blind { blind } else { source.state() },
            grants: governor.grants().live().len(),
            missing,
        });
    }
}

/// By pod: what is found has a line for each container, too.
fn counts(found: &[Found]) -> WorkloadCounts {
    let pods = |is: fn(&Found) -> bool| {
        let pods = found.iter().filter(|found| is(found));
        let name = |found: &Found| {
            let identity = &found.identity;
            [&identity.pod_uid, &identity.namespace, &identity.pod].map(String::clone)
        };
        pods.map(name).collect::<BTreeSet<_>>().len()
    };
    WorkloadCounts {
        governed: pods(|found| !found.exempt && !found.refused),
        exempt: pods(|found| found.exempt),
        refused: pods(|found| found.refused && !found.exempt),
        unknown: 0,
    }
}
