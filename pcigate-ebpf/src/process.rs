//! The life of a process: fork, exec (with the refusal that needs no LSM) and exit.
//!
//! match-proto: include/trace/events/sched.h `sched_process_fork(struct task_struct *parent,
//! struct task_struct *child)`, `sched_process_exec(struct task_struct *p, pid_t old_pid, struct
//! linux_binprm *bprm)`, `sched_process_exit(struct task_struct *p, …)`. tp_btf, because perf
//! tracepoints can be skipped while a CPU is inside a bpf map system call.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_send_signal,
        generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use pcigate_common::{
    event::{Exec, Exit, Fork, Header, Kind, flags},
    limits::{ARGV_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX},
    maps::{Decision, Ring, rule, verdict},
};

use crate::{
    args::{self, Args},
    digest::Stage,
    entering,
    exec_policy::{self, Asked},
    identity::{self, Subject},
    maps::offsets,
    memory::Address,
    path::{self, Path},
    ring,
    scratch::{self, Scratch, Settled},
};

const OBSERVED: Decision = Decision::enforced(verdict::ALLOW, rule::NO_POLICY);
const SIGKILL: u32 = 9;

#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let child = identity::address_of(ctx.arg::<*const task_struct>(1));
    let subject = identity::current();
    entering::forked(subject.is_some(), child);
    if let Some(subject) = subject {
        fork(&subject, child);
    }
    0
}

#[inline(always)]
fn fork(subject: &Subject, child: Address) {
    let offsets = offsets();
    let pid = child.at(offsets.task_pid).read::<u32>().unwrap_or(0);
    let tgid = child.at(offsets.task_tgid).read::<u32>().unwrap_or(0);
    if pid != tgid {
        return; // a thread
    }
    let header = ring::header(Kind::Fork, 0, subject, OBSERVED);
    let child_start_ns = identity::process_start(child);
    ring::put(Ring::Events, Fork { header, child_start_ns, child_pid: tgid, reserved: 0 });
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task = identity::address_of(ctx.arg::<*const task_struct>(0));
    if let Some(subject) = identity::current() {
        exit(&subject, task);
    }
    0
}

#[inline(always)]
fn exit(subject: &Subject, task: Address) {
    let offsets = offsets();
    let live = task.follow(offsets.task_signal).and_then(|s| s.at(offsets.signal_live).read());
    if live.unwrap_or(0i32) != 0 {
        return; // other threads of the process live on
    }
    entering::ended();
    let status = task.at(offsets.task_exit_code).read().unwrap_or(0);
    let header = ring::header(Kind::Exit, 0, subject, OBSERVED);
    ring::put(Ring::Events, Exit { header, status, reserved: 0 });
}

/// The new image is in place and has not run: argv is complete in its memory, and a SIGKILL sent
/// here arrives before its first instruction.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = identity::address_of(ctx.arg::<*const task_struct>(0));
    let bprm = Address(ctx.arg::<u64>(2));
    let Some(subject) = identity::current() else { return 0 };
    entering::ended();
    match scratch::take() {
        Some(scratch) => {
            exec(&subject, scratch, task, bprm);
            scratch::give_back(scratch);
        }
        None => {
            // Nothing can be decided without a buffer, and no record can be built.
            ring::lose_unbuilt();
            kill();
        }
    }
    0
}

#[inline(always)]
fn exec(subject: &Subject, scratch: *mut Scratch, task: Address, bprm: Address) {
    let offsets = offsets();
    let mm = task.follow(offsets.task_mm).unwrap_or(Address(0));
    let file = mm.follow(offsets.mm_exe_file).unwrap_or(Address(0));
    let path = path::resolve(scratch, file, task);
    let (invoked_len, bits) = invoked(scratch, bprm);
    let args = args::read(scratch, mm);
    let known = Settled { path, invoked_len, args, decision: OBSERVED, bits };
    let known = scratch::settle(scratch, known);
    let Settled { path, invoked_len, args, mut bits, .. } = known;
    let asked = Asked { file, stage: Stage::Mapped(mm), path, invoked_len, args: Some(args) };
    let (decision, more) = exec_policy::decide(subject, scratch, &asked);
    bits |= more;
    if !path.resolved {
        bits |= flags::PATH_UNRESOLVED;
    }
    if !decision.allows() {
        bits |= flags::KILLED;
        if !kill() {
            bits |= flags::KILL_FAILED;
        }
    }
    let known = scratch::settle(scratch, Settled { decision, bits, ..known });
    let Settled { path, invoked_len, args, decision, bits } = known;
    let header = ring::header(Kind::Exec, bits, subject, decision);
    send(scratch, header, path, invoked_len, Some(args));
}

/// Kills the current process before it returns to user space; whether the kernel agreed.
#[inline(always)]
fn kill() -> bool {
    // SAFETY: helper without preconditions.
    unsafe { bpf_send_signal(SIGKILL) == 0 }
}

/// Reads the name the program was called by; its length without NUL, and flags.
#[inline(always)]
pub fn invoked(scratch: *mut Scratch, bprm: Address) -> (u32, u32) {
    let name = bprm.follow(offsets().bprm_filename).unwrap_or(Address(0));
    // SAFETY: the buffer has NAME_BYTES_MAX bytes and the helper terminates within them.
    let read = unsafe {
        let to = (&raw mut (*scratch).invoked).cast();
        bpf_probe_read_kernel_str(to, NAME_BYTES_MAX as u32, name.0 as *const _)
    };
    if read <= 0 {
        return (0, flags::INVOKED_TRUNCATED);
    }
    let cut = if read as usize >= NAME_BYTES_MAX { flags::INVOKED_TRUNCATED } else { 0 };
    ((read as u32 - 1) & (NAME_BYTES_MAX as u32 - 1), cut)
}

/// Appends path, invoked name and arguments (where they are in place) to the record and sends it.
#[inline(always)]
pub fn send(
    scratch: *mut Scratch,
    mut header: Header,
    path: Path,
    invoked_len: u32,
    args: Option<Args>,
) {
    let ring = ring::for_decision(&header.decision);
    let path_len = (PATH_BYTES_MAX as u32 - path.start) & (2 * PATH_BYTES_MAX as u32 - 1);
    let invoked_len = invoked_len & (NAME_BYTES_MAX as u32 - 1);
    // SAFETY: `data` holds 2 * PATH_BYTES_MAX + NAME_BYTES_MAX + ARGV_BYTES_MAX bytes; the masks
    // above bound each part, and the helpers check their sources.
    unsafe {
        let data = (&raw mut (*scratch).data).cast::<u8>();
        let from = (&raw const (*scratch).path).cast::<u8>().add(path.start as usize & 1023);
        bpf_probe_read_kernel(data.cast(), path_len & 1023, from.cast());
        let to = data.add(path_len as usize);
        let from = (&raw const (*scratch).invoked).cast::<u8>();
        bpf_probe_read_kernel(to.cast(), invoked_len, from.cast());
        let to = to.add(invoked_len as usize);
        let args = args.unwrap_or(Args { len: 0, total: 0, flags: flags::ARGV_UNAVAILABLE });
        header.flags |= args.flags;
        let (argv_len, argv_total) = (args.len.min(ARGV_BYTES_MAX as u32), args.total);
        let from = (&raw const (*scratch).argv).cast::<u8>();
        bpf_probe_read_kernel(to.cast(), argv_len, from.cast());
        (&raw mut (*scratch).exec).write(Exec {
            header,
            path_len,
            invoked_len,
            argv_len,
            argv_total,
        });
        let len = size_of::<Exec>() as u32 + path_len + invoked_len + argv_len;
        ring::put_bytes(ring, (&raw const (*scratch).exec).cast(), len);
    }
}
