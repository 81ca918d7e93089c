//! The two system calls of the probe that no safe library offers.
// unsafe: socket(2) with arbitrary numbers and bpf(2) have no safe wrapper.
#![allow(unsafe_code)]

use std::io;

use nix::{errno::Errno, libc};

/// `socket(family, kind, protocol)`, closed at once.
///
/// # Errors
/// The errno.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: takes three integers; the descriptor it returns is closed and used for nothing else.
    unsafe {
        let fd = libc::socket(family, kind, protocol);
        Errno::result(fd)?;
        libc::close(fd);
    }
    Ok(())
}

/// `bpf(BPF_PROG_GET_NEXT_ID, …)`, which changes nothing.
///
/// # Errors
/// The errno.
pub fn bpf() -> Result<(), Errno> {
    const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
    let mut attributes = [0u8; 64];
    // SAFETY: the kernel reads and writes at most the 64 bytes given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_NEXT_ID,
            attributes.as_mut_ptr(),
            attributes.len(),
        )
    };
    Errno::result(result).map(drop)
}
