//! Checksums of files by blocks, so that whatever part is read can be checked: pages, page
//! headers, filters and footers alike.

use std::ops::Range;

/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 256 * 1024;

/// The checksums of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    bytes: u64,
    sums: Vec<u32>,
}

impl Sums {
    /// Of a whole file.
    pub fn of(content: &[u8]) -> Self {
        let block = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
        Self {
            bytes: content.len() as u64,
            sums: content.chunks(block).map(crc32c::crc32c).collect(),
        }
    }

    /// From the manifest; `None` when they do not fit a file of `bytes`.
    pub fn parse(text: &str, bytes: u64) -> Option<Self> {
        let raw = hex::decode(text).ok()?;
        let (words, []) = raw.as_chunks::<4>() else { return None };
        let sums: Vec<_> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
        (sums.len() as u64 == bytes.div_ceil(BLOCK_BYTES)).then_some(Self { bytes, sums })
    }

    /// For the manifest.
    pub fn text(&self) -> String {
        self.sums.iter().map(|sum| hex::encode(sum.to_be_bytes())).collect()
    }

    /// The whole blocks that hold a range of the file.
    pub fn around(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start / BLOCK_BYTES * BLOCK_BYTES;
        start..range.end.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES).min(self.bytes)
    }

    /// Whether bytes that begin at `start`, a block's first byte, are those of the file.
    pub fn hold(&self, start: u64, content: &[u8]) -> bool {
        let block = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
        let first = usize::try_from(start / BLOCK_BYTES).unwrap_or(usize::MAX);
        let sums = self.sums.get(first..).unwrap_or_default();
        let blocks = content.chunks(block);
        let ends = start.saturating_add(content.len() as u64);
        let whole = ends == self.bytes || ends.is_multiple_of(BLOCK_BYTES);
        whole
            && blocks.len() <= sums.len()
            && blocks.zip(sums).all(|(block, sum)| crc32c::crc32c(block) == *sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_bit_in_any_block_is_seen_and_no_other_block_suffers() {
        let content: Vec<u8> = (0..BLOCK_BYTES * 2 + 1000).map(|n| (n % 251) as u8).collect();
        let sums = Sums::of(&content);
        let sums = Sums::parse(&sums.text(), content.len() as u64).unwrap();
        for at in [0, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES * 2 + 999] {
            let mut changed = content.clone();
            changed[usize::try_from(at).unwrap()] ^= 1;
            for range in [0..1, BLOCK_BYTES..BLOCK_BYTES + 1, BLOCK_BYTES * 2..BLOCK_BYTES * 2 + 7]
            {
                let around = sums.around(&range);
                let part =
                    usize::try_from(around.start).unwrap()..usize::try_from(around.end).unwrap();
                assert!(sums.hold(around.start, &content[part.clone()]));
                assert_eq!(sums.hold(around.start, &changed[part]), !around.contains(&at));
            }
        }
    }

    #[test]
    fn sums_of_another_length_are_no_sums() {
        assert_eq!(Sums::parse("00000000", BLOCK_BYTES + 1), None);
        assert_eq!(Sums::parse("000000", 10), None);
        let sums = Sums::of(b"0123456789");
        assert!(!sums.hold(0, b"012345678"));
    }
}
