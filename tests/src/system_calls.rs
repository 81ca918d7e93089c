//! The system calls of the probe that no safe library offers.
// unsafe: these calls, or these arguments of theirs, have no safe wrapper.
#![allow(unsafe_code)]

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
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

/// Takes a connection away: `connect(2)` to `AF_UNSPEC`.
///
/// # Errors
/// The errno.
pub fn disconnect(socket: &OwnedFd) -> io::Result<()> {
    let nowhere = [0_u8; 16];
    // SAFETY: the kernel reads the sixteen bytes given.
    let result = unsafe { libc::connect(socket.as_raw_fd(), nowhere.as_ptr().cast(), 16) };
    Ok(Errno::result(result).map(drop)?)
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

/// `ptrace(PTRACE_SEIZE, pid)`.
///
/// # Errors
/// The errno.
pub fn seize(pid: i32) -> Result<(), Errno> {
    const PTRACE_SEIZE: i32 = 0x4206;
    // SAFETY: takes integers only; no memory of this process is read or written.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, PTRACE_SEIZE, pid, 0, 0) };
    Errno::result(result).map(drop)
}

/// Sets the limit of processor seconds of a process.
///
/// # Errors
/// The errno.
pub fn limit(pid: i32, seconds: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: seconds, rlim_max: seconds };
    // SAFETY: the kernel reads the struct given and writes nowhere.
    let result =
        unsafe { libc::prlimit64(pid, libc::RLIMIT_CPU, &raw const limit, std::ptr::null_mut()) };
    Errno::result(result).map(drop)
}

/// `setpriority(2)` of a process.
///
/// # Errors
/// The errno.
pub fn nice(pid: u32, nice: i32) -> Result<(), Errno> {
    // SAFETY: takes three integers.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, pid, nice) };
    Errno::result(result).map(drop)
}

/// Counts the own processor time by `perf_event_open(2)`, closed at once.
///
/// # Errors
/// The errno.
pub fn perf() -> Result<(), Errno> {
    // struct perf_event_attr of version 0: PERF_TYPE_SOFTWARE, its size, PERF_COUNT_SW_TASK_CLOCK.
    let mut attributes = [0_u64; 8];
    attributes[..2].copy_from_slice(&[1 | (64 << 32), 1]);
    // SAFETY: the kernel reads the 64 bytes given; the descriptor is closed and used for nothing.
    unsafe {
        let fd = libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0);
        Errno::result(fd)?;
        libc::close(i32::try_from(fd).unwrap_or(-1));
    }
    Ok(())
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

/// `clone3(CLONE_INTO_CGROUP)`: a child in another cgroup, which ends at once. Only for a process
/// with one thread.
///
/// # Errors
/// The errno.
pub fn clone_into(cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut arguments = [0_u64; 11];
    let cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    (arguments[0], arguments[4]) = (CLONE_INTO_CGROUP, u64::from(libc::SIGCHLD.unsigned_abs()));
    arguments[10] = cgroup;
    let size = size_of_val(&arguments);
    // SAFETY: the kernel reads the struct given. Without CLONE_VM the child has a copy of all
    // memory, as after fork(2), and only ends.
    let child = unsafe {
        let child = libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size);
        if child == 0 {
            libc::_exit(0);
        }
        child
    };
    Errno::result(child)?;
    let child = nix::unistd::Pid::from_raw(i32::try_from(child).unwrap_or(-1));
    nix::sys::wait::waitpid(child, None).map(drop)
}

/// Puts two files in each other's place in one step.
///
/// # Errors
/// The errno.
pub fn exchange(a: &str, b: &str) -> nix::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)
}
