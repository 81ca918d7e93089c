//! The resolved path of a file, walked from its dentry up to the acting task's root.
//!
//! `bpf_d_path` is not allowed at `sched_process_exec` and missing before 6.1 in LSM hooks; this
//! walk reads the same structs on every kernel. It crosses mounts and ends at the root of the
//! task's
//! mount namespace, so a container's path is the container's, and a chroot (which ends `d_path`
//! early) gives no file another's name. Anything that does not end there (memfd, a detached
//! mount, a
//! descriptor of another mount namespace, a path too long) is unresolved, and its caller treats it
//! as refused.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use pcigate_common::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

use crate::{maps::offsets, memory::Address, scratch::Scratch};

/// A path in `Scratch::path`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Path {
    /// First byte; `PATH_BYTES_MAX - start` bytes belong to it.
    pub start: u32,
    /// Whether it begins at the task's root.
    pub resolved: bool,
}

const END: u32 = PATH_BYTES_MAX as u32;
const NAME_MASK: u32 = NAME_BYTES_MAX as u32 - 1;

/// A climb in progress. It lies in the scratch buffer, not on the stack: verifiers before 6.7
/// look at
/// a `bpf_loop` callback once, with the values of its first call, and remove checks that cannot
/// fail
/// then. What they load from a map they know nothing about.
#[repr(C)]
pub struct Climb {
    root_mnt: Address,
    root_dentry: Address,
    mnt: Address,
    dentry: Address,
    start: u32,
    resolved: u32,
}

/// Writes the path of the `struct file` at `file` for the task at `task`.
#[inline(always)]
pub fn resolve(scratch: *mut Scratch, file: Address, task: Address) -> Path {
    let Some(climb) = begin(file, task) else { return Path { start: END, resolved: false } };
    let mut context = scratch;
    // SAFETY: the callback has the signature the helper calls it with; scratch is owned by this
    // run.
    unsafe {
        (&raw mut (*scratch).climb).write(climb);
        let step = step as unsafe extern "C" fn(u32, *mut *mut Scratch) -> i64;
        bpf_loop(PATH_DEPTH_MAX as u32, step as *mut c_void, (&raw mut context).cast(), 0);
        let climb = &raw const (*scratch).climb;
        Path {
            start: (&raw const (*climb).start).read_volatile(),
            resolved: (&raw const (*climb).resolved).read_volatile() == 1,
        }
    }
}

#[inline(always)]
fn begin(file: Address, task: Address) -> Option<Climb> {
    let offsets = offsets();
    let namespace = task.follow(offsets.task_nsproxy)?.follow(offsets.nsproxy_mnt_ns)?;
    let root_mnt = namespace.follow(offsets.mnt_namespace_root)?.at(offsets.mount_mnt);
    let path = file.at(offsets.file_f_path);
    Some(Climb {
        root_mnt,
        root_dentry: root_mnt.follow(offsets.vfsmount_mnt_root)?,
        mnt: path.follow(offsets.path_mnt)?,
        dentry: path.follow(offsets.path_dentry)?,
        start: END,
        resolved: 0,
    })
}

/// One name or one mount upwards; 0 = go on, 1 = stop.
///
/// # Safety
/// Only `bpf_loop` calls it, with the pointer `resolve` gave it.
unsafe extern "C" fn step(_i: u32, context: *mut *mut Scratch) -> i64 {
    // SAFETY: the caller's scratch buffer.
    let (scratch, climb) = unsafe { (*context, &mut (**context).climb) };
    i64::from(upwards(scratch, climb).is_none())
}

#[inline(always)]
fn upwards(scratch: *mut Scratch, climb: &mut Climb) -> Option<()> {
    let offsets = offsets();
    let (mnt, dentry) = (climb.mnt, climb.dentry);
    if dentry == climb.root_dentry && mnt == climb.root_mnt {
        climb.resolved = 1;
        return None;
    }
    if dentry == mnt.follow(offsets.vfsmount_mnt_root)? {
        let mount = mnt.back(offsets.mount_mnt);
        let parent = mount.follow(offsets.mount_mnt_parent)?;
        if parent == mount {
            return None;
        }
        climb.dentry = mount.follow(offsets.mount_mnt_mountpoint)?;
        climb.mnt = parent.at(offsets.mount_mnt);
        return Some(());
    }
    let parent = dentry.follow(offsets.dentry_d_parent)?;
    prepend(scratch, dentry, &mut climb.start)?;
    if parent == dentry {
        return None;
    }
    climb.dentry = parent;
    Some(())
}

/// Writes `/` and the dentry's name before `start`.
#[inline(always)]
fn prepend(scratch: *mut Scratch, dentry: Address, start: &mut u32) -> Option<()> {
    let offsets = offsets();
    let len: u32 = dentry.at(offsets.dentry_name_len).read()?;
    let name = dentry.follow(offsets.dentry_name)?;
    if len > NAME_MASK || len + 1 > *start {
        return None;
    }
    let at = (*start - len - 1) & (END - 1);
    // SAFETY: `at` < PATH_BYTES_MAX and `len` <= 255, so `at + 1 + len` lies within `path`; the
    // masks repeat that for the verifier.
    unsafe {
        let buffer = (&raw mut (*scratch).path).cast::<u8>();
        *buffer.add(at as usize) = b'/';
        let to = buffer.add(at as usize + 1);
        let status = bpf_probe_read_kernel(to.cast(), len & NAME_MASK, name.0 as *const _);
        if status < 0 {
            return None;
        }
    }
    *start = at;
    Some(())
}
