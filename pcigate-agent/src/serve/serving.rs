//! One look of `serve`: what there is now goes to the kernel, and what became of it is told.

use pcigate_agent::{
    causes::chain,
    cgroup::Cgroup,
    config::Config,
    draft::{Capability, CoverageState},
    running::Agent,
};

use super::{notes::Notes, policies::Policies, source::Source};

/// An agent, and where it learns what to govern.
pub struct Serving {
    pub agent: Agent,
    pub source: Source,
    pub policies: Policies,
    pub notes: Notes,
    pub config: Config,
    pub root: Cgroup,
}

impl Serving {
    /// Makes the kernel govern what is there now, by the policies there are now.
    pub fn look(&mut self) {
        self.policies.follow(&mut self.agent);
        self.govern();
        self.policies.read_secrets(&self.agent);
        self.policies.tell(&self.agent);
        self.follow_sources();
        self.end_grants();
        self.notes.publish(&mut self.agent, &self.source);
        if let Err(error) = self.agent.beat() {
            tracing::warn!("cannot tell the next agent that this one lives: {error}");
        }
    }

    /// Reads the policies of files again; wrong ones change nothing.
    pub fn reload(&mut self) {
        let taken = self.policies.reload(&mut self.agent);
        self.notes.read(taken);
        self.look();
    }

    /// A source that fails leaves what was; the same trouble is told once.
    fn govern(&mut self) {
        let agent = &mut self.agent;
        let exempt = agent.governor.exempt().clone();
        let now = match self.source.find(&self.config, &self.root) {
            Ok(found) => {
                let errors = agent.governor.apply(&found);
                let unheard = agent.follow_networks();
                self.notes.looked(&found, errors.len(), unheard.len());
                let errors = errors.iter().map(|error| chain(error));
                let errors = errors.chain(unheard.iter().map(|error| chain(error)));
                errors.collect::<Vec<_>>().join("; ")
            }
            Err(error) => {
                self.notes.cannot_look();
                format!("{error:#}")
            }
        };
        if now != self.notes.trouble {
            if now.is_empty() {
                tracing::info!("the workloads are governed again");
            } else {
                tracing::error!("{now}");
            }
            self.notes.trouble = now;
        }
        if exempt != *agent.governor.exempt() {
            tell_coverage(agent, "other workloads are exempt than before");
        }
    }

    /// Records what is and is not known of workloads and policies, when that has changed.
    fn follow_sources(&mut self) {
        let mut now = self.source.coverage();
        now.extend(self.policies.coverage());
        let said = |rows: &[Capability]| {
            rows.iter().map(|row| (row.name, row.reason.as_str().to_owned())).collect::<Vec<_>>()
        };
        if said(&now) != said(&self.agent.source) {
            self.agent.source = now;
            tell_coverage(&self.agent, "what is known of workloads or policies has changed");
        }
    }

    /// Closes the connections of grants that are over; the kernel has stopped them already.
    fn end_grants(&mut self) {
        match self.agent.governor.end_expired_grants() {
            Ok(ended) => ended.iter().for_each(|ended| match &ended.closed {
                Ok(closed) => tracing::info!("grant {} is over: {closed} closed", ended.grant.id),
                Err(error) => tracing::warn!("grant {} is over: {}", ended.grant.id, chain(error)),
            }),
            Err(error) => tracing::error!("{}", chain(&error)),
        }
    }
}

/// Puts on record that something is covered otherwise than before.
pub fn tell_coverage(agent: &Agent, message: &str) {
    if let Err(error) = agent.record_coverage(CoverageState::Change, message) {
        tracing::error!("{error:#}");
    }
}
