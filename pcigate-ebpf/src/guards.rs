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
    event::{Attempt, Kind, What},
    maps::{Decision, Ring, rule, verdict},
};

use crate::{
    entering,
    identity::{self, Subject},
    memory::Address,
    ring,
};

const EPERM: i32 = 1;

/// The current task where it is to be kept from attacking.
#[inline(always)]
fn governed() -> Option<Subject> {
    identity::current()
}

/// The current task where it may not leave its namespaces and cgroup either.
#[inline(always)]
fn confined() -> Option<Subject> {
    let subject = governed()?;
    if is_confined(&subject) && !entering::is_current() { Some(subject) } else { None }
}

/// Whether egress is refused by default, which only holds where there is no other way out.
#[inline(always)]
fn is_confined(subject: &Subject) -> bool {
    match subject.policy() {
        Ok(policy) => !policy.egress_default.allows(),
        Err(decision) => !decision.allows(),
    }
}

/// Records an attempt, and what the hook answers.
#[inline(always)]
fn refuse(subject: &Subject, rule: u32, what: What, numbers: [u32; 4]) -> i32 {
    ring::put(Ring::Verdicts, attempt(subject, rule, what, numbers));
    -EPERM
}

/// As [`refuse`], with the NUL-terminated kernel string at `name`.
#[inline(always)]
fn refuse_named(subject: &Subject, rule: u32, what: What, numbers: [u32; 4], name: Address) -> i32 {
    ring::put_named(Ring::Verdicts, attempt(subject, rule, what, numbers), name);
    -EPERM
}

#[inline(always)]
fn attempt(subject: &Subject, rule: u32, what: What, numbers: [u32; 4]) -> Attempt {
    let decision = Decision::enforced(verdict::DENY, rule);
    let header = ring::header(Kind::Attempt, 0, subject, decision);
    Attempt { header, what, text_len: 0, numbers, address: [0; 16] }
}

/// Rules of this module, by the name of what they keep.
const SELF_PROTECTION: u32 = rule::SELF_PROTECTION;
const ISOLATION: u32 = rule::ISOLATION;
