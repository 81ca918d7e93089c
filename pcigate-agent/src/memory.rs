//! How soon the allocator gives memory back to the system.
// unsafe: mallopt(3) has no safe wrapper.
#![allow(unsafe_code)]

/// Freed memory at the end of the heap beyond this goes back, and so does every block as large.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: std::ffi::c_int = 4 * 1024 * 1024;

/// Ends the habit of glibc to keep twice as much as the largest block it ever freed: reading the
/// kernel's types (6 MB, once) would cost some 11 MiB for good. Best effort; elsewhere nothing.
pub fn give_back_early() {
    #[cfg(target_env = "gnu")]
    for threshold in [nix::libc::M_TRIM_THRESHOLD, nix::libc::M_MMAP_THRESHOLD] {
        // SAFETY: takes two integers, changes a parameter of the allocator under its lock, and
        // touches nothing of ours.
        unsafe { nix::libc::mallopt(threshold, KEPT_BYTES) };
    }
}
