//! The right edge of a growing log: what has to be known to append, and the files that result.

use crate::{
    merkle::{Hash, leaf_hash, tree_root},
    tiles::{
        ENTRY_BYTES_MAX, ReadError, TILE_WIDTH, TileKind, TilePath, TileSource, read_bundle,
        read_hashes,
    },
};

const WIDTH: usize = 256;

/// A file of the log, to be written as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it belongs.
    pub path: TilePath,
    /// Its whole content.
    pub bytes: Vec<u8>,
}

/// An entry that no bundle can hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of {bytes} bytes is longer than {ENTRY_BYTES_MAX}")]
pub struct EntryTooLong {
    /// Its length.
    pub bytes: usize,
}

/// Why the right edge of a log does not fit its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A file cannot be used.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An entry was changed.
    #[error("leaf {leaf} in {entries} does not match its hash in {tile}")]
    Leaf {
        /// The leaf.
        leaf: u64,
        /// The file of entries.
        entries: String,
        /// The file of hashes.
        tile: String,
    },
    /// The tiles do not hash to the root of the checkpoint.
    #[error(
        "the tiles at the end of the log ({tiles}) do not hash to the root of the checkpoint of \
         size {size}; restore the ledger from a copy"
    )]
    Root {
        /// The partial tiles.
        tiles: String,
        /// Size in the checkpoint.
        size: u64,
    },
}

/// The incomplete tile of every level and the incomplete bundle; everything left of it is final.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    bundle: Vec<u8>,
    /// Per level the hashes of its incomplete tile.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// The edge of the empty log.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads the edge of a log of `size` leaves and checks it against `root`.
    ///
    /// # Errors
    /// A file is missing, of a wrong length, or does not hash to the root.
    pub fn load<S: TileSource + ?Sized>(
        source: &S,
        size: u64,
        root: &Hash,
    ) -> Result<Self, EdgeError> {
        let (mut levels, mut level) = (Vec::new(), 0_u8);
        while let Some(nodes) = size.checked_shr(u32::from(level) * 8).filter(|nodes| *nodes > 0) {
            let partial = nodes % TILE_WIDTH != 0;
            let tile = || read_hashes(source, size, level, nodes / TILE_WIDTH);
            levels.push(if partial { tile()? } else { Vec::new() });
            level += 1;
        }
        let mut edge = Self { size, bundle: Vec::new(), levels };
        if edge.root() != *root {
            let tiles = edge.tile_paths().map(|path| path.to_string());
            let tiles = tiles.collect::<Vec<_>>().join(", ");
            return Err(EdgeError::Root { tiles, size });
        }
        edge.load_bundle(source)?;
        Ok(edge)
    }

    fn load_bundle<S: TileSource + ?Sized>(&mut self, source: &S) -> Result<(), EdgeError> {
        let Some(hashes) = self.levels.first().filter(|hashes| !hashes.is_empty()) else {
            return Ok(());
        };
        let bundle = read_bundle(source, self.size, self.size / TILE_WIDTH)?;
        for (entry, hash) in bundle.entries().zip(hashes) {
            let (leaf, bytes) = entry?;
            if leaf_hash(bytes) != *hash {
                let tile = TilePath { kind: TileKind::Hashes(0), ..bundle.path() }.to_string();
                return Err(EdgeError::Leaf { leaf, entries: bundle.path().to_string(), tile });
            }
            push_entry(&mut self.bundle, bytes).unwrap_or_default();
        }
        Ok(())
    }

    /// Leaves in the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut tail: Option<Hash> = None;
        for hashes in &self.levels {
            if let Some(last) = tail {
                let mut all = hashes.clone();
                all.push(last);
                tail = Some(tree_root(&all));
            } else if !hashes.is_empty() {
                tail = Some(tree_root(hashes));
            }
        }
        tail.unwrap_or_else(crate::merkle::empty_root)
    }

    /// Appends an entry whose [`leaf_hash`] is `hash`; tiles that become full go to `full`.
    ///
    /// # Errors
    /// The entry is too long for a bundle; nothing has changed.
    pub fn append(
        &mut self,
        entry: &[u8],
        hash: Hash,
        full: &mut Vec<File>,
    ) -> Result<u64, EntryTooLong> {
        push_entry(&mut self.bundle, entry).ok_or(EntryTooLong { bytes: entry.len() })?;
        let index = self.size;
        self.size += 1;
        self.push_hash(hash, full);
        if self.size.is_multiple_of(TILE_WIDTH) {
            let path = TilePath { kind: TileKind::Entries, index: index / TILE_WIDTH, width: 256 };
            full.push(File { path, bytes: std::mem::take(&mut self.bundle) });
        }
        Ok(index)
    }

    fn push_hash(&mut self, leaf: Hash, full: &mut Vec<File>) {
        let (mut hash, mut nodes) = (leaf, self.size);
        for level in 0_u8.. {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::with_capacity(WIDTH));
            }
            let Some(hashes) = self.levels.get_mut(usize::from(level)) else { return };
            hashes.push(hash);
            if hashes.len() < WIDTH {
                return;
            }
            nodes /= TILE_WIDTH;
            let path = TilePath { kind: TileKind::Hashes(level), index: nodes - 1, width: 256 };
            full.push(File { path, bytes: hashes.as_flattened().to_vec() });
            hash = tree_root(hashes);
            hashes.clear();
        }
    }

    /// The incomplete tiles and the incomplete bundle, as a checkpoint of this size needs them.
    #[must_use]
    pub fn partial_files(&self) -> Vec<File> {
        let mut files: Vec<_> = self
            .tile_paths()
            .filter_map(|path| {
                let TileKind::Hashes(level) = path.kind else { return None };
                let hashes = self.levels.get(usize::from(level))?;
                Some(File { path, bytes: hashes.as_flattened().to_vec() })
            })
            .collect();
        let bundle = TilePath::in_tree(TileKind::Entries, self.size / TILE_WIDTH, self.size);
        files.extend(bundle.map(|path| File { path, bytes: self.bundle.clone() }));
        files
    }

    fn tile_paths(&self) -> impl Iterator<Item = TilePath> {
        (0_u8..).zip(&self.levels).filter_map(|(level, _)| {
            let nodes = self.size.checked_shr(u32::from(level) * 8)?;
            TilePath::in_tree(TileKind::Hashes(level), nodes / TILE_WIDTH, self.size)
        })
    }
}

/// Appends an entry in the form of a bundle; `None` when it is too long.
fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Option<()> {
    let length = u16::try_from(entry.len()).ok()?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{entry, log};

    #[test]
    fn an_entry_of_65535_bytes_fits_and_one_more_is_refused_without_a_trace() {
        let (mut edge, mut full) = (Edge::empty(), Vec::new());
        let long = vec![7; ENTRY_BYTES_MAX + 1];
        let refused = edge.append(&long, leaf_hash(&long), &mut full);
        assert_eq!(refused, Err(EntryTooLong { bytes: 65_536 }));
        assert_eq!(edge, Edge::empty());
        let fits = &long[1..];
        assert_eq!(edge.append(fits, leaf_hash(fits), &mut full), Ok(0));
    }

    #[test]
    fn a_changed_edge_is_refused_by_name() {
        let (mut files, _) = log(300);
        let root = crate::root(&files, 300).unwrap();
        files.get_mut("tile/entries/001.p/44").unwrap()[5] ^= 1;
        let error = Edge::load(&files, 300, &root).unwrap_err();
        let sentence =
            "leaf 256 in tile/entries/001.p/44 does not match its hash in tile/0/001.p/44";
        assert_eq!(error.to_string(), sentence);
        files.get_mut("tile/1/000.p/1").unwrap()[5] ^= 1;
        let error = Edge::load(&files, 300, &root).unwrap_err();
        assert!(error.to_string().contains("tile/0/001.p/44, tile/1/000.p/1"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_loaded_edge_goes_on_as_the_one_that_wrote_it(
            size in prop_oneof![0_u64..600, 65_500_u64..65_800],
            more in 0_u64..600,
        ) {
            let (files, _) = log(size);
            let root = crate::root(&files, size).unwrap();
            let mut loaded = Edge::load(&files, size, &root).unwrap();
            let mut ignored = Vec::new();
            for index in size..size + more {
                let entry = entry(index);
                loaded.append(&entry, leaf_hash(&entry), &mut ignored).unwrap();
            }
            let (grown, _) = log(size + more);
            prop_assert_eq!(loaded.root(), crate::root(&grown, size + more).unwrap());
            for file in loaded.partial_files() {
                prop_assert_eq!(grown.get(&file.path.to_string()), Some(&file.bytes));
            }
        }
    }
}
