//! Processes on their way into a governed cgroup: a container runtime puts its helper there before
//! that helper mounts the container's files, joins its namespaces, gives privileges up and executes
//! the container's program. Until then it is not confined; what is decided about programs and
//! destinations holds for it all the same.
//!
//! match-proto: include/trace/events/cgroup.h `cgroup_attach_task(struct cgroup *dst_cgrp, const
//! char *path, struct task_struct *task, bool threadgroup)`, after the task has moved.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};

use crate::{
    identity,
    maps::{ENTERING, offsets, settings},
    memory::Address,
};

/// A task enters where it comes by itself, or is moved by one from outside: governed tasks move
/// nobody, and one that could would win nothing it has not got.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach(ctx: BtfTracePointContext) -> i32 {
    let task = identity::address_of(ctx.arg::<*const task_struct>(2));
    // SAFETY: helper without preconditions.
    let own = task.0 == unsafe { bpf_get_current_task() };
    if own || identity::current().is_none() {
        begin_below_root(task);
    }
    0
}

/// A child of a process that is entering is entering, and so is one that a process outside makes
/// directly in a governed cgroup (`clone3` with `CLONE_INTO_CGROUP`).
#[inline(always)]
pub fn forked(governed: bool, child: Address) {
    if governed {
        if is_current() {
            begin(child);
        }
        return;
    }
    let offset = offsets().task_cgroups;
    // SAFETY: helper without preconditions.
    let parent = Address(unsafe { bpf_get_current_task() });
    if parent.follow(offset) != child.follow(offset) {
        begin_below_root(child);
    }
}

/// Whether the current process is entering.
#[inline(always)]
pub fn is_current() -> bool {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the number is copied at once.
    let Some(&start) = (unsafe { ENTERING.get(pid) }) else { return false };
    // SAFETY: helper without preconditions.
    start == identity::process_start(Address(unsafe { bpf_get_current_task() }))
}

/// The current process has executed a program, or ends.
#[inline(always)]
pub fn ended() {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // Nearly no process is there, and to look takes no lock.
    // SAFETY: only whether there is an entry counts.
    if unsafe { ENTERING.get(pid) }.is_some() {
        let _ = ENTERING.remove(pid);
    }
}

#[inline(always)]
fn begin_below_root(task: Address) {
    if identity::stands_below(task, settings().root_cgroup) {
        begin(task);
    }
}

/// Where there is no room, the process is confined at once.
#[inline(always)]
fn begin(task: Address) {
    let pid: u32 = task.at(offsets().task_tgid).read().unwrap_or(0);
    let _ = ENTERING.insert(pid, identity::process_start(task), 0);
}
