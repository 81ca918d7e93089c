//! What is known of a file's content: the digest userspace computed of its inode, good while change
//! time and size are what they were then.
//!
//! match-proto: fs/overlayfs/file.c `ovl_mmap`. What a program runs is what is mapped, and on
//! overlayfs that is a file of the layer below: its inode tells of every change, also through a
//! mapping, and is the same for every container of an image. The inode above tells of neither.

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

/// The `struct file` whose pages the current task's new image `mm` runs.
#[inline(always)]
pub fn mapped(mm: Address) -> Option<Address> {
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

/// Whether the file lies on overlayfs, where only [`mapped`] tells what is below.
#[inline(always)]
pub fn is_layered(file: Address) -> bool {
    let offsets = offsets();
    let magic = file
        .follow(offsets.file_f_inode)
        .and_then(|inode| inode.follow(offsets.inode_i_sb))
        .and_then(|super_block| super_block.at(offsets.super_block_s_magic).read::<u64>());
    magic.is_none_or(|magic| magic == OVERLAYFS)
}

/// The class of a file's digest in a policy.
#[inline(always)]
pub fn class(policy: u32, file: Option<Address>) -> u32 {
    let Some(sha256) = file.and_then(known) else { return digest_class::UNKNOWN };
    let key = DigestKey { policy, sha256: *sha256 };
    // SAFETY: userspace replaces entries and never writes into them.
    unsafe { DIGEST_CLASSES.get(key) }.copied().unwrap_or(digest_class::OTHER)
}

#[inline(always)]
fn known(file: Address) -> Option<&'static [u8; 32]> {
    let offsets = offsets();
    let inode = file.follow(offsets.file_f_inode)?;
    let super_block = inode.follow(offsets.inode_i_sb)?;
    let nsec: u32 = inode.at(offsets.inode_ctime_nsec).read()?;
    let key = FileKey {
        inode: inode.at(offsets.inode_i_ino).read()?,
        size: inode.at(offsets.inode_i_size).read()?,
        ctime_sec: inode.at(offsets.inode_ctime_sec).read()?,
        ctime_nsec: nsec & NSEC_MASK,
        device: super_block.at(offsets.super_block_s_dev).read()?,
    };
    let writers: i32 = inode.at(offsets.inode_i_writecount).read()?;
    if writers > 0 {
        return None; // who has it open for writing may change it after this look
    }
    // SAFETY: as in `class`.
    unsafe { FILES.get(key) }
}
