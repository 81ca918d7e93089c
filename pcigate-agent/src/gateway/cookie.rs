//! The cookie of a socket's network namespace, by which the kernel programs know it.
// unsafe: getsockopt(2) with this option has no safe wrapper among the dependencies.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::libc;

/// `SO_NETNS_COOKIE` (Linux 5.14), include/uapi/asm-generic/socket.h.
const NETNS_COOKIE: libc::c_int = 71;

pub(super) fn of_network(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `len` bytes, which is the size of `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
