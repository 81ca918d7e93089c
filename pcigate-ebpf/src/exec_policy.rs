//! The exec decision: a policy's automaton walked over the path, one table look-up per byte,
//! however many rules there are. `pcigate_policy::entries` builds the automaton.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use pcigate_common::{
    event::flags,
    limits::{NAME_BYTES_MAX, PATH_BYTES_MAX},
    maps::{Decision, ExecAnswer, PolicyEntry, digest_class, rule, verdict},
};

use crate::{
    args::{self, Args},
    digest::{self, Stage},
    identity::Subject,
    maps::{EXEC_CELLS, EXEC_DECISIONS},
    memory::Address,
    path::Path,
    scratch::Scratch,
};

const REFUSED: Decision = Decision::enforced(verdict::DENY, rule::INTERNAL_ERROR);

/// What is to be executed.
pub struct Asked {
    /// The `struct file`.
    pub file: Address,
    /// Whether it is mapped yet.
    pub stage: Stage,
    /// Its path, in the scratch buffer.
    pub path: Path,
    /// Bytes of the name it was called by, in the scratch buffer.
    pub invoked_len: u32,
    /// Its arguments; `None` = not in place yet, so rules that want one are left to a later hook.
    pub args: Option<Args>,
}

/// The answer for a task at this place, and flags.
#[inline(always)]
pub fn decide(subject: &Subject, scratch: *mut Scratch, asked: &Asked) -> (Decision, u32) {
    let policy = match subject.policy() {
        Ok(policy) => policy,
        Err(decision) => return (decision, 0),
    };
    if !asked.path.resolved {
        return (policy.exec_unresolved, 0);
    }
    if policy.exec_columns == 0 {
        return (policy.exec_default, 0);
    }
    let (mut class, mut bits) = (digest_class::UNKNOWN, 0);
    if policy.digest_classes > 1 {
        class = digest::class(subject.policy, asked.file, &asked.stage);
        if class == digest_class::UNKNOWN {
            bits = flags::DIGEST_UNKNOWN;
        }
    }
    (by_rules(policy, class, scratch, asked).unwrap_or(REFUSED), bits)
}

/// The strictest answer for the resolved path and for the name the program was called by, which may
/// only make it stricter (`/bin/sh` names a rule even where it is a link to `/usr/bin/dash`).
#[inline(always)]
fn by_rules(
    policy: &'static PolicyEntry,
    class: u32,
    scratch: *mut Scratch,
    asked: &Asked,
) -> Result<Decision, ()> {
    let path = asked.path;
    // SAFETY: both fields are plain bytes of a map value.
    let (buffer, invoked) = unsafe {
        ((&raw const (*scratch).path).cast::<u8>(), (&raw const (*scratch).invoked).cast::<u8>())
    };
    let len = PATH_BYTES_MAX as u32 - path.start;
    let by_path = run::<PATH_BYTES_MAX>(policy, class, buffer, path.start, len)?;
    let by_name = run::<NAME_BYTES_MAX>(policy, class, invoked, 0, asked.invoked_len)?;
    let wanted = by_path.map_or(0, |answer| answer.args) | by_name.map_or(0, |answer| answer.args);
    let bits = if wanted == 0 { 0 } else { args::bits(policy, scratch, asked.args)? };
    let decision = match by_path {
        Some(answer) => args::joined(policy, answer, bits)?,
        None => policy.exec_default,
    };
    match by_name {
        Some(answer) if answer.matched == 1 || answer.args & bits != 0 => {
            Ok(stricter(decision, args::joined(policy, answer, bits)?))
        }
        _ => Ok(decision),
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
    class: u32,
    bytes: *const u8,
    start: u32,
    len: u32,
) -> Result<Option<&'static ExecAnswer>, ()> {
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
    match cell(policy.exec_base + state * columns + columns - 1)? {
        0 => Ok(None),
        n => {
            let row = policy.exec_decisions + (n - 1) * policy.digest_classes;
            EXEC_DECISIONS.get(row + class).map(Some).ok_or(())
        }
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
        let row = policy.exec_base + (*walk).state * policy.exec_columns;
        match cell(row + u32::from(class)) {
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

/// One cell of the automata.
#[inline(always)]
pub fn cell(cell: u32) -> Result<u32, ()> {
    let slot = EXEC_CELLS.get(cell / 4).ok_or(())?;
    Ok((slot >> (cell % 4 * 16)) as u32 & 0xffff)
}
