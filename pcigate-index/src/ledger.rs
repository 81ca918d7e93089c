//! A ledger of which less is asked for than it holds.

use std::io;

use pcigate_ledger::{TilePath, TileSource};

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// A source that also serves partial hash tiles that were never written, out of larger ones.
pub struct Prefix<'a, S> {
    source: &'a S,
    size: u64,
}

impl<'a, S: TileSource> Prefix<'a, S> {
    /// Over a ledger of `size` leaves, whose own partial tiles are there.
    pub fn new(source: &'a S, size: u64) -> Self {
        Self { source, size }
    }
}

impl<S: TileSource> TileSource for Prefix<'_, S> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.source.read(path)? {
            return Ok(Some(bytes));
        }
        let Some(asked) = TilePath::parse(path) else { return Ok(None) };
        let Some(larger) = TilePath::in_tree(asked.kind, asked.index, self.size) else {
            return Ok(None);
        };
        if larger.width <= asked.width {
            return Ok(None);
        }
        let bytes = self.source.read(&larger.to_string())?;
        Ok(bytes.map(|mut bytes| {
            bytes.truncate(usize::from(asked.width) * HASH_BYTES);
            bytes
        }))
    }
}
