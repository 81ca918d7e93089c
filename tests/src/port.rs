//! The way out of a virtual machine with a number: QEMU's `isa-debug-exit` device.
// unsafe: there is no safe way to write to an I/O port (no /dev/port in cloud kernels).
#![allow(unsafe_code)]

use std::io;

use nix::{errno::Errno, libc};

/// Where `cargo xtask vm` puts the device: `-device isa-debug-exit,iobase=0xf4,iosize=0x04`.
const PORT: u16 = 0xf4;

/// Ends the virtual machine; QEMU's exit code is twice the status and one.
///
/// # Errors
/// The port may not be written, or there is no such device: the machine goes on.
pub fn leave_machine(status: u8) -> io::Result<()> {
    // SAFETY: ioperm(2) allows this thread the port that is written below; no memory is involved.
    let allowed =
        unsafe { libc::syscall(libc::SYS_ioperm, libc::c_long::from(PORT), 1_i64, 1_i64) };
    Errno::result(allowed)?;
    // SAFETY: writes one byte to that port; no memory is read or written.
    unsafe {
        std::arch::asm!("out dx, al", in("dx") PORT, in("al") status,
            options(nomem, nostack, preserves_flags));
    }
    Err(io::Error::other("the machine has no isa-debug-exit device at port 0xf4"))
}
