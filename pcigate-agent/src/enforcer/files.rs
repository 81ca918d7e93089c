//! The kernel's table of known digests, shared with the thread that computes them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{HashMap as KernelMap, MapData, MapError};
use pcigate_common::{limits, maps::FileKey};
use zerocopy::IntoBytes;

const KEY: usize = size_of::<FileKey>();

/// A digest.
pub type Sha256 = [u8; 32];

/// The table. Clones are the same table.
#[derive(Clone)]
pub struct FileTable(Arc<Mutex<Known>>);

struct Known {
    map: KernelMap<MapData, [u8; KEY], Sha256>,
    digests: HashMap<FileKey, Sha256>,
    /// Oldest first: what goes when the table is full.
    order: VecDeque<FileKey>,
}

impl FileTable {
    pub(super) fn new(map: KernelMap<MapData, [u8; KEY], Sha256>) -> Self {
        let known = Known { map, digests: HashMap::new(), order: VecDeque::new() };
        Self(Arc::new(Mutex::new(known)))
    }

    /// Makes the digest of a file known. A full table forgets the file it has known longest.
    ///
    /// # Errors
    /// The kernel refuses; the file stays unknown.
    pub fn put(&self, key: &FileKey, sha256: Sha256) -> Result<(), MapError> {
        let mut known = self.known();
        if known.digests.len() >= limits::FILES_MAX as usize
            && let Some(oldest) = known.order.pop_front()
        {
            known.digests.remove(&oldest);
            known.map.remove(&bytes(&oldest))?;
        }
        known.map.insert(bytes(key), sha256, 0)?;
        if known.digests.insert(*key, sha256).is_none() {
            known.order.push_back(*key);
        }
        Ok(())
    }

    /// The digest of a file, where it is known.
    #[must_use]
    pub fn get(&self, key: &FileKey) -> Option<Sha256> {
        self.known().digests.get(key).copied()
    }

    /// A poisoned lock only means that another thread panicked between two steps, each of which
    /// leaves no entry that is wrong.
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(key: &FileKey) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes.copy_from_slice(key.as_bytes());
    bytes
}
