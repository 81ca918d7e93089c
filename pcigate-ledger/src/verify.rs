//! Recomputes a whole log from its entries: every bundle, every tile, the root, the signature.

use crate::{
    checkpoint::{Checkpoint, NoteError, VerifierKey},
    merkle::{Hash, empty_root, leaf_hash, tree_root},
    tiles::{ReadError, TILE_WIDTH, TileKind, TilePath, TileSource, read_bundle, read_hashes},
};

/// What was found to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of the log.
    pub origin: String,
    /// Leaves, all of them checked.
    pub size: u64,
    /// The root they hash to.
    pub root: Hash,
}

/// The first thing wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no checkpoint.
    #[error("there is no file `checkpoint`: this is not a log, or its checkpoint was removed")]
    NoCheckpoint,
    /// The checkpoint cannot be read.
    #[error("the checkpoint cannot be read")]
    ReadCheckpoint {
        /// What the source says.
        #[source]
        source: std::io::Error,
    },
    /// The checkpoint is not signed by the key.
    #[error(transparent)]
    Checkpoint(#[from] NoteError),
    /// A file is missing or cut.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An entry or its hash was changed.
    #[error("leaf {leaf} in {entries} does not match its hash in {tile}")]
    Leaf {
        /// The leaf.
        leaf: u64,
        /// The file of entries.
        entries: String,
        /// The file of hashes.
        tile: String,
    },
    /// A hash above the leaves was changed.
    #[error("hash {position} in {tile} does not match the tile below, leaves {first} to {last}")]
    Node {
        /// Position in the tile, from 0.
        position: usize,
        /// The file.
        tile: String,
        /// First leaf below.
        first: u64,
        /// Last leaf below.
        last: u64,
    },
    /// Entries and tiles fit each other and not the checkpoint.
    #[error(
        "the {size} entries hash to {computed}, the signed checkpoint says {signed}: entries and \
         tiles were replaced together"
    )]
    Root {
        /// Leaves.
        size: u64,
        /// Root of the entries, hex.
        computed: String,
        /// Root in the checkpoint, hex.
        signed: String,
    },
    /// The earlier checkpoint is of another log.
    #[error("the earlier checkpoint is of log {earlier}, this one of log {now}")]
    SinceOrigin {
        /// Its origin.
        earlier: String,
        /// The origin of the log.
        now: String,
    },
    /// The log has fewer leaves than it had.
    #[error("the log had {earlier} leaves and now has {now}: it was rolled back")]
    SinceSize {
        /// Size in the earlier checkpoint.
        earlier: u64,
        /// Size now.
        now: u64,
    },
    /// The log does not begin with the log it was.
    #[error(
        "the first {size} leaves hash to {computed}, the earlier checkpoint says {earlier}: \
         history was rewritten"
    )]
    SinceRoot {
        /// Size in the earlier checkpoint.
        size: u64,
        /// Root of as many leaves now, hex.
        computed: String,
        /// Root in the earlier checkpoint, hex.
        earlier: String,
    },
}

/// Checks a whole log against its checkpoint, and that it extends `since`.
///
/// Reads every entry once, in order, and holds one bundle and a few tiles in memory. `progress`
/// is told after each bundle how many leaves have been checked.
///
/// # Errors
/// The first leaf or file that is wrong.
pub fn verify<S: TileSource + ?Sized>(
    source: &S,
    key: &VerifierKey,
    since: Option<&Checkpoint>,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let note = source
        .read("checkpoint")
        .map_err(|source| VerifyError::ReadCheckpoint { source })?
        .ok_or(VerifyError::NoCheckpoint)?;
    let Checkpoint { origin, size, root } = key.open(&note)?;
    check_since_claims(since, &origin, size)?;
    let mut walk = Walk { source, size, levels: Vec::new() };
    for bundle in 0..size.div_ceil(TILE_WIDTH) {
        let hashes = walk.leaves(bundle)?;
        let first = bundle * TILE_WIDTH;
        let seen = first + hashes.len() as u64;
        if let Some(since) = since.filter(|since| (first..seen).contains(&since.size)) {
            let part = usize::try_from(since.size - first).unwrap_or(usize::MAX);
            walk.check_since(since, hashes.get(..part).unwrap_or(&hashes))?;
        }
        walk.push(0, bundle, hashes)?;
        progress(seen);
    }
    walk.check_partial_tiles()?;
    let computed = walk.root(&[]);
    if computed != root {
        let (computed, signed) = (hex::encode(computed), hex::encode(root));
        return Err(VerifyError::Root { size, computed, signed });
    }
    if let Some(since) = since.filter(|since| since.size == size) {
        walk.check_since(since, &[])?;
    }
    Ok(Report { origin, size, root })
}

fn check_since_claims(
    since: Option<&Checkpoint>,
    origin: &str,
    size: u64,
) -> Result<(), VerifyError> {
    let Some(since) = since else { return Ok(()) };
    if since.origin != origin {
        let (earlier, now) = (since.origin.clone(), origin.to_owned());
        return Err(VerifyError::SinceOrigin { earlier, now });
    }
    if since.size > size {
        return Err(VerifyError::SinceSize { earlier: since.size, now: size });
    }
    Ok(())
}

/// The hashes of the tiles that are not complete yet, one list per level.
struct Walk<'a, S: ?Sized> {
    source: &'a S,
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl<S: TileSource + ?Sized> Walk<'_, S> {
    /// The leaf hashes of a bundle, each equal to the one in its tile.
    fn leaves(&self, index: u64) -> Result<Vec<Hash>, VerifyError> {
        let bundle = read_bundle(self.source, self.size, index)?;
        let stored = read_hashes(self.source, self.size, 0, index)?;
        let mut hashes = Vec::with_capacity(stored.len());
        for (entry, stored) in bundle.entries().zip(stored) {
            let (leaf, bytes) = entry?;
            let hash = leaf_hash(bytes);
            if hash != stored {
                let entries = bundle.path();
                let tile = TilePath { kind: TileKind::Hashes(0), ..entries }.to_string();
                return Err(VerifyError::Leaf { leaf, entries: entries.to_string(), tile });
            }
            hashes.push(hash);
        }
        Ok(hashes)
    }

    /// Takes the tile `index` of `level`, whose hashes have been checked, and completes the
    /// levels above it as far as they are full.
    fn push(&mut self, level: u8, index: u64, hashes: Vec<Hash>) -> Result<(), VerifyError> {
        let (mut level, mut index, mut hashes) = (level, index, hashes);
        loop {
            while self.levels.len() <= usize::from(level) + 1 {
                self.levels.push(Vec::new());
            }
            if hashes.len() as u64 != TILE_WIDTH {
                if let Some(partial) = self.levels.get_mut(usize::from(level)) {
                    *partial = hashes;
                }
                return Ok(());
            }
            let above = tree_root(&hashes);
            level += 1;
            let Some(list) = self.levels.get_mut(usize::from(level)) else { return Ok(()) };
            list.push(above);
            if list.len() as u64 != TILE_WIDTH {
                return Ok(());
            }
            hashes = std::mem::take(list);
            index /= TILE_WIDTH;
            self.check_tile(level, index, &hashes)?;
        }
    }

    fn check_partial_tiles(&self) -> Result<(), VerifyError> {
        for (level, hashes) in (0_u8..).zip(&self.levels).skip(1) {
            if !hashes.is_empty() {
                let nodes = self.size.checked_shr(u32::from(level) * 8).unwrap_or(0);
                self.check_tile(level, nodes / TILE_WIDTH, hashes)?;
            }
        }
        Ok(())
    }

    fn check_tile(&self, level: u8, index: u64, hashes: &[Hash]) -> Result<(), VerifyError> {
        let stored = read_hashes(self.source, self.size, level, index)?;
        let wrong = stored.iter().zip(hashes).position(|(stored, hash)| stored != hash);
        let Some(position) = wrong else { return Ok(()) };
        let kind = TileKind::Hashes(level);
        let path = TilePath::in_tree(kind, index, self.size);
        let path = path.unwrap_or(TilePath { kind, index, width: 256 });
        let (first, next) = (path.leaf(position as u64), path.leaf(position as u64 + 1));
        let last = next.saturating_sub(1);
        Err(VerifyError::Node { position, tile: path.to_string(), first, last })
    }

    /// Root of what has been taken so far, followed by `leaves`.
    fn root(&self, leaves: &[Hash]) -> Hash {
        let mut tail = (!leaves.is_empty()).then(|| tree_root(leaves));
        for hashes in self.levels.iter().skip(usize::from(tail.is_some())) {
            if hashes.is_empty() && tail.is_none() {
                continue;
            }
            let all: Vec<_> = hashes.iter().copied().chain(tail).collect();
            tail = Some(tree_root(&all));
        }
        tail.unwrap_or_else(empty_root)
    }

    fn check_since(&self, since: &Checkpoint, leaves: &[Hash]) -> Result<(), VerifyError> {
        let computed = self.root(leaves);
        if computed == since.root {
            return Ok(());
        }
        Err(VerifyError::SinceRoot {
            size: since.size,
            computed: hex::encode(computed),
            earlier: hex::encode(since.root),
        })
    }
}

#[cfg(test)]
mod tests;
