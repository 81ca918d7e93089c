//! Which small files become one: those of minutes those of an hour.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    error::AdvanceError,
    files::DataFile,
    narrow::Narrow,
    partition::{MIXED, place_of},
    settings::Settings,
    writer::Writer,
};

/// Small files that are merged at once even while their hour goes on.
const MANY: usize = 8;
/// Time after which an hour is not expected to grow.
const SETTLED_NS: u64 = 3_600_000_000_000 + 600_000_000_000;

/// The next files to merge: of one place, small, together not above `file_rows`. Enough of them,
/// or an hour that is over; then not for the sake of a few late rows beside a large file.
pub fn next(
    files: &[Arc<DataFile>],
    now: SystemTime,
    settings: &Settings,
) -> Option<Vec<Arc<DataFile>>> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let most = settings.file_rows as u64;
    let mut places = BTreeMap::<&str, Vec<&Arc<DataFile>>>::new();
    for file in files.iter().filter(|file| file.entry.rows <= most / 2) {
        let (directory, _) = file.entry.path.rsplit_once('/').unwrap_or_default();
        places.entry(directory).or_default().push(file);
    }
    for mut small in places.into_values() {
        small.sort_by_key(|file| file.entry.rows);
        let mut rows = 0;
        let fits = |file: &&&Arc<DataFile>| {
            rows += file.entry.rows;
            rows <= most
        };
        let group: Vec<_> = small.iter().take_while(fits).copied().collect();
        let Some((largest, rest)) = group.split_last() else { continue };
        let rest: u64 = rest.iter().map(|file| file.entry.rows).sum();
        let latest = group.iter().map(|file| file.entry.max_time).max().unwrap_or(u64::MAX);
        let over =
            place_of(&largest.entry.path) != MIXED && latest.saturating_add(SETTLED_NS) < now;
        let worth = group.len() >= 2 && largest.entry.rows <= rest.saturating_mul(4);
        if group.len() >= MANY || (over && worth) {
            return Some(group.into_iter().map(Arc::clone).collect());
        }
    }
    None
}

/// Writes the rows of files of one place into one file.
pub fn merge(
    writer: &mut Writer,
    group: &[Arc<DataFile>],
    settings: &Settings,
) -> Result<Arc<DataFile>, AdvanceError> {
    let mut parts = Vec::new();
    for file in group {
        parts.extend(file.read()?);
    }
    let parts: Vec<_> = parts.iter().collect();
    let rows = Narrow::concat(&parts).map_err(|source| AdvanceError::Rows { source })?;
    let first = group.first().map(|file| &file.entry);
    match (rows, first) {
        (Some(rows), Some(first)) => {
            writer.write(&first.kind, place_of(&first.path), &rows, settings)
        }
        _ => Err(AdvanceError::Rows {
            source: datafusion::arrow::error::ArrowError::ComputeError("no rows".to_owned()),
        }),
    }
}
