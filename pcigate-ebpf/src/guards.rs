//! What a governed task may not do to pcigate, to its neighbours and to its own confinement, where
//! the kernel has BPF-LSM: EPERM and one record for each attempt.
//!
//! Every governed task is kept from attacking (rule `SELF_PROTECTION`); from leaving its namespaces
//! and cgroup (rule `ISOLATION`) only where its policy confines it. Each program first asks what
//! costs least, mostly whether the task is governed at all.

mod files;
mod privileges;
mod processes;

use pcigate_common::{
    event::{Attempt, Kind, What, flags},
    maps::{Decision, rule, verdict},
};

use crate::{
    entering,
    identity::{self, Subject},
    memory::Address,
    ring,
};

const EPERM: i32 = 1;

/// Who is kept from something, and what is decided about it.
struct Guarded {
    subject: Subject,
    decision: Decision,
}

/// The current task where it is governed: what attacks pcigate or its neighbours is refused.
#[inline(always)]
fn governed() -> Option<Guarded> {
    guarded(false)
}

/// The current task where it may not leave its namespaces and cgroup either: where egress is denied
/// by default, which only holds where there is no other way out. In audit mode that is remarked.
#[inline(always)]
fn confined() -> Option<Guarded> {
    guarded(true)
}

/// [`confined`] or [`governed`]: one piece of code where a hook needs both.
#[inline(always)]
fn guarded(only_confined: bool) -> Option<Guarded> {
    let subject = identity::current()?;
    if subject.policy().is_ok_and(|policy| policy.exempt != 0) {
        return None;
    }
    if !only_confined {
        let decision = Decision::enforced(verdict::DENY, rule::SELF_PROTECTION);
        return Some(Guarded { subject, decision });
    }
    let decision = subject.confined(rule::ISOLATION);
    let matters = !decision.allows() || decision.audit_verdict != verdict::NONE;
    if matters && !entering::is_current() { Some(Guarded { subject, decision }) } else { None }
}

impl Guarded {
    /// What the hook answers.
    #[inline(always)]
    fn answer(&self) -> i32 {
        if self.decision.allows() { 0 } else { -EPERM }
    }

    /// Records an attempt, and what the hook answers.
    #[inline(always)]
    fn report(&self, what: What, numbers: [u32; 4]) -> i32 {
        ring::put(ring::for_decision(&self.decision), self.attempt(what, numbers));
        self.answer()
    }

    /// As [`Self::report`], with the NUL-terminated kernel string at `name`.
    #[inline(always)]
    fn report_named(&self, what: What, numbers: [u32; 4], name: Address) -> i32 {
        let ring = ring::for_decision(&self.decision);
        ring::put_named(ring, self.attempt(what, numbers), name);
        self.answer()
    }

    #[inline(always)]
    fn attempt(&self, what: What, numbers: [u32; 4]) -> Attempt {
        let header = ring::header(Kind::Attempt, flags::LSM, &self.subject, self.decision);
        Attempt { header, what, text_len: 0, numbers, address: [0; 16] }
    }
}
