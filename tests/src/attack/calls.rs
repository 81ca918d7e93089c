//! The system calls of attacks that no safe library offers; more are in `system_calls`.
// unsafe: raw addresses, pidfd_getfd(2) and their like have no safe wrapper.
#![allow(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{SockaddrLike, SockaddrStorage},
};

use crate::system_calls::storage;

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An address as the kernel reads it.
///
/// # Errors
/// None there is.
pub fn complete(address: SocketAddr) -> io::Result<SockaddrStorage> {
    storage(address).ok_or_else(|| Errno::EAFNOSUPPORT.into())
}

/// `connect(2)`.
///
/// # Errors
/// The errno.
pub fn connect(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let to = complete(address)?;
    // SAFETY: the kernel reads the bytes of `to`.
    let result = unsafe { libc::connect(fd.as_raw_fd(), to.as_ptr(), to.len()) };
    Ok(Errno::result(result).map(drop)?)
}

/// `bind(2)`.
///
/// # Errors
/// The errno.
pub fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let to = complete(address)?;
    // SAFETY: the kernel reads the bytes of `to`.
    let result = unsafe { libc::bind(fd.as_raw_fd(), to.as_ptr(), to.len()) };
    Ok(Errno::result(result).map(drop)?)
}

/// `sendto(2)`, with flags.
///
/// # Errors
/// The errno.
pub fn send_to(fd: &OwnedFd, bytes: &[u8], address: SocketAddr, flags: i32) -> io::Result<()> {
    let to = complete(address)?;
    // SAFETY: the kernel reads `bytes`, and the bytes of `to`.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags,
            to.as_ptr(),
            to.len(),
        )
    };
    Ok(Errno::result(sent).map(drop)?)
}

/// `sendmmsg(2)` of one datagram.
///
/// # Errors
/// The errno.
pub fn send_many(fd: &OwnedFd, bytes: &[u8], address: SocketAddr) -> io::Result<()> {
    let to = complete(address)?;
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a value; everything pointed to outlives the call.
    unsafe {
        let mut message: libc::mmsghdr = std::mem::zeroed();
        message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_namelen = to.len();
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
