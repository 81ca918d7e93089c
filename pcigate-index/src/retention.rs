//! What a Deletion record takes out of the index: the records of one kind with an earlier time
//! and an earlier leaf. The ledger keeps them.

use std::sync::Arc;

use datafusion::arrow::{array::BooleanArray, error::ArrowError};

use crate::{
    error::AdvanceError,
    files::DataFile,
    narrow::Narrow,
    partition,
    settings::Settings,
    writer::{Made, Writer},
};

/// A Deletion.
#[derive(Debug)]
pub struct Cut<'a> {
    /// Kind of the records.
    pub class: &'a str,
    /// Those with an earlier time, ns since 1970.
    pub before: u64,
    /// Those before this leaf, its own.
    pub leaf: u64,
}

impl Cut<'_> {
    /// What stays of rows of its kind; `None` when nothing does.
    pub fn kept(&self, rows: &Narrow) -> Result<Option<Narrow>, ArrowError> {
        if rows.min_time >= self.before || rows.first_leaf >= self.leaf {
            return Ok(Some(rows.clone()));
        }
        let (times, leaves) = (rows.times()?, rows.leaves()?);
        let stays = |(time, leaf): (&u64, &u64)| *time >= self.before || *leaf >= self.leaf;
        let keep: Vec<_> = times.iter().zip(leaves).map(stays).collect();
        rows.filtered(&BooleanArray::from(keep))
    }
}

/// Drops files that are wholly deleted and writes those anew that are so in part.
pub fn cut_files(
    writer: &mut Writer,
    files: &[Arc<DataFile>],
    cut: &Cut<'_>,
    settings: &Settings,
    made: &mut Made,
) -> Result<(), AdvanceError> {
    let wrong = |source| AdvanceError::Rows { source };
    for file in files {
        let entry = &file.entry;
        let concerned = entry.kind == cut.class;
        if !concerned || entry.min_time >= cut.before || entry.first_leaf >= cut.leaf {
            continue;
        }
        if entry.max_time < cut.before && entry.last_leaf < cut.leaf {
            made.gone.push(Arc::clone(file));
            continue;
        }
        let parts = file.read()?;
        let parts: Vec<_> = parts.iter().collect();
        let Some(rows) = Narrow::concat(&parts).map_err(wrong)? else { continue };
        let kept = cut.kept(&rows).map_err(wrong)?;
        if kept.as_ref().is_some_and(|kept| kept.rows == rows.rows) {
            continue;
        }
        made.gone.push(Arc::clone(file));
        if let Some(kept) = kept {
            let place = partition::place_of(&entry.path);
            made.new.push(writer.write(&entry.kind, place, &kept, settings)?);
        }
    }
    Ok(())
}
