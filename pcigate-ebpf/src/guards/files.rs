//! Files that govern: cgroup control files of both versions, and pins in bpffs.
//!
//! match-proto: security/security.c `security_file_open(struct file *file)`,
//! `security_inode_unlink(struct inode *dir, struct dentry *dentry)`,
//! `security_inode_rename(struct inode *old_dir, struct dentry *old_dentry, …)`,
//! `security_inode_mkdir(struct inode *dir, struct dentry *dentry, umode_t mode)`,
//! `security_sb_umount(struct vfsmount *mnt, int flags)`; on every kernel alike.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use pcigate_common::event::What;

use super::{Guarded, governed, guarded};
use crate::{identity, maps::offsets, memory::Address};

/// include/uapi/linux/magic.h `BPF_FS_MAGIC`
const BPFFS: u32 = 0xcafe_4a11;
/// `CGROUP2_SUPER_MAGIC`
const CGROUP2: u32 = 0x6367_7270;
/// `CGROUP_SUPER_MAGIC`
const CGROUP1: u32 = 0x0027_e0eb;
/// `FMODE_WRITE`
const MODE_WRITE: u32 = 2;

#[lsm(hook = "file_open")]
pub fn guard_open(ctx: LsmContext) -> i32 {
    if !identity::is_governed() {
        return 0;
    }
    let (offsets, file) = (offsets(), Address(ctx.arg(0)));
    let mode: u32 = file.at(offsets.file_f_mode).read().unwrap_or(MODE_WRITE);
    if mode & MODE_WRITE == 0 {
        return 0;
    }
    let inode = file.follow(offsets.file_f_inode).unwrap_or(Address(0));
    let dentry = file.at(offsets.file_f_path).follow(offsets.path_dentry).unwrap_or(Address(0));
    change(inode, dentry)
}

#[lsm(hook = "inode_unlink")]
pub fn guard_unlink(ctx: LsmContext) -> i32 {
    change(Address(ctx.arg(0)), Address(ctx.arg(1)))
}

#[lsm(hook = "inode_rename")]
pub fn guard_rename(ctx: LsmContext) -> i32 {
    change(Address(ctx.arg(0)), Address(ctx.arg(1)))
}

/// A cgroup below the own one is governed all the same; one elsewhere is a way out.
#[lsm(hook = "inode_mkdir")]
pub fn guard_mkdir(ctx: LsmContext) -> i32 {
    change(Address(ctx.arg(0)), Address(ctx.arg(1)))
}

/// The last mount of a bpffs takes its pins along.
#[lsm(hook = "sb_umount")]
pub fn guard_umount(ctx: LsmContext) -> i32 {
    if !identity::is_governed() {
        return 0;
    }
    let (offsets, mount) = (offsets(), Address(ctx.arg(0)));
    if magic(mount.follow(offsets.vfsmount_mnt_sb).unwrap_or(Address(0))) != BPFFS {
        return 0;
    }
    let Some(guarded) = governed() else { return 0 };
    let root = mount.follow(offsets.vfsmount_mnt_root).unwrap_or(Address(0));
    guarded.report_named(What::Write, [BPFFS, 0, 0, 0], name(root))
}

/// A file, or a name in a directory, is to be written, made or removed; `inode` is of the same file
/// system.
#[inline(always)]
fn change(inode: Address, dentry: Address) -> i32 {
    if !identity::is_governed() {
        return 0;
    }
    let magic = magic(inode.follow(offsets().inode_i_sb).unwrap_or(Address(0)));
    if !matches!(magic, BPFFS | CGROUP2 | CGROUP1) {
        return 0;
    }
    match guarded(magic != BPFFS) {
        Some(guarded) => guarded.report_named(What::Write, [magic, 0, 0, 0], name(dentry)),
        None => 0,
    }
}

/// A child made in another cgroup.
#[inline(always)]
pub fn report_clone(guarded: &Guarded) -> i32 {
    let name = Address((&raw const CLONE) as u64);
    guarded.report_named(What::Write, [CGROUP2, 0, 0, 0], name)
}

static CLONE: [u8; 7] = *b"clone3\0";

/// What kind of file system; 0 where it cannot be read.
#[inline(always)]
fn magic(super_block: Address) -> u32 {
    super_block.at(offsets().super_block_s_magic).read::<u64>().unwrap_or(0) as u32
}

#[inline(always)]
fn name(dentry: Address) -> Address {
    dentry.follow(offsets().dentry_name).unwrap_or(Address(0))
}
