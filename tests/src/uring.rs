//! One operation by way of io_uring, which no system call tracepoint of its own sees.
// unsafe: io_uring is memory shared with the kernel; there is no safe wrapper among the
// dependencies, and one operation at a time needs no library.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use nix::{
    errno::Errno,
    libc::{self, c_long, c_void},
    sys::socket::{SockaddrLike, SockaddrStorage},
};

const OP_SENDMSG: u8 = 9;
const OP_CONNECT: u8 = 16;
const OP_SOCKET: u8 = 45;
/// Offset of the submission entries in the ring's file (include/uapi/linux/io_uring.h).
const OFF_SQES: i64 = 0x1000_0000;
const ENTER_GETEVENTS: c_long = 1;

/// First fields of `struct io_uring_sqe`, padded to its 64 bytes.
#[repr(C)]
struct Entry {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    rest: [u32; 9],
}

/// `connect(2)`.
///
/// # Errors
/// The errno of the operation.
pub fn connect(socket: &OwnedFd, to: &SockaddrStorage) -> io::Result<()> {
    let (addr, off) = (to.as_ptr() as u64, u64::from(to.len()));
    submit(&entry(OP_CONNECT, socket.as_raw_fd(), off, addr, 0)).map(drop)
}

/// `sendmsg(2)` of one byte to an address.
///
/// # Errors
/// The errno of the operation.
pub fn send(socket: &OwnedFd, to: &SockaddrStorage) -> io::Result<()> {
    let mut byte = *b"x";
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros are a message without parts.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    submit(&entry(OP_SENDMSG, socket.as_raw_fd(), 0, &raw const message as u64, 1)).map(drop)
}

/// `socket(2)`; closed at once.
///
/// # Errors
/// The errno of the operation.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    let (off, len) = (u64::from(kind.cast_unsigned()), protocol.cast_unsigned());
    let fd = submit(&entry(OP_SOCKET, family, off, 0, len))?;
    // SAFETY: the kernel has just made the descriptor for us.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

fn entry(opcode: u8, fd: i32, off: u64, addr: u64, len: u32) -> Entry {
    Entry { opcode, flags: 0, ioprio: 0, fd, off, addr, len, rest: [0; 9] }
}

/// Runs one operation to its end in a ring of its own; the result. What `entry` points to must live
/// until then, which it does with the callers above.
fn submit(entry: &Entry) -> io::Result<i32> {
    // Words of `struct io_uring_params`: sq_off begins at 10, cq_off at 20.
    let mut params = [0_u32; 30];
    // SAFETY: the kernel fills in the 120 bytes. The mappings are as large as these say, stay until
    // the process ends, and are written by us only where the kernel does not look before `enter`.
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 1_i64, params.as_mut_ptr());
        let ring = OwnedFd::from_raw_fd(i32::try_from(Errno::result(ring)?).unwrap_or(-1));
        let (entries, array, cqes) = (params[0], params[16] as usize, params[25] as usize);
        let size = (array + entries as usize * 4).max(cqes + params[1] as usize * 16);
        let rings = map(&ring, size, 0)?;
        let slots = map(&ring, 64, OFF_SQES)?;
        slots.cast::<Entry>().copy_from_nonoverlapping(entry, 1);
        rings.byte_add(array).cast::<u32>().write_volatile(0);
        rings.byte_add(params[11] as usize).cast::<u32>().write_volatile(1);
        let (one, none) = (1 as c_long, ptr::null::<c_void>());
        let fd = ring.as_raw_fd();
        let get = ENTER_GETEVENTS;
        Errno::result(libc::syscall(libc::SYS_io_uring_enter, fd, one, one, get, none, 0_i64))?;
        let result = rings.byte_add(cqes + 8).cast::<i32>().read_volatile();
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
    }
}

/// Maps a part of the ring.
unsafe fn map(ring: &OwnedFd, size: usize, at: i64) -> io::Result<*mut c_void> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of the ring's file, at an address the kernel chooses.
    let address = unsafe {
        libc::mmap(ptr::null_mut(), size, access, libc::MAP_SHARED, ring.as_raw_fd(), at)
    };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address) }
}
