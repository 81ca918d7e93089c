//! What is known of a file's content: the digest userspace computed for its inode, good while
//! change time and size are what they were then.

use pcigate_common::maps::{DigestKey, FileEntry, FileKey, digest_class};

use crate::{
    maps::{DIGEST_CLASSES, FILES, offsets},
    memory::Address,
};

/// Since 6.13 a flag lies above the nanoseconds (include/linux/fs.h `I_CTIME_QUERIED`).
const NSEC_MASK: u32 = 0x3fff_ffff;

/// The digest of the `struct file` at `file`; `None` = not known.
#[inline(always)]
pub fn of(file: Address) -> Option<&'static FileEntry> {
    let offsets = offsets();
    let inode = file.follow(offsets.file_f_inode)?;
    let super_block = inode.follow(offsets.inode_i_sb)?;
    let key = FileKey {
        inode: inode.at(offsets.inode_i_ino).read()?,
        device: super_block.at(offsets.super_block_s_dev).read()?,
        reserved: 0,
    };
    // SAFETY: userspace replaces entries and never writes into them; RCU keeps this one.
    let entry = unsafe { FILES.get(key) }?;
    let sec: u64 = inode.at(offsets.inode_ctime_sec).read()?;
    let nsec: u32 = inode.at(offsets.inode_ctime_nsec).read()?;
    let size: u64 = inode.at(offsets.inode_i_size).read()?;
    let writers: i32 = inode.at(offsets.inode_i_writecount).read()?;
    let same = entry.ctime_sec == sec
        && entry.ctime_nsec == u64::from(nsec & NSEC_MASK)
        && entry.size == size;
    // Who has it open for writing may change it after this look.
    (same && writers <= 0).then_some(entry)
}

/// The class of a digest in a policy.
#[inline(always)]
pub fn class(policy: u32, entry: Option<&FileEntry>) -> u32 {
    let Some(entry) = entry else { return digest_class::UNKNOWN };
    let key = DigestKey { policy, sha256: entry.sha256 };
    // SAFETY: as in `of`.
    unsafe { DIGEST_CLASSES.get(key) }.copied().unwrap_or(digest_class::OTHER)
}
