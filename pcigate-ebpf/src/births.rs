//! The doorbell: tells the agent that a cgroup was made, so that it looks within a millisecond.
//!
//! match-proto: include/trace/events/cgroup.h `cgroup_mkdir(struct cgroup *cgrp, const char
//! *path)`, in the task that makes the cgroup and before anything can be in it.

use aya_ebpf::{
    helpers::bpf_ktime_get_boot_ns, macros::btf_tracepoint, programs::BtfTracePointContext,
};

use crate::maps::BIRTHS;

/// Submit and wake the reader: cgroups are made seldom, and each is urgent.
const BPF_RB_FORCE_WAKEUP: u64 = 2;

/// Says only that there was one. Where the ring is full a look is due anyway.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_made(_ctx: BtfTracePointContext) -> i32 {
    if let Some(mut entry) = BIRTHS.reserve::<u64>(0) {
        // SAFETY: helper without preconditions.
        entry.write(unsafe { bpf_ktime_get_boot_ns() });
        entry.submit(BPF_RB_FORCE_WAKEUP);
    }
    0
}
