//! One file: how the kernel will know it, whether a change would show, and its SHA-256.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    libc,
    sys::{
        stat::{major, minor},
        statfs::{FsType, fstatfs},
    },
};
use pcigate_common::maps::FileKey;
use sha2::{Digest, Sha256};

/// A change within the same tick of the kernel's coarse clock (10 ms at most) need not change
/// ctime, so a file is read only when its last change is older than this.
const SETTLED: Duration = Duration::from_millis(100);
/// Bytes read at a time, and between two looks at the pace.
const CHUNK: usize = 128 * 1024;
/// A larger file is not read; its digest stays unknown.
pub const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of the device number that the kernel keeps for the minor (include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;
/// f2fs has no constant in libc: include/uapi/linux/magic.h `F2FS_SUPER_MAGIC`.
const F2FS: libc::c_long = 0xf2f5_2010;
const OVERLAYFS: libc::c_long = 0x794c_7630;
/// Filesystems on which every change, also one through a mapping, changes ctime. Not tmpfs: a page
/// that was mapped for writing is changed there without any trace.
const TRUSTED: [libc::c_long; 3] = [0xef53, 0x5846_5342, F2FS];

/// Why a file's digest stays unknown.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// It is no regular file, or larger than [`FILE_BYTES_MAX`].
    #[error("it is no regular file, or larger than {FILE_BYTES_MAX} bytes")]
    NotRead,
    /// Changes do not always show on this filesystem.
    #[error(
        "its filesystem does not tell of every change: digests are known on ext4, xfs, f2fs, and \
         overlayfs over these"
    )]
    Filesystem,
    /// It changed while it was read, or just before.
    #[error("it is being changed")]
    Changing,
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens a regular file, not through a symbolic link and without waiting for anything.
pub fn open(path: &Path) -> Result<File, Unknown> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(Unknown::NotRead);
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// How the kernel knows an open file now.
///
/// # Errors
/// It is not one that is read.
pub fn key(file: &File) -> Result<FileKey, Unknown> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(Unknown::NotRead);
    }
    let number = |part: u64| u32::try_from(part).map_err(|_| Unknown::NotRead);
    let (major, minor) = (number(major(metadata.dev()))?, number(minor(metadata.dev()))?);
    Ok(FileKey {
        inode: metadata.ino(),
        size: metadata.len(),
        ctime_sec: metadata.ctime().cast_unsigned(),
        ctime_nsec: u32::try_from(metadata.ctime_nsec()).map_err(|_| Unknown::NotRead)?,
        device: major << MINOR_BITS | minor,
    })
}

/// Whether the file lies on overlayfs.
///
/// # Errors
/// Its filesystem does not tell of every change.
pub fn is_layered(file: &File) -> Result<bool, Unknown> {
    match fstatfs(file).map_err(io::Error::from)?.filesystem_type() {
        FsType(OVERLAYFS) => Ok(true),
        FsType(kind) if TRUSTED.contains(&kind) => Ok(false),
        FsType(_) => Err(Unknown::Filesystem),
    }
}

/// Reads a file. What is found holds as long as the file's key is the same: it has not been changed
/// within the last tick, and pages mapped for writing are made to tell of the next write, which
/// writing them back does.
///
/// # Errors
/// See [`Unknown`].
pub fn read(mut file: &File, pace: &mut Pace) -> Result<(FileKey, [u8; 32]), Unknown> {
    let before = key(file)?;
    let changed = Duration::new(before.ctime_sec, before.ctime_nsec);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if now < changed.saturating_add(SETTLED) {
        return Err(Unknown::Changing);
    }
    file.sync_data()?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..len).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        pace.spend(bytes.len());
    }
    if key(file)? != before {
        return Err(Unknown::Changing);
    }
    Ok((before, hasher.finalize().into()))
}

/// Keeps reading below a number of bytes a second.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u32,
    spent: usize,
}

impl Pace {
    /// At most that many.
    #[must_use]
    pub fn new(bytes_per_second: u32) -> Self {
        Self { bytes_per_second, spent: 0 }
    }

    fn spend(&mut self, bytes: usize) {
        const SLICES: u32 = 10;
        self.spent += bytes;
        if self.spent >= (self.bytes_per_second / SLICES) as usize {
            self.spent = 0;
            std::thread::sleep(Duration::from_secs(1) / SLICES);
        }
    }
}
