//! A ledger in memory, made as the collector makes it.

use std::collections::BTreeMap;

use pcigate_ledger::{Edge, leaf_hash};

/// The files of a log without its checkpoint: path, content.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Entry number `index`; all are different.
#[must_use]
pub fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// The right edge and all files of a log of `size` entries.
///
/// # Panics
/// An entry does not fit a bundle, which none does.
#[must_use]
pub fn log(size: u64) -> (Edge, Files) {
    let (mut edge, mut files) = (Edge::empty(), Vec::new());
    for index in 0..size {
        let entry = entry(index);
        edge.append(&entry, leaf_hash(&entry), &mut files).expect("a short entry");
    }
    files.extend(edge.partial_files());
    (edge, files.into_iter().map(|file| (file.path.to_string(), file.bytes)).collect())
}
