//! A log in memory for the tests of this crate.

use std::collections::BTreeMap;

use crate::{edge::Edge, merkle::leaf_hash};

/// Entry number `index`: of varying length, some empty.
pub fn entry(index: u64) -> Vec<u8> {
    let length = usize::try_from(index * 7 % 23).unwrap();
    index.to_be_bytes().iter().copied().cycle().take(length).collect()
}

/// The files of a log of `size` entries and its entries. Below 600 leaves the partial tiles of
/// every size are kept, as after publishing a checkpoint for each.
pub fn log(size: u64) -> (BTreeMap<String, Vec<u8>>, Vec<Vec<u8>>) {
    let (mut edge, mut files, mut entries) = (Edge::empty(), Vec::new(), Vec::new());
    for index in 0..size {
        let entry = entry(index);
        edge.append(&entry, leaf_hash(&entry), &mut files).unwrap();
        entries.push(entry);
        if size < 600 || index + 1 == size {
            files.extend(edge.partial_files());
        }
    }
    (files.into_iter().map(|file| (file.path.to_string(), file.bytes)).collect(), entries)
}
