//! Copying the files of a tree, all or those that are new.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use pcigate_ledger::{
    Directory, ReadError, TILE_WIDTH, TileKind, TilePath, TileSource, read_bundle, read_hashes,
};

/// Files between two signs of progress.
const PROGRESS_FILES: u64 = 64;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Why files were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file of the source is missing or cut.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be copied.
    #[error("cannot copy {from} to {to}")]
    Copy {
        /// From.
        from: String,
        /// To.
        to: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The copy cannot be made durable.
    #[error("cannot sync the disk of {path}")]
    Sync {
        /// The directory.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A directory with the checkpoint it is to get.
pub struct Pending {
    /// The tiles.
    pub directory: Directory,
    /// The checkpoint that is not in place yet.
    pub checkpoint: Vec<u8>,
}

impl TileSource for Pending {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if path == "checkpoint" {
            return Ok(Some(self.checkpoint.clone()));
        }
        self.directory.read(path)
    }
}

/// All tiles of a tree of `size` leaves, the full ones of a tree of `have` leaves left out.
pub fn tiles(size: u64, have: u64) -> impl Iterator<Item = TilePath> {
    let levels = (0_u8..7).map(TileKind::Hashes);
    std::iter::once(TileKind::Entries).chain(levels).flat_map(move |kind| {
        let first = match kind {
            TileKind::Entries => have / TILE_WIDTH,
            TileKind::Hashes(level) => have >> (u32::from(level) * 8) >> 8,
        };
        (first..).map_while(move |index| TilePath::in_tree(kind, index, size))
    })
}

/// Copies what a tree of `size` leaves needs, except the full tiles of the first `have` leaves,
/// which are there already. Nothing is synced. `progress` is told leaves done and in all.
///
/// # Errors
/// A file cannot be read or written.
pub fn tree(
    from: &Path,
    to: &Path,
    size: u64,
    have: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, CopyError> {
    let source = Directory::new(from);
    let mut copied = Copied::default();
    for tile in tiles(size, have) {
        let (old, new) = (from.join(tile.to_string()), to.join(tile.to_string()));
        let failed = |source| {
            let (from, to) = (old.display().to_string(), new.display().to_string());
            CopyError::Copy { from, to, source }
        };
        if let Some(parent) = new.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        copied.bytes += match fs::copy(&old, &new) {
            Ok(bytes) => bytes,
            // A partial tile goes when the full one is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !tile.is_full() => {
                let part = part_of_full(&source, size, tile)?;
                fs::write(&new, &part).map_err(failed)?;
                part.len() as u64
            }
            Err(error) => return Err(failed(error)),
        };
        copied.files += 1;
        if tile.kind == TileKind::Entries && tile.index.is_multiple_of(PROGRESS_FILES) {
            progress(tile.index * TILE_WIDTH, size);
        }
    }
    Ok(copied)
}

/// Makes everything on the disk of a directory durable.
///
/// # Errors
/// The disk fails.
pub fn sync(dir: &Path) -> Result<(), CopyError> {
    let synced = File::open(dir).and_then(|dir| Ok(nix::unistd::syncfs(&dir)?));
    synced.map_err(|source| CopyError::Sync { path: dir.display().to_string(), source })
}

/// Removes the partial tiles of an older checkpoint, once the new one is in place.
pub fn drop_partials(dir: &Path, old: u64, new: u64) {
    let partial = |size| tiles(size, size).filter(|tile| !tile.is_full());
    for tile in partial(old).filter(|tile| !partial(new).any(|other| other == *tile)) {
        let path: PathBuf = dir.join(tile.to_string());
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a tile no longer needed stays");
        }
        // The directory goes with its last file.
        if let Some(parent) = path.parent() {
            drop(fs::remove_dir(parent));
        }
    }
}

fn part_of_full(source: &Directory, size: u64, tile: TilePath) -> Result<Vec<u8>, ReadError> {
    if let TileKind::Hashes(level) = tile.kind {
        return Ok(read_hashes(source, size, level, tile.index)?.concat());
    }
    let mut bytes = Vec::new();
    for entry in read_bundle(source, size, tile.index)?.entries() {
        let (_, entry) = entry?;
        let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Ok(bytes)
}
