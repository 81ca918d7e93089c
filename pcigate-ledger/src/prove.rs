//! Makes inclusion and consistency proofs out of tiles (RFC 6962 section 2.1).

use std::collections::HashMap;

use crate::{
    merkle::{Hash, empty_root, node_hash, tree_root},
    tiles::{ReadError, TILE_WIDTH, TileSource, read_hashes},
};

/// Why a proof cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// A tile cannot be used.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The leaf is not in the tree.
    #[error("leaf {index} is outside a tree of {size} leaves")]
    OutsideTree {
        /// Leaf index asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// There is no proof from a larger tree to a smaller one.
    #[error("a tree of {new} leaves cannot be shown to extend one of {old} leaves")]
    Shrunk {
        /// Leaves in the earlier tree.
        old: u64,
        /// Leaves in the later tree.
        new: u64,
    },
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// A tile is missing or of a wrong length.
pub fn root<S: TileSource + ?Sized>(source: &S, size: u64) -> Result<Hash, ProveError> {
    if size == 0 {
        return Ok(empty_root());
    }
    Tree::new(source, size).range(0, size)
}

/// The inclusion proof of leaf `index` in the tree of the first `size` leaves, leaf end first.
///
/// # Errors
/// The leaf is outside the tree, or a tile is missing or of a wrong length.
pub fn prove_inclusion<S: TileSource + ?Sized>(
    source: &S,
    size: u64,
    index: u64,
) -> Result<Vec<Hash>, ProveError> {
    if index >= size {
        return Err(ProveError::OutsideTree { index, size });
    }
    let mut tree = Tree::new(source, size);
    let (mut low, mut high, mut proof) = (0, size, Vec::new());
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(tree.range(middle, high)?);
            high = middle;
        } else {
            proof.push(tree.range(low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of the first `new` leaves begins with that of the first `old` leaves.
///
/// # Errors
/// `old` is larger than `new`, or a tile is missing or of a wrong length.
pub fn prove_consistency<S: TileSource + ?Sized>(
    source: &S,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, ProveError> {
    if old > new {
        return Err(ProveError::Shrunk { old, new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut tree = Tree::new(source, new);
    // SUBPROOF: `whole` while the old tree's own root is the left part and known to the verifier.
    let (mut low, mut high, mut whole, mut proof) = (0, new, true, Vec::new());
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(tree.range(middle, high)?);
            high = middle;
        } else {
            proof.push(tree.range(low, middle)?);
            low = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(tree.range(low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Largest power of two smaller than `n`, for `n` > 1.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The tiles of one tree, each read once.
struct Tree<'a, S: ?Sized> {
    source: &'a S,
    size: u64,
    tiles: HashMap<(u8, u64), Vec<Hash>>,
}

impl<'a, S: TileSource + ?Sized> Tree<'a, S> {
    fn new(source: &'a S, size: u64) -> Self {
        Self { source, size, tiles: HashMap::new() }
    }

    /// Hash over the leaves `low..high`, where `low` is a multiple of the largest power of two
    /// that fits in between.
    fn range(&mut self, low: u64, high: u64) -> Result<Hash, ProveError> {
        let (mut at, mut parts) = (low, Vec::new());
        while at < high {
            let height = (high - at).ilog2();
            parts.push(self.subtree(height, at >> height)?);
            at += 1 << height;
        }
        let mut parts = parts.into_iter().rev();
        let last = parts.next().unwrap_or_else(empty_root);
        Ok(parts.fold(last, |right, left| node_hash(&left, &right)))
    }

    /// Hash of the complete subtree number `index` of 2^`height` leaves.
    fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, ProveError> {
        let (level, within) = (u8::try_from(height / 8).unwrap_or(u8::MAX), height % 8);
        let first = index << within;
        let tile = first / TILE_WIDTH;
        if !self.tiles.contains_key(&(level, tile)) {
            let hashes = read_hashes(self.source, self.size, level, tile)?;
            self.tiles.insert((level, tile), hashes);
        }
        let start = usize::try_from(first % TILE_WIDTH).unwrap_or(usize::MAX);
        let hashes = self.tiles.get(&(level, tile)).map(Vec::as_slice).unwrap_or_default();
        let part = hashes.get(start..start.saturating_add(1 << within));
        let outside = ReadError::OutsideTree { leaf: index << height, size: self.size };
        Ok(tree_root(part.ok_or(outside)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        merkle::{ProofError, check_consistency, check_inclusion, leaf_hash},
        testing::log,
    };

    /// All roots by the definition in RFC 6962, from the leaves alone.
    fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            more => {
                let (l, r) = more.split_at(usize::try_from(split(more.len() as u64)).unwrap());
                node_hash(&naive_root(l), &naive_root(r))
            }
        }
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_also_to_another_implementation() {
        for size in 1..=70_u64 {
            let (log, entries) = log(size);
            let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            let root = naive_root(&leaves);
            assert_eq!(super::root(&log, size).unwrap(), root, "{size}");
            for (index, leaf) in (0..).zip(&leaves) {
                let proof = prove_inclusion(&log, size, index).unwrap();
                check_inclusion(index, size, leaf, &proof, &root).unwrap();
                let theirs: Vec<_> = proof.iter().map(|hash| tlog_tiles::Hash(*hash)).collect();
                let (their_root, their_leaf) = (tlog_tiles::Hash(root), tlog_tiles::Hash(*leaf));
                tlog_tiles::check_record(&theirs, size, their_root, index, their_leaf).unwrap();
                assert_no_change_passes(index, size, leaf, &proof, &root);
            }
        }
    }

    fn assert_no_change_passes(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) {
        for at in 0..proof.len() {
            let mut changed = proof.to_vec();
            changed[at][3] ^= 1;
            assert_eq!(check_inclusion(index, size, leaf, &changed, root), Err(ProofError::Root));
        }
        let other = leaf_hash(b"another");
        assert!(check_inclusion(index, size, &other, proof, root).is_err());
        assert!(check_inclusion(size, size, leaf, proof, root).is_err());
        let mut longer = proof.to_vec();
        longer.push(other);
        assert!(check_inclusion(index, size, leaf, &longer, root).is_err());
        if let Some((_, shorter)) = proof.split_last() {
            assert!(check_inclusion(index, size, leaf, shorter, root).is_err());
        }
    }

    #[test]
    fn every_pair_of_small_trees_is_consistent_also_to_another_implementation() {
        let (log, entries) = log(70);
        let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let root = |size: u64| naive_root(&leaves[..usize::try_from(size).unwrap()]);
        for new in 0..=70 {
            for old in 0..=new {
                // The partial tiles of every size are there, as after publishing each.
                let proof = prove_consistency(&log, old, new).unwrap();
                check_consistency(old, &root(old), new, &root(new), &proof).unwrap();
                if old > 0 {
                    let theirs: Vec<_> = proof.iter().map(|h| tlog_tiles::Hash(*h)).collect();
                    let (th, h) = (tlog_tiles::Hash(root(new)), tlog_tiles::Hash(root(old)));
                    tlog_tiles::check_tree(&theirs, new, th, old, h).unwrap();
                }
                let wrong = leaf_hash(b"forked");
                assert!(check_consistency(old, &wrong, new, &root(new), &proof).is_err());
                if old > 0 {
                    assert!(check_consistency(old, &root(old), new, &wrong, &proof).is_err());
                }
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at][0] ^= 0x80;
                    let checked = check_consistency(old, &root(old), new, &root(new), &changed);
                    assert!(checked.is_err());
                }
            }
        }
        let shrunk = check_consistency(5, &root(5), 4, &root(4), &[]);
        assert_eq!(shrunk, Err(ProofError::Shrunk { old: 5, new: 4 }));
    }

    #[test]
    fn proofs_hold_in_a_tree_of_three_levels_of_tiles() {
        let size = 66_000;
        let (log, entries) = log(size);
        let root = root(&log, size).unwrap();
        for index in [0, 255, 256, 65_535, 65_536, 65_999] {
            let proof = prove_inclusion(&log, size, index).unwrap();
            let leaf = leaf_hash(&entries[usize::try_from(index).unwrap()]);
            check_inclusion(index, size, &leaf, &proof, &root).unwrap();
        }
    }
}
