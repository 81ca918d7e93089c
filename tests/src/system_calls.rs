//! The system calls of the probe that no safe library offers.
// unsafe: socket(2) with arbitrary numbers, bpf(2) and descriptors out of a message have no safe
// wrapper.
#![allow(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage},
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

/// As `sa_family_t` has them.
const INET: u16 = 2;
const INET6: u16 = 10;

/// An address of either family, for calls that take one type.
#[must_use]
pub fn storage(address: SocketAddr) -> Option<SockaddrStorage> {
    let port = address.port().to_be();
    match address {
        SocketAddr::V4(address) => {
            let given = libc::sockaddr_in {
                sin_family: INET,
                sin_port: port,
                sin_addr: libc::in_addr { s_addr: address.ip().to_bits().to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: pointer and length are those of a complete address, which is copied.
            unsafe { SockaddrStorage::from_raw((&raw const given).cast(), Some(16)) }
        }
        SocketAddr::V6(address) => {
            let given = libc::sockaddr_in6 {
                sin6_family: INET6,
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

/// Loose source route (RFC 791 3.1): type, length, pointer, one address, end.
const BY_LOOPBACK: [u8; 8] = [131, 7, 4, 127, 0, 0, 1, 0];

/// Makes a socket send by way of loopback before it goes where it connects.
///
/// # Errors
/// The errno.
pub fn set_source_route(socket: &OwnedFd, to: &SockaddrStorage) -> io::Result<()> {
    // A segment routing header (RFC 8754) of two segments, both `::1`.
    let mut v6 = [0_u8; 40];
    v6[1..5].copy_from_slice(&[4, 4, 1, 1]);
    (v6[23], v6[39]) = (1, 1);
    let (level, name, value): (_, _, &[u8]) = match to.family() {
        Some(AddressFamily::Inet6) => (libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &v6),
        _ => (libc::IPPROTO_IP, libc::IP_OPTIONS, &BY_LOOPBACK),
    };
    let len = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes of `value`.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    Ok(Errno::result(result).map(drop)?)
}

/// Sends a datagram whose own message says to go by way of loopback.
///
/// # Errors
/// The errno.
pub fn send_routed(socket: &OwnedFd, to: &SockaddrStorage) -> io::Result<()> {
    let mut byte = *b"x";
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0_u64; 3];
    // SAFETY: all zeros are a message without parts; the control buffer holds one header (16 bytes)
    // and the eight bytes behind it, and everything lives until the call has returned.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = 24;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_len = 24;
        (*header).cmsg_level = libc::IPPROTO_IP;
        (*header).cmsg_type = libc::IP_RETOPTS;
        libc::CMSG_DATA(header).copy_from_nonoverlapping(BY_LOOPBACK.as_ptr(), 8);
        Errno::result(libc::sendmsg(socket.as_raw_fd(), &raw const message, 0))?;
    }
    Ok(())
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
