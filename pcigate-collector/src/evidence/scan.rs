//! Reads leaves of the ledger: those the index names, or what matches in a fresh range.

use std::ops::Range;

use pcigate_ledger::{ReadError, TILE_WIDTH, TileSource, read_bundle};
use pcigate_proto::{Message, Record, Row};

use super::filter::Filter;

/// Bytes of records after which a reading ends early.
const READ_BYTES: usize = 1024 * 1024;

/// The first of the leaves `wanted` (rising, below `size`): all, or as many as are a mouthful.
pub fn read<S: TileSource>(source: &S, size: u64, wanted: &[u64]) -> Result<Vec<Row>, ReadError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let mut wanted = wanted.iter().copied().peekable();
    while let Some(first) = wanted.peek() {
        for entry in read_bundle(source, size, first / TILE_WIDTH)?.entries() {
            let (index, record) = entry?;
            if wanted.next_if_eq(&index).is_none() {
                continue;
            }
            bytes += record.len();
            rows.push(Row { index, record: record.to_vec() });
            if bytes >= READ_BYTES {
                return Ok(rows);
            }
        }
    }
    Ok(rows)
}

/// The leaves of a range within one bundle that match a filter.
pub fn matching<S: TileSource>(
    source: &S,
    size: u64,
    range: Range<u64>,
    filter: &Filter,
) -> Result<Vec<Row>, ReadError> {
    let mut rows = Vec::new();
    for entry in read_bundle(source, size, range.start / TILE_WIDTH)?.entries() {
        let (index, record) = entry?;
        let asked = range.contains(&index)
            && Record::decode(record).is_ok_and(|record| filter.matches(&record));
        if asked {
            rows.push(Row { index, record: record.to_vec() });
        }
    }
    Ok(rows)
}
