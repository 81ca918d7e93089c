//! The ledger on disk: opening it, and appending to it durably. Only the writer appends.
//!
//! A commit writes bundles and tiles, makes them durable, and only then replaces `checkpoint`.
//! Whatever lies beyond the checkpoint after a crash is left over and gets overwritten; so opening
//! after a crash is the same as any opening.

pub(crate) mod files;
pub(crate) mod key;

use std::{
    collections::HashSet,
    fs::File as SystemFile,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use pcigate_ledger::{
    Directory, Edge, EdgeError, EntryTooLong, File, Hash, KeyError, NoteError, SigningKey,
    TileSource, empty_root, leaf_hash,
};

pub use files::FileError;

/// An entry with its hash, made outside the writer's thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The encoded record.
    pub bytes: Vec<u8>,
    /// Its RFC 6962 leaf hash.
    pub hash: Hash,
}

impl Leaf {
    /// Hashes an entry.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { hash: leaf_hash(&bytes), bytes }
    }
}

/// What is on disk for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Leaves.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// The signed checkpoint.
    pub checkpoint: Vec<u8>,
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "another collector uses the state directory {dir}: stop it first, or give this one a \
         stateDir of its own"
    )]
    InUse {
        /// The state directory.
        dir: String,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The name of the log, or a key file, is wrong.
    #[error("the key of the ledger ({path}) cannot be used")]
    Key {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// The key is of another log.
    #[error(
        "the ledger in {dir} is of the log {actual}, the configuration says `origin: {origin}`: \
         set origin to {actual}, or use another stateDir"
    )]
    Origin {
        /// The state directory.
        dir: String,
        /// Origin in the configuration.
        origin: String,
        /// Name of the key.
        actual: String,
    },
    /// One of two files that belong together is missing.
    #[error("{missing} is missing although {present} exists: restore it from a copy")]
    Missing {
        /// The file that is missing.
        missing: String,
        /// The file that should not be there without it.
        present: String,
    },
    /// The checkpoint is not signed by the key.
    #[error("{path} is not a checkpoint of this ledger: restore it from a copy")]
    Checkpoint {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: NoteError,
    },
    /// The files at the end of the log do not fit the checkpoint.
    #[error(
        "the ledger in {dir} does not fit its checkpoint of size {size}: restore the file named \
         here from a copy (`pcigate verify` names the first wrong leaf)"
    )]
    Edge {
        /// The directory of the ledger.
        dir: String,
        /// Size in the checkpoint.
        size: u64,
        /// The file and what is wrong with it.
        #[source]
        source: EdgeError,
    },
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// An entry no bundle can hold.
    #[error("an entry cannot be appended")]
    Entry {
        /// Its length.
        #[source]
        source: EntryTooLong,
    },
    /// The checkpoint cannot be signed.
    #[error("the checkpoint cannot be signed")]
    Sign {
        /// What went wrong.
        #[source]
        source: NoteError,
    },
}

/// An open ledger; the process that has it is alone on its directory.
pub struct Ledger {
    dir: PathBuf,
    key: SigningKey,
    edge: Edge,
    durable: Arc<Durable>,
    /// A checkpoint may have been published that memory does not know of.
    unsure: bool,
    _lock: SystemFile,
}

impl Ledger {
    /// Opens the ledger below `state_dir`, or makes an empty one with a new key.
    ///
    /// # Errors
    /// Another process has it, or a file is missing, unreadable, or does not fit the checkpoint.
    pub fn open(state_dir: &Path, origin: &str) -> Result<Self, OpenError> {
        files::make_dir(state_dir, 0o755)?;
        let lock = lock(state_dir)?;
        let dir = state_dir.join("ledger");
        files::make_dir(&dir, 0o700)?;
        let key = key::open(state_dir, origin)?;
        // A process that was killed may have left names that are in the page cache only.
        files::sync_above(&dir)?;
        let checkpoint = open_checkpoint(&dir, &key)?;
        files::sync_dir(&dir)?;
        let opened = key.verifier().open(&checkpoint).map_err(|source| OpenError::Checkpoint {
            path: dir.join("checkpoint").display().to_string(),
            source,
        })?;
        let (size, root) = (opened.size, opened.root);
        let edge = Edge::load(&Directory::new(&dir), size, &root)
            .map_err(|source| OpenError::Edge { dir: dir.display().to_string(), size, source })?;
        let durable = Arc::new(Durable { size, root, checkpoint });
        Ok(Self { dir, key, edge, durable, unsure: false, _lock: lock })
    }

    /// What is on disk.
    #[must_use]
    pub fn durable(&self) -> &Arc<Durable> {
        &self.durable
    }

    /// Its files, for reading.
    #[must_use]
    pub fn source(&self) -> Directory {
        Directory::new(&self.dir)
    }

    /// The public key as text.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.key.verifier().to_string()
    }

    /// Name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.key.verifier().name()
    }

    /// Appends leaves and returns when they are durable.
    ///
    /// # Errors
    /// Nothing was appended; the same call can be tried again.
    pub fn commit(&mut self, leaves: &[Leaf]) -> Result<Arc<Durable>, CommitError> {
        if self.unsure {
            self.settle()?;
        }
        let (mut edge, mut written) = (self.edge.clone(), Vec::new());
        for leaf in leaves {
            edge.append(&leaf.bytes, leaf.hash, &mut written)
                .map_err(|source| CommitError::Entry { source })?;
        }
        let full = written.len();
        let before: HashSet<_> =
            self.edge.partial_files().into_iter().map(|file| file.path).collect();
        written.extend(edge.partial_files().into_iter().filter(|f| !before.contains(&f.path)));
        files::write_durably(&self.dir, &written)?;
        let (size, root) = (edge.size(), edge.root());
        let checkpoint =
            self.key.sign(size, &root).map_err(|source| CommitError::Sign { source })?;
        let published = files::replace(&self.dir.join("checkpoint"), &checkpoint, 0o644);
        // It may be in place although it failed: another tree of that size must not be signed.
        self.unsure = published.is_err();
        published?;
        self.edge = edge;
        self.durable = Arc::new(Durable { size, root, checkpoint });
        written.truncate(full);
        self.drop_partials(&written);
        Ok(Arc::clone(&self.durable))
    }

    /// After a failed publication: puts the last known checkpoint back, durably, before anything
    /// else is signed.
    fn settle(&mut self) -> Result<(), CommitError> {
        files::replace(&self.dir.join("checkpoint"), &self.durable.checkpoint, 0o644)?;
        self.unsure = false;
        Ok(())
    }

    /// The full tiles are published: nobody needs their partial versions any more.
    fn drop_partials(&self, full: &[File]) {
        for file in full {
            let mut name = self.dir.join(file.path.to_string()).into_os_string();
            name.push(".p");
            match std::fs::remove_dir_all(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = ?name, %error, "partial tiles could not be removed");
                }
                _ => {}
            }
        }
    }
}

fn lock(state_dir: &Path) -> Result<SystemFile, OpenError> {
    let path = state_dir.join("ledger.lock");
    let failed = |source| FileError::new("open", &path, source);
    let file = SystemFile::options().create(true).append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(OpenError::InUse { dir: state_dir.display().to_string() })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source).into()),
    }
}

/// The checkpoint; a new ledger gets one of size 0, so that a missing one is never taken for new.
fn open_checkpoint(dir: &Path, key: &SigningKey) -> Result<Vec<u8>, OpenError> {
    let path = dir.join("checkpoint");
    let read = Directory::new(dir).read("checkpoint");
    if let Some(bytes) = read.map_err(|source| FileError::new("read", &path, source))? {
        return Ok(bytes);
    }
    let tiles = dir.join("tile");
    if tiles.exists() {
        let (missing, present) = (path.display().to_string(), tiles.display().to_string());
        return Err(OpenError::Missing { missing, present });
    }
    let checkpoint = key
        .sign(0, &empty_root())
        .map_err(|source| OpenError::Checkpoint { path: path.display().to_string(), source })?;
    files::replace(&path, &checkpoint, 0o644)?;
    Ok(checkpoint)
}

#[cfg(test)]
mod tests;
