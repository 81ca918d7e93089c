//! The resolved path of a file, walked from its dentry up to the acting task's root.
//!
//! `bpf_d_path` is not allowed at `sched_process_exec` and missing before 6.1 in LSM hooks; this
//! walk reads the same structs on every kernel. Like `d_path` it crosses mounts and ends at the
//! task's own root, so a container's path is the container's. Anything that does not end there
//! (memfd, a detached mount, a descriptor from outside of a chroot, a path too long) is unresolved,
//! and its caller treats it as refused.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use pcigate_common::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

use crate::{maps::offsets, memory::Address, scratch::Scratch};

/// A path in `Scratch::path`.
#[derive(Clone, Copy)]
pub struct Path {
    /// First byte; `PATH_BYTES_MAX - start` bytes belong to it.
    pub start: u32,
    /// Whether it begins at the task's root.
    pub resolved: bool,
}

const END: u32 = PATH_BYTES_MAX as u32;
const NAME_MASK: u32 = NAME_BYTES_MAX as u32 - 1;

/// Writes the path of the `struct file` at `file` for the task at `task`.
#[inline(always)]
pub fn resolve(scratch: *mut Scratch, file: Address, task: Address) -> Path {
    let mut start = END;
    let resolved = walk(scratch, file, task, &mut start).is_some();
    Path { start, resolved }
}

/// `Some` when the walk ended at the task's root.
#[inline(always)]
fn walk(scratch: *mut Scratch, file: Address, task: Address, start: &mut u32) -> Option<()> {
    let offsets = offsets();
    let root = task.follow(offsets.task_fs)?.at(offsets.fs_root);
    let root_mnt = root.follow(offsets.path_mnt)?;
    let root_dentry = root.follow(offsets.path_dentry)?;
    let path = file.at(offsets.file_f_path);
    let mut mnt = path.follow(offsets.path_mnt)?;
    let mut dentry = path.follow(offsets.path_dentry)?;
    for _ in 0..PATH_DEPTH_MAX {
        if dentry == root_dentry && mnt == root_mnt {
            return Some(());
        }
        if dentry == mnt.follow(offsets.vfsmount_mnt_root)? {
            let mount = mnt.back(offsets.mount_mnt);
            let parent = mount.follow(offsets.mount_mnt_parent)?;
            if parent == mount {
                return None;
            }
            dentry = mount.follow(offsets.mount_mnt_mountpoint)?;
            mnt = parent.at(offsets.mount_mnt);
            continue;
        }
        let parent = dentry.follow(offsets.dentry_d_parent)?;
        if parent == dentry {
            prepend(scratch, dentry, start);
            return None;
        }
        prepend(scratch, dentry, start)?;
        dentry = parent;
    }
    None
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
