//! The system calls of the probe that no safe library offers.
// unsafe: socket(2) with arbitrary numbers, bpf(2) and mmap(2) have no safe wrapper.
#![allow(unsafe_code)]

use std::{fs, io, os::fd::AsRawFd, ptr};

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

/// Changes the last byte of a file through a mapping that is shared.
///
/// # Errors
/// The errno.
pub fn change_through_mapping(path: &str) -> io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of the whole file, of which only the last byte is touched before it is
    // removed again; nobody else knows of it.
    unsafe {
        let fd = file.as_raw_fd();
        let mapping = libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, 0);
        if mapping == libc::MAP_FAILED || len == 0 {
            return Err(io::Error::last_os_error());
        }
        let last = mapping.cast::<u8>().add(len - 1);
        last.write_volatile(last.read_volatile() ^ 1);
        Errno::result(libc::munmap(mapping, len))?;
    }
    Ok(())
}

/// Puts two files in each other's place in one step.
///
/// # Errors
/// The errno.
pub fn exchange(a: &str, b: &str) -> nix::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)
}
