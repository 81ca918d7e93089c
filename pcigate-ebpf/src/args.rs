//! The arguments of a new program: read once, then decided on and recorded as read.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use pcigate_common::{
    event::flags,
    limits::ARGV_BYTES_MAX,
    maps::{Decision, ExecAnswer, PolicyEntry},
};

use crate::{
    exec_policy::cell, maps::EXEC_DECISIONS, maps::offsets, memory::Address, scratch::Scratch,
};

const NUL: u8 = 0;
/// Every rule that wants an argument counts.
const ALL: u64 = u64::MAX;
/// None does.
const NONE: u64 = 0;

/// Arguments in `Scratch::argv`, NUL-terminated each.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Args {
    /// Bytes copied.
    pub len: u32,
    /// Bytes there are.
    pub total: u32,
    /// `ARGV_TRUNCATED` or `ARGV_UNAVAILABLE`, or 0: these are all arguments.
    pub flags: u32,
}

/// Reads the arguments of the new image `mm`, which has not run yet: nobody has changed them.
#[inline(always)]
pub fn read(scratch: *mut Scratch, mm: Address) -> Args {
    let offsets = offsets();
    let start: u64 = mm.at(offsets.mm_arg_start).read().unwrap_or(0);
    let end: u64 = mm.at(offsets.mm_arg_end).read().unwrap_or(0);
    let all = end.saturating_sub(start);
    let total = all as u32;
    let (mut len, mut bits) = (total, 0);
    if all > ARGV_BYTES_MAX as u64 {
        len = ARGV_BYTES_MAX as u32;
        bits = flags::ARGV_TRUNCATED;
    }
    if len > ARGV_BYTES_MAX as u32 {
        return Args { len: 0, total, flags: flags::ARGV_UNAVAILABLE };
    }
    // SAFETY: the buffer has ARGV_BYTES_MAX bytes; the source is checked by the helper.
    let status = unsafe {
        let to = (&raw mut (*scratch).argv).cast();
        bpf_probe_read_user(to, len, start as *const _)
    };
    if status < 0 || start == 0 {
        return Args { len: 0, total, flags: bits | flags::ARGV_UNAVAILABLE };
    }
    Args { len, total, flags: bits }
}

/// The bits of the rules whose arguments are met. `args` is `None` where they are not in place yet:
/// those rules are asked later. Incomplete arguments meet every rule.
#[inline(always)]
pub fn bits(policy: &PolicyEntry, scratch: *mut Scratch, args: Option<Args>) -> Result<u64, ()> {
    let Some(args) = args else { return Ok(NONE) };
    if args.flags != 0 {
        return Ok(ALL);
    }
    // SAFETY: plain bytes of a map value.
    let bytes = unsafe { (&raw const (*scratch).argv).cast::<u8>() };
    let mut walk = Walk { policy, bytes, bits: NONE, state: policy.args_start, broken: 0 };
    // SAFETY: the callback has the signature the helper calls it with, and `walk` outlives the
    // call; what it wrote is read volatile, because the compiler does not see it write.
    unsafe {
        let step = step as unsafe extern "C" fn(u32, *mut Walk) -> i64;
        let steps = bpf_loop(args.len, step as *mut c_void, (&raw mut walk).cast(), 0);
        if steps < 0 || (&raw const walk.broken).read_volatile() != 0 {
            return Err(());
        }
        Ok((&raw const walk.bits).read_volatile())
    }
}

/// A walk in progress, on the caller's stack.
#[repr(C)]
struct Walk {
    policy: *const PolicyEntry,
    bytes: *const u8,
    bits: u64,
    state: u32,
    broken: u32,
}

/// One byte; 0 = go on, 1 = stop.
///
/// # Safety
/// Only `bpf_loop` calls it, with the `Walk` that `bits` gave it.
unsafe extern "C" fn step(i: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the caller's `Walk`; policy and bytes are pointers to live map values.
    unsafe {
        let policy = &*(*walk).policy;
        let byte = *(*walk).bytes.add(i as usize & (ARGV_BYTES_MAX - 1));
        let row = policy.args_base + (*walk).state * policy.args_columns;
        if byte != NUL {
            let class = *policy.args_classes.as_ptr().add(usize::from(byte));
            if let Ok(state) = cell(row + u32::from(class)) {
                (*walk).state = state;
                return 0;
            }
        } else if let Ok(number) = cell(row + policy.args_columns - 1) {
            (*walk).state = policy.args_start;
            if number == 0 {
                return 0;
            }
            if let Some(mask) = EXEC_DECISIONS.get(policy.args_masks + number - 1) {
                (*walk).bits |= mask.args;
                return 0;
            }
        }
        (*walk).broken = 1;
        1
    }
}

/// An answer and what the rules whose arguments are met (`bits`) add to it.
#[inline(always)]
pub fn joined(policy: &PolicyEntry, answer: &ExecAnswer, bits: u64) -> Result<Decision, ()> {
    let bits = answer.args & bits;
    if bits == 0 {
        return Ok(answer.decision);
    }
    let enforced = match bits & policy.args_enforced {
        0 => None,
        enforced => Some(rule(policy, enforced)?),
    };
    Ok(answer.decision.with_args(enforced, Some(rule(policy, bits)?)))
}

/// The rule behind the lowest bit.
#[inline(always)]
fn rule(policy: &PolicyEntry, bits: u64) -> Result<u32, ()> {
    let answer = EXEC_DECISIONS.get(policy.args_rules + bits.trailing_zeros());
    answer.map(|answer| answer.decision.rule).ok_or(())
}
