//! Atomic operations that return the old value (BPF_FETCH, Linux 5.12).
//!
//! The compiler's own atomics lack them for this target, so they are written as instructions.

use core::arch::asm;

/// Adds one and returns what was there.
///
/// # Safety
/// `counter` must be an aligned slot of a map value.
#[inline(always)]
pub unsafe fn fetch_increment(counter: *mut u64) -> u64 {
    let mut value = 1u64;
    // SAFETY: by the contract of this function; one instruction on that slot.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({slot} + 0), {value})",
            value = inout(reg) value, slot = in(reg) counter);
    }
    value
}

/// Stores `new` and returns what was there.
///
/// # Safety
/// `slot` must be an aligned slot of a map value.
#[inline(always)]
pub unsafe fn exchange(slot: *mut u64, new: u64) -> u64 {
    let mut value = new;
    // SAFETY: by the contract of this function; one instruction on that slot.
    unsafe {
        asm!("{value} = xchg_64({slot} + 0, {value})",
            value = inout(reg) value, slot = in(reg) slot);
    }
    value
}
