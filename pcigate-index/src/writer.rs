//! The one thread that changes the index: takes leaves in, writes files, replaces the manifest.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use pcigate_ledger::{Directory, TILE_WIDTH, read_bundle, root};
use pcigate_proto::{Message, Record, record::Event};

use crate::{
    compact,
    error::AdvanceError,
    files::{self, DataFile, Plan},
    index::{Publisher, Snapshot},
    ledger::Prefix,
    manifest::{self, Manifest},
    narrow::Narrow,
    partition,
    retention::{self, Cut},
    rows::{Rows, kind_of},
    settings::Settings,
};

/// Most leaves one call of `advance` takes in.
const STEP_LEAVES: u64 = 65_536;
/// Rows up to which neighbouring parts of the tail are joined.
const PART_ROWS: usize = 16_384;

/// What only the writing thread has.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    ledger: Directory,
    /// Leaves the ledger is known to have.
    size: u64,
    next_file: u64,
    /// Since when rows are only in memory.
    oldest: Option<Instant>,
}

impl Writer {
    /// Over a ledger of `size` leaves.
    pub fn new(dir: PathBuf, ledger: Directory, size: u64, next_file: u64) -> Self {
        Self { dir, ledger, size, next_file, oldest: None }
    }

    /// See [`crate::Index::advance`].
    pub fn advance(
        &mut self,
        to: u64,
        settings: &Settings,
        publisher: &Publisher<'_>,
    ) -> Result<(), AdvanceError> {
        self.size = self.size.max(to);
        let old = self.oldest.is_some_and(|oldest| oldest.elapsed() >= settings.flush_after);
        let mut room = settings.tail_rows.saturating_sub(publisher.current().tail_rows());
        if old || room == 0 {
            self.flush(settings, publisher)?;
            room = settings.tail_rows.max(1);
        }
        let from = publisher.current().indexed;
        let end = to.min(from.saturating_add(STEP_LEAVES)).min(from.saturating_add(room as u64));
        let mut rows = BTreeMap::<&'static str, Rows>::new();
        for bundle in from / TILE_WIDTH..end.div_ceil(TILE_WIDTH) {
            let read = |source| AdvanceError::Read { source };
            for entry in read_bundle(&self.ledger, self.size, bundle).map_err(read)?.entries() {
                let (leaf, bytes) = entry.map_err(read)?;
                if !(from..end).contains(&leaf) {
                    continue;
                }
                let record = Record::decode(bytes).map_err(|_| AdvanceError::Leaf { leaf })?;
                rows.entry(kind_of(&record)).or_default().push(leaf, &record);
                if let Some(Event::Deletion(deletion)) = &record.event {
                    // Shown together with what it removes.
                    let with =
                        self.with(&publisher.current(), std::mem::take(&mut rows), leaf + 1)?;
                    let before = deletion.before_unix_nano;
                    let cut = Cut { class: &deletion.class, before, leaf };
                    self.write_out(&with, settings, publisher, Some(&cut))?;
                }
            }
        }
        let current = publisher.current();
        if end > current.indexed {
            publisher.publish(self.with(&current, rows, end)?);
            self.oldest.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// With rows added to the tail.
    fn with(
        &self,
        current: &Snapshot,
        rows: BTreeMap<&'static str, Rows>,
        indexed: u64,
    ) -> Result<Snapshot, AdvanceError> {
        let mut tail = current.tail.clone();
        for (kind, rows) in rows.into_iter().filter(|(_, rows)| rows.len() > 0) {
            let parts = tail.entry(kind).or_default();
            join(parts, rows.finish()).map_err(|source| AdvanceError::Rows { source })?;
        }
        Ok(Snapshot { tail, indexed, ..current.clone() })
    }

    /// See [`crate::Index::flush`].
    pub fn flush(
        &mut self,
        settings: &Settings,
        publisher: &Publisher<'_>,
    ) -> Result<(), AdvanceError> {
        let current = publisher.current();
        if current.covered == current.indexed {
            return Ok(());
        }
        self.write_out(&current, settings, publisher, None)
    }

    /// Writes the tail of a snapshot out, takes out of its files and tail what a Deletion
    /// removes, and shows the result. On an error nothing has changed.
    fn write_out(
        &mut self,
        current: &Snapshot,
        settings: &Settings,
        publisher: &Publisher<'_>,
        cut: Option<&Cut<'_>>,
    ) -> Result<(), AdvanceError> {
        let mut made = Made::default();
        let written = self.write_tail(current, settings, cut, &mut made);
        let written = written.and_then(|()| match cut {
            Some(cut) => retention::cut_files(self, &current.files, cut, settings, &mut made),
            None => Ok(()),
        });
        if let Err(error) = written {
            made.discard();
            return Err(error);
        }
        let files = made.over(&current.files);
        self.commit(&files, current.indexed)?;
        made.gone.iter().for_each(|file| file.replace());
        self.oldest = None;
        let (covered, indexed) = (current.indexed, current.indexed);
        publisher.publish(Snapshot { files, tail: BTreeMap::new(), covered, indexed });
        Ok(())
    }

    fn write_tail(
        &mut self,
        current: &Snapshot,
        settings: &Settings,
        cut: Option<&Cut<'_>>,
        made: &mut Made,
    ) -> Result<(), AdvanceError> {
        let wrong = |source| AdvanceError::Rows { source };
        for (kind, parts) in &current.tail {
            let parts: Vec<_> = parts.iter().map(Arc::as_ref).collect();
            let Some(mut rows) = Narrow::concat(&parts).map_err(wrong)? else { continue };
            if let Some(cut) = cut.filter(|cut| cut.class == *kind) {
                match cut.kept(&rows).map_err(wrong)? {
                    Some(kept) => rows = kept,
                    None => continue,
                }
            }
            let known = partition::known(&current.files, kind);
            for (place, rows) in partition::split(&rows, &known).map_err(wrong)? {
                made.new.push(self.write(kind, &place, &rows, settings)?);
            }
        }
        Ok(())
    }

    /// Writes one file. It does not count before [`Writer::commit`].
    pub fn write(
        &mut self,
        kind: &str,
        place: &str,
        rows: &Narrow,
        settings: &Settings,
    ) -> Result<Arc<DataFile>, AdvanceError> {
        let path = format!("events/kind={kind}/{place}/{:08x}.parquet", self.next_file);
        self.next_file += 1;
        let row_group_rows = settings.row_group_rows;
        let plan = Plan { dir: &self.dir, path, kind, row_group_rows };
        Ok(Arc::new(files::write(plan, rows)?))
    }

    /// See [`crate::Index::compact`].
    pub fn compact(
        &mut self,
        now: SystemTime,
        settings: &Settings,
        publisher: &Publisher<'_>,
    ) -> Result<bool, AdvanceError> {
        let current = publisher.current();
        let Some(group) = compact::next(&current.files, now, settings) else { return Ok(false) };
        let mut made = Made { gone: group, ..Made::default() };
        match compact::merge(self, &made.gone, settings) {
            Ok(file) => made.new.push(file),
            Err(error) => {
                made.discard();
                return Err(error);
            }
        }
        let files = made.over(&current.files);
        self.commit(&files, current.covered)?;
        made.gone.iter().for_each(|file| file.replace());
        publisher.publish(Snapshot { files, ..(*current).clone() });
        Ok(true)
    }

    /// Replaces the manifest. When that fails, nobody knows which of the two is on the disk: the
    /// files of both stay until the next start.
    fn commit(&self, files: &[Arc<DataFile>], covered: u64) -> Result<(), AdvanceError> {
        let prefix = Prefix::new(&self.ledger, self.size);
        let root = root(&prefix, covered).map_err(|source| AdvanceError::Root { source })?;
        let manifest = Manifest {
            covered,
            root: hex::encode(root),
            next_file: self.next_file,
            files: files.iter().map(|file| file.entry.clone()).collect(),
        };
        let path = || manifest::path(&self.dir);
        manifest.store(&self.dir).map_err(|source| AdvanceError::Manifest { path: path(), source })
    }
}

/// A change of the files that is not committed yet.
#[derive(Debug, Default)]
pub struct Made {
    /// New files.
    pub new: Vec<Arc<DataFile>>,
    /// Files that are no longer part of the index.
    pub gone: Vec<Arc<DataFile>>,
}

impl Made {
    fn over(&self, files: &[Arc<DataFile>]) -> Vec<Arc<DataFile>> {
        let stays = |file: &&Arc<DataFile>| !self.gone.iter().any(|gone| Arc::ptr_eq(file, gone));
        files.iter().filter(stays).chain(&self.new).map(Arc::clone).collect()
    }

    /// Deletes the new files.
    fn discard(self) {
        self.new.iter().for_each(|file| file.replace());
    }
}

/// Adds a part to the end, joined with small ones before it: few parts, and each row is copied
/// a few times only.
fn join(
    parts: &mut Vec<Arc<Narrow>>,
    new: Narrow,
) -> Result<(), datafusion::arrow::error::ArrowError> {
    let mut new = Arc::new(new);
    while let Some(last) = parts.last() {
        let rows = last.rows + new.rows;
        if rows > PART_ROWS || last.rows > new.rows * 2 {
            break;
        }
        if let Some(joined) = Narrow::concat(&[last, &new])? {
            new = Arc::new(joined);
        }
        parts.pop();
    }
    parts.push(new);
    Ok(())
}
