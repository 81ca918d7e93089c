//! Reading leaves back, in order, a bundle at a time.

use std::ops::Range;

use crate::tiles::{ReadError, TILE_WIDTH, TileSource, read_bundle};

/// Leaves `range` of a tree of `size` leaves, as `(index, bytes)`. Holds one bundle in memory.
///
/// Nothing is checked against the hashes: that is the part of [`crate::verify`].
pub fn entries<S: TileSource + ?Sized>(source: &S, size: u64, range: Range<u64>) -> Entries<'_, S> {
    Entries { source, size, range, ready: Vec::new().into_iter(), failed: false }
}

/// Leaf `index` of a tree of `size` leaves.
///
/// # Errors
/// Its bundle cannot be read, or the tree has no such leaf.
pub fn entry<S: TileSource + ?Sized>(
    source: &S,
    size: u64,
    index: u64,
) -> Result<Vec<u8>, ReadError> {
    let outside = ReadError::OutsideTree { leaf: index, size };
    let Some(end) = index.checked_add(1).filter(|end| *end <= size) else {
        return Err(outside);
    };
    let mut leaves = entries(source, size, index..end);
    leaves.next().map_or(Err(outside), |leaf| leaf.map(|(_, bytes)| bytes))
}

/// The iterator of [`entries`]; ends after the first error.
pub struct Entries<'a, S: ?Sized> {
    source: &'a S,
    size: u64,
    range: Range<u64>,
    ready: std::vec::IntoIter<(u64, Vec<u8>)>,
    failed: bool,
}

impl<S: TileSource + ?Sized> Entries<'_, S> {
    fn load(&mut self) -> Result<(), ReadError> {
        let bundle = read_bundle(self.source, self.size, self.range.start / TILE_WIDTH)?;
        let mut ready = Vec::new();
        for entry in bundle.entries() {
            let (index, bytes) = entry?;
            if self.range.contains(&index) {
                ready.push((index, bytes.to_vec()));
            }
        }
        self.range.start = (self.range.start / TILE_WIDTH + 1) * TILE_WIDTH;
        self.ready = ready.into_iter();
        Ok(())
    }
}

impl<S: TileSource + ?Sized> Iterator for Entries<'_, S> {
    type Item = Result<(u64, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(Ok(entry));
            }
            if self.failed || self.range.start >= self.range.end {
                return None;
            }
            if let Err(error) = self.load() {
                self.failed = true;
                return Some(Err(error));
            }
        }
    }
}
