//! The system calls of attacks that no safe library offers.
// unsafe: raw addresses, bpf(2), clone3(2) and their like have no safe wrapper.
#![allow(unsafe_code)]

use std::{
    io,
    mem::size_of,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{errno::Errno, libc};

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor that `recvmsg(2)` has just made.
#[must_use]
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller has it from a control message, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `socket(2)` by numbers.
///
/// # Errors
/// The errno.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes three integers.
    owned(unsafe { libc::socket(family, kind, protocol) }.into())
}

/// An address as the kernel reads it, and its length.
fn raw(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero bytes are a value of this plain struct.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match address {
        SocketAddr::V4(v4) => {
            let plain = libc::sockaddr_in {
                sin_family: u16::try_from(libc::AF_INET).unwrap_or(0),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than and aligned for every address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(plain) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let plain = libc::sockaddr_in6 {
                sin6_family: u16::try_from(libc::AF_INET6).unwrap_or(0),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(plain) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, u32::try_from(len).unwrap_or(0))
}

/// `connect(2)`.
///
/// # Errors
/// The errno.
pub fn connect(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (storage, len) = raw(address);
    // SAFETY: the kernel reads `len` bytes of `storage`.
    let result = unsafe { libc::connect(fd.as_raw_fd(), (&raw const storage).cast(), len) };
    Ok(Errno::result(result).map(drop)?)
}

/// `bind(2)`.
///
/// # Errors
/// The errno.
pub fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (storage, len) = raw(address);
    // SAFETY: the kernel reads `len` bytes of `storage`.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), len) };
    Ok(Errno::result(result).map(drop)?)
}

/// `sendto(2)`, with flags.
///
/// # Errors
/// The errno.
pub fn send_to(fd: &OwnedFd, bytes: &[u8], address: SocketAddr, flags: i32) -> io::Result<()> {
    let (storage, len) = raw(address);
    // SAFETY: the kernel reads `bytes`, and `len` bytes of `storage`.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags,
            (&raw const storage).cast(),
            len,
        )
    };
    Ok(Errno::result(sent).map(drop)?)
}

/// `sendmmsg(2)` of one datagram.
///
/// # Errors
/// The errno.
pub fn send_many(fd: &OwnedFd, bytes: &[u8], address: SocketAddr) -> io::Result<()> {
    let (mut storage, len) = raw(address);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a value; everything pointed to outlives the call.
    unsafe {
        let mut message: libc::mmsghdr = std::mem::zeroed();
        message.msg_hdr.msg_name = (&raw mut storage).cast();
        message.msg_hdr.msg_namelen = len;
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
        let sent = libc::sendmmsg(fd.as_raw_fd(), &raw mut message, 1, 0);
        Ok(Errno::result(sent).map(drop)?)
    }
}

/// `setsockopt(2)` with bytes.
///
/// # Errors
/// The errno.
pub fn set_option(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes of `value`.
    let set = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    Ok(Errno::result(set).map(drop)?)
}

/// A descriptor of another process (`pidfd_getfd(2)`).
///
/// # Errors
/// The errno.
pub fn descriptor_of(pid: i32, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: both take integers only.
    unsafe {
        let process = owned(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        owned(libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0))
    }
}

/// One byte of another process's memory (`process_vm_readv(2)`), from an address that need not be
/// there: `EFAULT` says that access was granted.
///
/// # Errors
/// The errno, `EFAULT` excepted.
pub fn read_memory(pid: i32) -> io::Result<()> {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(4096), iov_len: 1 };
    // SAFETY: the kernel writes at most the one byte of `local`.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match Errno::result(read) {
        Ok(_) | Err(Errno::EFAULT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A software counter of the calling process (`perf_event_open(2)`).
///
/// # Errors
/// The errno.
pub fn perf_event() -> io::Result<OwnedFd> {
    const SOFTWARE: u64 = 1;
    const SIZE: u64 = 64;
    let attributes: [u64; 8] = [SOFTWARE | SIZE << 32, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the kernel reads the 64 bytes that `attributes` says it has.
    owned(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) })
}

/// A process that begins in the cgroup of a directory descriptor, and ends at once (`clone3(2)`).
///
/// # Errors
/// The errno.
pub fn begin_in_cgroup(directory: &OwnedFd) -> io::Result<()> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut arguments = [0u64; 11];
    arguments[0] = INTO_CGROUP;
    arguments[4] = u64::try_from(libc::SIGCHLD).unwrap_or(0);
    arguments[10] = u64::try_from(directory.as_raw_fd()).unwrap_or(0);
    // SAFETY: the kernel reads the 88 bytes given. The child has a copy of this process and only
    // calls _exit.
    unsafe {
        let child = libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments));
        if child == 0 {
            libc::_exit(0);
        }
        let child = Errno::result(child)?;
        let pid = i32::try_from(child).unwrap_or(0);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
    Ok(())
}

/// A tun device (`TUNSETIFF`), gone when the descriptor is closed.
///
/// # Errors
/// The errno.
pub fn tun(device: &OwnedFd) -> io::Result<()> {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    const IFF_TUN: u8 = 1;
    let mut request = [0u8; 40];
    request[..10].copy_from_slice(b"pcigatet%d");
    request[16] = IFF_TUN;
    // SAFETY: the kernel reads and writes the 40 bytes of a struct ifreq.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    Ok(Errno::result(made).map(drop)?)
}
