//! RFC 6962 hashing, and the check of inclusion and consistency proofs (RFC 9162 section 2.1).

use sha2::{Digest, Sha256};

/// A SHA-256 hash of a leaf, a node or a tree.
pub type Hash = [u8; 32];

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is not in a tree of that size.
    #[error("leaf {index} is outside a tree of {size} leaves")]
    OutsideTree {
        /// Leaf index asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The later tree is smaller than the earlier one.
    #[error("the log shrank from {old} to {new} leaves: it was rolled back or replaced")]
    Shrunk {
        /// Leaves in the earlier tree.
        old: u64,
        /// Leaves in the later tree.
        new: u64,
    },
    /// The proof has too many or too few hashes for these sizes.
    #[error("the proof has a wrong number of hashes for these tree sizes")]
    Length,
    /// The proof leads to another root than the one claimed.
    #[error("the proof does not lead to the claimed root: the log was changed")]
    Root,
}

/// Hash of a leaf: `SHA-256(0x00 || entry)` (RFC 6962 section 2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(entry);
    hasher.finalize().into()
}

/// Hash of an inner node: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    let (l, r) = bytes[1..].split_at_mut(32);
    l.copy_from_slice(left);
    r.copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// Root of the empty tree: `SHA-256("")`.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Root over subtree hashes of equal height, of which only the last may be incomplete.
#[must_use]
pub fn tree_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [one] => *one,
        [left, right] => node_hash(left, right),
        more => {
            let (left, right) = more.split_at(1 << (more.len() - 1).ilog2());
            node_hash(&tree_root(left), &tree_root(right))
        }
    }
}

/// Checks that `leaf` is the hash of leaf `index` in the tree of `size` leaves with `root`.
///
/// # Errors
/// The proof does not show it (RFC 9162 section 2.1.3.2).
pub fn check_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutsideTree { index, size });
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            skip_to_right_child(&mut node, &mut last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match last {
        0 if hash == *root => Ok(()),
        0 => Err(ProofError::Root),
        _ => Err(ProofError::Length),
    }
}

/// Checks that the tree of `new_size` leaves begins with the tree of `old_size` leaves.
///
/// The proof from the empty tree, and between equal sizes, is empty.
///
/// # Errors
/// The proof does not show it (RFC 9162 section 2.1.4.2).
pub fn check_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::Shrunk { old: old_size, new: new_size });
    }
    if old_size == 0 || old_size == new_size {
        let claimed = if old_size == 0 { empty_root() } else { *new_root };
        return match proof {
            [] if *old_root == claimed => Ok(()),
            [] => Err(ProofError::Root),
            _ => Err(ProofError::Length),
        };
    }
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (seed, rest) = if old_size.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(ProofError::Length)?;
        (*first, rest)
    };
    let (mut old, mut new) = (seed, seed);
    for hash in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            skip_to_right_child(&mut node, &mut last);
        } else {
            new = node_hash(&new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if old == *old_root && new == *new_root { Ok(()) } else { Err(ProofError::Root) }
}

/// A node that is the last of its level has no sibling there: go up to where it is a right child.
fn skip_to_right_child(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}
