//! What is known of a file's content: the digest userspace computed of its inode, good while change
//! time and size are what they were then.
//!
//! match-proto: fs/overlayfs/file.c `ovl_mmap`. What a program runs is what is mapped, and on
//! overlayfs that is a file of the layer below: its inode tells of every change at once, also
//! through a mapping, and is the same for every container of an image. The inode above is neither.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_get_current_task_btf};
use pcigate_common::maps::{DigestKey, FileKey, digest_class};

use crate::{
    maps::{DIGEST_CLASSES, FILES, offsets},
    memory::Address,
};

/// Since 6.13 a flag lies above the nanoseconds (include/linux/fs.h `I_CTIME_QUERIED`).
const NSEC_MASK: u32 = 0x3fff_ffff;
/// include/uapi/linux/magic.h `OVERLAYFS_SUPER_MAGIC`.
const OVERLAYFS: u64 = 0x794c_7630;

/// Where a file's pages can be looked for.
pub enum Stage {
    /// It has been opened.
    Opened,
    /// It is mapped into this image of the current task.
    Mapped(Address),
}

/// The class of a file's digest in a policy.
#[inline(always)]
pub fn class(policy: u32, file: Address, stage: &Stage) -> u32 {
    let Some(inode) = file.follow(offsets().file_f_inode) else { return digest_class::UNKNOWN };
    let key = match (is_layered(inode), stage) {
        (false, _) => key(inode),
        (true, Stage::Opened) => return digest_class::LATER,
        (true, Stage::Mapped(mm)) => below(inode, *mm),
    };
    // SAFETY: userspace replaces entries and never writes into them.
    let Some(sha256) = key.and_then(|key| unsafe { FILES.get(key) }) else {
        return digest_class::UNKNOWN;
    };
    let key = DigestKey { policy, sha256: *sha256 };
    // SAFETY: as above.
    unsafe { DIGEST_CLASSES.get(key) }.copied().unwrap_or(digest_class::OTHER)
}

/// How userspace knows an inode; `None` where it may be changed after this look, because somebody
/// has it open for writing.
#[inline(always)]
fn key(inode: Address) -> Option<FileKey> {
    let offsets = offsets();
    let super_block = inode.follow(offsets.inode_i_sb)?;
    let nsec: u32 = inode.at(offsets.inode_ctime_nsec).read()?;
    let writers: i32 = inode.at(offsets.inode_i_writecount).read()?;
    let key = FileKey {
        inode: inode.at(offsets.inode_i_ino).read()?,
        size: inode.at(offsets.inode_i_size).read()?,
        ctime_sec: inode.at(offsets.inode_ctime_sec).read()?,
        ctime_nsec: nsec & NSEC_MASK,
        device: super_block.at(offsets.super_block_s_dev).read()?,
    };
    (writers <= 0).then_some(key)
}

/// The key of the inode below that of an overlay: of the file that is mapped. Where code begins is
/// what the program's header says, and a forged one may point at the loader, so the two inodes must
/// agree.
#[inline(always)]
fn below(inode: Address, mm: Address) -> Option<FileKey> {
    let above = key(inode)?;
    let below = key(mapped(mm)?.follow(offsets().file_f_inode)?)?;
    let agree = above.inode == below.inode
        && above.size == below.size
        && above.ctime_sec == below.ctime_sec
        && above.ctime_nsec == below.ctime_nsec;
    agree.then_some(below)
}

/// The `struct file` that is mapped where the code of the current task's new image `mm` begins.
#[inline(always)]
fn mapped(mm: Address) -> Option<Address> {
    let code: u64 = mm.at(offsets().mm_start_code).read()?;
    let mut file = Address(0);
    // SAFETY: the callback has the signature the helper calls it with, and `file` outlives the
    // call; what it wrote is read volatile, because the compiler does not see it write.
    unsafe {
        let callback = keep_file as unsafe extern "C" fn(u64, u64, *mut Address) -> i64;
        let task = bpf_get_current_task_btf();
        if bpf_find_vma(task, code, callback as *mut c_void, (&raw mut file).cast(), 0) != 0 {
            return None;
        }
        Some((&raw const file).read_volatile())
    }
}

/// # Safety
/// Only `bpf_find_vma` calls it, with the pointer that `mapped` gave it.
unsafe extern "C" fn keep_file(_task: u64, vma: u64, file: *mut Address) -> i64 {
    if let Some(found) = Address(vma).follow(offsets().vma_vm_file) {
        // SAFETY: by the contract of this function.
        unsafe { *file = found };
    }
    0
}

/// Whether an inode is one of overlayfs, which has its pages from an inode below.
#[inline(always)]
fn is_layered(inode: Address) -> bool {
    let offsets = offsets();
    let super_block = inode.follow(offsets.inode_i_sb);
    let magic = super_block.and_then(|of| of.at(offsets.super_block_s_magic).read::<u64>());
    magic.is_none_or(|magic| magic == OVERLAYFS)
}
