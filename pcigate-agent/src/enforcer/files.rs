//! The kernel's table of files whose digest is known, shared with the thread that computes digests.

use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap as KernelMap, MapData};
use pcigate_common::maps::{FileEntry, FileKey};
use zerocopy::{FromBytes, IntoBytes};

const KEY: usize = size_of::<FileKey>();
const ENTRY: usize = size_of::<FileEntry>();

/// The table.
#[derive(Clone)]
pub struct FileTable {
    map: Arc<Mutex<KernelMap<MapData, [u8; KEY], [u8; ENTRY]>>>,
}

impl FileTable {
    pub(super) fn new(map: KernelMap<MapData, [u8; KEY], [u8; ENTRY]>) -> Self {
        Self { map: Arc::new(Mutex::new(map)) }
    }

    /// Makes the digest of a file known. `false` where the table is full (the file stays unknown).
    #[must_use]
    pub fn put(&self, key: &FileKey, entry: &FileEntry) -> bool {
        let (mut from, mut to) = ([0; KEY], [0; ENTRY]);
        from.copy_from_slice(key.as_bytes());
        to.copy_from_slice(entry.as_bytes());
        self.map().insert(from, to, 0).is_ok()
    }

    /// What is known of a file.
    #[must_use]
    pub fn get(&self, key: &FileKey) -> Option<FileEntry> {
        let mut from = [0; KEY];
        from.copy_from_slice(key.as_bytes());
        let bytes = self.map().get(&from, 0).ok()?;
        FileEntry::read_from_bytes(&bytes).ok()
    }

    /// Forgets a file. One that is not there is no error: it is unknown then, too.
    pub fn remove(&self, key: &FileKey) {
        let mut from = [0; KEY];
        from.copy_from_slice(key.as_bytes());
        let _ = self.map().remove(&from);
    }

    /// A poisoned lock only means that another thread panicked between two complete calls.
    fn map(&self) -> std::sync::MutexGuard<'_, KernelMap<MapData, [u8; KEY], [u8; ENTRY]>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
