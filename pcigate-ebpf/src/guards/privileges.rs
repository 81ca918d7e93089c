//! Privileges that lead out of a namespace or a cgroup, or build another way out.
//!
//! match-proto: security/security.c `security_capable(const struct cred *cred, struct
//! user_namespace *ns, int cap, unsigned int opts)`, `security_create_user_ns(const struct cred
//! *cred)` (hook `userns_create`), `security_task_alloc(struct task_struct *task, u64
//! clone_flags)`.

use aya_ebpf::{helpers::bpf_get_current_task, macros::lsm, programs::LsmContext};
use pcigate_common::event::What;

use super::confined;
use crate::{maps::offsets, memory::Address};

const SYS_ADMIN: u32 = 21;
/// Refused to confined tasks, in every user namespace. The kernel's own rules are asked first, so
/// this is reached only by who holds the privilege: containers that were given it.
const REFUSED: [u32; 11] = [
    12,        // NET_ADMIN: tun, WireGuard, tunnels, DNAT, routes
    16,        // SYS_MODULE: kernel code
    17,        // SYS_RAWIO: memory and devices as they are
    SYS_ADMIN, // namespaces (setns, unshare), mounts, and far more
    22,        // SYS_BOOT: reboot, kexec
    25,        // SYS_TIME: the clock of the records
    30,        // AUDIT_CONTROL: the kernel's own audit
    32,        // MAC_OVERRIDE
    33,        // MAC_ADMIN: other security modules' rules
    38,        // PERFMON
    40,        // CHECKPOINT_RESTORE: chosen process ids
];
// Not among them. NET_RAW: raw and packet sockets are refused as sockets. SYS_PTRACE, KILL,
// SYS_NICE, SYS_RESOURCE: hold for the own pod, see `processes`. BPF: bpf(2) is refused. MKNOD: the
// device cgroup decides what can be opened. DAC_READ_SEARCH: asked for at every directory that root
// reads. SETUID, CHOWN, FOWNER and the like are what ordinary programs live on.
const MASK: u64 = mask();
/// `CAP_OPT_NOAUDIT`: the kernel only wants to know.
const NOAUDIT: u32 = 2;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_NEWUSER: u32 = 0x1000_0000;

const fn mask() -> u64 {
    let (mut mask, mut rest) = (0, REFUSED.as_slice());
    while let [capability, more @ ..] = rest {
        mask |= 1 << *capability;
        rest = more;
    }
    mask
}

#[lsm(hook = "capable")]
pub fn guard_capability(ctx: LsmContext) -> i32 {
    let capability = ctx.arg::<u64>(2) as u32;
    if (MASK >> (capability & 63)) & 1 == 0 {
        return 0;
    }
    let Some(guarded) = confined() else { return 0 };
    if capability == SYS_ADMIN && is_lent(ctx.arg(0)) {
        return 0;
    }
    if ctx.arg::<u64>(3) as u32 & NOAUDIT != 0 {
        return guarded.answer();
    }
    guarded.report(What::Capability, [capability, 0, 0, 0])
}

/// Whether the kernel acts with other credentials than the task's own: overlayfs reads and writes
/// its `trusted.overlay.` attributes with those of whoever mounted it, in the task's time; refused,
/// deleted files would come back. io_uring can do as much with credentials of before, but none of
/// its operations needs `SYS_ADMIN` to lead out.
#[inline(always)]
fn is_lent(credentials: u64) -> bool {
    // SAFETY: helper without preconditions.
    let task = Address(unsafe { bpf_get_current_task() });
    task.follow(offsets().task_real_cred) != Some(Address(credentials))
}

/// In a user namespace of its own a task has every privilege.
#[lsm(hook = "userns_create")]
pub fn guard_user_namespace(_ctx: LsmContext) -> i32 {
    match confined() {
        Some(guarded) => guarded.report(What::Namespace, [CLONE_NEWUSER, 0, 0, 0]),
        None => 0,
    }
}

/// A child made in another cgroup. Its flag lies beyond the 32 bits a record shows; the name
/// stands for it.
#[lsm(hook = "task_alloc")]
pub fn guard_clone(ctx: LsmContext) -> i32 {
    if ctx.arg::<u64>(1) & CLONE_INTO_CGROUP == 0 {
        return 0;
    }
    match confined() {
        Some(guarded) => super::files::report_clone(&guarded),
        None => 0,
    }
}
