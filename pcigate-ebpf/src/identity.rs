//! Who acts: the task, and the governed cgroup it stands below.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_pid_tgid,
        bpf_get_current_task, bpf_get_current_uid_gid, generated::bpf_probe_read_kernel,
    },
};
use pcigate_common::{
    event::Task,
    limits,
    maps::{Decision, PolicyEntry, rule, verdict},
};

use crate::{
    maps::{POLICIES, WORKLOADS, offsets, settings},
    memory::Address,
};

/// Where a task stands.
#[derive(Clone, Copy)]
pub struct Subject {
    /// cgroup of the task.
    pub cgroup: u64,
    /// The deepest governed cgroup above it; 0 = below the root, but no workload is known.
    pub workload: u64,
    /// The highest governed cgroup above it: the pod, where its containers are known too; 0 = none.
    pub pod: u64,
    /// Policy number; meaningless where `workload` is 0.
    pub policy: u32,
}

/// The current task's place, or `None` where it is outside of the governed root.
#[inline(always)]
pub fn current() -> Option<Subject> {
    if !is_governed() {
        return None;
    }
    // SAFETY: helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    Some(below_root(cgroup))
}

/// The same place, of which the verifier knows nothing: a helper has written it. For programs that
/// old verifiers would otherwise look through once for every depth a workload may be found at.
#[inline(always)]
pub fn opaque(subject: Subject) -> Subject {
    let mut copy = MaybeUninit::<Subject>::uninit();
    // SAFETY: the helper writes the whole copy, zeros where it cannot read, which stand for an
    // unknown workload.
    unsafe {
        let from = (&raw const subject).cast();
        bpf_probe_read_kernel(copy.as_mut_ptr().cast(), size_of::<Subject>() as u32, from);
        copy.assume_init()
    }
}

/// Whether the current task is below the governed root: one helper call.
#[inline(always)]
pub fn is_governed() -> bool {
    let settings = settings();
    // SAFETY: helper without preconditions.
    let root = unsafe { bpf_get_current_ancestor_cgroup_id(settings.root_level as i32) };
    root == settings.root_cgroup && root != 0
}

/// As [`current`], for hooks that fire for a socket of the governed tree even when the caller is
/// outside of it: such a caller counts as an unknown workload.
#[inline(always)]
pub fn current_or_unknown() -> Subject {
    current().unwrap_or_else(|| {
        // SAFETY: helper without preconditions.
        let cgroup = unsafe { bpf_get_current_cgroup_id() };
        Subject { cgroup, workload: 0, pod: 0, policy: 0 }
    })
}

#[inline(always)]
fn below_root(cgroup: u64) -> Subject {
    let mut subject = Subject { cgroup, workload: 0, pod: 0, policy: 0 };
    subject.govern(settings().root_cgroup);
    let first = settings().root_level;
    for depth in 1..limits::CGROUP_DEPTH_MAX {
        // SAFETY: helper without preconditions; a level below the task's own answers 0.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id((first + depth) as i32) };
        if id == 0 {
            break;
        }
        subject.govern(id);
    }
    subject
}

impl Subject {
    /// Takes a cgroup into account; from the governed root downwards.
    #[inline(always)]
    pub fn govern(&mut self, cgroup: u64) {
        // SAFETY: the entry is read at once; userspace replaces entries, never writes into them.
        if let Some(entry) = unsafe { WORKLOADS.get(cgroup) } {
            if self.pod == 0 {
                self.pod = cgroup;
            }
            self.workload = cgroup;
            self.policy = entry.policy;
        }
    }

    /// The policy that governs this task, or the decision where there is none: the posture for
    /// unknown workloads, a refusal where a table is inconsistent.
    #[inline(always)]
    pub fn policy(&self) -> Result<&'static PolicyEntry, Decision> {
        if self.workload == 0 {
            return Err(Decision::enforced(settings().unknown_verdict, rule::UNKNOWN_WORKLOAD));
        }
        // SAFETY: userspace adds a policy before any workload names it and removes it after none
        // does; a program that still holds the pointer is protected by RCU.
        unsafe { POLICIES.get(self.policy) }
            .ok_or(Decision::enforced(verdict::DENY, rule::INTERNAL_ERROR))
    }

    /// The answer to what no egress rule can name; `rule` says what it is.
    #[inline(always)]
    pub fn confined(&self, rule: u32) -> Decision {
        match self.policy() {
            Ok(policy) => policy.confined(rule),
            Err(decision) => decision,
        }
    }
}

/// The current task, as records name it. A field that cannot be read is 0.
#[inline(always)]
pub fn current_task() -> Task {
    let offsets = offsets();
    let ids = bpf_get_current_pid_tgid();
    // SAFETY: helper without preconditions.
    let task = Address(unsafe { bpf_get_current_task() });
    let parent = task.follow(offsets.task_real_parent);
    Task {
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        start_ns: process_start(task),
        parent_pid: parent.and_then(|p| p.at(offsets.task_tgid).read()).unwrap_or(0),
        uid: bpf_get_current_uid_gid() as u32,
        parent_start_ns: parent.map_or(0, process_start),
    }
}

/// `start_boottime` of the thread group a task belongs to.
#[inline(always)]
pub fn process_start(task: Address) -> u64 {
    let offsets = offsets();
    task.follow(offsets.task_group_leader)
        .and_then(|leader| leader.at(offsets.task_start_boottime).read())
        .unwrap_or(0)
}

/// The address of a `task_struct` given as a hook's argument.
#[inline(always)]
pub fn address_of(task: *const task_struct) -> Address {
    Address(task as u64)
}

/// The cgroup of the pod; the task's own where no workload is known.
#[inline(always)]
pub fn pod(subject: &Subject) -> u64 {
    if subject.pod == 0 { subject.cgroup } else { subject.pod }
}

/// Whether the task at `task` is in `cgroup` or below it. What cannot be read is not.
#[inline(always)]
pub fn stands_below(task: Address, cgroup: u64) -> bool {
    climb(task, cgroup).unwrap_or(false)
}

#[inline(always)]
fn climb(task: Address, cgroup: u64) -> Option<bool> {
    let offsets = offsets();
    let set = task.follow(offsets.task_cgroups)?;
    let mut at = set.follow(offsets.css_set_dfl_cgrp)?;
    for _ in 0..limits::CLIMB_MAX {
        let id: u64 = at.follow(offsets.cgroup_kn)?.at(offsets.kernfs_node_id).read()?;
        if id == cgroup {
            return Some(true);
        }
        at = at.follow(offsets.cgroup_parent)?.follow(offsets.css_cgroup)?;
    }
    Some(false)
}

/// Whether two tasks share one set of cgroups: the quick answer before [`stands_below`].
#[inline(always)]
pub fn side_by_side(a: Address, b: Address) -> bool {
    let offset = offsets().task_cgroups;
    let set = a.follow(offset);
    set.is_some() && set == b.follow(offset)
}
