//! Reads the ledger in order and keeps what matches a filter.

use std::{collections::VecDeque, ops::Range};

use pcigate_ledger::{ReadError, TILE_WIDTH, TileSource, read_bundle};
use pcigate_proto::{Message, Record};

use super::filter::Filter;

/// What a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The newest matching leaves, in ledger order.
    pub rows: VecDeque<u64>,
    /// All that match.
    pub matched: u64,
}

/// The newest leaves that match, out of the first `size`. Ends early when `gone`.
pub fn newest<S: TileSource>(
    source: &S,
    size: u64,
    filter: &Filter,
    gone: &dyn Fn() -> bool,
) -> Result<Found, ReadError> {
    let mut found = Found::default();
    matching(source, size, 0..size, filter, gone, |index, _| {
        found.matched += 1;
        if found.rows.len() == filter.limit {
            found.rows.pop_front();
        }
        found.rows.push_back(index);
        true
    })?;
    Ok(found)
}

/// Hands over the matching leaves of a range until `take` says no or nobody wants them: `gone`.
pub fn matching<S: TileSource>(
    source: &S,
    size: u64,
    range: Range<u64>,
    filter: &Filter,
    gone: &dyn Fn() -> bool,
    mut take: impl FnMut(u64, &[u8]) -> bool,
) -> Result<(), ReadError> {
    for bundle in range.start / TILE_WIDTH..range.end.div_ceil(TILE_WIDTH) {
        if gone() {
            return Ok(());
        }
        for entry in read_bundle(source, size, bundle)?.entries() {
            let (index, bytes) = entry?;
            if !range.contains(&index) {
                continue;
            }
            let matches = Record::decode(bytes).is_ok_and(|record| filter.matches(&record));
            if matches && !take(index, bytes) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Hands over the leaves `rows` (rising) until `take` says no.
pub fn read<S: TileSource>(
    source: &S,
    size: u64,
    rows: &VecDeque<u64>,
    mut take: impl FnMut(u64, &[u8]) -> bool,
) -> Result<(), ReadError> {
    let mut wanted = rows.iter().copied().peekable();
    while let Some(first) = wanted.peek() {
        for entry in read_bundle(source, size, first / TILE_WIDTH)?.entries() {
            let (index, bytes) = entry?;
            if wanted.next_if_eq(&index).is_some() && !take(index, bytes) {
                return Ok(());
            }
        }
    }
    Ok(())
}
