//! The tamper-evident log, pure: no socket, no clock, no writing.
//!
//! The format is C2SP [tlog-tiles](https://c2sp.org/tlog-tiles) with
//! [tlog-checkpoint](https://c2sp.org/tlog-checkpoint) and Ed25519
//! [signed-note](https://c2sp.org/signed-note), so that programs nobody here wrote can check it.
//! One entry is one encoded record. Reading goes through a [`TileSource`]; writing the files that
//! [`Edge`] hands out, and making them durable, is the collector's part.

mod checkpoint;
mod edge;
mod entries;
mod merkle;
mod prove;
mod tiles;
mod verify;

pub use checkpoint::{Checkpoint, KeyError, NoteError, SigningKey, VerifierKey};
pub use edge::{Edge, EdgeError, EntryTooLong, File};
pub use entries::{Entries, entries, entry};
pub use merkle::{
    Hash, ProofError, check_consistency, check_inclusion, empty_root, leaf_hash, node_hash,
    tree_root,
};
pub use prove::{ProveError, prove_consistency, prove_inclusion, root};
pub use tiles::{
    Bundle, Directory, ENTRY_BYTES_MAX, ReadError, TILE_WIDTH, TileKind, TilePath, TileSource,
    read_bundle, read_hashes,
};
pub use verify::{Report, VerifyError, verify};

#[cfg(test)]
mod testing;
