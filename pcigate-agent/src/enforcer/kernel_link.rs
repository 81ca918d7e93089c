//! Exchanges the program behind a pinned link, and waits until nobody runs the one before.
// unsafe: aya has no call for BPF_LINK_UPDATE on a cgroup link, nix none for membarrier(2).
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Duration,
};

use nix::libc;

// include/uapi/linux/bpf.h `enum bpf_cmd`.
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_UPDATE: libc::c_long = 29;
/// include/uapi/linux/membarrier.h `MEMBARRIER_CMD_GLOBAL`.
const MEMBARRIER_GLOBAL: libc::c_long = 1;
/// Where the kernel does not wait for us: programs run for microseconds.
const LONG_ENOUGH: Duration = Duration::from_millis(50);

/// `union bpf_attr` of `BPF_OBJ_GET`.
#[repr(C)]
struct ObjectGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` of `BPF_LINK_UPDATE`.
#[repr(C)]
struct LinkUpdate {
    link: RawFd,
    program: RawFd,
    flags: u32,
    program_before: u32,
}

/// Puts `program` behind the link pinned at `pin`. Every call of the hook runs either the program
/// before or this one, never both and never neither (kernel/bpf/cgroup.c `cgroup_bpf_replace`).
///
/// # Errors
/// The pin is no link of this kind, or the kernel refuses.
pub(super) fn exchange(pin: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = ObjectGet { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    let link = bpf(BPF_OBJ_GET, &get)?;
    let link = RawFd::try_from(link).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let update = LinkUpdate {
        link: link.as_raw_fd(),
        program: program.as_raw_fd(),
        flags: 0,
        program_before: 0,
    };
    bpf(BPF_LINK_UPDATE, &update).map(drop)
}

/// Waits until every program that ran when this was called has ended: with more than one processor
/// the call is `synchronize_rcu` (kernel/sched/membarrier.c).
pub fn wait_for_programs() {
    // SAFETY: takes three integers and touches no memory of ours.
    let waited = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_GLOBAL, 0_i64, 0_i64) };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if waited != 0 || processors == 1 {
        std::thread::sleep(LONG_ENOUGH);
    }
}

/// bpf(2) with one of the structs above.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads `size` bytes at the pointer, which is what `attributes` has, and
    // follows the one pointer in `ObjectGet`, whose string outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
