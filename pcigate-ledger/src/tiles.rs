//! Paths and contents of the log's files (C2SP tlog-tiles), read through a [`TileSource`].

use std::{fmt, io, path::PathBuf};

use crate::merkle::Hash;

/// Hashes in a full tile and entries in a full bundle (tiles of height 8).
pub const TILE_WIDTH: u64 = 256;
/// Longest entry a bundle can hold, bytes: its length is a big-endian `u16`.
pub const ENTRY_BYTES_MAX: usize = 65_535;

const HASH_BYTES: usize = 32;

/// Where the files of a log come from.
pub trait TileSource {
    /// The content of `checkpoint` or `tile/…`; `None` when there is no such file.
    ///
    /// # Errors
    /// The file may exist and cannot be read.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
}

/// A log in a directory: `checkpoint` and `tile/…` below it.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The directory that holds `checkpoint`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl TileSource for Directory {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if path != "checkpoint" && TilePath::parse(path).is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path of a log"));
        }
        match std::fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl TileSource for std::collections::BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get(path).cloned())
    }
}

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileKind {
    /// Entries, `tile/entries/…`.
    Entries,
    /// Hashes of subtrees of 256^LEVEL leaves, `tile/LEVEL/…`.
    Hashes(u8),
}

/// The path of one file below `tile/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TilePath {
    /// What the tile holds.
    pub kind: TileKind,
    /// Position among the tiles of its kind.
    pub index: u64,
    /// Hashes or entries in it, 1–256; 256 is a full tile.
    pub width: u16,
}

impl TilePath {
    /// The tile `index` in a tree of `size` leaves; `None` where the tree has none.
    #[must_use]
    pub fn in_tree(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let nodes = size.checked_shr(kind.height()).unwrap_or(0);
        let before = index.checked_mul(TILE_WIDTH)?;
        let width = nodes.checked_sub(before)?.min(TILE_WIDTH);
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Self { kind, index, width })
    }

    /// The full tile at the same place.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: 256, ..self }
    }

    /// Whether it is full.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.width == 256
    }

    /// Whether a tree of `size` leaves has all of it.
    #[must_use]
    pub fn is_within(self, size: u64) -> bool {
        let whole = Self::in_tree(self.kind, self.index, size);
        whole.is_some_and(|whole| whole.width >= self.width)
    }

    /// Reads a path; exactly the grammar of C2SP tlog-tiles.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (kind, rest) = rest.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(parse_decimal(level).filter(|level| *level <= 63)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                (number, parse_decimal(width).filter(|width: &u8| *width >= 1)?.into())
            }
            None => (rest, 256),
        };
        Some(Self { kind, index: parse_index(number)?, width })
    }

    /// First leaf below hash or entry `position` of this tile.
    pub(crate) fn leaf(self, position: u64) -> u64 {
        let node = self.index.saturating_mul(TILE_WIDTH).saturating_add(position);
        node.saturating_mul(1_u64.checked_shl(self.kind.height()).unwrap_or(u64::MAX))
    }
}

impl TileKind {
    fn height(self) -> u32 {
        match self {
            Self::Entries => 0,
            Self::Hashes(level) => u32::from(level) * 8,
        }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let mut divisor = 1;
        while self.index / divisor >= 1000 {
            divisor *= 1000;
        }
        while divisor > 1 {
            write!(f, "x{:03}/", self.index / divisor % 1000)?;
            divisor /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

fn parse_decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !is_padded(text));
    canonical.then(|| text.parse().ok()).flatten()
}

fn is_padded(text: &str) -> bool {
    text.starts_with('0') || text.is_empty()
}

/// `x001/x234/067` is 1,234,067.
fn parse_index(text: &str) -> Option<u64> {
    let (high, last) =
        text.rsplit_once('/').map_or((None, text), |(high, last)| (Some(high), last));
    let mut index = 0_u64;
    for part in high.into_iter().flat_map(|high| high.split('/')) {
        index = index.checked_mul(1000)?.checked_add(three_digits(part.strip_prefix('x')?)?)?;
        if index == 0 {
            return None;
        }
    }
    index.checked_mul(1000)?.checked_add(three_digits(last)?)
}

fn three_digits(text: &str) -> Option<u64> {
    let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Why a file of the log cannot be used. `leaf` is the first leaf that is affected.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such file.
    #[error("{path} is missing (first leaf affected: {leaf}); restore it from a copy of the log")]
    Missing {
        /// The file.
        path: String,
        /// First leaf affected.
        leaf: u64,
    },
    /// The system cannot read it.
    #[error("{path} cannot be read (first leaf affected: {leaf})")]
    Io {
        /// The file.
        path: String,
        /// First leaf affected.
        leaf: u64,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A hash tile of a wrong length.
    #[error(
        "{path} holds {actual} bytes instead of {expected} (first leaf affected: {leaf}); \
         restore it from a copy of the log"
    )]
    Length {
        /// The file.
        path: String,
        /// First leaf affected.
        leaf: u64,
        /// Bytes it should hold.
        expected: usize,
        /// Bytes it holds.
        actual: usize,
    },
    /// A bundle that ends within an entry.
    #[error("{path} is cut off within leaf {leaf}; restore it from a copy of the log")]
    Cut {
        /// The file.
        path: String,
        /// The leaf it ends in.
        leaf: u64,
    },
    /// A bundle that goes on after its last entry.
    #[error("{path} goes on for {bytes} bytes after its last entry, leaf {leaf}")]
    Trailing {
        /// The file.
        path: String,
        /// The last leaf of the bundle.
        leaf: u64,
        /// Bytes after it.
        bytes: usize,
    },
    /// A leaf the tree does not have.
    #[error("leaf {leaf} is outside a tree of {size} leaves")]
    OutsideTree {
        /// The leaf asked for.
        leaf: u64,
        /// Leaves in the tree.
        size: u64,
    },
}

/// Reads a file, and whether it is the full tile in place of a partial one that is gone.
fn read<S: TileSource + ?Sized>(source: &S, path: TilePath) -> Result<(Vec<u8>, bool), ReadError> {
    let get = |path: TilePath| {
        let name = path.to_string();
        source.read(&name).map_err(|source| ReadError::Io {
            path: name,
            leaf: path.leaf(0),
            source,
        })
    };
    if let Some(bytes) = get(path)? {
        return Ok((bytes, false));
    }
    let grown = if path.is_full() { None } else { get(path.full())? };
    let missing = || ReadError::Missing { path: path.to_string(), leaf: path.leaf(0) };
    grown.map(|bytes| (bytes, true)).ok_or_else(missing)
}

/// The hashes of tile `index` at `level` in a tree of `size` leaves.
///
/// Where the partial tile is gone because the log has grown, the full tile serves.
///
/// # Errors
/// The tile is missing, unreadable or of a wrong length.
pub fn read_hashes<S: TileSource + ?Sized>(
    source: &S,
    size: u64,
    level: u8,
    index: u64,
) -> Result<Vec<Hash>, ReadError> {
    let path = TilePath::in_tree(TileKind::Hashes(level), index, size);
    let path = path.ok_or(ReadError::OutsideTree { leaf: index, size })?;
    let (mut bytes, grown) = read(source, path)?;
    let expected = usize::from(path.width) * HASH_BYTES;
    if grown {
        bytes.truncate(expected);
    }
    let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
    if bytes.len() != expected {
        let whole = hashes.len().min(usize::from(path.width)) as u64;
        let (path, leaf, actual) = (path.to_string(), path.leaf(whole), bytes.len());
        return Err(ReadError::Length { path, leaf, expected, actual });
    }
    Ok(hashes.to_vec())
}

/// A bundle of entries, not yet checked against anything.
#[derive(Debug)]
pub struct Bundle {
    path: TilePath,
    grown: bool,
    bytes: Vec<u8>,
}

/// Reads bundle `index` of a tree of `size` leaves.
///
/// # Errors
/// The bundle is missing or unreadable.
pub fn read_bundle<S: TileSource + ?Sized>(
    source: &S,
    size: u64,
    index: u64,
) -> Result<Bundle, ReadError> {
    let path = TilePath::in_tree(TileKind::Entries, index, size);
    let leaf = index.saturating_mul(TILE_WIDTH);
    let path = path.ok_or(ReadError::OutsideTree { leaf, size })?;
    let (bytes, grown) = read(source, path)?;
    Ok(Bundle { path, grown, bytes })
}

impl Bundle {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> TilePath {
        self.path
    }

    /// Its entries with their leaf index; ends after the first error.
    pub fn entries(&self) -> impl Iterator<Item = Result<(u64, &[u8]), ReadError>> {
        let (mut rest, mut position, mut broken) = (self.bytes.as_slice(), 0, false);
        let width = u64::from(self.path.width);
        std::iter::from_fn(move || {
            if broken || position == width {
                return None;
            }
            let leaf = self.path.leaf(position);
            let Some((entry, after)) = split_entry(rest) else {
                broken = true;
                return Some(Err(ReadError::Cut { path: self.path.to_string(), leaf }));
            };
            position += 1;
            rest = after;
            if position == width && !rest.is_empty() && !self.grown {
                broken = true;
                let (path, bytes) = (self.path.to_string(), rest.len());
                return Some(Err(ReadError::Trailing { path, leaf, bytes }));
            }
            Some(Ok((leaf, entry)))
        })
    }
}

fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests;
