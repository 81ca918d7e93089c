//! The refusal of an exec with EPERM, where the kernel has BPF-LSM.
//!
//! match-proto: security/security.c `int security_bprm_check(struct linux_binprm *bprm)`. Called
//! for a script and again for its interpreter, each time before the caller's image is given up.

use aya_ebpf::{helpers::bpf_get_current_task, macros::lsm, programs::LsmContext};
use pcigate_common::{
    event::{Kind, flags},
    maps::{Decision, rule, verdict},
};

use crate::{
    digest::Stage,
    exec_policy::{self, Asked},
    identity,
    identity::Subject,
    maps::{LSM_CALLS, offsets},
    memory::Address,
    path, process, ring,
    scratch::{self, Scratch},
};

const EPERM: i32 = 1;

#[lsm(hook = "bprm_check_security")]
pub fn exec_check(ctx: LsmContext) -> i32 {
    ring::increment(&LSM_CALLS, 0);
    let bprm = Address(ctx.arg::<u64>(0));
    let Some(subject) = identity::current() else { return 0 };
    let Some(scratch) = scratch::take() else {
        ring::lose_unbuilt();
        return -EPERM;
    };
    let decision = check(&subject, scratch, bprm);
    scratch::give_back(scratch);
    if decision.allows() { 0 } else { -EPERM }
}

#[inline(always)]
fn check(subject: &Subject, scratch: *mut Scratch, bprm: Address) -> Decision {
    // SAFETY: helper without preconditions.
    let task = Address(unsafe { bpf_get_current_task() });
    let Some(file) = bprm.follow(offsets().bprm_file) else {
        return Decision::enforced(verdict::DENY, rule::INTERNAL_ERROR);
    };
    let path = path::resolve(scratch, file, task);
    let (invoked_len, mut bits) = process::invoked(scratch, bprm);
    let asked = Asked { file, stage: Stage::Opened, path, invoked_len, args: None };
    let (decision, more) = exec_policy::decide(subject, scratch, &asked);
    if !decision.allows() {
        bits |= more;
        if !path.resolved {
            bits |= flags::PATH_UNRESOLVED;
        }
        let header = ring::header(Kind::ExecRefused, bits, subject, decision);
        process::send(scratch, header, path, invoked_len, None);
    }
    decision
}
