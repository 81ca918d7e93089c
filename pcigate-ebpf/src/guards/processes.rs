//! Processes of others (the agent, the node, other pods), and the kernel's programs.
//!
//! match-proto: security/security.c `security_task_kill(struct task_struct *p, struct
//! kernel_siginfo *info, int sig, const struct cred *cred)`,
//! `security_ptrace_access_check(struct task_struct *child, unsigned int mode)`,
//! `security_task_setrlimit(struct task_struct *p, …)`, `security_task_setscheduler(struct
//! task_struct *p)`, `security_task_setnice(struct task_struct *p, int nice)`, `security_bpf(int
//! cmd, …)`, `security_perf_event_open(…)`: 6.1 to 7.3 differ only in arguments not read here.

use aya_ebpf::{helpers::bpf_get_current_task, macros::lsm, programs::LsmContext};
use pcigate_common::event::{What, setting};

use super::{Guarded, confined, governed};
use crate::{identity, maps::offsets, memory::Address};

/// `PTRACE_MODE_NOAUDIT`: the kernel only wants to know how much to show.
const MODE_NOAUDIT: u32 = 4;

/// Signals of the kernel itself are not asked about. Signal 0 only asks whether a process is there,
/// which /proc tells too.
#[lsm(hook = "task_kill")]
pub fn guard_signal(ctx: LsmContext) -> i32 {
    let signal = ctx.arg::<u64>(2) as u32;
    if signal == 0 {
        return 0;
    }
    match stranger(ctx.arg(0)) {
        // A driver's signal, in anybody's time, comes with the credentials of whoever asked for it.
        // Newer verifiers take arguments for non-null and drop a comparison; this read they cannot
        // see through.
        Some(_) if Address(ctx.arg(3)).read::<u32>().is_some() => 0,
        Some((guarded, pid)) => guarded.report(What::Signal, [signal, pid, 0, 0]),
        None => 0,
    }
}

/// ptrace(2), /proc/PID/{mem,exe,root,fd,ns,…}, `process_vm_readv`, `pidfd_getfd`.
#[lsm(hook = "ptrace_access_check")]
pub fn guard_ptrace(ctx: LsmContext) -> i32 {
    let mode = ctx.arg::<u64>(1) as u32;
    match stranger(ctx.arg(0)) {
        Some((guarded, _)) if mode & MODE_NOAUDIT != 0 => guarded.answer(),
        Some((guarded, pid)) => guarded.report(What::Ptrace, [mode, pid, 0, 0]),
        None => 0,
    }
}

/// A limit on processor time or open files ends a process as a signal does.
#[lsm(hook = "task_setrlimit")]
pub fn guard_limit(ctx: LsmContext) -> i32 {
    change(ctx.arg(0), setting::LIMIT)
}

#[lsm(hook = "task_setscheduler")]
pub fn guard_scheduler(ctx: LsmContext) -> i32 {
    change(ctx.arg(0), setting::SCHEDULER)
}

#[lsm(hook = "task_setnice")]
pub fn guard_nice(ctx: LsmContext) -> i32 {
    change(ctx.arg(0), setting::NICE)
}

#[inline(always)]
fn change(task: u64, what: u32) -> i32 {
    match stranger(task) {
        Some((guarded, pid)) => guarded.report(What::Process, [what, pid, 0, 0]),
        None => 0,
    }
}

/// By its id every program, link and map of the machine can be had.
#[lsm(hook = "bpf")]
pub fn guard_bpf(ctx: LsmContext) -> i32 {
    match governed() {
        Some(guarded) => guarded.report(What::Bpf, [ctx.arg::<u64>(0) as u32, 0, 0, 0]),
        None => 0,
    }
}

#[lsm(hook = "perf_event_open")]
pub fn guard_perf(_ctx: LsmContext) -> i32 {
    match confined() {
        Some(guarded) => guarded.report(What::Perf, [0; 4]),
        None => 0,
    }
}

/// The current task and the process it reaches for, where that is not of its own pod.
#[inline(always)]
fn stranger(task: u64) -> Option<(Guarded, u32)> {
    let task = Address(task);
    // SAFETY: helper without preconditions.
    let own = Address(unsafe { bpf_get_current_task() });
    if !identity::is_governed() || identity::side_by_side(own, task) {
        return None;
    }
    let guarded = governed()?;
    if identity::stands_below(task, identity::pod(&guarded.subject)) {
        return None;
    }
    Some((guarded, task.at(offsets().task_tgid).read().unwrap_or(0)))
}
