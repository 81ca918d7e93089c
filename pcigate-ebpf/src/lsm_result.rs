//! What an LSM program returns: 0 or -EPERM, as constants the verifier can see.

use core::arch::asm;

/// 0 where allowed, else -EPERM.
///
/// The compiler would compute `-(allowed ^ 1)` and keep no bound the verifier accepts ("should have
/// been in [-4095, 0]"); an instruction of ours keeps the two ways apart.
#[inline(always)]
pub fn of(allowed: bool) -> i32 {
    if allowed {
        return 0;
    }
    let refused: i64;
    // SAFETY: writes one register.
    unsafe { asm!("{refused} = -1", refused = out(reg) refused) };
    refused as i32
}
