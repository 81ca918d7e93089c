//! The exec decision: a policy's automaton walked over the path, one table look-up per byte,
//! however many rules there are. `pcigate_policy::entries` builds the automaton.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use pcigate_common::{
    limits::{NAME_BYTES_MAX, PATH_BYTES_MAX},
    maps::{Decision, PolicyEntry, rule, verdict},
};

use crate::{
    maps::{EXEC_CELLS, EXEC_DECISIONS},
    path::Path,
    scratch::Scratch,
};

const REFUSED: Decision = Decision::enforced(verdict::DENY, rule::INTERNAL_ERROR);

/// The strictest answer for the resolved path and for the name the program was called by, which may
/// only make it stricter (`/bin/sh` names a rule even where it is a link to `/usr/bin/dash`).
#[inline(always)]
pub fn decide(
    policy: &PolicyEntry,
    scratch: *mut Scratch,
    path: Path,
    invoked_len: u32,
) -> Decision {
    if !path.resolved {
        return policy.exec_unresolved;
    }
    if policy.exec_columns == 0 {
        return policy.exec_default;
    }
    // SAFETY: both fields are plain bytes of a map value.
    let (buffer, invoked) = unsafe {
        ((&raw const (*scratch).path).cast::<u8>(), (&raw const (*scratch).invoked).cast::<u8>())
    };
    let len = PATH_BYTES_MAX as u32 - path.start;
    let by_path = match run::<PATH_BYTES_MAX>(policy, buffer, path.start, len) {
        Ok(Some(decision)) => decision,
        Ok(None) => policy.exec_default,
        Err(()) => return REFUSED,
    };
    match run::<NAME_BYTES_MAX>(policy, invoked, 0, invoked_len) {
        Ok(Some(decision)) => stricter(by_path, decision),
        Ok(None) => by_path,
        Err(()) => REFUSED,
    }
}

/// The stricter of both. The default behind a name that only audit-mode rules match is no answer
/// about that name, so of its enforced half only a written rule counts; what is only audited is
/// compared for itself. The same as `pcigate_policy`'s `with_invoked`.
#[inline(always)]
fn stricter(by_path: Decision, by_name: Decision) -> Decision {
    let mut answer = by_path;
    if by_name.verdict > answer.verdict && by_name.rule < rule::RESERVED {
        answer.verdict = by_name.verdict;
        answer.rule = by_name.rule;
    }
    if by_name.audit_verdict > answer.audit_verdict {
        answer.audit_verdict = by_name.audit_verdict;
        answer.audit_rule = by_name.audit_rule;
    }
    if answer.audit_verdict > answer.verdict {
        answer
    } else {
        Decision::enforced(answer.verdict, answer.rule)
    }
}

/// A walk in progress, on the caller's stack.
#[repr(C)]
struct Walk {
    policy: *const PolicyEntry,
    bytes: *const u8,
    start: u32,
    state: u32,
    broken: u32,
}

/// Walks the automaton over `len` bytes from `start`; `N` (a power of two) is the buffer's reach.
///
/// With `bpf_loop` (Linux 5.17) the verifier looks at one step instead of at every byte: an
/// unrolled walk of both names takes it a third of its limit on new kernels and all of it on 6.1.
#[inline(always)]
fn run<const N: usize>(
    policy: &PolicyEntry,
    bytes: *const u8,
    start: u32,
    len: u32,
) -> Result<Option<Decision>, ()> {
    let mut walk = Walk { policy, bytes, start, state: policy.exec_start, broken: 0 };
    // SAFETY: the callback has the signature the helper calls it with, and `walk` outlives the
    // call.
    let steps = unsafe {
        let step = step::<N> as unsafe extern "C" fn(u32, *mut Walk) -> i64;
        bpf_loop(len, step as *mut c_void, (&raw mut walk).cast(), 0)
    };
    // SAFETY: as above; volatile, because the compiler does not see the callback write.
    let (state, broken) = unsafe {
        ((&raw const walk.state).read_volatile(), (&raw const walk.broken).read_volatile())
    };
    if steps < 0 || broken != 0 {
        return Err(());
    }
    let columns = policy.exec_columns;
    match cell(policy, state * columns + columns - 1)? {
        0 => Ok(None),
        n => match EXEC_DECISIONS.get(policy.exec_decisions + n - 1) {
            Some(decision) => Ok(Some(*decision)),
            None => Err(()),
        },
    }
}

/// One byte; 0 = go on, 1 = stop.
///
/// # Safety
/// Only `bpf_loop` calls it, with the `Walk` that `run` gave it.
unsafe extern "C" fn step<const N: usize>(i: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the caller's `Walk`; policy and bytes are pointers to live map values.
    unsafe {
        let policy = &*(*walk).policy;
        let at = ((*walk).start + i) as usize & (N - 1);
        let byte = *(*walk).bytes.add(at);
        let class = *policy.exec_classes.as_ptr().add(usize::from(byte));
        match cell(policy, (*walk).state * policy.exec_columns + u32::from(class)) {
            Ok(state) => {
                (*walk).state = state;
                0
            }
            Err(()) => {
                (*walk).broken = 1;
                1
            }
        }
    }
}

#[inline(always)]
fn cell(policy: &PolicyEntry, cell: u32) -> Result<u32, ()> {
    let cell = policy.exec_base + cell;
    let slot = EXEC_CELLS.get(cell / 4).ok_or(())?;
    Ok((slot >> (cell % 4 * 16)) as u32 & 0xffff)
}
