//! Which directory a row goes to: the kind, then date and hour of its own time in UTC.
//!
//! A clock may say anything, so directories are bounded: of the rows of one kind written at once,
//! an hour gets a file of its own when it holds at least an eighth of them; the others share one
//! in `date=mixed/hour=mixed`. No kind has more than [`HOURS_MAX`] hours.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use datafusion::arrow::{array::BooleanArray, error::ArrowError};
use jiff::Timestamp;

use crate::{files::DataFile, narrow::Narrow};

/// Hours of one kind at most, about 27 months; rows of further hours are mixed.
pub const HOURS_MAX: usize = 20_000;
/// The place of rows whose hour has no file of its own.
pub const MIXED: &str = "date=mixed/hour=mixed";
/// An hour holds at least one part in this many of the rows, or is mixed.
const SHARE: usize = 8;
const HOUR_NS: u64 = 3_600_000_000_000;

/// The places of a kind that have files.
pub fn known(files: &[Arc<DataFile>], kind: &str) -> HashSet<String> {
    let of_kind = files.iter().filter(|file| file.entry.kind == kind);
    of_kind.map(|file| place_of(&file.entry.path).to_owned()).collect()
}

/// The place within a file's path: `date=…/hour=…`.
pub fn place_of(path: &str) -> &str {
    let within = path.find("date=").and_then(|start| path.get(start..)).unwrap_or(MIXED);
    within.rsplit_once('/').map_or(within, |(place, _)| place)
}

/// Rows by place.
pub fn split(rows: &Narrow, known: &HashSet<String>) -> Result<Vec<(String, Narrow)>, ArrowError> {
    let hours: Vec<_> = rows.times()?.into_iter().map(|time| time / HOUR_NS).collect();
    let mut counts = BTreeMap::<u64, usize>::new();
    hours.iter().for_each(|hour| *counts.entry(*hour).or_default() += 1);
    let mut places = BTreeMap::<u64, String>::new();
    let mut places_known = known.len();
    for (hour, count) in counts {
        let place = place(hour).filter(|_| count * SHARE >= rows.rows);
        let Some(place) = place else { continue };
        if known.contains(&place) || places_known < HOURS_MAX {
            places_known += usize::from(!known.contains(&place));
            places.insert(hour, place);
        }
    }
    if let (1, Some((first, place))) = (places.len(), places.first_key_value())
        && hours.iter().all(|hour| hour == first)
    {
        return Ok(vec![(place.clone(), rows.clone())]);
    }
    let of = |keep: &dyn Fn(&u64) -> bool| {
        rows.filtered(&hours.iter().map(|hour| Some(keep(hour))).collect::<BooleanArray>())
    };
    let mut parts = Vec::new();
    for (hour, place) in &places {
        parts.extend(of(&|other| other == hour)?.map(|part| (place.clone(), part)));
    }
    let mixed = of(&|hour| !places.contains_key(hour))?;
    parts.extend(mixed.map(|part| (MIXED.to_owned(), part)));
    Ok(parts)
}

fn place(hour: u64) -> Option<String> {
    let second = i64::try_from(hour.checked_mul(3600)?).ok()?;
    let time = Timestamp::from_second(second).ok()?;
    Some(time.strftime("date=%Y-%m-%d/hour=%H").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_its_place_in_utc() {
        assert_eq!(place(0).unwrap(), "date=1970-01-01/hour=00");
        assert_eq!(place(498_642).unwrap(), "date=2026-11-19/hour=18");
        assert!(place(u64::MAX / HOUR_NS).is_some(), "the last hour a record can name");
        let path = "events/kind=exec/date=2026-11-22/hour=18/00000001.parquet";
        assert_eq!(place_of(path), "date=2026-11-22/hour=18");
        assert_eq!(place_of("events/kind=exec/date=mixed/hour=mixed/00000001.parquet"), MIXED);
    }
}
