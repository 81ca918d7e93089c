//! The system calls of the probe that no safe library offers.
// unsafe: socket(2) with arbitrary numbers, bpf(2) and descriptors out of a message have no safe
// wrapper.
#![allow(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    os::fd::{FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{SockaddrLike, SockaddrStorage},
};

/// `socket(family, kind, protocol)`.
///
/// # Errors
/// The errno.
pub fn open_socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes three integers, and the descriptor it returns is ours alone.
    unsafe {
        let fd = Errno::result(libc::socket(family, kind, protocol))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// An address of either family, for calls that take one type.
#[must_use]
pub fn storage(address: SocketAddr) -> Option<SockaddrStorage> {
    let port = address.port().to_be();
    match address {
        SocketAddr::V4(address) => {
            let given = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: port,
                sin_addr: libc::in_addr { s_addr: address.ip().to_bits().to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: pointer and length are those of a complete address, which is copied.
            unsafe { SockaddrStorage::from_raw((&raw const given).cast(), Some(16)) }
        }
        SocketAddr::V6(address) => {
            let given = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: port,
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { SockaddrStorage::from_raw((&raw const given).cast(), Some(28)) }
        }
    }
}

/// Owns a descriptor that a message has just brought, which nothing else does.
#[must_use]
pub fn own(fd: i32) -> OwnedFd {
    // SAFETY: by the contract of this function; the probe takes each message once.
    unsafe { OwnedFd::from_raw_fd(fd) }
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
